"""Calibration metrics: the agreement of probabilities with frequencies.

Exclusive classes give one answer per pixel, independent classes give K. Only annotated
answers count, and all answers of a data set count alike. Errors are probabilities in
0..1 (Brier score: 0..2).
"""

from typing import Annotated

import numpy as np

from unet_jax.metrics.metric import OVER_PIXELS, EvaluatedImage, Metric, Score
from unet_jax.metrics.scores import divide_or_nan, score_ratio
from unet_jax.specs import Domain

__all__ = ["brier", "calibration_error"]

_Bins = Annotated[int, Domain("from 1 to 1000", lambda x: 1 <= x <= 1000)]


def calibration_error(*, bins: _Bins = 15) -> Metric:
    """Measures the expected calibration error, the mean of |accuracy - confidence|.

    Guo et al. 2017, equation 3: the mean over bins of equal width, each weighted by its
    number of answers. The confidence is the probability of the predicted class. For an
    independent class it is p if the answer is yes and 1 - p if it is no.

    Args:
      bins: the number M of bins. Bin m holds confidences in ((m - 1) / M, m / M].
    """

    def measure(image: EvaluatedImage) -> np.ndarray:
        confidence, correct = _collect_answers(image)
        index = np.clip(np.ceil(confidence * bins) - 1, 0, bins - 1).astype(np.intp)
        weights = (np.ones_like(confidence), confidence, correct)
        return np.stack([np.bincount(index, w, minlength=bins) for w in weights])

    def score(sums: np.ndarray) -> Score:
        count, confidence, correct = sums
        error = np.abs(correct - confidence).sum()
        return Score(float(divide_or_nan(error, count.sum())))

    return Metric(measure, score, OVER_PIXELS, lower=True)


def tabulate_reliability(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Converts the measures of `calibration_error` to a table.

    Args:
      sums: `f64[3, bins]`.

    Returns:
      Columns `[bins]`, for the bins from confidence 0 to 1: `count`, the number of
      answers, their mean `confidence` and their `accuracy`; both are NaN in an empty
      bin.
    """
    count, confidence, correct = sums
    return {
        "count": np.rint(count).astype(np.int64),
        "confidence": divide_or_nan(confidence, count),
        "accuracy": divide_or_nan(correct, count),
    }


def brier() -> Metric:
    """Measures the mean squared error of the probabilities (Brier 1950).

    Exclusive classes: the squares are summed over the classes, 0..2 per pixel.
    Independent classes: each answer has one square, 0..1.
    """

    def measure(image: EvaluatedImage) -> np.ndarray:
        annotated = image.annotated
        p, truth = image.probabilities[annotated], image.truth[annotated]
        if not image.independent:
            truth = truth[:, None] == np.arange(image.num_classes)
        squares = np.square(p.astype(np.float64) - truth)
        return np.array([squares.sum(), annotated.sum()])

    return Metric(measure, score_ratio, OVER_PIXELS, lower=True)


def _collect_answers(image: EvaluatedImage) -> tuple[np.ndarray, np.ndarray]:
    """Returns the confidence of each annotated answer, and 1 if correct: `f64[N]`."""
    annotated = image.annotated
    p, decided = image.probabilities[annotated], image.prediction[annotated]
    if image.independent:
        confidence = np.where(decided > 0, p, 1 - p)
    else:
        confidence = np.take_along_axis(p, decided[:, None], axis=1)[:, 0]
    correct = decided == image.truth[annotated]
    return confidence.astype(np.float64), correct.astype(np.float64)
