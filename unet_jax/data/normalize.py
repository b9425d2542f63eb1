"""Raw grey values to what the network sees, on the host and before any crop.

Each function takes a whole image `[*S, C]` of any real dtype and returns `f32[*S, C]`;
channels never mix. Sums run in float64: 16-bit and larger values stay exact.
"""

from typing import Annotated

import numpy as np

from unet_jax.errors import UserError
from unet_jax.specs import Within

_Percent = Annotated[float, Within("from 0 to 100", lambda x: 0 <= x <= 100)]

__all__ = ["percentile", "standard", "unit"]


def standard(image: np.ndarray) -> np.ndarray:
    """Zero mean and unit variance in each channel of the image; 0 if it is constant."""
    space = tuple(range(image.ndim - 1))
    mean = image.mean(space, dtype=np.float64)
    deviation = image.std(space, dtype=np.float64)
    return _divide(image - mean, np.where(np.ptp(image, space) > 0, deviation, 0))


def unit(image: np.ndarray) -> np.ndarray:
    """Divides integers by the largest that their dtype holds; floats stay as they are.

    Raw images keep their brightness relative to each other: 8 bits by 255, 16 by 65535.
    """
    if np.issubdtype(image.dtype, np.integer):
        return (image / np.iinfo(image.dtype).max).astype(np.float32)
    return image.astype(np.float32)


def percentile(
    image: np.ndarray, *, low: _Percent = 1.0, high: _Percent = 99.0
) -> np.ndarray:
    """Maps each channel's `low` and `high` percentiles to 0 and 1, and clips there.

    Clipped, because a few hot pixels should set neither the scale nor the range.
    A channel whose two percentiles are equal becomes 0.

    Raises:
      UserError: not low < high.
    """
    if not low < high:
        raise UserError(f"needs low < high, not low={low}, high={high}")
    space = tuple(range(image.ndim - 1))
    bottom, top = np.percentile(image, (low, high), axis=space).astype(np.float64)
    return np.clip(_divide(image - bottom, top - bottom), 0, 1)


def _divide(image: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """`f32[*S, C]`: each channel by its scale, or 0 where that is 0."""
    flat = scale == 0
    return np.where(flat, 0, image / np.where(flat, 1, scale)).astype(np.float32)
