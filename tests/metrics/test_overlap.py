import numpy as np
import pytest

from unet_jax import metrics
from unet_jax.metrics.overlap import measure_confusion

OVERLAP = ("accuracy", "dice", "iou", "pixel_error", "precision", "recall")


@pytest.fixture
def draw(case):
    """A random case, a tenth of it ignored."""

    def drawn(independent=False, shape=(8, 10), classes=4, seed=0):
        rng = np.random.default_rng(seed)
        if independent:
            shape, values = (*shape, classes), 2
        else:
            values = classes
        prediction, truth = rng.integers(0, values, (2, *shape))
        truth = np.where(rng.random(shape) < 0.1, -1, truth)
        return case(truth, prediction, independent=independent, classes=classes)

    return drawn


def score(name, counts):
    return getattr(metrics, name)().score(counts)


def test_confusion_by_hand(case):
    """Rows are the truth, columns the prediction; one of four pixels is ignored."""
    truth, prediction = np.array([[0, 1], [1, -1]]), np.array([[0, 1], [0, 1]])
    counts = measure_confusion(case(truth, prediction))
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts, [[1, 0], [1, 1]])

    truth = np.stack([truth, np.zeros_like(truth)], axis=-1)
    prediction = np.stack([prediction, prediction], axis=-1)
    counts = measure_confusion(case(truth, prediction, independent=True))
    np.testing.assert_array_equal(counts, [[[1, 0], [1, 1]], [[2, 2], [0, 0]]])


@pytest.mark.parametrize("shape", [(8, 10), (4, 5, 6)])
@pytest.mark.parametrize("independent", [False, True])
def test_confusion_counts_what_a_loop_counts(draw, shape, independent):
    image = draw(independent, shape)
    expected = np.zeros((4, 2, 2) if independent else (4, 4), int)
    for index, truth in np.ndenumerate(image.truth):
        if truth >= 0:
            kind = (index[-1],) if independent else ()
            expected[(*kind, truth, image.prediction[index])] += 1
    np.testing.assert_array_equal(measure_confusion(image), expected)


def by_sets(prediction, truth, classes):
    """The scores from the sets of pixels, class by class."""
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


def test_scores_are_those_of_the_sets_of_pixels(draw):
    image = draw()
    counts = measure_confusion(image)
    right = (image.prediction == image.truth)[image.truth >= 0].mean()
    for name, expected in by_sets(image.prediction, image.truth, 4).items():
        mean = right if name == "accuracy" else np.mean(expected)
        np.testing.assert_allclose(score(name, counts).classes, expected, rtol=1e-12)
        np.testing.assert_allclose(score(name, counts).mean, mean, rtol=1e-12)
    np.testing.assert_allclose(score("pixel_error", counts).mean, 1 - right)
    assert score("pixel_error", counts).classes is None


def test_scores_of_independent_classes_are_those_of_each_alone(draw):
    image = draw(independent=True)
    counts = measure_confusion(image)
    for name in ("dice", "iou", "precision", "recall", "accuracy"):
        alone = [
            by_sets(image.prediction[..., k], image.truth[..., k], 2)[name][1]
            for k in range(4)
        ]
        np.testing.assert_allclose(score(name, counts).classes, alone, rtol=1e-12)
    right = (image.prediction == image.truth)[image.truth >= 0].mean()
    np.testing.assert_allclose(score("accuracy", counts).mean, right)


def test_scores_by_hand():
    """Of 10 background and 6 cell pixels, 1 and 2 are mistaken."""
    counts = np.array([[9, 1], [2, 4]])
    assert score("dice", counts).classes.tolist() == [18 / 21, 8 / 11]
    assert score("iou", counts).classes.tolist() == [9 / 12, 4 / 7]
    assert score("precision", counts).classes.tolist() == [9 / 11, 4 / 5]
    assert score("recall", counts).classes.tolist() == [9 / 10, 4 / 6]
    assert score("accuracy", counts).mean == 13 / 16
    assert score("pixel_error", counts).mean == 3 / 16


@pytest.mark.parametrize("name", ["dice", "iou", "precision", "recall"])
def test_a_class_that_nobody_has_seen_is_left_out(name):
    counts = np.array([[3, 1, 0], [2, 4, 0], [0, 0, 0]])
    assert np.isnan(score(name, counts).classes).tolist() == [False, False, True]
    assert score(name, counts).mean == score(name, counts[:2, :2]).mean


def test_a_collapsed_model_does_not_look_good():
    """All background, on 95 pixels of background and 5 of cell."""
    counts = np.array([[95, 0], [5, 0]])
    for name, background in (
        ("dice", 190 / 195),
        ("iou", 95 / 100),
        ("precision", 95 / 100),
        ("recall", 1),
    ):
        assert score(name, counts).classes.tolist() == [background, 0]
        assert score(name, counts).mean == background / 2
    # The reverse: a class is predicted and never there.
    assert score("recall", counts.T).classes.tolist() == [95 / 100, 0]


@pytest.mark.parametrize("shape", [(2, 2), (3, 2, 2)])
@pytest.mark.parametrize("name", OVERLAP)
def test_nothing_counted_is_not_a_number(name, shape):
    assert np.isnan(score(name, np.zeros(shape, np.int64)).mean)
