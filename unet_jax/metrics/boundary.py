"""Distances between the surfaces of truth and prediction, class by class.

Exclusive classes have surfaces from class 1 on (class 0, the background, is undefined),
independent ones all K. The surface of a mask is what its erosion through faces takes
away; the edge of the image counts as outside. A surface pixel's distance is that to the
nearest surface pixel of the other mask, in the units of `EvaluatedImage.spacing`. Where
nobody annotated a class, its masks are both empty.

A class that neither mask holds is undefined in that image. Where one mask is empty and
the other is not, distances are the diagonal of the image and the surface Dice is 0. A
set scores the mean over the images where a class is defined.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from unet_jax.metrics.metric import EvaluatedImage, Metric
from unet_jax.metrics.scores import average_over_images
from unet_jax.specs import NonNegative

REDUCTION = "mean over images"


class Distances(NamedTuple):
    """Of every surface pixel to the other surface; both empty if one mask is."""

    true: np.ndarray  # f64[N], from the truth's surface to the prediction's
    predicted: np.ndarray  # f64[M], and back


def hausdorff() -> Metric:
    """The largest distance of all (Huttenlocher et al. 1993)."""
    return _make_percentile_metric(100)


def hausdorff95() -> Metric:
    """The 95th percentile in place of the largest, which one stray pixel decides.

    The larger of the two percentiles, of the truth's distances and the prediction's, as
    in Metrics Reloaded (Maier-Hein et al. 2024). The percentile of both together would
    hide the worse direction behind the larger surface. Between two ranks it is linear.
    """
    return _make_percentile_metric(95)


def surface_distance() -> Metric:
    """The average symmetric surface distance: the mean over both surfaces' pixels.

    Heimann et al. 2009. The larger surface counts for more.
    """

    def mean(distances: Distances) -> float:
        return np.concatenate(distances).mean()

    return _make_metric(mean, one_empty=_compute_diagonal)


def surface_dice(*, tolerance: NonNegative = 1.0) -> Metric:
    """The part of both surfaces that lies within the tolerance of the other.

    The normalised surface Dice of Nikolov et al. 2018; each surface pixel counts once,
    where they weigh it by an estimate of its area.

    Args:
      tolerance: the distance that is no mistake, in the units of the spacing.
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
    """Measures `f64[2, K]`: each class's value, and 1 if it has one."""

    def measure(image: EvaluatedImage) -> np.ndarray:
        sums = np.zeros((2, image.num_classes))
        for k, distances in enumerate(_compute_distances(image)):
            if distances is not None:
                whole = distances.true.size > 0
                sums[:, k] = value(distances) if whole else one_empty(image), 1
        return sums

    unit = "distance" if distance else ""
    return Metric(measure, average_over_images, REDUCTION, lower=distance, unit=unit)


def _compute_diagonal(image: EvaluatedImage) -> float:
    return math.hypot(*np.multiply(image.true_objects.shape, image.spacing))


@functools.lru_cache(maxsize=1)  # four metrics look at the same image in turn
def _compute_distances(image: EvaluatedImage) -> tuple[Distances | None, ...]:
    """Of each class; None where neither mask holds it."""
    return tuple(
        _measure_between(*_get_masks(image, k), image.spacing)
        for k in range(image.num_classes)
    )


def _get_masks(image: EvaluatedImage, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Where class k is and where it was predicted, `bool[*S]` each."""
    if image.independent:
        known = image.annotated[..., k]
        return image.truth[..., k] > 0, known & (image.prediction[..., k] > 0)
    known = image.annotated & (k > 0)
    return known & (image.truth == k), known & (image.prediction == k)


def _measure_between(
    truth: np.ndarray, prediction: np.ndarray, spacing: tuple[float, ...]
) -> Distances | None:
    boxes = ndimage.find_objects((truth | prediction).view(np.uint8))
    if not boxes:
        return None
    # Both surfaces lie in the box, and beyond it there is nothing to erode from.
    true, predicted = (
        _find_surface(truth[boxes[0]]),
        _find_surface(prediction[boxes[0]]),
    )
    if not (true.any() and predicted.any()):
        return Distances(np.zeros(0), np.zeros(0))
    return Distances(
        _distance_to(predicted, spacing)[true], _distance_to(true, spacing)[predicted]
    )


def _find_surface(mask: np.ndarray) -> np.ndarray:
    return mask & ~ndimage.binary_erosion(mask)


def _distance_to(mask: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    return ndimage.distance_transform_edt(~mask, sampling=spacing)
