import numpy as np
import pytest

from unet_jax import metrics
from unet_jax.metrics.overlap import measure_confusion

OVERLAP = ("accuracy", "dice", "iou", "pixel_error", "precision", "recall")


@pytest.fixture
def draw_image(make_image):
    """Returns a function that draws a random image; a tenth of it is ignored."""

    def draw(independent=False, shape=(8, 10), classes=4, seed=0):
        rng = np.random.default_rng(seed)
        if independent:
            shape, values = (*shape, classes), 2
        else:
            values = classes
        prediction, truth = rng.integers(0, values, (2, *shape))
        truth = np.where(rng.random(shape) < 0.1, -1, truth)
        return make_image(truth, prediction, independent=independent, classes=classes)

    return draw


def compute_score(name, counts):
    return getattr(metrics, name)().score(counts)


def test_confusion_by_hand(make_image):
    """Rows are the truth, columns the prediction; one of four pixels is ignored."""
    truth, prediction = np.array([[0, 1], [1, -1]]), np.array([[0, 1], [0, 1]])
    counts = measure_confusion(make_image(truth, prediction))
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts, [[1, 0], [1, 1]])

    truth = np.stack([truth, np.zeros_like(truth)], axis=-1)
    prediction = np.stack([prediction, prediction], axis=-1)
    counts = measure_confusion(make_image(truth, prediction, independent=True))
    np.testing.assert_array_equal(counts, [[[1, 0], [1, 1]], [[2, 2], [0, 0]]])


@pytest.mark.parametrize("shape", [(8, 10), (4, 5, 6)])
@pytest.mark.parametrize("independent", [False, True])
def test_confusion_counts_what_a_loop_counts(draw_image, shape, independent):
    image = draw_image(independent, shape)
    expected = np.zeros((4, 2, 2) if independent else (4, 4), int)
    for index, truth in np.ndenumerate(image.truth):
        if truth >= 0:
            kind = (index[-1],) if independent else ()
            expected[(*kind, truth, image.prediction[index])] += 1
    np.testing.assert_array_equal(measure_confusion(image), expected)


def score_sets(prediction, truth, classes):
    """Computes the scores of each class from sets of pixels."""
    pixels = np.flatnonzero(truth >= 0)
    scores = {name: [] for name in ("dice", "iou", "precision", "recall", "accuracy")}
    for k in range(classes):
        p = {i for i in pixels if prediction.flat[i] == k}
        t = {i for i in pixels if truth.flat[i] == k}
        scores["dice"].append(2 * len(p & t) / (len(p) + len(t)))
        scores["iou"].append(len(p & t) / len(p | t))
        scores["precision"].append(len(p & t) / len(p))
        scores["recall"].append(len(p & t) / len(t))
        scores["accuracy"].append(1 - len(p ^ t) / len(pixels))
    return scores


def test_scores_are_those_of_the_sets_of_pixels(draw_image):
    image = draw_image()
    counts = measure_confusion(image)
    right = (image.prediction == image.truth)[image.truth >= 0].mean()
    for name, expected in score_sets(image.prediction, image.truth, 4).items():
        overall = right if name == "accuracy" else None
        np.testing.assert_allclose(
            compute_score(name, counts).classes, expected, rtol=1e-12
        )
        assert compute_score(name, counts).overall == overall
    np.testing.assert_allclose(compute_score("pixel_error", counts).overall, 1 - right)
    assert compute_score("pixel_error", counts).classes is None


def test_scores_of_independent_classes_are_those_of_each_alone(draw_image):
    image = draw_image(independent=True)
    counts = measure_confusion(image)
    for name in ("dice", "iou", "precision", "recall", "accuracy"):
        alone = [
            score_sets(image.prediction[..., k], image.truth[..., k], 2)[name][1]
            for k in range(4)
        ]
        np.testing.assert_allclose(
            compute_score(name, counts).classes, alone, rtol=1e-12
        )
    right = (image.prediction == image.truth)[image.truth >= 0].mean()
    np.testing.assert_allclose(compute_score("accuracy", counts).overall, right)


def test_scores_by_hand():
    """Of 10 background and 6 cell pixels, 1 and 2 are wrong."""
    counts = np.array([[9, 1], [2, 4]])
    assert compute_score("dice", counts).classes.tolist() == [18 / 21, 8 / 11]
    assert compute_score("iou", counts).classes.tolist() == [9 / 12, 4 / 7]
    assert compute_score("precision", counts).classes.tolist() == [9 / 11, 4 / 5]
    assert compute_score("recall", counts).classes.tolist() == [9 / 10, 4 / 6]
    assert compute_score("accuracy", counts).overall == 13 / 16
    assert compute_score("pixel_error", counts).overall == 3 / 16


@pytest.mark.parametrize("name", ["dice", "iou", "precision", "recall", "accuracy"])
@pytest.mark.parametrize("independent", [False, True])
def test_a_class_that_does_not_occur_is_undefined(name, independent):
    """The accuracy of such a class would be 1."""
    counts = np.array([[3, 1, 0], [2, 4, 0], [0, 0, 0]])
    if independent:
        counts = np.array([[[3, 1], [2, 4]], [[3, 1], [2, 4]], [[10, 0], [0, 0]]])
    classes = compute_score(name, counts).classes
    assert np.isnan(classes).tolist() == [False, False, True]


@pytest.mark.parametrize("name", ["dice", "iou", "precision", "recall"])
def test_a_class_that_is_only_predicted_or_only_true_has_score_0(name):
    for counts in ([[8, 2], [0, 0]], [[8, 0], [2, 0]]):
        assert compute_score(name, np.array(counts)).classes[1] == 0


def test_a_model_that_predicts_background_only_has_low_scores():
    """The truth has 95 pixels of background and 5 of cell."""
    counts = np.array([[95, 0], [5, 0]])
    for name, background in (
        ("dice", 190 / 195),
        ("iou", 95 / 100),
        ("precision", 95 / 100),
        ("recall", 1),
    ):
        assert compute_score(name, counts).classes.tolist() == [background, 0]
    # The reverse: a class is predicted and not in the truth.
    assert compute_score("recall", counts.T).classes.tolist() == [95 / 100, 0]


@pytest.mark.parametrize("shape", [(2, 2), (3, 2, 2)])
@pytest.mark.parametrize("name", OVERLAP)
def test_a_score_of_no_pixels_is_nan(name, shape):
    score = compute_score(name, np.zeros(shape, np.int64))
    for value in (score.overall, score.classes):
        assert value is None or np.isnan(value).all()
