import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from unet_jax import metrics
from unet_jax.errors import UserError


def compute_score(name, image, **options):
    metric = getattr(metrics, name)(**options)
    return metric.score(metric.measure(image)).overall


@pytest.fixture
def paint_objects(make_image):
    """Returns a function that makes an evaluated image of two arrays of object ids."""

    def paint(true, objects):
        true, objects = np.array(true), np.array(objects)
        return make_image(
            np.sign(true), objects > 0, true_objects=true, objects=objects
        )

    return paint


@pytest.fixture
def draw_objects(paint_objects):
    """Returns a function that draws overlapping rectangles; a corner is ignored."""

    def draw(seed, shape=(20, 24), extra=3):
        rng = np.random.default_rng(seed)
        true, objects = np.zeros((2, *shape), int)
        for number in range(12):
            start = [rng.integers(0, size - 5) for size in shape]
            size = rng.integers(2, 7, len(shape))
            box = tuple(map(slice, start, start + size))
            true[box] = 10 * number + 1
            moved = start + rng.integers(0, 2, len(shape))
            if rng.random() < 0.8:
                objects[tuple(map(slice, moved, moved + size))] = 500 - number
        for number in range(extra):
            objects[number * 4 : number * 4 + 2, :6] = 600 + number
        true[-5:, -5:] = -1
        return paint_objects(true, objects)

    return draw


def list_pixel_sets(image):
    """Yields the pixel sets of the true objects, then those of the predicted ones."""
    annotated = np.flatnonzero(image.true_objects >= 0)
    for ids in (image.true_objects.ravel(), image.objects.ravel()):
        numbers = np.unique(ids[annotated][ids[annotated] > 0])
        yield [set(annotated[ids[annotated] == number]) for number in numbers]


def compute_ious(image):
    true, predicted = list_pixel_sets(image)
    return np.array([[len(t & p) / len(t | p) for p in predicted] for t in true])


@pytest.mark.parametrize("shape", [(20, 24), (8, 9, 10)])
@pytest.mark.parametrize("seed", range(4))
def test_scores_are_those_of_loops_over_all_pairs(draw_objects, seed, shape):
    image = draw_objects(seed, shape)
    iou = compute_ious(image)
    n, m = iou.shape

    def hits(threshold):
        pairs = iou >= threshold
        return pairs[linear_sum_assignment(pairs, maximize=True)].sum()

    steps = [round(0.5 + 0.05 * i, 2) for i in range(10)]
    precision = np.mean([hits(t) / (n + m - hits(t)) for t in steps])
    np.testing.assert_allclose(compute_score("average_precision", image), precision)
    for threshold in (0.1, 0.3, 0.5, 0.9):
        expected = 2 * hits(threshold) / (n + m)
        np.testing.assert_allclose(
            compute_score("f1", image, threshold=threshold), expected
        )
    pairs = iou * (iou >= 0.5)
    quality = pairs[linear_sum_assignment(pairs, maximize=True)].sum() / ((n + m) / 2)
    np.testing.assert_allclose(compute_score("panoptic_quality", image), quality)


@pytest.mark.parametrize("seed", range(4))
def test_aggregated_jaccard_by_its_algorithm(draw_objects, seed):
    image = draw_objects(seed)
    true, predicted = list_pixel_sets(image)
    both = united = 0
    used = set()
    for pixels, row in zip(true, compute_ious(image), strict=True):
        if row.max() == 0:
            united += len(pixels)
        else:
            best = int(row.argmax())
            both += len(pixels & predicted[best])
            united += len(pixels | predicted[best])
            used.add(best)
    united += sum(len(p) for i, p in enumerate(predicted) if i not in used)
    np.testing.assert_allclose(
        compute_score("aggregated_jaccard", image), both / united
    )


@pytest.mark.parametrize("seed", range(4))
def test_seg_and_det_by_their_definitions(draw_objects, seed):
    image = draw_objects(seed)
    true, predicted = list_pixel_sets(image)
    jaccard, partners = [], []
    for t in true:
        over = [i for i, p in enumerate(predicted) if len(t & p) > 0.5 * len(t)]
        partners += over
        jaccard.append(sum(len(t & predicted[i]) / len(t | predicted[i]) for i in over))
    np.testing.assert_allclose(compute_score("seg", image), np.mean(jaccard))

    false_negatives = 10 * (len(true) - len(partners))
    false_positives = len(set(range(len(predicted))) - set(partners))
    splits = 5 * sum(partners.count(i) - 1 for i in set(partners))
    cost = false_negatives + false_positives + splits
    expected = 1 - min(cost, 10 * len(true)) / (10 * len(true))
    np.testing.assert_allclose(compute_score("det", image), expected)


def test_a_merger_by_hand(paint_objects):
    """Two true objects of 3 and 2 pixels are predicted as one of 6."""
    image = paint_objects([[1, 1, 1, 0, 2, 2, 0]], [[7, 7, 7, 7, 7, 7, 0]])
    assert compute_score("f1", image) == 2 * 1 / 3  # the IoU of the first is just 0.5
    assert compute_score("f1", image, threshold=0.51) == 0
    assert compute_score("panoptic_quality", image) == 0.5 / (1 + 1 / 2)
    assert compute_score("average_precision", image) == 1 / 2 / 10
    assert compute_score("aggregated_jaccard", image) == (3 + 2) / (6 + 6)
    assert compute_score("seg", image) == (3 / 6 + 2 / 6) / 2
    assert compute_score("det", image) == 1 - 5 / 20


def test_a_split_into_halves_is_found_once(paint_objects):
    """Both halves have an IoU of 0.5; neither covers more than half."""
    image = paint_objects([[1, 1, 1, 1]], [[1, 1, 2, 2]])
    assert compute_score("f1", image) == 2 * 1 / 3
    assert compute_score("panoptic_quality", image) == 0.5 / (1 + 1 / 2)
    assert compute_score("aggregated_jaccard", image) == 2 / (4 + 2)
    assert compute_score("seg", image) == 0
    assert compute_score("det", image) == 0


def test_objects_of_two_and_one_pixels_match_at_an_iou_of_one_half(paint_objects):
    """As in COCO and StarDist; `panopticapi` would require more than 0.5."""
    image = paint_objects([[1, 1, 0]], [[5, 0, 0]])
    assert compute_score("f1", image) == 1
    assert compute_score("average_precision", image) == 1 / 10
    assert compute_score("panoptic_quality", image) == 0.5
    image = paint_objects([[1, 1, 1, 0]], [[5, 0, 0, 0]])
    for name in ("f1", "average_precision", "panoptic_quality"):
        assert compute_score(name, image) == 0


def test_of_two_halves_one_is_a_match(paint_objects):
    """The first true object is split, and the last two true objects are merged."""
    image = paint_objects([[1, 1, 1, 1, 2, 2, 3, 3]], [[7, 7, 8, 8, 9, 9, 9, 9]])
    assert compute_score("f1", image) == 2 * 2 / (3 + 3)
    assert compute_score("average_precision", image) == 2 / 4 / 10
    assert compute_score("panoptic_quality", image) == (1 / 2 + 1 / 2) / (2 + 1)


@pytest.mark.parametrize(
    ("threshold", "sizes"),
    [(0.55, (11, 20)), (0.6, (3, 5)), (0.95, (19, 20)), (1, (2, 2))],
)
def test_an_iou_of_exactly_the_threshold_is_a_match(paint_objects, threshold, sizes):
    smaller, larger = (np.arange(20) < size for size in sizes)
    for true, predicted in ((smaller, larger), (larger, smaller)):
        image = paint_objects([true.astype(int)], [predicted.astype(int)])
        assert compute_score("f1", image, threshold=threshold) == 1


def test_matching_at_a_low_threshold_is_one_to_one_and_maximal(paint_objects):
    """Predicted object 2 matches 1 or 2, and predicted object 3 matches 1 only."""
    image = paint_objects([[1, 1, 1, 1, 2, 2, 0]], [[3, 0, 2, 2, 2, 2, 0]])
    assert compute_score("f1", image, threshold=0.2) == 1


def test_seg_and_det_are_undefined_without_true_objects(paint_objects):
    image = paint_objects([[0, 0]], [[0, 4]])
    for name in ("average_precision", "f1", "panoptic_quality", "aggregated_jaccard"):
        assert compute_score(name, image) == 0
    assert np.isnan(compute_score("seg", image))
    assert np.isnan(compute_score("det", image))


def test_an_empty_tuple_of_thresholds_raises_a_user_error():
    with pytest.raises(UserError, match="thresholds is empty"):
        metrics.average_precision(thresholds=())
