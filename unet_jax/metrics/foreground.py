"""All classes as one foreground, for the metrics that know nothing else.

The foreground is every class above 0 of exclusive classes, and any of independent
ones. A pixel that is not annotated, of independent classes for one of them, is
background here in truth and prediction alike, so nothing depends on what is there.
"""

import numpy as np

from unet_jax.metrics.metric import EvaluatedImage


def get_annotated(image: EvaluatedImage) -> np.ndarray:
    """`bool[*S]`: where every class was annotated."""
    return image.annotated.all(axis=-1) if image.independent else image.annotated


def get_truth(image: EvaluatedImage) -> np.ndarray:
    """`bool[*S]`: the true foreground."""
    return _merge_classes(image, image.truth > 0)


def get_prediction(image: EvaluatedImage) -> np.ndarray:
    """`bool[*S]`: the foreground as the model decided."""
    return _merge_classes(image, image.prediction > 0)


def get_probability(image: EvaluatedImage) -> np.ndarray:
    """`f32[*S]`: 1 - p(background), or the largest p of independent classes."""
    p = image.probabilities
    p = p.max(axis=-1) if image.independent else 1 - p[..., 0]
    return np.where(get_annotated(image), p, 0)


def _merge_classes(image: EvaluatedImage, there: np.ndarray) -> np.ndarray:
    return get_annotated(image) & (there.any(axis=-1) if image.independent else there)
