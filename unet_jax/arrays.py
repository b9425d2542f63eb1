"""Names, shapes and types of the arrays that the whole package uses.

`*S` is the spatial shape, (H, W) for images and (D, H, W) for volumes. No function in
this package depends on the number of spatial axes unless its docstring says so. B
counts examples, C channels and K classes.

A label holds exclusive class ids, `i32[*S]` in 0..K-1, or K independent classes,
`i32[*S, K]` of 0 and 1. Losses and metrics ignore negative labels.

A batch is a dict of arrays. An array is *spatial* if its axes after B begin with those
of the image; it is then cropped, moved and resampled together with the image. Spatial
arrays of floats are interpolated. Integers and `weight` take the nearest pixel.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

Image = jax.Array  # f32[B, *S, C]
Label = jax.Array  # i32[B, *S] exclusive, or i32[B, *S, K] independent
Weight = jax.Array  # f32[B, *S], weight of each pixel in the loss
Logits = jax.Array  # f32[B, *S, K]
Value = jax.Array  # f32[B, *S, C], real-valued targets
Seed = jax.Array  # u32[B], the random seed of each example
# Image, seed, and arrays of the data set and the task: NumPy arrays on the host, JAX
# arrays on the device.
Batch = dict[str, Any]
Example = dict[str, Any]  # one example of a batch, without the axis B

SPACE = "space"  # the axis of a mesh of devices that share an image
IGNORE = -1  # label of pixels without an annotation
CHUNK_SIZE = 2**22  # elements of a chunk; the rounding of a mean depends on it


class Segmentation(NamedTuple):
    """The label of each pixel, and the objects once they have been found."""

    label: np.ndarray  # i32[*S] class ids, or i32[*S, K] of 0 and 1 (independent)
    objects: np.ndarray | None = None  # i32[*S], ids from 1; 0 is background


def list_spatial(example: Example) -> list[str]:
    """Returns the names of the arrays that share the pixels of the image."""
    shape = example["image"].shape[:-1]
    return [
        name
        for name, value in example.items()
        if isinstance(value, np.ndarray | jax.Array)
        and value.shape[: len(shape)] == shape
    ]


def is_interpolated(name: str, array: np.ndarray | jax.Array) -> bool:
    """True if a spatial array is interpolated, False if it takes the nearest pixel.

    The mean of two class ids is a third class, so integers are not interpolated. A
    weight belongs to the label of its pixel and stays with it.
    """
    return jnp.issubdtype(array.dtype, jnp.floating) and name != "weight"


def check_shapes(logits: Logits, label: Label, weight: Weight) -> None:
    """Raises AssertionError, with the shapes, unless the three arrays fit together."""
    pixels = logits.shape[:-1]
    chex.assert_shape(weight, pixels)
    chex.assert_shape(label, logits.shape if is_independent(label, weight) else pixels)


def is_independent(label: Label, weight: Weight) -> bool:
    """True for independent classes (sigmoid), False for exclusive ones (softmax)."""
    return label.ndim == weight.ndim + 1


def crop_centre(array: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Crops the middle `shape` out of an array `[B, *S, ...]`."""
    for axis, size in enumerate(shape, start=1):
        start = (array.shape[axis] - size) // 2
        array = jax.lax.slice_in_dim(array, start, start + size, axis=axis)
    return array


def label_components(label: np.ndarray) -> np.ndarray:
    """Numbers the face-connected components of every class above 0. Runs on the host.

    Touching components of different classes get different numbers.

    Args:
      label: `i32[*S]`, class ids.

    Returns:
      `i32[*S]`, numbers from 1; 0 where the label is 0 or negative.
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
    """Cuts a window out of an array, on the host.

    Positions outside the array are filled by reflection.

    Args:
      array: `[*S, ...]`; the axes after the spatial ones are kept whole.
      origin: the first pixel along each spatial axis; it may lie outside the array.
      shape: the size of the window along each spatial axis; it may exceed the array.

    Returns:
      `[*shape, ...]`, a copy.
    """
    space = array.shape[: len(shape)]
    if all(0 <= o <= size - n for o, n, size in zip(origin, shape, space, strict=True)):
        box = (slice(o, o + n) for o, n in zip(origin, shape, strict=True))
        return array[tuple(box)].copy()  # several times faster than np.ix_
    return array[np.ix_(*map(mirror_indices, origin, shape, space))]


def chunk_slices(shape: Sequence[int]) -> Iterator[slice]:
    """Returns slices of the first axis, of one row or at most `CHUNK_SIZE` elements."""
    step = max(CHUNK_SIZE // max(math.prod(shape[1:]), 1), 1)
    return (slice(i, min(i + step, shape[0])) for i in range(0, shape[0], step))


def cut_chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Cuts an array along its first axis, by `chunk_slices`."""
    return (array[rows] for rows in chunk_slices(array.shape))


def mirror_indices(start: int, length: int, size: int) -> np.ndarray:
    """Returns the indices of a range of positions along an axis, reflected at its ends.

    The edge pixel is not repeated (`c b | a b c | b a`), as at the borders in the
    overlap-tile strategy (Ronneberger et al. 2015, figure 2).

    Args:
      start: the first position; it may be negative.
      length: the number of positions.
      size: the size of the axis.

    Returns:
      `int[length]` in 0..size-1.
    """
    period = max(2 * (size - 1), 1)
    index = np.arange(start, start + length) % period
    return np.minimum(index, period - index) if size > 1 else index * 0
