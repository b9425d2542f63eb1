import numpy as np
import pytest
from scipy import ndimage

from unet_jax.metrics.metric import EvaluatedImage


def make_image(
    truth,
    prediction,
    *,
    independent=False,
    classes=None,
    probabilities=None,
    true_objects=None,
    objects=None,
    spacing=None,
    background=True,
):
    """Returns an evaluated image; by default p is 0 or 1 and objects are components."""
    truth, prediction = (np.asarray(a, np.int32) for a in (truth, prediction))
    if probabilities is None:
        ids = np.arange(classes or max(truth.max(), prediction.max()) + 1)
        certain = prediction if independent else prediction[..., None] == ids
        probabilities = certain.astype(np.float32)

    def find_objects(label):
        parts, _ = ndimage.label((label > 0).any(-1) if independent else label > 0)
        ignored = (label < 0).any(-1) if independent else label < 0
        return np.where(ignored, -1, parts).astype(np.int32)

    return EvaluatedImage(
        spacing=spacing or (1.0,) * (truth.ndim - independent),
        truth=truth,
        prediction=prediction,
        probabilities=np.asarray(probabilities),
        true_objects=find_objects(truth)
        if true_objects is None
        else np.asarray(true_objects),
        objects=find_objects(prediction) if objects is None else np.asarray(objects),
        background=background,
    )


@pytest.fixture(scope="session", name="make_image")
def make_image_fixture():
    return make_image
