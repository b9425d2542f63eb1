"""Conversion of summed measures to scores, and of scores to named numbers."""

import math
from collections.abc import Sequence

import numpy as np

from unet_jax.metrics.metric import Metric, Score


def divide_or_nan(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divides in 64 bits; returns NaN where the divisor is not above 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    nan = np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan)
    return np.divide(part, whole, out=nan, where=whole > 0)


def score_ratio(sums: np.ndarray) -> Score:
    """Divides the first of two sums by the second."""
    return Score(float(divide_or_nan(*sums)))


def average_over_images(sums: np.ndarray) -> Score:
    """Averages the values of each class over the images where the class is defined.

    Args:
      sums: `f64[2, K]`: the sum of the values of each class, and their number.
    """
    return average_classes(divide_or_nan(sums[0], sums[1]))


def average_classes(classes: np.ndarray) -> Score:
    """Returns the scores of the classes, and the mean over the defined ones.

    Args:
      classes: `f64[K]`, NaN where a class is undefined.
    """
    defined = classes[~np.isnan(classes)]
    mean = divide_or_nan(defined.sum(), np.asarray(defined.size))
    return Score(float(mean), classes)


def summarize(
    sums: Sequence[np.ndarray],
    metrics: Sequence[tuple[str, Metric]],
    classes: Sequence[str],
    prefix: str = "",
) -> dict[str, float | None]:
    """Scores summed measures and returns the scores under flat names, ready for JSON.

    Args:
      sums: the measures of each metric, of one image or summed over a data set.
      metrics: (name, metric) pairs.
      classes: the names of the K classes.
      prefix: a prefix of all names, such as 'val'.

    Returns:
      `{'val/dice': mean, 'val/dice/cell': score of the class, ...}`; None if undefined.
    """
    scores = {}
    for measured, (name, metric) in zip(sums, metrics, strict=True):
        name = f"{prefix}/{name}" if prefix else name
        score = metric.score(measured)
        scores[name] = score.mean
        if score.classes is not None:
            for one, value in zip(classes, score.classes, strict=True):
                scores[f"{name}/{one}"] = float(value)
    return {name: None if math.isnan(v) else v for name, v in scores.items()}
