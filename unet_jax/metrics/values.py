"""Metrics of real-valued predictions: `value` against `target` of an `EvaluatedImage`.

All pixels and channels count alike. If a prediction has a NaN or an infinite number,
the scores of its image and of the data set are undefined.

`psnr` and `ssim` relate the error to the range of the values. With `data_range=0` that
is the largest minus the smallest value of each target. A constant target then has no
score and is left out of the mean.
"""

from collections.abc import Callable

import chex
import numpy as np
from scipy import ndimage

from unet_jax.errors import UserError
from unet_jax.metrics.metric import OVER_IMAGES, OVER_PIXELS, EvaluatedImage, Metric
from unet_jax.metrics.scores import score_ratio
from unet_jax.specs import NonNegative, Positive
from unet_jax.text import dimensions

__all__ = ["mae", "psnr", "ssim"]

HIGHEST_PSNR = 100.0  # dB
K1, K2 = 0.01, 0.03  # Wang et al. 2004, section III-C
TRUNCATE = 3.5  # half width of a window in sigmas: 11 pixels for a sigma of 1.5


def psnr(*, data_range: NonNegative = 0.0) -> Metric:
    """Measures the peak signal-to-noise ratio, `10 log10(range^2 / MSE)`, in dB.

    MSE is the mean squared error over pixels and channels. The ratio is limited to 100
    dB: that of an image without error is infinite, which JSON cannot store and which
    would make the mean of the data set infinite.

    Args:
      data_range: the range of the values, in the units of the target, such as 255 for 8
        bits. 0 takes the range of each target.
    """

    def decibels(target: np.ndarray, value: np.ndarray, span: float) -> float:
        least = span**2 * 10 ** (-HIGHEST_PSNR / 10)
        error = np.maximum(np.square(value - target).mean(), least)
        return 10 * np.log10(span**2 / error)

    return _make_image_metric(decibels, data_range)


def ssim(*, data_range: NonNegative = 0.0, sigma: Positive = 1.5) -> Metric:
    """Measures the structural similarity, averaged over pixels and channels.

    Wang et al. 2004, equation 13, in Gaussian windows with as many axes as the image. A
    perfect prediction has 1. Only windows inside the image count. With the same
    `data_range` it equals scikit-image's `structural_similarity` with
    `gaussian_weights=True` and `use_sample_covariance=False`.

    Args:
      data_range: as in `psnr`.
      sigma: the standard deviation of the Gaussian, in pixels. A window extends 3.5
        sigma to each side.

    Raises:
      UserError: an image is smaller than the window.
    """
    radius = int(TRUNCATE * sigma + 0.5)  # as scipy.ndimage rounds it

    def similarity(target: np.ndarray, value: np.ndarray, span: float) -> float:
        if min(target.shape[:-1]) < 2 * radius + 1:
            shape = dimensions(target.shape[:-1])
            raise UserError(
                f"an image of {shape} pixels is smaller than the window of ssim, "
                f"{2 * radius + 1} pixels along each axis; lower its sigma, or remove "
                "it from config.metrics"
            )
        channels = zip(*(np.moveaxis(a, -1, 0) for a in (target, value)), strict=True)
        scores = [_compute_ssim(x, y, span, sigma, radius) for x, y in channels]
        return float(np.mean(scores))

    return _make_image_metric(similarity, data_range)


def mae() -> Metric:
    """Measures the mean absolute error, in the units of the target."""

    def measure(image: EvaluatedImage) -> np.ndarray:
        target, value = _get_values(image)
        return np.array([np.abs(value - target).sum(), target.size])

    return Metric(measure, score_ratio, OVER_PIXELS, lower=True, kind="value")


def _make_image_metric(
    compare: Callable[[np.ndarray, np.ndarray, float], float], data_range: float
) -> Metric:
    """Returns a metric that measures `f64[2]`: the image's score, and 1 if defined."""

    def measure(image: EvaluatedImage) -> np.ndarray:
        target, value = _get_values(image)
        span = data_range or float(np.ptp(target))
        return np.array([compare(target, value, span), 1]) if span else np.zeros(2)

    return Metric(measure, score_ratio, OVER_IMAGES, kind="value")


def _compute_ssim(
    x: np.ndarray, y: np.ndarray, span: float, sigma: float, radius: int
) -> float:
    """Computes the mean SSIM of one channel, from two `f64[*S]`."""

    def blur(image: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(image, sigma, truncate=TRUNCATE)

    c1, c2 = (K1 * span) ** 2, (K2 * span) ** 2
    mean_x, mean_y = blur(x), blur(y)
    variances = blur(x * x) - mean_x**2 + blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variances + c2)
    inside = tuple(slice(radius, size - radius) for size in x.shape)
    return (luminance * structure)[inside].mean()


def _get_values(image: EvaluatedImage) -> tuple[np.ndarray, np.ndarray]:
    """Returns target and prediction in 64 bits; infinite predictions become NaN."""
    chex.assert_equal_shape([image.target, image.value])
    target, value = (a.astype(np.float64) for a in (image.target, image.value))
    return target, np.where(np.isfinite(value), value, np.nan)
