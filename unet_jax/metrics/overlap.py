"""Overlap metrics, computed from one confusion matrix of the whole data set.

Confusion matrices are summed over images and processes. The score of the sum is that of
all pixels of the data set, which differs from the mean of the images' scores. All
scores are in 0..1.

A class that occurs neither in the truth nor in the prediction is undefined. One that is
predicted and not in the truth has Dice, IoU, precision and recall 0. The score of a
data set is the mean over its defined classes without the background.
"""

import math
from collections.abc import Callable

import chex
import numpy as np

from unet_jax.metrics.metric import OVER_PIXELS, EvaluatedImage, Metric, Score
from unet_jax.metrics.scores import divide_or_nan

__all__ = ["accuracy", "dice", "iou", "pixel_error", "precision", "recall"]


def measure_confusion(image: EvaluatedImage) -> np.ndarray:
    """Counts the annotated pixels of each truth (rows) and prediction (columns).

    Returns:
      `i64[K, K]`, or `i64[K, 2, 2]` for independent classes.
    """
    annotated, classes = image.annotated, image.num_classes
    truth, prediction = image.truth[annotated], image.prediction[annotated]
    if image.independent:
        k = np.broadcast_to(np.arange(classes), annotated.shape)[annotated]
        cell, cells = 4 * k + 2 * truth + prediction, (classes, 2, 2)
    else:
        cell, cells = classes * truth + prediction, (classes, classes)
    return np.bincount(cell, minlength=math.prod(cells)).reshape(cells)


def dice() -> Metric:
    """Measures 2 TP / (2 TP + FP + FN) of each class (Dice 1945), and their mean."""
    return _make_metric(lambda tp, fp, fn: (2 * tp, 2 * tp + fp + fn))


def iou() -> Metric:
    """Measures TP / (TP + FP + FN) of each class (Jaccard 1912), and their mean."""
    return _make_metric(lambda tp, fp, fn: (tp, tp + fp + fn))


def precision() -> Metric:
    """Measures TP / (TP + FP) of each class, and their mean.

    A class that is in the truth but never predicted has precision 0, the default of
    scikit-learn. Without it, a model that predicts background only would get a high
    mean.
    """
    return _make_metric(lambda tp, fp, fn: (tp, tp + fp))


def recall() -> Metric:
    """Measures TP / (TP + FN) of each class, and their mean.

    A class that is predicted but not in the truth has recall 0, as in `precision`.
    """
    return _make_metric(lambda tp, fp, fn: (tp, tp + fn))


def accuracy() -> Metric:
    """Measures the share of correct answers, per class against the rest and overall.

    The score is the pixel accuracy, trace / total, of all classes together and not the
    mean over the classes. With independent classes every pixel has K answers.
    """

    def score(counts: np.ndarray) -> Score:
        tp, fp, fn, tn = _split_counts(counts)
        occurs = tp + fp + fn > 0
        classes = divide_or_nan(tp + tn, np.where(occurs, tp + fp + fn + tn, 0))
        return Score(_compute_accuracy(counts), classes)

    return Metric(measure_confusion, score, OVER_PIXELS)


def pixel_error() -> Metric:
    """Measures the share of wrong answers: 1 - accuracy, over all classes together."""

    def score(counts: np.ndarray) -> Score:
        return Score(1 - _compute_accuracy(counts))

    return Metric(measure_confusion, score, OVER_PIXELS, lower=True)


def _compute_accuracy(counts: np.ndarray) -> float:
    correct = np.trace(counts, axis1=-2, axis2=-1).sum()
    return float(divide_or_nan(correct, np.sum(counts)))


def _split_counts(
    counts: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns TP, FP, FN and TN of each class, each `f64[K]`."""
    counts = np.asarray(counts, np.float64)
    chex.assert_rank(counts, {2, 3})
    if counts.ndim == 3:
        (tn, fp), (fn, tp) = np.moveaxis(counts, 0, -1)
    else:
        tp = np.diagonal(counts)
        fp, fn = counts.sum(axis=0) - tp, counts.sum(axis=1) - tp
        tn = counts.sum() - tp - fp - fn
    return tp, fp, fn, tn


def _make_metric(ratio: Callable) -> Metric:
    """Returns a metric of the classes that occur in truth or prediction.

    Args:
      ratio: `(tp, fp, fn) -> (part, whole)`, for each class; 0 / 0 is 0.
    """

    def score(counts: np.ndarray) -> Score:
        tp, fp, fn, _ = _split_counts(counts)
        scores = np.nan_to_num(divide_or_nan(*ratio(tp, fp, fn)))
        return Score(classes=np.where(tp + fp + fn > 0, scores, np.nan))

    return Metric(measure_confusion, score, OVER_PIXELS)
