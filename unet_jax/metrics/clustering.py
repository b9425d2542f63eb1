"""Clustering metrics: pairs of pixels that truth and prediction put together or apart.

All scores are in 0..1 and read only the pixels of true segments
("foreground-restricted"): a border that is slightly too wide or too narrow costs almost
nothing, a gap in it costs a merger. An image without true segments is undefined. The
score of a data set is the mean over the other images.
"""

import functools

import numpy as np
from scipy import ndimage

from unet_jax.errors import UserError
from unet_jax.metrics.contingency import cross_tabulate, renumber
from unet_jax.metrics.metric import OVER_IMAGES, EvaluatedImage, Metric, Score
from unet_jax.metrics.scores import divide_or_nan, score_ratio
from unet_jax.specs import Proportion

__all__ = ["rand_error", "v_info", "v_rand"]

Thresholds = tuple[Proportion, ...]
DEFAULT_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def rand_error() -> Metric:
    """Measures the adapted Rand error, 1 - F of the pairs of pixels in the same object.

    Arganda-Carreras et al. 2015, over pairs of different pixels and with equal weights
    for splits and mergers, as in scikit-image. Predicted objects are compared with true
    ones; the predicted background counts as one more segment. An image in which every
    true object is a single pixel has no pairs and is undefined.
    """

    def measure(image: EvaluatedImage) -> np.ndarray:
        inside = image.true_objects > 0
        true, predicted = image.true_objects[inside], image.objects[inside]
        pairs = cross_tabulate(renumber(true), renumber(predicted))
        both = _count_pairs(pairs.data)
        either = _count_pairs(pairs.sum(axis=1)) + _count_pairs(pairs.sum(axis=0))
        return np.array([1 - 2 * both / either, 1]) if either else np.zeros(2)

    return Metric(measure, score_ratio, OVER_IMAGES, lower=True, kind="objects")


def v_rand(*, thresholds: Thresholds = DEFAULT_THRESHOLDS) -> Metric:
    """Measures V^Rand of the ISBI 2012 challenge: F of pixel pairs in the same segment.

    Arganda-Carreras et al. 2015 with alpha = 0.5, after thinning of the borders and at
    the best threshold of the foreground probability. True segments are the
    face-connected components of the true foreground, so that touching classes or
    objects form one segment.

    Args:
      thresholds: thresholds above which the probability is foreground. The best one is
        chosen once for a data set, by the mean over its images.

    Raises:
      UserError: there is no threshold.
    """
    return _make_threshold_metric(thresholds, kind=0)


def v_info(*, thresholds: Thresholds = DEFAULT_THRESHOLDS) -> Metric:
    """Measures V^Info of the ISBI 2012 challenge, the shared information.

    Arganda-Carreras et al. 2015 with alpha = 0.5: `2 I(S; T) / (H(S) + H(T))`, and 1 if
    both are a single segment. Segments, thinning and thresholds are those of `v_rand`.

    Args:
      thresholds: as in `v_rand`.

    Raises:
      UserError: there is no threshold.
    """
    return _make_threshold_metric(thresholds, kind=1)


def thin_borders(mask: np.ndarray) -> np.ndarray:
    """Numbers the components of a mask and grows them until one-pixel borders are left.

    Components are face-connected and grow through faces at the same speed, as in the
    program of the challenge (the watershed of Fiji's Trainable Segmentation). Where two
    components meet, one of the two pixels becomes border: the one that is not in the
    mask or, if neither is, the one of the component with the smaller number.

    Args:
      mask: `bool[*S]`.

    Returns:
      `i32[*S]`, 0 on borders; all 0 if the mask is empty.
    """
    parts, count = ndimage.label(mask)
    if count == 0:
        return parts
    nearest = ndimage.distance_transform_cdt(
        ~mask, metric="taxicab", return_distances=False, return_indices=True
    )
    grown = parts[tuple(nearest)]
    border = np.zeros(mask.shape, bool)
    for axis in range(mask.ndim):
        before = (slice(None),) * axis + (slice(None, -1),)
        after = (slice(None),) * axis + (slice(1, None),)
        touch = grown[before] != grown[after]
        smaller = grown[before] < grown[after]
        border[before] |= touch & ~mask[before] & (mask[after] | smaller)
        border[after] |= touch & ~mask[after] & (mask[before] | ~smaller)
    return np.where(border, 0, grown)


def _make_threshold_metric(thresholds: Thresholds, kind: int) -> Metric:
    """Returns a metric that measures `f64[T + 1]`: T values, and 1 if defined."""
    if not thresholds:
        raise UserError("thresholds is empty; give one or more, such as (0.5,)")

    def measure(image: EvaluatedImage) -> np.ndarray:
        return _score_thresholds(image, thresholds)[kind].copy()

    def score(sums: np.ndarray) -> Score:
        return Score(float(divide_or_nan(sums[:-1].max(), sums[-1])))

    return Metric(measure, score, f"{OVER_IMAGES}, at the best threshold")


@functools.lru_cache(maxsize=1)  # both metrics measure the same image in turn
def _score_thresholds(image: EvaluatedImage, thresholds: Thresholds) -> np.ndarray:
    """Returns V^Rand and V^Info, `f64[2, T + 1]`; all 0 without true segments."""
    segments, count = ndimage.label(image.true_foreground)
    values = np.zeros((2, len(thresholds) + 1))
    if count == 0:
        return values
    values[:, -1] = 1
    inside = segments > 0
    probability = image.foreground_probability
    for i, threshold in enumerate(thresholds):
        proposed = thin_borders(probability > threshold)[inside]
        # The rest of the border is in no segment: each of its pixels becomes one.
        border = np.flatnonzero(proposed == 0)
        proposed[border] = proposed.max() + 1 + np.arange(border.size)
        pairs = cross_tabulate(segments[inside], proposed)
        counts = pairs.data, pairs.sum(1), pairs.sum(0)
        values[:, i] = _compute_v_rand(*counts), _compute_v_info(*counts)
    return values


def _count_pairs(counts: np.ndarray) -> float:
    """Counts the ordered pairs of two different pixels in the same segment."""
    return float(np.sum(np.square(counts, dtype=np.float64) - counts))


def _compute_v_rand(both: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> float:
    shared, in_true, in_predicted = (
        np.square(c, dtype=np.float64).sum() for c in (both, true, predicted)
    )
    return float(2 * shared / (in_true + in_predicted))


def _compute_v_info(both: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> float:
    joint, *single = (_compute_entropy(c) for c in (both, true, predicted))
    if sum(single) == 0:
        return 1.0
    return 2 * (sum(single) - joint) / sum(single)


def _compute_entropy(counts: np.ndarray) -> float:
    p = counts[counts > 0] / counts.sum()
    return -np.sum(p * np.log(p))
