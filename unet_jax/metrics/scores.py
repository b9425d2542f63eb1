"""From sums to scores, and from scores to names and numbers."""

import math
from collections.abc import Sequence

import numpy as np

from unet_jax.metrics.metric import Metric, Score


def divide_or_nan(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """The quotient, NaN and no warning where there is no whole: `f64`."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    nan = np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan)
    return np.divide(part, whole, out=nan, where=whole > 0)


def average_over_images(sums: np.ndarray) -> Score:
    """The mean of each class over the images where it is defined, and their mean.

    `sums` is `f64[2, K]`, the sum of each class's values and how many there are.
    """
    return average_classes(divide_or_nan(sums[0], sums[1]))


def average_classes(classes: np.ndarray) -> Score:
    """The scores of the classes, and the mean of those that are defined."""
    defined = classes[~np.isnan(classes)]
    return Score(float(divide_or_nan(defined.sum(), defined.size)), classes)


def summarize(
    sums: Sequence[np.ndarray],
    metrics: Sequence[tuple[str, Metric]],
    classes: Sequence[str],
    prefix: str = "",
) -> dict[str, float | None]:
    """Scores what the metrics measured under flat names, ready for JSON.

    Args:
      sums: what each metric measured, of one image or added up over a set.
      metrics: the name of each, and itself.
      classes: K names.
      prefix: what the names begin with, such as 'val'.

    Returns:
      `{'val/dice': mean, 'val/dice/cell': of that class, ...}`; None if undefined.
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
