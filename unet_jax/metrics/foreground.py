"""All classes as one foreground, for the metrics that know nothing else.

The foreground is every class above 0 of exclusive classes, and any of independent
ones. A pixel that is not annotated, of independent classes for one of them, is
background here in truth and prediction alike, so nothing depends on what is there.
"""

import numpy as np

from unet_jax.metrics.case import Case


def annotated(case: Case) -> np.ndarray:
    """`bool[*S]`: where every class was annotated."""
    return case.known.all(axis=-1) if case.independent else case.known


def truth(case: Case) -> np.ndarray:
    """`bool[*S]`: the true foreground."""
    return _any(case, case.truth > 0)


def prediction(case: Case) -> np.ndarray:
    """`bool[*S]`: the foreground as the model decided."""
    return _any(case, case.prediction > 0)


def probability(case: Case) -> np.ndarray:
    """`f32[*S]`: 1 - p(background), or the largest p of independent classes."""
    p = case.probabilities
    p = p.max(axis=-1) if case.independent else 1 - p[..., 0]
    return np.where(annotated(case), p, 0)


def _any(case: Case, there: np.ndarray) -> np.ndarray:
    return annotated(case) & (there.any(axis=-1) if case.independent else there)
