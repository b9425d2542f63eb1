"""Images with which exported files are compared with `Predictor`."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from unet_jax.errors import UserError
from unet_jax.export.pipeline import Pipeline
from unet_jax.inference import Request
from unet_jax.run.predictor import Predictor

# Of the largest number of the prediction, or of 1 if it is smaller.
TOLERANCES = {np.float32: 1e-4, np.float16: 0.05}
# Where tiles cannot equal the whole image, or the true halo needs too large tiles.
APPROXIMATE_HALO = {2: 64, 3: 16}
MAX_HALO = {2: 600, 3: 40}


class Samples(NamedTuple):
    """Images for the comparison.

    Attributes:
      images: batches of raw images `[B, *S, C]`.
      predictions: those of `Predictor`, `f32[B, *S, K]`.
    """

    images: Sequence[np.ndarray]
    predictions: Sequence[np.ndarray]


def choose_halo(halo: tuple[int, ...] | None, axes: int) -> tuple[int, ...]:
    """Returns the halo that programs which predict tiles should use.

    Args:
      halo: of the network; None if an output pixel depends on the whole image.
      axes: the number of spatial axes.
    """
    if halo is None:
        return (APPROXIMATE_HALO[axes],) * axes
    return tuple(min(size, MAX_HALO[axes]) for size in halo)


def predict_samples(
    predictor: Predictor, pipeline: Pipeline, halo: Sequence[int]
) -> Samples:
    """Draws the images, and predicts them."""
    images = draw_images(pipeline, halo)
    return Samples(images, [_predict_batch(predictor, batch) for batch in images])


def draw_images(pipeline: Pipeline, halo: Sequence[int]) -> list[np.ndarray]:
    """Returns batches of raw images `[B, *S, C]` of three sizes; one has two images.

    The strides of the network divide no size of the first two. The last one has pixels
    that are farther than the halo from each edge.
    """
    rng = np.random.default_rng(0)
    multiples = [max(border.multiple, 4) for border in pipeline.borders]
    odd = [2 * m + i + 1 for i, m in enumerate(multiples)]
    other = [3 * m - i - 1 for i, m in enumerate(multiples)]
    large = [2 * (h + m) for h, m in zip(halo, multiples, strict=True)]
    return [
        _draw_noise(rng, (batch, *shape, pipeline.channels), pipeline)
        for batch, shape in ((1, odd), (2, other), (1, large))
    ]


def _draw_noise(
    rng: np.random.Generator, shape: Sequence[int], pipeline: Pipeline
) -> np.ndarray:
    """Draws blurred noise over the whole range of the type of the pixels."""
    space = (0, *(2,) * pipeline.axes, 0)
    noise = ndimage.gaussian_filter(rng.normal(size=shape), space)
    noise = (noise - noise.min()) / (noise.max() - noise.min())
    if np.issubdtype(pipeline.dtype, np.integer):
        return (noise * np.iinfo(pipeline.dtype).max).astype(pipeline.dtype)
    return (255 * noise).astype(pipeline.dtype)


def _predict_batch(predictor: Predictor, batch: np.ndarray) -> np.ndarray:
    """Returns the prediction of `Predictor` for raw images, `f32[B, *S, K]`."""
    spacing = tuple(predictor.setup.preprocessing["spacing"]) or None
    name = "values" if predictor.setup.task.units else "prediction"
    results = []
    for image in batch:
        rows = predictor.predict_image(image, spacing, Request(prediction=True))
        results.append(rows[name])
    return np.stack(results)


def compare(
    file: str,
    function: Callable[[np.ndarray], np.ndarray],
    samples: Samples,
    precision: type = np.float32,
) -> float:
    """Returns the largest difference between a file and `Predictor`.

    Args:
      file: its name, for errors.
      function: the file as a function `[B, *S, C] -> f32[B, *S, K]`.
      samples: the images, and the predictions of `Predictor`.
      precision: the number type of the network in the file.

    Raises:
      UserError: the difference is larger than that of rounding.
    """
    largest = 0.0
    for batch, reference in zip(*samples, strict=True):
        found = function(batch)
        difference = float(np.abs(found - reference).max())
        tolerance = TOLERANCES[precision]
        limit = tolerance * max(float(np.abs(reference).max()), 1.0)
        if not difference <= limit:
            raise UserError(
                f"{file}: its prediction for an image of {reference.shape[1:-1]} "
                f"differs from that of this program by {difference:.2g}, more than "
                f"{limit:.2g}; leave its format out of "
                "--config.export.formats"
            )
        largest = max(largest, difference)
    return largest
