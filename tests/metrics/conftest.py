import numpy as np
import pytest
from scipy import ndimage

from unet_jax.metrics.metric import EvaluatedImage


def make(
    truth,
    prediction,
    *,
    independent=False,
    classes=None,
    probabilities=None,
    true_objects=None,
    objects=None,
    spacing=None,
):
    """A case; by default it is sure of itself, and objects are components."""
    truth, prediction = (np.asarray(a, np.int32) for a in (truth, prediction))
    if probabilities is None:
        kinds = np.arange(classes or max(truth.max(), prediction.max()) + 1)
        sure = prediction if independent else prediction[..., None] == kinds
        probabilities = sure.astype(np.float32)

    def found(label):
        parts, _ = ndimage.label((label > 0).any(-1) if independent else label > 0)
        ignored = (label < 0).any(-1) if independent else label < 0
        return np.where(ignored, -1, parts).astype(np.int32)

    return EvaluatedImage(
        spacing=spacing or (1.0,) * (truth.ndim - independent),
        truth=truth,
        prediction=prediction,
        probabilities=np.asarray(probabilities),
        true_objects=found(truth) if true_objects is None else np.asarray(true_objects),
        objects=found(prediction) if objects is None else np.asarray(objects),
    )


@pytest.fixture(scope="session")
def case():
    return make
