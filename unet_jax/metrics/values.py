"""Scores of images of numbers: the distance of `Case.value` from `Case.target`.

Every pixel counts, and every channel alike. A prediction with a NaN or infinite number
makes a score undefined, of its image and of the set.

`psnr` and `ssim` relate the error to the range of the values. If `data_range` is 0, it
is the largest minus the smallest value of each true image; an image whose range is 0
is then left out of the mean.
"""

from collections.abc import Callable

import chex
import numpy as np
from scipy import ndimage

from unet_jax.errors import UserError
from unet_jax.metrics.case import Case, Metric, Score
from unet_jax.metrics.scores import ratio
from unet_jax.specs import NonNegative, Positive
from unet_jax.text import dimensions

HIGHEST_PSNR = 100.0  # dB
K1, K2 = 0.01, 0.03  # Wang et al. 2004, section III-C
TRUNCATE = 3.5  # sigmas from the centre of a window to its edge: 11 pixels at 1.5


def psnr(*, data_range: NonNegative = 0.0) -> Metric:
    """Peak signal-to-noise ratio in dB, `10 log10(range^2 / mean squared error)`.

    It is at most 100 dB. That is the score of an image without an error, whose ratio is
    infinite: no file of JSON can hold it, and the mean of a set would be infinite too.

    Args:
      data_range: of the values, in the units of the target: 255 for 8 bits. 0: that of
        each true image.
    """

    def decibels(target: np.ndarray, value: np.ndarray, span: float) -> float:
        least = span**2 * 10 ** (-HIGHEST_PSNR / 10)
        error = np.maximum(np.square(value - target).mean(), least)
        return 10 * np.log10(span**2 / error)

    return _mean_over_images(decibels, data_range)


def ssim(*, data_range: NonNegative = 0.0, sigma: Positive = 1.5) -> Metric:
    """Structural similarity, the mean over pixels and channels; 1 is perfect.

    Wang et al. 2004, equation 13, in Gaussian windows of as many axes as the image.
    Only windows that lie inside the image count. With the same `data_range` it is
    scikit-image's `structural_similarity` with `gaussian_weights=True` and
    `use_sample_covariance=False`.

    Args:
      data_range: as in `psnr`.
      sigma: of the Gaussian, in pixels. A window reaches 3.5 sigma to each side.

    Raises:
      UserError: an image is smaller than the window.
    """
    radius = int(TRUNCATE * sigma + 0.5)  # as scipy.ndimage rounds it

    def similarity(target: np.ndarray, value: np.ndarray, span: float) -> float:
        if min(target.shape[:-1]) < 2 * radius + 1:
            raise UserError(
                f"an image of {dimensions(target.shape[:-1])} pixels is smaller than "
                f"the window of ssim, {2 * radius + 1} pixels along each axis; lower "
                "its sigma, or take it out of config.metrics"
            )
        channels = zip(*(np.moveaxis(a, -1, 0) for a in (target, value)), strict=True)
        return np.mean([_similarity(x, y, span, sigma, radius) for x, y in channels])

    return _mean_over_images(similarity, data_range)


def mae() -> Metric:
    """Mean absolute error over all pixels and channels, in the units of the target."""

    def measure(case: Case) -> np.ndarray:
        target, value = _both(case)
        return np.array([np.abs(value - target).sum(), target.size])

    def score(sums: np.ndarray) -> Score:
        return Score(float(ratio(*sums)))

    return Metric(measure, score, "over all pixels", lower=True, kind="value")


def _mean_over_images(
    compare: Callable[[np.ndarray, np.ndarray, float], float], data_range: float
) -> Metric:
    """Measures `f64[2]`: the image's own score, and 1 if it has one."""

    def measure(case: Case) -> np.ndarray:
        target, value = _both(case)
        span = data_range or float(np.ptp(target))
        return np.array([compare(target, value, span), 1]) if span else np.zeros(2)

    def score(sums: np.ndarray) -> Score:
        return Score(float(ratio(*sums)))

    return Metric(measure, score, "mean over images", kind="value")


def _similarity(
    x: np.ndarray, y: np.ndarray, span: float, sigma: float, radius: int
) -> float:
    """The mean SSIM of one channel, `f64[*S]` twice."""

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


def _both(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """The true and the predicted numbers in 64 bits, NaN for infinite ones."""
    chex.assert_equal_shape([case.target, case.value])
    target, value = (a.astype(np.float64) for a in (case.target, case.value))
    return target, np.where(np.isfinite(value), value, np.nan)
