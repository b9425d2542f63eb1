import json

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from unet_jax import metrics
from unet_jax.errors import UserError
from unet_jax.metrics.metric import EvaluatedImage
from unet_jax.metrics.scores import summarize

WANG = {
    "gaussian_weights": True,
    "use_sample_covariance": False,
    "channel_axis": -1,
}
SHAPES = [(16, 19, 1), (24, 17, 3), (12, 13, 14, 2)]
each_shape = pytest.mark.parametrize("shape", SHAPES)
each_metric = pytest.mark.parametrize("name", ["mae", "psnr", "ssim"])


def make_image(target, value):
    target, value = (np.asarray(a, np.float32) for a in (target, value))
    return EvaluatedImage((1.0,) * (target.ndim - 1), target=target, value=value)


def draw(shape, seed=0, noise=0.2):
    """Returns values of about 100 to 200, higher on one side, with noise added."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 1, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    target = 100 + 50 * (ramp + rng.random(shape))
    return make_image(target, target + 50 * noise * rng.normal(size=shape))


def compute_score(metric, *images):
    return metric.score(sum(metric.measure(image) for image in images)).overall


# Against scikit-image and by hand.


@each_shape
def test_psnr_against_scikit_image(shape):
    image = draw(shape)
    true, test = (a.astype(np.float64) for a in (image.target, image.value))
    for data_range, given in ((np.ptp(true), {}), (255.0, {"data_range": 255.0})):
        expected = peak_signal_noise_ratio(true, test, data_range=data_range)
        assert compute_score(metrics.psnr(**given), image) == pytest.approx(
            expected, abs=1e-9
        )


@each_shape
def test_ssim_against_scikit_image(shape):
    image = draw(shape)
    true, test = (a.astype(np.float64) for a in (image.target, image.value))
    own = np.ptp(true)
    for data_range, sigma, given in (
        (own, 1.5, {}),
        (255.0, 1.5, {"data_range": 255.0}),
        (own, 0.8, {"sigma": 0.8}),
    ):
        expected = structural_similarity(
            true, test, data_range=data_range, sigma=sigma, **WANG
        )
        value = compute_score(metrics.ssim(**given), image)
        assert value == pytest.approx(expected, abs=1e-9)
        assert 0.1 < value < 0.999


def test_scores_by_hand():
    """Four pixels of range 10; two are wrong, by 1 and 3."""
    image = make_image([[[0], [10]], [[5], [5]]], [[[0], [9]], [[8], [5]]])
    assert compute_score(metrics.mae(), image) == (1 + 3) / 4
    mse = (1 + 9) / 4
    assert compute_score(metrics.psnr(), image) == pytest.approx(
        10 * np.log10(100 / mse)
    )


def test_lower_is_better_for_mae_only():
    lower = {name: getattr(metrics, name)().lower for name in ("mae", "psnr", "ssim")}
    assert lower == {"mae": True, "psnr": False, "ssim": False}


# Scores of images and of data sets.


@each_metric
@each_shape
def test_less_noise_scores_better(name, shape):
    metric = getattr(metrics, name)()
    perfect = {"mae": 0, "psnr": 100, "ssim": 1}[name]
    fair, poor = draw(shape, noise=0.1), draw(shape, noise=0.3)
    same = make_image(fair.target, fair.target)
    assert compute_score(metric, same) == pytest.approx(perfect, abs=1e-12)
    order = [perfect, compute_score(metric, fair), compute_score(metric, poor)]
    assert order == sorted(order, reverse=not metric.lower)
    assert len(set(order)) == 3


def test_psnr_is_at_most_100():
    """An error of d in a range of 1 has -20 log10(d) dB."""
    for decibels, expected in ((99.0, 99.0), (101.0, 100.0)):
        image = make_image([[[0], [1]]], [[[0], [1]]])
        error = 10 ** (-decibels / 20)
        value = image.value.astype(np.float64) + error
        image = EvaluatedImage((1.0, 1.0), target=image.target, value=value)
        assert compute_score(metrics.psnr(), image) == pytest.approx(expected, abs=1e-3)


def test_psnr_and_ssim_average_over_images_and_mae_over_pixels():
    small, large = draw((11, 11, 1)), draw((22, 33, 1), seed=1, noise=0.5)
    for name in ("psnr", "ssim"):
        metric = getattr(metrics, name)()
        mean = (compute_score(metric, small) + compute_score(metric, large)) / 2
        assert compute_score(metric, small, large) == pytest.approx(mean)
        assert metric.reduction == "mean over images"
    mae = metrics.mae()
    mean = (compute_score(mae, small) + 6 * compute_score(mae, large)) / 7
    assert compute_score(mae, small, large) == pytest.approx(mean)
    assert mae.reduction == "over all pixels"


@pytest.mark.parametrize("name", ["psnr", "ssim"])
def test_an_image_without_a_range_is_left_out(name):
    constant = make_image(np.full((12, 12, 1), 7), draw((12, 12, 1)).value)
    image = draw((12, 12, 1))
    metric = getattr(metrics, name)()
    assert np.isnan(compute_score(metric, constant))
    assert compute_score(metric, constant, image) == compute_score(metric, image)
    assert np.isfinite(
        compute_score(getattr(metrics, name)(data_range=255.0), constant)
    )


@each_metric
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_prediction_that_is_not_finite_has_no_score(name, wrong):
    image = draw((12, 12, 1))
    image.value[5, 5] = wrong
    metric = getattr(metrics, name)()
    sums = metric.measure(image) + metric.measure(draw((12, 12, 1)))
    scores = summarize([sums], [(name, metric)], (), omit_background=False)
    assert json.dumps(scores, allow_nan=False) == json.dumps({name: None})


# Invariants.


def test_units_scale_mae_only():
    image = draw((16, 16, 2))
    scaled = make_image(1000 * image.target, 1000 * image.value)
    for name, factor in (("mae", 1000), ("psnr", 1), ("ssim", 1)):
        metric = getattr(metrics, name)()
        expected = factor * compute_score(metric, image)
        assert compute_score(metric, scaled) == pytest.approx(expected, rel=1e-5)


@each_metric
def test_the_order_of_axes_and_channels_does_not_matter(name):
    image = draw((12, 13, 14, 3))
    moved = make_image(
        *(a.transpose(1, 2, 0, 3)[..., ::-1] for a in (image.target, image.value))
    )
    metric = getattr(metrics, name)()
    assert compute_score(metric, moved) == pytest.approx(compute_score(metric, image))


# Errors.


def test_an_image_smaller_than_the_window_raises_a_user_error():
    """11 pixels at the default sigma, and 3 at 0.3."""
    thin = draw((10, 40, 40, 1))
    words = r"10 x 40 x 40 pixels is smaller than the window of ssim, 11 .* lower"
    with pytest.raises(UserError, match=words):
        metrics.ssim().measure(thin)
    metrics.ssim(sigma=0.3).measure(draw((3, 40, 40, 1)))
    with pytest.raises(UserError, match=r"window of ssim, 3 "):
        metrics.ssim(sigma=0.3).measure(draw((2, 40, 40, 1)))


@each_metric
def test_different_shapes_raise_an_assertion_error(name):
    image = draw((12, 12, 3))
    with pytest.raises(AssertionError):
        getattr(metrics, name)().measure(make_image(image.target, image.value[..., :1]))
