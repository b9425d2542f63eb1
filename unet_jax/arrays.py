"""The vocabulary: what the arrays are called, and the check at every door.

`*S` stands for the spatial shape, (H, W) for images and (D, H, W) for volumes; nothing
here or above cares which. B counts examples, C channels and K classes.

A label holds exclusive class ids, `i32[*S]` in 0..K-1, or K independent answers,
`i32[*S, K]` of 0 and 1: a label with a class axis means a sigmoid head, one without it
a softmax head. A negative label is ignored, by every loss and every metric.
"""

from collections.abc import Sequence

import chex
import jax
import numpy as np
from scipy import ndimage

Image = jax.Array  # f32[B, *S, C]
Label = jax.Array  # i32[B, *S] exclusive, or i32[B, *S, K] independent
Weight = jax.Array  # f32[B, *S], how much a pixel counts in the loss
Logits = jax.Array  # f32[B, *S, K]
Seed = jax.Array  # u32[B], the randomness that belongs to each example
Batch = dict[str, jax.Array]  # image, label, weight, seed
Example = dict[str, jax.Array]  # the same without the axis B

IGNORE = -1  # the label of a pixel that nobody annotated


def check(logits: Logits, label: Label, weight: Weight) -> None:
    """Raises AssertionError, naming the shapes, unless the three belong together."""
    pixels = logits.shape[:-1]
    chex.assert_shape(weight, pixels)
    chex.assert_shape(label, logits.shape if independent(label, weight) else pixels)


def independent(label: Label, weight: Weight) -> bool:
    """Whether the classes are independent (sigmoid), not exclusive (softmax)."""
    return label.ndim == weight.ndim + 1


def centre(array: jax.Array, shape: tuple[int, ...], first: int = 1) -> jax.Array:
    """Crops the middle `shape` out of the axes that start at `first`."""
    for axis, size in enumerate(shape, start=first):
        start = (array.shape[axis] - size) // 2
        array = jax.lax.slice_in_dim(array, start, start + size, axis=axis)
    return array


def probabilities(logits: Logits, *, independent: bool) -> jax.Array:
    """`f32[..., K]`: the softmax over exclusive classes or K sigmoids."""
    if independent:
        return jax.nn.sigmoid(logits)
    return jax.nn.softmax(logits)


def decide(probabilities: jax.Array, *, independent: bool) -> Label:
    """The most likely label: `i32[...]` class ids, or `i32[..., K]` of 0 and 1.

    On the host, of a NumPy array, as on the device.
    """
    if independent:
        return (probabilities > 0.5).astype(np.int32)
    return probabilities.argmax(axis=-1).astype(np.int32)


def components(label: np.ndarray) -> np.ndarray:
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


def window(
    array: np.ndarray, origin: Sequence[int], shape: Sequence[int]
) -> np.ndarray:
    """Cuts `shape` out at `origin`, on the host, mirrored where it leaves the array.

    Any origin and any size are legal. Axes after the first `len(shape)` are kept whole.
    """
    space = array.shape[: len(shape)]
    if all(0 <= o <= size - n for o, n, size in zip(origin, shape, space, strict=True)):
        box = (slice(o, o + n) for o, n in zip(origin, shape, strict=True))
        return array[tuple(box)].copy()  # several times faster
    return array[np.ix_(*map(mirrored, origin, shape, space))]


def mirrored(start: int, length: int, size: int) -> np.ndarray:
    """The `length` indices from `start` on into an axis of `size`, mirrored beyond it.

    The edge pixel is not repeated (`c b | a b c | b a`): the border of the paper's
    overlap-tile strategy, figure 2.
    """
    period = max(2 * (size - 1), 1)
    index = np.arange(start, start + length) % period
    return np.minimum(index, period - index) if size > 1 else index * 0
