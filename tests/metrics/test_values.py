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


def case(target, value):
    target, value = (np.asarray(a, np.float32) for a in (target, value))
    return EvaluatedImage((1.0,) * (target.ndim - 1), target=target, value=value)


def draw(shape, seed=0, noise=0.2):
    """Values of about 100 to 200, more on one side, and noise on them."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 1, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    target = 100 + 50 * (ramp + rng.random(shape))
    return case(target, target + 50 * noise * rng.normal(size=shape))


def score(metric, *images):
    return metric.score(sum(metric.measure(image) for image in images)).mean


# Against scikit-image and by hand.


@each_shape
def test_psnr_against_scikit_image(shape):
    image = draw(shape)
    true, test = (a.astype(np.float64) for a in (image.target, image.value))
    for data_range, given in ((np.ptp(true), {}), (255.0, {"data_range": 255.0})):
        expected = peak_signal_noise_ratio(true, test, data_range=data_range)
        assert score(metrics.psnr(**given), image) == pytest.approx(expected, abs=1e-9)


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
        value = score(metrics.ssim(**given), image)
        assert value == pytest.approx(expected, abs=1e-9)
        assert 0.1 < value < 0.999


def test_scores_by_hand():
    """Four pixels of range 10; two are wrong, by 1 and 3."""
    image = case([[[0], [10]], [[5], [5]]], [[[0], [9]], [[8], [5]]])
    assert score(metrics.mae(), image) == (1 + 3) / 4
    mse = (1 + 9) / 4
    assert score(metrics.psnr(), image) == pytest.approx(10 * np.log10(100 / mse))


def test_lower_is_better_of_mae_alone():
    lower = {name: getattr(metrics, name)().lower for name in ("mae", "psnr", "ssim")}
    assert lower == {"mae": True, "psnr": False, "ssim": False}


# What images and sets are worth.


@each_metric
@each_shape
def test_perfect_is_better_than_fair_and_fair_than_poor(name, shape):
    metric = getattr(metrics, name)()
    perfect = {"mae": 0, "psnr": 100, "ssim": 1}[name]
    fair, poor = draw(shape, noise=0.1), draw(shape, noise=0.3)
    same = case(fair.target, fair.target)
    assert score(metric, same) == pytest.approx(perfect, abs=1e-12)
    order = [perfect, score(metric, fair), score(metric, poor)]
    assert order == sorted(order, reverse=not metric.lower)
    assert len(set(order)) == 3


def test_psnr_is_at_most_100():
    """The ratio of an error d to a range of 1 is -20 log10(d) decibels."""
    for decibels, expected in ((99.0, 99.0), (101.0, 100.0)):
        image = case([[[0], [1]]], [[[0], [1]]])
        error = 10 ** (-decibels / 20)
        value = image.value.astype(np.float64) + error
        image = EvaluatedImage((1.0, 1.0), target=image.target, value=value)
        assert score(metrics.psnr(), image) == pytest.approx(expected, abs=1e-3)


def test_a_set_is_a_mean_over_images_but_of_all_pixels_in_mae():
    small, large = draw((11, 11, 1)), draw((22, 33, 1), seed=1, noise=0.5)
    for name in ("psnr", "ssim"):
        metric = getattr(metrics, name)()
        mean = (score(metric, small) + score(metric, large)) / 2
        assert score(metric, small, large) == pytest.approx(mean)
        assert metric.reduction == "mean over images"
    mae = metrics.mae()
    mean = (score(mae, small) + 6 * score(mae, large)) / 7
    assert score(mae, small, large) == pytest.approx(mean)
    assert mae.reduction == "over all pixels"


@pytest.mark.parametrize("name", ["psnr", "ssim"])
def test_an_image_without_a_range_is_left_out(name):
    constant = case(np.full((12, 12, 1), 7), draw((12, 12, 1)).value)
    image = draw((12, 12, 1))
    metric = getattr(metrics, name)()
    assert np.isnan(score(metric, constant))
    assert score(metric, constant, image) == score(metric, image)
    assert np.isfinite(score(getattr(metrics, name)(data_range=255.0), constant))


@each_metric
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_prediction_that_is_no_number_has_no_score(name, wrong):
    image = draw((12, 12, 1))
    image.value[5, 5] = wrong
    metric = getattr(metrics, name)()
    sums = metric.measure(image) + metric.measure(draw((12, 12, 1)))
    scores = summarize([sums], [(name, metric)], ())
    assert json.dumps(scores, allow_nan=False) == json.dumps({name: None})


# Invariants.


def test_units_scale_mae_and_nothing_else():
    image = draw((16, 16, 2))
    scaled = case(1000 * image.target, 1000 * image.value)
    for name, factor in (("mae", 1000), ("psnr", 1), ("ssim", 1)):
        metric = getattr(metrics, name)()
        expected = factor * score(metric, image)
        assert score(metric, scaled) == pytest.approx(expected, rel=1e-5)


@each_metric
def test_the_order_of_axes_and_channels_does_not_matter(name):
    image = draw((12, 13, 14, 3))
    moved = case(
        *(a.transpose(1, 2, 0, 3)[..., ::-1] for a in (image.target, image.value))
    )
    metric = getattr(metrics, name)()
    assert score(metric, moved) == pytest.approx(score(metric, image))


# Mistakes.


def test_an_image_smaller_than_the_window_is_named_with_a_remedy():
    """11 pixels at the default sigma, and 3 at 0.3."""
    thin = draw((10, 40, 40, 1))
    words = r"10 x 40 x 40 pixels is smaller than the window of ssim, 11 .* lower"
    with pytest.raises(UserError, match=words):
        metrics.ssim().measure(thin)
    metrics.ssim(sigma=0.3).measure(draw((3, 40, 40, 1)))
    with pytest.raises(UserError, match=r"window of ssim, 3 "):
        metrics.ssim(sigma=0.3).measure(draw((2, 40, 40, 1)))


@each_metric
def test_shapes_that_differ_are_refused(name):
    image = draw((12, 12, 3))
    with pytest.raises(AssertionError):
        getattr(metrics, name)().measure(case(image.target, image.value[..., :1]))
