"""The foreground as one mask, for metrics that do not distinguish classes.

Exclusive classes: every class above 0 is foreground. Independent classes: every pixel
with at least one class is. A pixel without an annotation, or without one for each
independent class, is background in truth and prediction alike and so changes no score.
"""

import numpy as np

from unet_jax.metrics.metric import EvaluatedImage


def get_annotated(image: EvaluatedImage) -> np.ndarray:
    """Returns the mask of pixels where all classes are annotated, `bool[*S]`."""
    annotated = image.annotated
    return np.asarray(annotated.all(axis=-1)) if image.independent else annotated


def get_truth(image: EvaluatedImage) -> np.ndarray:
    """Returns the true foreground, `bool[*S]`."""
    return _merge_classes(image, image.truth > 0)


def get_prediction(image: EvaluatedImage) -> np.ndarray:
    """Returns the predicted foreground, `bool[*S]`."""
    return _merge_classes(image, image.prediction > 0)


def get_probability(image: EvaluatedImage) -> np.ndarray:
    """Returns the probability of foreground, `f32[*S]`.

    It is 1 - p(background), or the largest probability of independent classes.
    """
    p = image.probabilities
    p = p.max(axis=-1) if image.independent else 1 - p[..., 0]
    return np.where(get_annotated(image), p, 0)


def _merge_classes(image: EvaluatedImage, present: np.ndarray) -> np.ndarray:
    some = np.asarray(present.any(axis=-1)) if image.independent else present
    return get_annotated(image) & some
