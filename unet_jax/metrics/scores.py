"""Conversion of summed measures to scores, and of scores to named numbers."""

from collections.abc import Sequence

import numpy as np

from unet_jax.metrics.metric import Metric, Score
from unet_jax.text import finite_or_none


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
    return Score(classes=divide_or_nan(sums[0], sums[1]))


def average_classes(classes: np.ndarray, *, omit_background: bool) -> float:
    """Averages the defined scores of the classes; returns NaN if there are none.

    Args:
      classes: `f64[K]`, NaN where a class is undefined.
      omit_background: True to leave out class 0, the background, as nnU-Net, MONAI
        and segmentation_models_pytorch do: it is large and easy, and would hide the
        classes of interest.
    """
    counted = classes[1:] if omit_background else classes
    defined = counted[~np.isnan(counted)]
    return float(divide_or_nan(defined.sum(), np.asarray(defined.size)))


def list_averaged(
    sums: Sequence[np.ndarray], metrics: Sequence[tuple[str, Metric]]
) -> tuple[str, ...]:
    """Returns the names of the metrics whose score is the mean over the classes."""
    scores = [metric.score(s) for s, (_, metric) in zip(sums, metrics, strict=True)]
    pairs = zip(metrics, scores, strict=True)
    return tuple(name for (name, _), score in pairs if score.overall is None)


def find_absent_classes(
    confusion: np.ndarray, classes: Sequence[str], *, omit_background: bool
) -> tuple[str, ...]:
    """Returns the names of the classes that have no pixel in the truth.

    Args:
      confusion: the sum of `overlap.measure_confusion` over a data set.
      classes: the names of the K classes.
      omit_background: True to leave out class 0, as the means over the classes do.
    """
    true = confusion[:, 1] if confusion.ndim == 3 else confusion
    pixels = true.sum(axis=-1)
    names = [one for one, n in zip(classes, pixels, strict=True) if not n]
    return tuple(names[1:] if omit_background and not pixels[0] else names)


def summarize(
    sums: Sequence[np.ndarray],
    metrics: Sequence[tuple[str, Metric]],
    classes: Sequence[str],
    prefix: str = "",
    *,
    omit_background: bool,
) -> dict[str, float | None]:
    """Scores summed measures and returns the scores under flat names, ready for JSON.

    Args:
      sums: the measures of each metric, of one image or summed over a data set.
      metrics: (name, metric) pairs.
      classes: the names of the K classes.
      prefix: a prefix of all names, such as 'val'.
      omit_background: True to leave class 0 out of the means over the classes.

    Returns:
      `{'val/dice': mean, 'val/dice/cell': score of the class, ...}`; None if undefined.
    """
    scores = {}
    for measured, (name, metric) in zip(sums, metrics, strict=True):
        name = f"{prefix}/{name}" if prefix else name
        score = metric.score(measured)
        scores[name] = score.overall
        if score.classes is not None:
            if score.overall is None:
                scores[name] = average_classes(
                    score.classes, omit_background=omit_background
                )
            for one, value in zip(classes, score.classes, strict=True):
                scores[f"{name}/{one}"] = float(value)
    return {name: finite_or_none(value) for name, value in scores.items()}
