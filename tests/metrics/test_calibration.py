import numpy as np
import pytest

from unet_jax import metrics
from unet_jax.metrics.calibration import tabulate_reliability


def compute_score(metric, image):
    return metric.score(metric.measure(image)).overall


@pytest.fixture
def four_pixels(make_image):
    """Four pixels with confidence 1/2, 5/8, 3/4 and 1; the third is wrong."""
    p = np.array([[[0.5, 0.5], [0.375, 0.625], [0.25, 0.75], [1, 0]]], np.float32)
    return make_image([[0, 1, 0, 0]], p.argmax(-1), probabilities=p)


def test_calibration_by_hand(four_pixels):
    """With two bins, the lower one holds a confidence of 1/2."""
    metric = metrics.calibration_error(bins=2)
    sums = metric.measure(four_pixels)
    np.testing.assert_array_equal(sums, [[1, 3], [0.5, 2.375], [1, 2]])
    assert metric.score(sums).overall == (0.5 + 0.375) / 4

    table = tabulate_reliability(metrics.calibration_error(bins=4).measure(four_pixels))
    assert table["count"].tolist() == [0, 1, 2, 1]
    np.testing.assert_array_equal(table["confidence"], [np.nan, 0.5, 0.6875, 1])
    np.testing.assert_array_equal(table["accuracy"], [np.nan, 1, 0.5, 1])


def test_brier_by_hand(four_pixels):
    squares = [0.5, 2 * 0.375**2, 2 * 0.75**2, 0]
    assert compute_score(metrics.brier(), four_pixels) == sum(squares) / 4


def test_each_independent_class_is_one_answer(make_image):
    """Three answers, yes with 0.75, no with 0.25 and no with 0.125; one is ignored."""
    p = np.array([[[0.75, 0.25], [0.125, 0.5]]], np.float32)
    truth = [[[1, 1], [0, -1]]]
    image = make_image(truth, p > 0.5, independent=True, probabilities=p)
    table = tabulate_reliability(metrics.calibration_error(bins=4).measure(image))
    assert table["count"].tolist() == [0, 0, 2, 1]
    np.testing.assert_array_equal(table["confidence"], [np.nan, np.nan, 0.75, 0.875])
    np.testing.assert_array_equal(table["accuracy"], [np.nan, np.nan, 0.5, 1])
    brier = (0.25**2 + 0.75**2 + 0.125**2) / 3
    assert compute_score(metrics.brier(), image) == brier


def test_answers_drawn_with_the_predicted_probability_are_calibrated(make_image):
    rng = np.random.default_rng(0)
    p = rng.random((200, 200)).astype(np.float32)
    truth = rng.random(p.shape) < p
    p = np.stack([1 - p, p], axis=-1)
    image = make_image(truth, p.argmax(-1), probabilities=p)
    assert compute_score(metrics.calibration_error(), image) < 0.02
    certain = make_image(truth, p.argmax(-1))
    assert compute_score(metrics.calibration_error(), certain) == pytest.approx(
        0.25, abs=0.01
    )
