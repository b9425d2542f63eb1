import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from unet_jax import metrics
from unet_jax.errors import UserError


def value(name, image, **options):
    metric = getattr(metrics, name)(**options)
    return metric.score(metric.measure(image)).mean


@pytest.fixture
def painted(case):
    """A case of two arrays of object ids."""

    def paint(true, objects):
        true, objects = np.array(true), np.array(objects)
        return case(np.sign(true), objects > 0, true_objects=true, objects=objects)

    return paint


@pytest.fixture
def draw(painted):
    """Rectangles over each other, some moved by a pixel; a corner is ignored."""

    def drawn(seed, shape=(20, 24), extra=3):
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
        return painted(true, objects)

    return drawn


def sets(image):
    """The pixels of each object, as a list of sets, the true ones first."""
    known = np.flatnonzero(image.true_objects >= 0)
    for ids in (image.true_objects.ravel(), image.objects.ravel()):
        numbers = np.unique(ids[known][ids[known] > 0])
        yield [set(known[ids[known] == number]) for number in numbers]


def ious(image):
    true, predicted = sets(image)
    return np.array([[len(t & p) / len(t | p) for p in predicted] for t in true])


@pytest.mark.parametrize("shape", [(20, 24), (8, 9, 10)])
@pytest.mark.parametrize("seed", range(4))
def test_scores_are_those_of_loops_over_all_pairs(draw, seed, shape):
    image = draw(seed, shape)
    iou = ious(image)
    n, m = iou.shape

    def hits(threshold):
        pairs = iou >= threshold
        return pairs[linear_sum_assignment(pairs, maximize=True)].sum()

    steps = [round(0.5 + 0.05 * i, 2) for i in range(10)]
    precision = np.mean([hits(t) / (n + m - hits(t)) for t in steps])
    np.testing.assert_allclose(value("average_precision", image), precision)
    for threshold in (0.1, 0.3, 0.5, 0.9):
        expected = 2 * hits(threshold) / (n + m)
        np.testing.assert_allclose(value("f1", image, threshold=threshold), expected)
    quality = iou[iou > 0.5].sum() / ((n + m) / 2)
    np.testing.assert_allclose(value("panoptic_quality", image), quality)


@pytest.mark.parametrize("seed", range(4))
def test_aggregated_jaccard_by_its_algorithm(draw, seed):
    image = draw(seed)
    true, predicted = sets(image)
    both = united = 0
    used = set()
    for pixels, row in zip(true, ious(image), strict=True):
        if row.max() == 0:
            united += len(pixels)
        else:
            best = int(row.argmax())
            both += len(pixels & predicted[best])
            united += len(pixels | predicted[best])
            used.add(best)
    united += sum(len(p) for i, p in enumerate(predicted) if i not in used)
    np.testing.assert_allclose(value("aggregated_jaccard", image), both / united)


@pytest.mark.parametrize("seed", range(4))
def test_seg_and_det_by_their_definitions(draw, seed):
    image = draw(seed)
    true, predicted = sets(image)
    jaccard, partners = [], []
    for t in true:
        over = [i for i, p in enumerate(predicted) if len(t & p) > 0.5 * len(t)]
        partners += over
        jaccard.append(sum(len(t & predicted[i]) / len(t | predicted[i]) for i in over))
    np.testing.assert_allclose(value("seg", image), np.mean(jaccard))

    false_negatives = 10 * (len(true) - len(partners))
    false_positives = len(set(range(len(predicted))) - set(partners))
    splits = 5 * sum(partners.count(i) - 1 for i in set(partners))
    cost = false_negatives + false_positives + splits
    expected = 1 - min(cost, 10 * len(true)) / (10 * len(true))
    np.testing.assert_allclose(value("det", image), expected)


def test_a_merger_by_hand(painted):
    """Two true objects of 3 and 2 pixels are one of 6."""
    image = painted([[1, 1, 1, 0, 2, 2, 0]], [[7, 7, 7, 7, 7, 7, 0]])
    assert value("f1", image) == 2 * 1 / 3  # the IoU of the first is just 0.5
    assert value("f1", image, threshold=0.51) == 0
    assert value("panoptic_quality", image) == 0
    assert value("average_precision", image) == 1 / 2 / 10
    assert value("aggregated_jaccard", image) == (3 + 2) / (6 + 6)
    assert value("seg", image) == (3 / 6 + 2 / 6) / 2
    assert value("det", image) == 1 - 5 / 20


def test_a_split_into_halves_is_found_once(painted):
    """Both halves have an IoU of 0.5; neither covers more than half."""
    image = painted([[1, 1, 1, 1]], [[1, 1, 2, 2]])
    assert value("f1", image) == 2 * 1 / 3
    assert value("aggregated_jaccard", image) == 2 / (4 + 2)
    assert value("seg", image) == 0
    assert value("det", image) == 0


def test_pairs_at_a_low_threshold_are_one_to_one_and_as_many_as_can_be(painted):
    """Object 2 could take 1 or 2, and object 3 only 1."""
    image = painted([[1, 1, 1, 1, 2, 2, 0]], [[3, 0, 2, 2, 2, 2, 0]])
    assert value("f1", image, threshold=0.2) == 1


def test_only_true_objects_define_seg_and_det(painted):
    image = painted([[0, 0]], [[0, 4]])
    for name in ("average_precision", "f1", "panoptic_quality", "aggregated_jaccard"):
        assert value(name, image) == 0
    assert np.isnan(value("seg", image))
    assert np.isnan(value("det", image))


def test_no_threshold_at_all_is_a_mistake():
    with pytest.raises(UserError, match="thresholds is empty"):
        metrics.average_precision(thresholds=())
