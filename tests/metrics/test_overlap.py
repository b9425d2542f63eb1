import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax import metrics
from unet_jax.metrics.overlap import confusion, summarize


def draw(independent=False, shape=(3, 8, 10), classes=4, seed=0):
    """A random prediction and label, a tenth of it ignored."""
    rng = np.random.default_rng(seed)
    if independent:
        shape, values = (*shape, classes), 2
    else:
        values = classes
    prediction, label = rng.integers(0, values, (2, *shape), np.int32)
    return prediction, np.where(rng.random(shape) < 0.1, -1, label).astype(np.int32)


def test_confusion_by_hand():
    """Rows are the truth, columns the prediction; one of four pixels is ignored."""
    label = jnp.array([[[0, 1], [1, -1]]])
    prediction = jnp.array([[[0, 1], [0, 1]]])
    counts = confusion(prediction, label, classes=2)
    assert counts.dtype == jnp.int32
    np.testing.assert_array_equal(counts, [[[1, 0], [1, 1]]])

    label = jnp.stack([label, jnp.zeros_like(label)], axis=-1)
    prediction = jnp.stack([prediction, prediction], axis=-1)
    counts = confusion(prediction, label, classes=2, independent=True)
    np.testing.assert_array_equal(counts, [[[[1, 0], [1, 1]], [[2, 2], [0, 0]]]])


@pytest.mark.parametrize("shape", [(3, 8, 10), (2, 4, 5, 6)])
@pytest.mark.parametrize("independent", [False, True])
def test_confusion_counts_what_a_loop_counts(shape, independent):
    prediction, label = draw(independent, shape)
    count = functools.partial(confusion, classes=4, independent=independent)
    expected = np.zeros((shape[0], 4, 2, 2) if independent else (shape[0], 4, 4), int)
    for index, truth in np.ndenumerate(label):
        if truth >= 0:
            kind = (index[-1],) if independent else ()
            expected[(index[0], *kind, truth, prediction[index])] += 1
    np.testing.assert_array_equal(jax.jit(count)(prediction, label), expected)


def test_parts_add_up_to_the_whole():
    prediction, label = draw()
    count = functools.partial(confusion, classes=4)
    whole = count(prediction, label)
    parts = [count(prediction[i : i + 1], label[i : i + 1])[0] for i in range(3)]
    np.testing.assert_array_equal(whole, parts)
    tiles = [
        count(prediction[:, :, at], label[:, :, at])
        for at in (slice(0, 3), slice(3, 10))
    ]
    np.testing.assert_array_equal(whole, sum(tiles))


def test_confusion_is_exact_past_the_integers_of_float32():
    label = jnp.ones((1, 4097, 4096), jnp.int32)
    counts = jax.jit(functools.partial(confusion, classes=2))(label, label)
    np.testing.assert_array_equal(counts, [[[0, 0], [0, 4097 * 4096]]])


def test_confusion_refuses_what_does_not_belong_together():
    prediction, label = draw(independent=True)
    with pytest.raises(AssertionError):
        confusion(prediction[:1], label, classes=4)
    with pytest.raises(AssertionError):
        confusion(prediction, label, classes=3, independent=True)


def by_sets(prediction, label, classes):
    """The scores from the sets of pixels, class by class."""
    pixels = np.flatnonzero(label >= 0)
    scores = {name: [] for name in ("dice", "iou", "precision", "recall", "accuracy")}
    for k in range(classes):
        p = {i for i in pixels if prediction.flat[i] == k}
        t = {i for i in pixels if label.flat[i] == k}
        scores["dice"].append(2 * len(p & t) / (len(p) + len(t)))
        scores["iou"].append(len(p & t) / len(p | t))
        scores["precision"].append(len(p & t) / len(p))
        scores["recall"].append(len(p & t) / len(t))
        scores["accuracy"].append(1 - len(p ^ t) / len(pixels))
    return scores


def test_scores_are_those_of_the_sets_of_pixels():
    prediction, label = draw()
    counts = np.asarray(confusion(prediction, label, classes=4)).sum(axis=0)
    there = label >= 0
    right = (prediction == label)[there].mean()
    for name, expected in by_sets(prediction, label, 4).items():
        score = getattr(metrics, name)(counts)
        np.testing.assert_allclose(score.classes, expected, rtol=1e-12)
        mean = right if name == "accuracy" else np.mean(expected)
        np.testing.assert_allclose(score.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(metrics.pixel_error(counts).mean, 1 - right)
    assert metrics.pixel_error(counts).classes is None


def test_scores_of_independent_classes_are_those_of_each_alone():
    prediction, label = draw(independent=True)
    counts = np.asarray(confusion(prediction, label, classes=4, independent=True))
    for name in ("dice", "iou", "precision", "recall", "accuracy"):
        score = getattr(metrics, name)(counts.sum(axis=0))
        alone = [
            by_sets(prediction[..., k], label[..., k], 2)[name][1] for k in range(4)
        ]
        np.testing.assert_allclose(score.classes, alone, rtol=1e-12)
    right = (prediction == label)[label >= 0].mean()
    np.testing.assert_allclose(metrics.accuracy(counts.sum(axis=0)).mean, right)


def test_scores_by_hand():
    """Of 10 background and 6 cell pixels, 1 and 2 are mistaken."""
    counts = np.array([[9, 1], [2, 4]])
    assert metrics.dice(counts).classes.tolist() == [18 / 21, 8 / 11]
    assert metrics.iou(counts).classes.tolist() == [9 / 12, 4 / 7]
    assert metrics.precision(counts).classes.tolist() == [9 / 11, 4 / 5]
    assert metrics.recall(counts).classes.tolist() == [9 / 10, 4 / 6]
    assert metrics.accuracy(counts).mean == 13 / 16
    assert metrics.pixel_error(counts).mean == 3 / 16


@pytest.mark.parametrize("name", metrics.__all__)
def test_a_perfect_prediction(name):
    _, label = draw()
    counts = np.asarray(confusion(np.maximum(label, 0), label, classes=4)).sum(axis=0)
    score = getattr(metrics, name)(counts)
    assert score.mean == (0 if name == "pixel_error" else 1)
    assert score.classes is None or (score.classes == 1).all()


@pytest.mark.parametrize("name", ["dice", "iou", "precision", "recall"])
def test_a_class_that_nobody_has_seen_is_left_out(name):
    counts = np.array([[3, 1, 0], [2, 4, 0], [0, 0, 0]])
    score = getattr(metrics, name)(counts)
    assert np.isnan(score.classes).tolist() == [False, False, True]
    assert score.mean == getattr(metrics, name)(counts[:2, :2]).mean


def test_a_collapsed_model_does_not_look_good():
    """All background, on 95 pixels of background and 5 of cell."""
    counts = np.array([[95, 0], [5, 0]])
    for name, background in (
        ("dice", 190 / 195),
        ("iou", 95 / 100),
        ("precision", 95 / 100),
        ("recall", 1),
    ):
        score = getattr(metrics, name)(counts)
        assert score.classes.tolist() == [background, 0]
        assert score.mean == background / 2
    # The reverse: a class is predicted and never there.
    assert metrics.recall(counts.T).classes.tolist() == [95 / 100, 0]


@pytest.mark.parametrize("shape", [(2, 2), (3, 2, 2)])
@pytest.mark.parametrize("name", metrics.__all__)
def test_nothing_counted_is_not_a_number(name, shape):
    assert np.isnan(getattr(metrics, name)(np.zeros(shape, np.int32)).mean)


def test_summarize_is_flat_and_ready_for_json():
    counts = np.array([[3, 1, 0], [2, 4, 0], [0, 0, 0]])
    scores = summarize(
        counts,
        [("iou", metrics.iou), ("pixel_error", metrics.pixel_error)],
        ("background", "cell", "border"),
        "val",
    )
    assert json.loads(json.dumps(scores, allow_nan=False)) == {
        "val/iou": pytest.approx((3 / 6 + 4 / 7) / 2),
        "val/iou/background": 3 / 6,
        "val/iou/cell": 4 / 7,
        "val/iou/border": None,
        "val/pixel_error": pytest.approx(3 / 10),
    }


def test_summarize_wants_one_name_for_each_class():
    with pytest.raises(ValueError, match="zip"):
        summarize(np.eye(3), [("iou", metrics.iou)], ("background", "cell"), "val")
