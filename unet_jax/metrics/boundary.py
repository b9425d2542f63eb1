"""Distances between the surfaces of truth and prediction, for each class.

Every class has a surface but the background, which is undefined: class 0 of exclusive
classes, unless the data set has no background (`config.data.background`). The surface
of a mask is the set of pixels that an erosion through faces removes; outside the image
no class is present. The distance of a surface pixel is that to the nearest surface
pixel of the other mask, in the units of `EvaluatedImage.spacing`. Where a class is not
annotated, both masks are empty.

A class is undefined in an image where both masks are empty. If only one mask is empty,
the distances are the diagonal of the image and the surface Dice is 0. The score of a
class in a data set is the mean over the images where it is defined, and the score of
the data set is the mean over the defined classes.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from unet_jax.metrics.metric import OVER_IMAGES, EvaluatedImage, Metric
from unet_jax.metrics.scores import average_over_images
from unet_jax.specs import NonNegative

__all__ = ["hausdorff", "hausdorff95", "surface_dice", "surface_distance"]


class Distances(NamedTuple):
    """The distances between two surfaces; both are empty if one mask is empty."""

    true: np.ndarray  # f64[N], from the true surface to the predicted one
    predicted: np.ndarray  # f64[M], from the predicted surface to the true one


def hausdorff() -> Metric:
    """Measures the Hausdorff distance, the largest of all distances.

    Huttenlocher et al. 1993.
    """
    return _make_percentile_metric(100)


def hausdorff95() -> Metric:
    """Measures the 95th percentile of the distances, which is robust to single pixels.

    It is the larger of two percentiles, of the distances from the truth and of those
    from the prediction, as in Metrics Reloaded (Maier-Hein et al. 2024). With one
    percentile of all distances, the larger surface could hide the worse direction.
    Percentiles between two ranks are interpolated linearly.
    """
    return _make_percentile_metric(95)


def surface_distance() -> Metric:
    """Measures the average symmetric surface distance, the mean over both surfaces.

    Heimann et al. 2009. All surface pixels count alike, so the larger surface has more
    weight.
    """

    def mean(distances: Distances) -> float:
        return np.concatenate(distances).mean()

    return _make_metric(mean, one_empty=_compute_diagonal)


def surface_dice(*, tolerance: NonNegative = 1.0) -> Metric:
    """Measures the share of both surfaces within a tolerance of the other surface.

    The normalised surface Dice of Nikolov et al. 2018. Each surface pixel counts once;
    the paper weights it by an estimate of its area.

    Args:
      tolerance: the largest distance that is not an error, in the units of
        `EvaluatedImage.spacing`.
    """

    def within(distances: Distances) -> float:
        return (np.concatenate(distances) <= tolerance).mean()

    return _make_metric(within, one_empty=lambda image: 0.0, distance=False)


def _make_percentile_metric(rank: int) -> Metric:
    def farthest(distances: Distances) -> float:
        return max(np.percentile(each, rank) for each in distances)

    return _make_metric(farthest, one_empty=_compute_diagonal)


def _make_metric(
    value: Callable[[Distances], float],
    one_empty: Callable[[EvaluatedImage], float],
    distance: bool = True,
) -> Metric:
    """Returns a metric that measures `f64[2, K]`: a class's value, and 1 if defined."""

    def measure(image: EvaluatedImage) -> np.ndarray:
        sums = np.zeros((2, image.num_classes))
        for k, distances in enumerate(_compute_distances(image)):
            if distances is not None:
                empty = distances.true.size == 0
                sums[:, k] = one_empty(image) if empty else value(distances), 1
        return sums

    unit = "distance" if distance else ""
    return Metric(measure, average_over_images, OVER_IMAGES, lower=distance, unit=unit)


def _compute_diagonal(image: EvaluatedImage) -> float:
    return math.hypot(*np.multiply(image.true_objects.shape, image.spacing))


@functools.lru_cache(maxsize=1)  # several metrics measure the same image in turn
def _compute_distances(image: EvaluatedImage) -> tuple[Distances | None, ...]:
    """Returns the distances of each class, None where both masks are empty."""
    return tuple(
        _measure_between(*_get_masks(image, k), image.spacing)
        for k in range(image.num_classes)
    )


def _get_masks(image: EvaluatedImage, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the true and the predicted mask of class k, `bool[*S]` each."""
    if image.independent:
        annotated = image.annotated[..., k]
        return image.truth[..., k] > 0, annotated & (image.prediction[..., k] > 0)
    annotated = image.annotated & (k > 0 or not image.background)
    return annotated & (image.truth == k), annotated & (image.prediction == k)


def _measure_between(
    truth: np.ndarray, prediction: np.ndarray, spacing: tuple[float, ...]
) -> Distances | None:
    boxes = ndimage.find_objects((truth | prediction).view(np.uint8))
    if not boxes:
        return None
    # Both masks lie in the box, so erosion gives the same surfaces inside it.
    true, predicted = (_find_surface(mask[boxes[0]]) for mask in (truth, prediction))
    if not (true.any() and predicted.any()):
        return Distances(np.zeros(0), np.zeros(0))
    return Distances(
        _distance_to(predicted, spacing)[true], _distance_to(true, spacing)[predicted]
    )


def _find_surface(mask: np.ndarray) -> np.ndarray:
    return mask & ~ndimage.binary_erosion(mask)


def _distance_to(mask: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    return ndimage.distance_transform_edt(~mask, sampling=spacing)
