"""Operations that remove detail from the image; labels and weights stay as they are.

Each channel has random numbers of its own. Pending displacements are applied first.
"""

import functools
import math

import jax
import jax.numpy as jnp

from unet_jax.arrays import Example
from unet_jax.augment.displacement import apply_displacements, resolve_axes
from unet_jax.augment.draws import draw_uniform, select_channels
from unet_jax.errors import UserError
from unet_jax.specs import NonNegative, Positive, Proportion

__all__ = ["blur", "low_resolution"]


def blur(
    key: jax.Array,
    example: Example,
    *,
    low: NonNegative = 0.5,
    high: NonNegative = 1.5,
    channel_probability: Proportion = 1.0,
) -> Example:
    """Blurs with a Gaussian whose standard deviation is uniform in low..high pixels.

    The kernel extends 4 `high` to each side. The image is reflected at its borders.

    Args:
      key: the random key.
      example: the arrays of one example.
      low: the least standard deviation.
      high: the largest standard deviation.
      channel_probability: the probability of each channel to be blurred.

    Raises:
      UserError: `0 <= low <= high` does not hold.
    """
    first, second = jax.random.split(key)
    example = apply_displacements(example)
    image = blurred = example["image"]
    sigma = draw_uniform(first, low, high, image.shape[-1:])
    radius = math.floor(4 * high + 0.5)
    x = jnp.arange(-radius, radius + 1)[:, None] / jnp.maximum(sigma, 1e-3)[None]
    kernel = jax.nn.softmax(-(x**2) / 2, axis=0)
    for axis in range(image.ndim - 1):
        blurred = _convolve(blurred, kernel, axis)
    image = select_channels(second, channel_probability, blurred, image)
    return {**example, "image": image}


def low_resolution(
    key: jax.Array,
    example: Example,
    *,
    low: Positive = 0.5,
    high: Positive = 1.0,
    axes: tuple[int, ...] = (),
    channel_probability: Proportion = 1.0,
) -> Example:
    """Shrinks each channel by a factor uniform in low..high and enlarges it again.

    All axes have the same factor. The smaller image takes the nearest pixels, without a
    blur before; the enlarged one is interpolated linearly (the simulation of low
    resolution of nnU-Net, Isensee et al. 2021).

    Args:
      key: the random key.
      example: the arrays of one example.
      low: the least factor.
      high: the largest factor, at most 1.
      axes: the spatial axes that are shrunk; () for all. Use (1, 2) for volumes of
        thick slices.
      channel_probability: the probability of each channel to be changed.

    Raises:
      UserError: `0 < low <= high <= 1` does not hold, or the example does not have one
        of the axes.
    """
    if high > 1:
        raise UserError(f"needs 0 < low <= high <= 1, not low={low}, high={high}")
    first, second = jax.random.split(key)
    example = apply_displacements(example)
    image = example["image"]
    factor = draw_uniform(first, low, high, image.shape[-1:])
    chosen = resolve_axes(axes, example)
    reduce = functools.partial(_reduce_resolution, axes=chosen)
    coarse = jax.vmap(reduce, in_axes=-1, out_axes=-1)(image, factor)
    image = select_channels(second, channel_probability, coarse, image)
    return {**example, "image": image}


def _reduce_resolution(
    channel: jax.Array, factor: jax.Array, axes: tuple[int, ...]
) -> jax.Array:
    """Shrinks and enlarges one channel `[*S]`.

    The size of the smaller image is a random number, so it is never made: each pixel of
    the result is read from the two pixels of the channel that it would be made of.
    """
    for axis in axes:
        size = channel.shape[axis]
        count = jnp.maximum(jnp.round(size * factor), 1)  # pixels of the smaller image
        x = (jnp.arange(size) + 0.5) * count / size - 0.5  # positions in it
        x = jnp.clip(x, 0, count - 1)
        lower = jnp.floor(x)
        others = [a for a in range(channel.ndim) if a != axis]
        share = jnp.expand_dims(x - lower, others)
        ends = (
            _find_nearest_pixels(index, count, size)
            for index in (lower, jnp.minimum(lower + 1, count - 1))
        )
        below, above = (jnp.take(channel, end, axis) for end in ends)
        channel = below + share * (above - below)
    return channel


def _find_nearest_pixels(index: jax.Array, count: jax.Array, size: int) -> jax.Array:
    """Returns the pixels of a large axis that are nearest to those of a small one."""
    index, count = index.astype(jnp.int32), count.astype(jnp.int32)
    return (2 * index + 1) * size // (2 * count)  # whole numbers: never rounded


def _convolve(image: jax.Array, kernel: jax.Array, axis: int) -> jax.Array:
    """Convolves along one axis, as a sum of shifted images.

    XLA fuses the sum into one loop and can exchange halos between devices.

    Args:
      image: `[*S, C]`.
      kernel: `[taps, C]`.
      axis: of the image.
    """
    size, radius = image.shape[axis], len(kernel) // 2
    padding = [(radius, radius) if a == axis else (0, 0) for a in range(image.ndim)]
    padded = jnp.pad(image, padding, mode="reflect")
    taps = kernel.reshape(len(kernel), *[1] * (image.ndim - 1), -1)
    shifted = (
        tap * jax.lax.slice_in_dim(padded, start, start + size, axis=axis)
        for start, tap in enumerate(taps)
    )
    return jnp.asarray(sum(shifted))
