"""Names and shapes of the arrays that every other file uses.

`*S` is the spatial shape, (H, W) for images and (D, H, W) for volumes; nothing here or
above depends on the number of axes. B counts examples, C channels and K classes.

A label holds exclusive class ids, `i32[*S]` in 0..K-1, or K independent answers,
`i32[*S, K]` of 0 and 1. A negative label is ignored by every loss and every metric.

A batch is a dict of arrays. An array is *spatial* if its first axes, after B, are those
of the image; then it is cut, moved and resampled with the image. Spatial arrays of
floats are interpolated, integers and `weight` take the nearest pixel.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

Image = jax.Array  # f32[B, *S, C]
Label = jax.Array  # i32[B, *S] exclusive, or i32[B, *S, K] independent
Weight = jax.Array  # f32[B, *S], how much a pixel counts in the loss
Logits = jax.Array  # f32[B, *S, K]
Value = jax.Array  # f32[B, *S, C], numbers that a network is to give
Seed = jax.Array  # u32[B], the randomness that belongs to each example
Batch = dict[str, jax.Array]  # image, seed, and what the data set and the task bring
Example = dict[str, Any]  # the same without the axis B

IGNORE = -1  # the label of a pixel without an annotation


class Segmentation(NamedTuple):
    """Classes and, once a function has found them, objects."""

    label: np.ndarray  # i32[*S] class ids, or i32[*S, K] of 0 and 1 (independent)
    objects: np.ndarray | None = None  # i32[*S] ids 1.., 0 = background


def list_spatial(example: Example) -> list[str]:
    """Returns the names of the arrays of an example that have the image's pixels."""
    shape = example["image"].shape[:-1]
    return [
        name
        for name, value in example.items()
        if isinstance(value, np.ndarray | jax.Array)
        and value.shape[: len(shape)] == shape
    ]


def is_interpolated(name: str, array: np.ndarray | jax.Array) -> bool:
    """True if a spatial array is interpolated; False if it takes the nearest pixel.

    A mean of two class ids is a third class, so integers are not interpolated. Weights
    belong to the label of their pixel and stay with it.
    """
    return jnp.issubdtype(array.dtype, jnp.floating) and name != "weight"


def check_shapes(logits: Logits, label: Label, weight: Weight) -> None:
    """Raises AssertionError, naming the shapes, unless the three belong together."""
    pixels = logits.shape[:-1]
    chex.assert_shape(weight, pixels)
    chex.assert_shape(label, logits.shape if is_independent(label, weight) else pixels)


def is_independent(label: Label, weight: Weight) -> bool:
    """Whether the classes are independent (sigmoid), not exclusive (softmax)."""
    return label.ndim == weight.ndim + 1


def crop_centre(array: jax.Array, shape: tuple[int, ...], first: int = 1) -> jax.Array:
    """Crops the middle `shape` out of the axes that start at `first`."""
    for axis, size in enumerate(shape, start=first):
        start = (array.shape[axis] - size) // 2
        array = jax.lax.slice_in_dim(array, start, start + size, axis=axis)
    return array


def label_components(label: np.ndarray) -> np.ndarray:
    """Numbers the face-connected components of every class above 0, on the host.

    `i32[*S]` of class ids -> `i32[*S]`, 0 where there is none; touching classes stay
    apart.
    """
    numbers = np.zeros(label.shape, np.int32)
    total = 0
    for k in np.unique(label[label > 0]):
        parts, count = ndimage.label(label == k)
        numbers += np.where(parts > 0, parts + total, 0).astype(np.int32)
        total += count
    return numbers


def cut_window(
    array: np.ndarray, origin: Sequence[int], shape: Sequence[int]
) -> np.ndarray:
    """Cuts `shape` out at `origin`, on the host, mirrored where it leaves the array.

    Any origin and any size are legal. Axes after the first `len(shape)` are kept whole.
    """
    space = array.shape[: len(shape)]
    if all(0 <= o <= size - n for o, n, size in zip(origin, shape, space, strict=True)):
        box = (slice(o, o + n) for o, n in zip(origin, shape, strict=True))
        return array[tuple(box)].copy()  # several times faster
    return array[np.ix_(*map(mirror_indices, origin, shape, space))]


def mirror_indices(start: int, length: int, size: int) -> np.ndarray:
    """The `length` indices from `start` on into an axis of `size`, mirrored beyond it.

    The edge pixel is not repeated (`c b | a b c | b a`): the border of the paper's
    overlap-tile strategy, figure 2.
    """
    period = max(2 * (size - 1), 1)
    index = np.arange(start, start + length) % period
    return np.minimum(index, period - index) if size > 1 else index * 0
