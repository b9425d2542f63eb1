"""Scores of overlap: the confusion matrix of an image, scored once for the whole set.

Confusion matrices add up over images and processes. A score of the sum is the score of
the whole set of pixels, which a mean of the images' scores is not. All are 0 to 1.
"""

import math

import chex
import numpy as np

from unet_jax.metrics.metric import EvaluatedImage, Metric, Score
from unet_jax.metrics.scores import average_classes, divide_or_nan

REDUCTION = "over all pixels"


def measure_confusion(image: EvaluatedImage) -> np.ndarray:
    """Counts the annotated pixels of each truth (rows) and prediction (columns).

    Returns:
      `i64[K, K]`, or `i64[K, 2, 2]` for independent classes.
    """
    truth, prediction = image.truth[image.annotated], image.prediction[image.annotated]
    if image.independent:
        kind = np.broadcast_to(np.arange(image.num_classes), image.annotated.shape)[
            image.annotated
        ]
        cell, cells = 4 * kind + 2 * truth + prediction, (image.num_classes, 2, 2)
    else:
        cell, cells = (
            image.num_classes * truth + prediction,
            (image.num_classes, image.num_classes),
        )
    return np.bincount(cell, minlength=math.prod(cells)).reshape(cells)


def dice() -> Metric:
    """2 TP / (2 TP + FP + FN) of each class (Dice 1945), and their mean."""

    def score(counts: np.ndarray) -> Score:
        tp, fp, fn, _ = _split_counts(counts)
        return _score_classes(2 * tp, 2 * tp + fp + fn, seen=tp + fp + fn)

    return Metric(measure_confusion, score, REDUCTION)


def iou() -> Metric:
    """TP / (TP + FP + FN) of each class (Jaccard 1912), and their mean."""

    def score(counts: np.ndarray) -> Score:
        tp, fp, fn, _ = _split_counts(counts)
        return _score_classes(tp, tp + fp + fn, seen=tp + fp + fn)

    return Metric(measure_confusion, score, REDUCTION)


def precision() -> Metric:
    """TP / (TP + FP) of each class, and their mean.

    A class that is there and never predicted has precision 0, as with scikit-learn's
    default: left out, it would flatter a model that predicts background only.
    """

    def score(counts: np.ndarray) -> Score:
        tp, fp, fn, _ = _split_counts(counts)
        return _score_classes(tp, tp + fp, seen=tp + fp + fn)

    return Metric(measure_confusion, score, REDUCTION)


def recall() -> Metric:
    """TP / (TP + FN) of each class, and their mean.

    A class that is predicted and never there has recall 0, as in `precision`.
    """

    def score(counts: np.ndarray) -> Score:
        tp, fp, fn, _ = _split_counts(counts)
        return _score_classes(tp, tp + fn, seen=tp + fp + fn)

    return Metric(measure_confusion, score, REDUCTION)


def accuracy() -> Metric:
    """The fraction of right answers: of each class against the rest, and of all.

    The mean is pixel accuracy, trace / total, not the mean over the classes; with
    independent classes every pixel gives K answers.
    """

    def score(counts: np.ndarray) -> Score:
        tp, fp, fn, tn = _split_counts(counts)
        classes = divide_or_nan(tp + tn, tp + fp + fn + tn)
        return Score(_compute_accuracy(counts), classes)

    return Metric(measure_confusion, score, REDUCTION)


def pixel_error() -> Metric:
    """The fraction of wrong answers: 1 - accuracy, for all classes together."""
    return Metric(
        measure_confusion,
        lambda counts: Score(1 - _compute_accuracy(counts)),
        REDUCTION,
        lower=True,
    )


def _compute_accuracy(counts: np.ndarray) -> float:
    right = np.trace(counts, axis1=-2, axis2=-1).sum()
    return float(divide_or_nan(right, np.sum(counts)))


def _split_counts(
    counts: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """TP, FP, FN and TN of each class, each `f64[K]`."""
    counts = np.asarray(counts, np.float64)
    chex.assert_rank(counts, {2, 3})
    if counts.ndim == 3:
        (tn, fp), (fn, tp) = np.moveaxis(counts, 0, -1)
    else:
        tp = np.diagonal(counts)
        fp, fn = counts.sum(axis=0) - tp, counts.sum(axis=1) - tp
        tn = counts.sum() - tp - fp - fn
    return tp, fp, fn, tn


def _score_classes(part: np.ndarray, whole: np.ndarray, seen: np.ndarray) -> Score:
    """Scores the classes that truth or prediction has seen; the others are NaN."""
    return average_classes(
        np.where(seen > 0, np.nan_to_num(divide_or_nan(part, whole)), np.nan)
    )
