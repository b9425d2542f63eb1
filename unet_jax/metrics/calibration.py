"""Whether probabilities mean what they say.

Exclusive classes give one answer a pixel, independent ones K; only annotated answers
count, and all of a set count alike. Errors are in probability, 0 to 1 (Brier: to 2).
"""

import numpy as np

from unet_jax.metrics.metric import EvaluatedImage, Metric, Score
from unet_jax.metrics.scores import divide_or_nan
from unet_jax.specs import Count


def calibration_error(*, bins: Count = 15) -> Metric:
    """The expected calibration error: how far confidence is from accuracy, on average.

    Guo et al. 2017, equation 3: the mean of `|accuracy - confidence|` over bins of
    equal width, each counting as its answers do. Confidence is the probability of the
    class that was decided; for an independent class p, or 1 - p if the answer is no.

    Args:
      bins: how many, from 0 to 1; bin m of M holds confidences in ((m - 1) / M, m / M].
    """

    def measure(image: EvaluatedImage) -> np.ndarray:
        confidence, right = _collect_answers(image)
        place = np.clip(np.ceil(confidence * bins) - 1, 0, bins - 1).astype(np.intp)
        weights = (np.ones_like(confidence), confidence, right)
        return np.stack([np.bincount(place, w, minlength=bins) for w in weights])

    def score(sums: np.ndarray) -> Score:
        count, confidence, right = sums
        return Score(
            float(divide_or_nan(np.abs(right - confidence).sum(), count.sum()))
        )

    return Metric(measure, score, "over all pixels", lower=True)


def tabulate_reliability(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Reads what `calibration_error` measured, `f64[3, bins]`, as a table.

    Returns:
      The bins from confidence 0 to 1, each column `[bins]`: `count`, how many answers,
      their mean `confidence` and their `accuracy`, NaN in an empty bin.
    """
    count, confidence, right = sums
    return {
        "count": np.rint(count).astype(np.int64),
        "confidence": divide_or_nan(confidence, count),
        "accuracy": divide_or_nan(right, count),
    }


def brier() -> Metric:
    """The mean squared distance of the probabilities from the truth (Brier 1950).

    Exclusive classes: the squares are added up over the classes, 0 to 2 a pixel.
    Independent classes: each answer is one square, 0 to 1.
    """

    def measure(image: EvaluatedImage) -> np.ndarray:
        known = image.annotated
        p, truth = image.probabilities[known], image.truth[known]
        if not image.independent:
            truth = truth[:, None] == np.arange(image.num_classes)
        squares = np.square(p.astype(np.float64) - truth)
        return np.array([squares.sum(), known.sum()])

    def score(sums: np.ndarray) -> Score:
        return Score(float(divide_or_nan(*sums)))

    return Metric(measure, score, "over all pixels", lower=True)


def _collect_answers(image: EvaluatedImage) -> tuple[np.ndarray, np.ndarray]:
    """The confidence of each annotated answer, and whether it is right: `f64[N]`."""
    known = image.annotated
    p, decided = image.probabilities[known], image.prediction[known]
    if image.independent:
        confidence = np.where(decided > 0, p, 1 - p)
    else:
        confidence = np.take_along_axis(p, decided[:, None], axis=1)[:, 0]
    right = decided == image.truth[known]
    return confidence.astype(np.float64), right.astype(np.float64)
