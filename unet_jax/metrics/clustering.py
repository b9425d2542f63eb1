"""Segments as a clustering of pixels: which pairs belong together.

All scores are 0 to 1 and look at the pixels of true segments only ("foreground-
restricted"): a border that is a little too wide or narrow costs next to nothing, one
that is missing somewhere costs a merger. An image without true segments is undefined; a
set scores the mean over the others.
"""

import functools

import numpy as np
from scipy import ndimage

from unet_jax.errors import UserError
from unet_jax.metrics import foreground
from unet_jax.metrics.contingency import cross_tabulate, renumber
from unet_jax.metrics.metric import EvaluatedImage, Metric, Score
from unet_jax.metrics.scores import divide_or_nan
from unet_jax.specs import Proportion

Thresholds = tuple[Proportion, ...]
DEFAULT_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def rand_error() -> Metric:
    """The adapted Rand error: 1 - F of the pairs of pixels in one object.

    Arganda-Carreras et al. 2015, over pairs of two different pixels and with equal
    weight for splits and mergers, as in scikit-image. It compares the predicted objects
    with the true ones; the predicted background is one segment more. True objects of
    one pixel each have no pairs and are undefined.
    """

    def measure(image: EvaluatedImage) -> np.ndarray:
        there = image.true_objects > 0
        pairs = cross_tabulate(
            renumber(image.true_objects[there]), renumber(image.objects[there])
        )
        both = _count_pairs(pairs.data)
        either = _count_pairs(pairs.sum(axis=1)) + _count_pairs(pairs.sum(axis=0))
        return np.array([1 - 2 * both / either, 1]) if either else np.zeros(2)

    def score(sums: np.ndarray) -> Score:
        return Score(float(divide_or_nan(*sums)))

    reduction = "mean over images"
    return Metric(measure, score, reduction, lower=True, kind="objects")


def v_rand(*, thresholds: Thresholds = DEFAULT_THRESHOLDS) -> Metric:
    """V^Rand of the ISBI 2012 challenge: F of the pairs of pixels in one segment.

    Arganda-Carreras et al. 2015 with alpha = 0.5, after border thinning and at the best
    threshold of the foreground probability. True segments are the face-connected
    components of the true foreground: classes or objects that touch are one.

    Args:
      thresholds: the foreground is where its probability is above; the best is chosen
        once for a set, by the mean over its images.

    Raises:
      UserError: there is no threshold.
    """
    return _make_threshold_metric(thresholds, kind=0)


def v_info(*, thresholds: Thresholds = DEFAULT_THRESHOLDS) -> Metric:
    """V^Info of the ISBI 2012 challenge: the information that two clusterings share.

    Arganda-Carreras et al. 2015 with alpha = 0.5: `2 I(S; T) / (H(S) + H(T))`, and 1
    where both are a single segment. Segments, thinning, thresholds and errors are as in
    `v_rand`.
    """
    return _make_threshold_metric(thresholds, kind=1)


def thin_borders(mask: np.ndarray) -> np.ndarray:
    """Numbers the components of a mask, grown until a line of one pixel parts them.

    Components are face-connected and grow through faces, all at the same pace, as in
    the challenge's program (the watershed of Fiji's Trainable Segmentation). Where two
    meet, one of the two pixels is the border and stays 0: the one that was in neither
    to begin with or, of two such, the one of the smaller number.

    Args:
      mask: `bool[*S]`.

    Returns:
      `i32[*S]`, 0 on the borders, and everywhere if the mask is empty.
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
    """Measures `f64[T + 1]`: the value at each threshold, and 1 if there is one."""
    if not thresholds:
        raise UserError("thresholds is empty; give one, (0.5,), or more")

    def measure(image: EvaluatedImage) -> np.ndarray:
        return _score_thresholds(image, thresholds)[kind].copy()

    def score(sums: np.ndarray) -> Score:
        return Score(float(divide_or_nan(sums[:-1].max(), sums[-1])))

    return Metric(measure, score, "mean over images, at the best threshold")


@functools.lru_cache(maxsize=1)  # both metrics look at the same image in turn
def _score_thresholds(image: EvaluatedImage, thresholds: Thresholds) -> np.ndarray:
    """V^Rand and V^Info, `f64[2, T + 1]`; all 0 without true segments."""
    segments, count = ndimage.label(foreground.get_truth(image))
    values = np.zeros((2, len(thresholds) + 1))
    if count == 0:
        return values
    values[:, -1] = 1
    there = segments > 0
    probability = foreground.get_probability(image)
    for at, threshold in enumerate(thresholds):
        proposed = thin_borders(probability > threshold)[there]
        # What is left of the border is in no segment: each pixel is one of its own.
        border = np.flatnonzero(proposed == 0)
        proposed[border] = proposed.max() + 1 + np.arange(border.size)
        pairs = cross_tabulate(segments[there], proposed)
        counts = pairs.data, pairs.sum(1), pairs.sum(0)
        values[:, at] = _compute_v_rand(*counts), _compute_v_info(*counts)
    return values


def _count_pairs(counts: np.ndarray) -> float:
    """How many ordered pairs of two pixels lie in one segment."""
    return float(np.sum(np.square(counts, dtype=np.float64) - counts))


def _compute_v_rand(both: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> float:
    both, true, predicted = (
        np.square(c, dtype=np.float64).sum() for c in (both, true, predicted)
    )
    return 2 * both / (true + predicted)


def _compute_v_info(both: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> float:
    joint, true, predicted = (_compute_entropy(c) for c in (both, true, predicted))
    if true + predicted == 0:
        return 1.0
    return 2 * (true + predicted - joint) / (true + predicted)


def _compute_entropy(counts: np.ndarray) -> float:
    p = counts[counts > 0] / counts.sum()
    return -np.sum(p * np.log(p))
