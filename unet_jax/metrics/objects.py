"""Objects found, missed and made up.

All scores are 0 to 1, look at objects of any class alike and at annotated pixels only.
IoU is the pixels that a true and a predicted object share over those that either has. A
set scores the counts of all its images together. Without any object, true or predicted,
a score is undefined.
"""

import functools
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import maximum_bipartite_matching

from unet_jax.errors import UserError
from unet_jax.metrics.contingency import cross_tabulate, renumber
from unet_jax.metrics.metric import EvaluatedImage, Metric, Score
from unet_jax.metrics.scores import divide_or_nan
from unet_jax.specs import Proportion

REDUCTION = "over all objects"
IOU_THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
SPLIT_COST, MISSED_COST, FALSE_COST = (
    5,
    10,
    1,
)  # the costs of the Cell Tracking Challenge


def average_precision(*, thresholds: tuple[Proportion, ...] = IOU_THRESHOLDS) -> Metric:
    """The mean over thresholds of TP / (TP + FP + FN).

    The score of the Data Science Bowl 2018 (Caicedo et al. 2019), with counts over the
    set as StarDist has it (Schmidt et al. 2018). TP is the largest number of pairs, one
    to one, whose IoU is the threshold or more.

    Raises:
      UserError: there is no threshold.
    """
    if not thresholds:
        raise UserError("thresholds is empty; give one, (0.5,), or more")

    def measure(image: EvaluatedImage) -> np.ndarray:
        return np.stack([_count_matches(image, threshold) for threshold in thresholds])

    def score(sums: np.ndarray) -> Score:
        tp, fp, fn = sums.T
        return Score(float(divide_or_nan(tp, tp + fp + fn).mean()))

    return Metric(measure, score, REDUCTION, kind="objects")


def f1(*, threshold: Proportion = 0.5) -> Metric:
    """2 TP / (2 TP + FP + FN), with TP as in `average_precision`."""

    def score(sums: np.ndarray) -> Score:
        tp, fp, fn = sums
        return Score(float(divide_or_nan(2 * tp, 2 * tp + fp + fn)))

    return Metric(
        lambda image: _count_matches(image, threshold), score, REDUCTION, kind="objects"
    )


def panoptic_quality() -> Metric:
    """The sum of IoU over pairs / (TP + FP / 2 + FN / 2), for all classes together.

    Kirillov et al. 2019, equation 1. Objects of an IoU above 0.5 are a pair; no object
    can be in two.
    """

    def measure(image: EvaluatedImage) -> np.ndarray:
        overlaps = _measure_overlaps(image)
        pair = overlaps.iou > 0.5
        tp = pair.sum()
        return np.array([overlaps.iou[pair].sum(), tp, *_count_unmatched(overlaps, tp)])

    def score(sums: np.ndarray) -> Score:
        iou, tp, fp, fn = sums
        return Score(float(divide_or_nan(iou, tp + fp / 2 + fn / 2)))

    return Metric(measure, score, REDUCTION, kind="objects")


def aggregated_jaccard() -> Metric:
    """The aggregated Jaccard index, of the pixels of all objects together.

    Kumar et al. 2017, algorithm 1: each true object goes with the predicted one of the
    largest IoU (the first of several), and that one may go with more than one. Shared
    pixels over united pixels, to which predicted objects without a partner are added.
    """

    def measure(image: EvaluatedImage) -> np.ndarray:
        true, predicted, row, column, shared, iou = _measure_overlaps(image)
        order = np.lexsort((column, -iou, row))
        rows, first = np.unique(row[order], return_index=True)
        best = order[first]
        paired = np.zeros(predicted.size, bool)
        paired[column[best]] = True
        lone = np.delete(true, rows).sum() + predicted[~paired].sum()
        both = shared[best].sum()
        united = (true[row[best]] + predicted[column[best]]).sum() - both
        return np.array([both, united + lone])

    return Metric(measure, _score_ratio, REDUCTION, kind="objects")


def seg() -> Metric:
    """SEG of the Cell Tracking Challenge: the mean IoU over true objects.

    Each with the predicted object that covers more than half of it, and 0 if none does
    (Maška et al. 2014). Objects that are made up cost nothing here, but in `det`.
    Undefined without true objects.
    """

    def measure(image: EvaluatedImage) -> np.ndarray:
        overlaps = _measure_overlaps(image)
        return np.array([overlaps.iou[_is_covered(overlaps)].sum(), overlaps.true.size])

    return Metric(measure, _score_ratio, REDUCTION, kind="objects")


def det() -> Metric:
    """DET of the Cell Tracking Challenge: 1 - the cost of mending the objects.

    `1 - min(AOGM-D, AOGM-D0) / AOGM-D0` (Matula et al. 2015): 10 for each true object
    that no predicted one covers by more than half, 5 for each that a predicted one
    covers beyond its first and 1 for each predicted object that covers none; D0 is the
    cost of having nothing. Undefined without true objects.
    """

    def measure(image: EvaluatedImage) -> np.ndarray:
        overlaps = _measure_overlaps(image)
        partners = overlaps.column[_is_covered(overlaps)]
        found, used = partners.size, np.unique(partners).size
        missed, made_up = overlaps.true.size - found, overlaps.predicted.size - used
        cost = MISSED_COST * missed + SPLIT_COST * (found - used) + FALSE_COST * made_up
        return np.array([cost, MISSED_COST * overlaps.true.size])

    def score(sums: np.ndarray) -> Score:
        cost, nothing = sums
        return Score(float(1 - divide_or_nan(min(cost, nothing), nothing)))

    return Metric(measure, score, REDUCTION, kind="objects")


class _Overlaps(NamedTuple):
    """The objects, and every pair of them that shares a pixel."""

    true: np.ndarray  # i64[N], the sizes of the true objects
    predicted: np.ndarray  # i64[M], and of the predicted ones
    row: np.ndarray  # int[P], the true object of each pair, 0..N-1
    column: np.ndarray  # int[P], and the predicted one, 0..M-1
    shared: np.ndarray  # i64[P], how many pixels they share
    iou: np.ndarray  # f64[P]


@functools.lru_cache(maxsize=1)  # all metrics look at the same image in turn
def _measure_overlaps(image: EvaluatedImage) -> _Overlaps:
    known = image.true_objects >= 0
    # A 0 in front of both makes sure that number 0 is the background.
    truth = renumber(np.append(0, image.true_objects[known]))
    prediction = renumber(np.append(0, image.objects[known]))
    pairs = cross_tabulate(truth, prediction)
    true, predicted = pairs.sum(axis=1)[1:], pairs.sum(axis=0)[1:]
    inner = pairs[1:, 1:].tocoo()
    row, column, shared = inner.row, inner.col, inner.data
    iou = shared / (true[row] + predicted[column] - shared)
    return _Overlaps(true, predicted, row, column, shared, iou)


def _count_matches(image: EvaluatedImage, threshold: float) -> np.ndarray:
    """TP, FP and FN: `i64[3]`."""
    overlaps = _measure_overlaps(image)
    near = overlaps.iou >= threshold
    edges = (overlaps.row[near], overlaps.column[near])
    shape = (overlaps.true.size, overlaps.predicted.size)
    graph = sparse.csr_array((np.ones(near.sum()), edges), shape=shape)
    # From 0.5 down an object can have several partners, and takes one.
    tp = np.count_nonzero(maximum_bipartite_matching(graph) >= 0) if graph.nnz else 0
    return np.array([tp, *_count_unmatched(overlaps, tp)])


def _count_unmatched(overlaps: _Overlaps, tp: int) -> tuple[int, int]:
    """FP and FN."""
    return overlaps.predicted.size - tp, overlaps.true.size - tp


def _is_covered(overlaps: _Overlaps) -> np.ndarray:
    """`bool[P]`: pairs whose predicted object covers more than half of the true one."""
    return 2 * overlaps.shared > overlaps.true[overlaps.row]


def _score_ratio(sums: np.ndarray) -> Score:
    return Score(float(divide_or_nan(*sums)))
