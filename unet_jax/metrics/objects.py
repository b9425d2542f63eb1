"""Object metrics: objects that are found, missed or falsely predicted.

All scores are in 0..1, do not distinguish classes and read annotated pixels only. The
IoU of a true and a predicted object is the number of pixels in both divided by the
number in either. The score of a data set is computed from the counts of all its images.
It is undefined without any true or predicted object.

Two objects match if their IoU is at least the threshold (>=), as in COCO (`pycocotools`
of Lin et al. 2014) and StarDist (`stardist.matching`). Each object is in one pair at
most, and the number of pairs is the largest possible one, as in StarDist; COCO assigns
objects in the order of their confidence, which these objects do not have. From a
threshold of 0.5 on, only an IoU of exactly 0.5 can leave a choice between pairs, and
the choice changes no score.
"""

import functools
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import maximum_bipartite_matching

from unet_jax.errors import UserError
from unet_jax.metrics.contingency import cross_tabulate, renumber
from unet_jax.metrics.metric import OVER_OBJECTS, EvaluatedImage, Metric, Score
from unet_jax.metrics.scores import divide_or_nan, score_ratio
from unet_jax.specs import Proportion

__all__ = [
    "aggregated_jaccard",
    "average_precision",
    "det",
    "f1",
    "panoptic_quality",
    "seg",
]

IOU_THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
MOST_IOU = 1 - 1e-10  # the largest threshold in COCO: rounding must not matter
SPLIT_COST, MISSED_COST, FALSE_COST = 5, 10, 1  # Cell Tracking Challenge


def average_precision(*, thresholds: tuple[Proportion, ...] = IOU_THRESHOLDS) -> Metric:
    """Measures the mean over thresholds of TP / (TP + FP + FN).

    This is the score of the Data Science Bowl 2018 (Caicedo et al. 2019), with counts
    over the data set as in StarDist (Schmidt et al. 2018). TP is the number of pairs of
    objects that match.

    Args:
      thresholds: IoU thresholds.

    Raises:
      UserError: there is no threshold.
    """
    if not thresholds:
        raise UserError("thresholds is empty; give one or more, such as (0.5,)")

    def measure(image: EvaluatedImage) -> np.ndarray:
        return np.stack([_count_matches(image, threshold) for threshold in thresholds])

    def score(sums: np.ndarray) -> Score:
        tp, fp, fn = sums.T
        return Score(float(divide_or_nan(tp, tp + fp + fn).mean()))

    return Metric(measure, score, OVER_OBJECTS, kind="objects")


def f1(*, threshold: Proportion = 0.5) -> Metric:
    """Measures 2 TP / (2 TP + FP + FN), with TP as in `average_precision`.

    Args:
      threshold: the IoU threshold.
    """

    def score(sums: np.ndarray) -> Score:
        tp, fp, fn = sums
        return Score(float(divide_or_nan(2 * tp, 2 * tp + fp + fn)))

    measure = functools.partial(_count_matches, threshold=threshold)
    return Metric(measure, score, OVER_OBJECTS, kind="objects")


def panoptic_quality() -> Metric:
    """Measures the IoU sum of all pairs / (TP + FP / 2 + FN / 2), over all classes.

    Kirillov et al. 2019, equation 1, for pairs of objects whose IoU is at least 0.5, as
    in StarDist. The paper and its program `panopticapi` require more than 0.5, which
    differs only for an IoU of exactly 0.5.
    """

    def measure(image: EvaluatedImage) -> np.ndarray:
        overlaps = measure_overlaps(image)
        pairs = _match_objects(overlaps, 0.5)
        counts = pairs.size, *_count_unmatched(overlaps, pairs.size)
        return np.array([overlaps.iou[pairs].sum(), *counts])

    def score(sums: np.ndarray) -> Score:
        iou, tp, fp, fn = sums
        return Score(float(divide_or_nan(iou, tp + fp / 2 + fn / 2)))

    return Metric(measure, score, OVER_OBJECTS, kind="objects")


def aggregated_jaccard() -> Metric:
    """Measures the aggregated Jaccard index, over the pixels of all objects together.

    Kumar et al. 2017, algorithm 1: each true object is paired with the predicted object
    of the largest IoU (the first of several). A predicted object can be in several
    pairs. The score is the sum of the intersections divided by the sum of the unions,
    to which objects without a partner are added.
    """

    def measure(image: EvaluatedImage) -> np.ndarray:
        true, predicted, row, column, shared, iou = measure_overlaps(image)
        order = np.lexsort((column, -iou, row))
        rows, first = np.unique(row[order], return_index=True)
        best = order[first]
        paired = np.zeros(predicted.size, bool)
        paired[column[best]] = True
        lone = np.delete(true, rows).sum() + predicted[~paired].sum()
        both = shared[best].sum()
        united = (true[row[best]] + predicted[column[best]]).sum() - both
        return np.array([both, united + lone])

    return Metric(measure, score_ratio, OVER_OBJECTS, kind="objects")


def seg() -> Metric:
    """Measures SEG of the Cell Tracking Challenge, the mean IoU over true objects.

    Maška et al. 2014: each true object is compared with the predicted object that
    covers more than half of it, with IoU 0 if there is none. False objects have no cost
    here; `det` counts them. Undefined without true objects.
    """

    def measure(image: EvaluatedImage) -> np.ndarray:
        overlaps = measure_overlaps(image)
        return np.array([overlaps.iou[_is_covered(overlaps)].sum(), overlaps.true.size])

    return Metric(measure, score_ratio, OVER_OBJECTS, kind="objects")


def det() -> Metric:
    """Measures DET of the Cell Tracking Challenge, 1 - the cost of corrections.

    `1 - min(AOGM-D, AOGM-D0) / AOGM-D0` (Matula et al. 2015). The cost is 10 for each
    true object of which no predicted object covers more than half, 5 for each true
    object after the first that the same predicted object covers, and 1 for each
    predicted object that covers none. AOGM-D0 is the cost of an empty prediction.
    Undefined without true objects.
    """

    def measure(image: EvaluatedImage) -> np.ndarray:
        overlaps = measure_overlaps(image)
        partners = overlaps.column[_is_covered(overlaps)]
        found, used = partners.size, np.unique(partners).size
        missed, false = overlaps.true.size - found, overlaps.predicted.size - used
        cost = MISSED_COST * missed + SPLIT_COST * (found - used) + FALSE_COST * false
        return np.array([cost, MISSED_COST * overlaps.true.size])

    def score(sums: np.ndarray) -> Score:
        cost, worst = sums
        return Score(float(1 - divide_or_nan(min(cost, worst), worst)))

    return Metric(measure, score, OVER_OBJECTS, kind="objects")


class Overlaps(NamedTuple):
    """The sizes of all objects, and every pair of objects that shares a pixel."""

    true: np.ndarray  # i64[N], the sizes of the true objects
    predicted: np.ndarray  # i64[M], the sizes of the predicted objects
    row: np.ndarray  # int[P], the true object of each pair, 0..N-1
    column: np.ndarray  # int[P], the predicted object of each pair, 0..M-1
    shared: np.ndarray  # i64[P], the number of shared pixels
    iou: np.ndarray  # f64[P]


@functools.lru_cache(maxsize=1)  # several metrics measure the same image in turn
def measure_overlaps(image: EvaluatedImage) -> Overlaps:
    """Measures the overlaps of the true and the predicted objects of an image.

    Only annotated pixels count.
    """
    annotated = image.true_objects >= 0
    # The prepended 0 makes 0 the number of the background.
    truth = renumber(np.append(0, image.true_objects[annotated]))
    prediction = renumber(np.append(0, image.objects[annotated]))
    pairs = cross_tabulate(truth, prediction)
    true, predicted = pairs.sum(axis=1)[1:], pairs.sum(axis=0)[1:]
    inner = pairs[1:, 1:].tocoo()
    row, column, shared = inner.row, inner.col, inner.data
    iou = shared / (true[row] + predicted[column] - shared)
    return Overlaps(true, predicted, row, column, shared, iou)


def _count_matches(image: EvaluatedImage, threshold: float) -> np.ndarray:
    """Returns TP, FP and FN, `i64[3]`."""
    overlaps = measure_overlaps(image)
    tp = _match_objects(overlaps, threshold).size
    return np.array([tp, *_count_unmatched(overlaps, tp)])


def _match_objects(overlaps: Overlaps, threshold: float) -> np.ndarray:
    """Returns the indices of as many pairs as possible without a common object."""
    close = np.flatnonzero(overlaps.iou >= min(threshold, MOST_IOU))
    if not close.size:
        return close
    row, column = overlaps.row[close], overlaps.column[close]
    shape = (overlaps.true.size, overlaps.predicted.size)
    graph = sparse.csr_array((np.ones(close.size), (row, column)), shape=shape)
    partner = maximum_bipartite_matching(graph, perm_type="column")
    return close[partner[row] == column]


def _count_unmatched(overlaps: Overlaps, tp: int) -> tuple[int, int]:
    """Returns FP and FN."""
    return overlaps.predicted.size - tp, overlaps.true.size - tp


def _is_covered(overlaps: Overlaps) -> np.ndarray:
    """True if the predicted object covers more than half of the true one: `bool[P]`."""
    return 2 * overlaps.shared > overlaps.true[overlaps.row]
