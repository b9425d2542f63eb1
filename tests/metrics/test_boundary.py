import numpy as np
import pytest
from scipy.spatial.distance import cdist
from skimage.metrics import hausdorff_distance

from unet_jax import metrics

NAMES = ("hausdorff", "hausdorff95", "surface_distance", "surface_dice")


def score_classes(name, image, **options):
    metric = getattr(metrics, name)(**options)
    return metric.score(metric.measure(image)).classes


def find_surface(mask):
    """Returns the pixels with a face towards the outside of the mask or the image."""
    points = []
    for point in np.argwhere(mask):
        for axis in range(mask.ndim):
            for step in (-1, 1):
                near = point.copy()
                near[axis] += step
                inside = (near >= 0).all() and (near < mask.shape).all()
                if not inside or not mask[tuple(near)]:
                    points.append(tuple(point))
    return np.array(sorted(set(points)), float)


def score_all_pairs(truth, prediction, spacing, tolerance):
    pairs = cdist(find_surface(truth) * spacing, find_surface(prediction) * spacing)
    there, back = pairs.min(axis=1), pairs.min(axis=0)
    both = np.concatenate([there, back])
    return {
        "hausdorff": both.max(),
        "hausdorff95": max(np.percentile(there, 95), np.percentile(back, 95)),
        "surface_distance": both.mean(),
        "surface_dice": (both <= tolerance).sum() / len(both),
    }


@pytest.mark.parametrize(
    ("shape", "spacing"), [((9, 11), (1.0, 1.0)), ((5, 6, 7), (2.5, 1.0, 0.5))]
)
@pytest.mark.parametrize("independent", [False, True])
def test_distances_are_those_of_all_pairs(make_image, shape, spacing, independent):
    rng = np.random.default_rng(0)
    axes = (*shape, 3) if independent else shape
    prediction, truth = rng.integers(0, 2 if independent else 3, (2, *axes))
    image = make_image(
        truth, prediction, independent=independent, classes=3, spacing=spacing
    )
    for k in range(0 if independent else 1, 3):
        masks = (
            (truth[..., k] == 1, prediction[..., k] == 1)
            if independent
            else (truth == k, prediction == k)
        )
        for name, expected in score_all_pairs(*masks, spacing, tolerance=0.7).items():
            options = {"tolerance": 0.7} if name == "surface_dice" else {}
            got = score_classes(name, image, **options)
            np.testing.assert_allclose(got[k], expected, err_msg=name)
            assert np.isnan(got[0]) != independent


def test_hausdorff_against_scikit_image(make_image):
    """It takes all pixels of the masks; here the farthest ones are on the surfaces."""
    truth, prediction = np.zeros((2, 20, 20), int)
    truth[2:9, 3:12], prediction[5:17, 4:10] = 1, 1
    expected = hausdorff_distance(truth == 1, prediction == 1)
    assert score_classes("hausdorff", make_image(truth, prediction))[1] == expected


def test_two_lines_by_hand(make_image):
    """Lines of 4 pixels, two rows apart; one more pixel lies 3 rows further."""
    truth, prediction = np.zeros((2, 10, 4), int)
    truth[2], prediction[4] = 1, 1
    image = make_image(truth, prediction, spacing=(0.5, 9.0))
    assert score_classes("surface_distance", image)[1] == 1
    assert score_classes("surface_dice", image)[1] == 1
    assert score_classes("surface_dice", image, tolerance=0.99)[1] == 0

    prediction[7, 0] = 1
    image = make_image(truth, prediction, spacing=(0.5, 9.0))
    assert score_classes("hausdorff", image)[1] == 2.5
    # The prediction's distances are 1, 1, 1, 1 and 2.5: the 95th percentile lies 0.8 of
    # the way from the 4th to the 5th.
    np.testing.assert_allclose(score_classes("hausdorff95", image)[1], 1 + 0.8 * 1.5)
    assert score_classes("surface_dice", image)[1] == 8 / 9


def test_empty_masks(make_image):
    """Two empty masks are undefined; with one empty mask the score is the worst."""
    nothing, some = np.zeros((2, 30, 40), int)
    some[3, 4] = 1
    spacing = (0.1, 0.1)  # the diagonal is 5
    for truth, prediction in ((nothing, some), (some, nothing)):
        image = make_image(truth, prediction, classes=3, spacing=spacing)
        for name in NAMES:
            expected = 0 if name == "surface_dice" else 5
            np.testing.assert_allclose(
                score_classes(name, image), [np.nan, expected, np.nan]
            )
    image = make_image(nothing, nothing, classes=2)
    assert all(np.isnan(score_classes(name, image)).all() for name in NAMES)


def test_a_set_is_the_mean_over_the_images_where_a_class_is_defined(make_image):
    nothing, truth, prediction = np.zeros((3, 8, 8), int)
    truth[2], prediction[5] = 1, 1
    metric = metrics.hausdorff()
    cases = [(truth, prediction), (truth, truth), (nothing, nothing)]
    sums = sum(metric.measure(make_image(*pair, classes=2)) for pair in cases)
    assert metric.score(sums).classes[1] == 1.5


@pytest.mark.parametrize("name", NAMES)
def test_without_a_background_class_0_has_a_surface_like_the_others(make_image, name):
    """Swapping two classes swaps their scores; with a background, class 0 has none."""
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 2, (2, 7, 9))
    score = score_classes(name, make_image(truth, prediction, background=False))
    swapped = make_image(1 - truth, 1 - prediction, background=False)
    np.testing.assert_array_equal(score_classes(name, swapped), score[::-1])
    expected = score_all_pairs(truth == 0, prediction == 0, (1.0, 1.0), tolerance=1.0)
    np.testing.assert_allclose(score[0], expected[name])
    with_background = score_classes(name, make_image(truth, prediction))
    np.testing.assert_array_equal(with_background, [np.nan, score[1]])
