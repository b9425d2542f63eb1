"""Scores of overlap: a confusion matrix on the device, scored once at the end.

Confusion matrices add up over batches, tiles, devices and hosts. A score of the sum is
the score of the whole set of pixels and does not depend on the batch size, which a mean
of scores would.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from unet_jax.arrays import Label


class Score(NamedTuple):
    """A score of the whole set and, if it has them, of each class; NaN is undefined."""

    mean: float
    classes: np.ndarray | None  # f64[K]


def confusion(
    prediction: Label, label: Label, *, classes: int, independent: bool = False
) -> jax.Array:
    """Counts the pixels of each truth (rows) and prediction (columns), an example.

    Args:
      prediction: `i32[B, *S]` of 0..K-1, or `i32[B, *S, K]` of 0 and 1.
      label: the same shape; negative labels are not counted.
      classes: K.
      independent: whether the last axis holds K independent classes.

    Returns:
      `i32[B, K, K]`, or `i32[B, K, 2, 2]` for independent classes.

    Raises:
      AssertionError: the shapes differ, or the last axis is not K if independent.
    """
    chex.assert_equal_shape([prediction, label])
    if independent:
        chex.assert_axis_dimension(label, -1, classes)
        cells = (classes, 2, 2)
        first = 4 * jnp.arange(classes).reshape((1,) * (label.ndim - 1) + (classes,))
        cell = first + 2 * label + prediction
    else:
        cells = (classes, classes)
        cell = classes * label + prediction
    count = math.prod(cells)
    cell = jnp.where(label >= 0, cell, count)  # bincount drops what is past the end
    cell = cell.reshape(len(cell), -1)
    # Counting costs the same for any K; a product of one-hot arrays grows with K and,
    # in float32, is wrong above 2^24 pixels.
    counts = jax.vmap(lambda row: jnp.bincount(row, length=count))(cell)
    return counts.astype(jnp.int32).reshape(-1, *cells)


def dice(confusion: np.ndarray) -> Score:
    """2 TP / (2 TP + FP + FN) of each class (Dice 1945), and their mean."""
    tp, fp, fn, _ = _counts(confusion)
    return _score(2 * tp, 2 * tp + fp + fn, seen=tp + fp + fn)


def iou(confusion: np.ndarray) -> Score:
    """TP / (TP + FP + FN) of each class (Jaccard 1912), and their mean."""
    tp, fp, fn, _ = _counts(confusion)
    return _score(tp, tp + fp + fn, seen=tp + fp + fn)


def precision(confusion: np.ndarray) -> Score:
    """TP / (TP + FP) of each class, and their mean.

    A class that is there and never predicted has precision 0, as with scikit-learn's
    default: left out, it would flatter a model that predicts background only.
    """
    tp, fp, fn, _ = _counts(confusion)
    return _score(tp, tp + fp, seen=tp + fp + fn)


def recall(confusion: np.ndarray) -> Score:
    """TP / (TP + FN) of each class, and their mean.

    A class that is predicted and never there has recall 0, as in `precision`.
    """
    tp, fp, fn, _ = _counts(confusion)
    return _score(tp, tp + fn, seen=tp + fp + fn)


def accuracy(confusion: np.ndarray) -> Score:
    """The fraction of right answers: of each class against the rest, and of all.

    The mean is pixel accuracy, trace / total, not the mean over the classes; with
    independent classes every pixel gives K answers.
    """
    tp, fp, fn, tn = _counts(confusion)
    right = np.trace(confusion, axis1=-2, axis2=-1).sum()
    mean = _ratio(right, np.sum(confusion))
    return Score(float(mean), _ratio(tp + tn, tp + fp + fn + tn))


def pixel_error(confusion: np.ndarray) -> Score:
    """The fraction of wrong answers: 1 - accuracy, for all classes together."""
    return Score(1 - accuracy(confusion).mean, None)


def summarize(
    confusion: np.ndarray,
    metrics: Sequence[tuple[str, Callable[[np.ndarray], Score]]],
    classes: Sequence[str],
    prefix: str,
) -> dict[str, float | None]:
    """Scores a summed confusion matrix under flat names, ready for JSON.

    Args:
      confusion: `int[K, K]` or `int[K, 2, 2]`.
      metrics: the name and the function of each score.
      classes: K names.
      prefix: what the names begin with, such as 'val'.

    Returns:
      `{'val/dice': mean, 'val/dice/cell': of that class, ...}`; None if undefined.
    """
    scores = {}
    for name, metric in metrics:
        score = metric(confusion)
        scores[f"{prefix}/{name}"] = score.mean
        if score.classes is not None:
            for one, value in zip(classes, score.classes, strict=True):
                scores[f"{prefix}/{name}/{one}"] = float(value)
    return {name: None if math.isnan(v) else v for name, v in scores.items()}


def _counts(
    confusion: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """TP, FP, FN and TN of each class, each `f64[K]`."""
    confusion = np.asarray(confusion, np.float64)
    chex.assert_rank(confusion, {2, 3})
    if confusion.ndim == 3:
        (tn, fp), (fn, tp) = np.moveaxis(confusion, 0, -1)
    else:
        tp = np.diagonal(confusion)
        fp, fn = confusion.sum(axis=0) - tp, confusion.sum(axis=1) - tp
        tn = confusion.sum() - tp - fp - fn
    return tp, fp, fn, tn


def _score(part: np.ndarray, whole: np.ndarray, seen: np.ndarray) -> Score:
    """Scores the classes that truth or prediction has seen; the others are NaN."""
    classes = np.where(seen > 0, np.nan_to_num(_ratio(part, whole)), np.nan)
    defined = classes[seen > 0]
    return Score(float(_ratio(defined.sum(), defined.size)), classes)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """The quotient, NaN and no warning where there is no whole."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    nan = np.full(whole.shape, np.nan)
    return np.divide(part, whole, out=nan, where=whole > 0)
