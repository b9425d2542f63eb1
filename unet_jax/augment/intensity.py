"""Intensity operations, which change the image but no label and no weight.

The image is expected to be standardised (mean 0, standard deviation 1), so that every
sigma of an intensity is in standard deviations of the image. Pending displacements are
applied first.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from unet_jax.arrays import Example
from unet_jax.augment.displacement import apply_displacements
from unet_jax.augment.draws import draw_log_uniform
from unet_jax.errors import UserError
from unet_jax.specs import NonNegative, Positive


def gamma(
    key: jax.Array, example: Example, *, low: Positive = 0.7, high: Positive = 1.5
) -> Example:
    """Raises the image to a power log-uniform in low..high and keeps its range.

    Each channel is scaled to 0..1 by its minimum and maximum, and scaled back
    afterwards. All channels get the same power.

    Raises:
      UserError: `0 < low <= high` does not hold.
    """
    example = apply_displacements(example)
    image = example["image"]
    floor, ceiling = _reduce_pixels(jnp.min, image), _reduce_pixels(jnp.max, image)
    span = ceiling - floor
    unit = (image - floor) / jnp.where(span > 0, span, 1)
    power = draw_log_uniform(key, low, high)
    return {**example, "image": floor + span * unit**power}


def brightness(
    key: jax.Array, example: Example, *, sigma: NonNegative = 0.2
) -> Example:
    """Adds a number from N(0, sigma) to each channel.

    The unit of sigma is the standard deviation of the image.
    """
    example = apply_displacements(example)
    image = example["image"]
    offset = sigma * jax.random.normal(key, image.shape[-1:])
    return {**example, "image": image + _broadcast_channels(offset, image)}


def contrast(
    key: jax.Array, example: Example, *, low: Positive = 0.75, high: Positive = 1.25
) -> Example:
    """Scales each channel around its mean by a factor log-uniform in low..high.

    Raises:
      UserError: `0 < low <= high` does not hold.
    """
    example = apply_displacements(example)
    image = example["image"]
    mean = _reduce_pixels(jnp.mean, image)
    factor = draw_log_uniform(key, low, high, image.shape[-1:])
    factor = _broadcast_channels(factor, image)
    return {**example, "image": mean + factor * (image - mean)}


def noise(key: jax.Array, example: Example, *, sigma: NonNegative = 0.2) -> Example:
    """Adds white Gaussian noise whose standard deviation is uniform in 0..sigma.

    One standard deviation is drawn for all pixels and channels. The unit of sigma is
    the standard deviation of the image.
    """
    example = apply_displacements(example)
    image = example["image"]
    first, second = jax.random.split(key)
    strength = sigma * jax.random.uniform(first)
    grain = jax.random.normal(second, image.shape)
    return {**example, "image": image + strength * grain}


def blur(
    key: jax.Array, example: Example, *, low: NonNegative = 0.5, high: NonNegative = 1.5
) -> Example:
    """Blurs with a Gaussian whose standard deviation is uniform in low..high pixels.

    The kernel extends 4 `high` to each side. The image is reflected at its borders.

    Raises:
      UserError: `0 <= low <= high` does not hold.
    """
    if not 0 <= low <= high:
        raise UserError(f"needs 0 <= low <= high, not low={low}, high={high}")
    example = apply_displacements(example)
    image = example["image"]
    sigma = jax.random.uniform(key, minval=low, maxval=high)
    radius = math.floor(4 * high + 0.5)
    x = jnp.arange(-radius, radius + 1) / jnp.maximum(sigma, 1e-3)
    kernel = jax.nn.softmax(-(x**2) / 2)
    for axis in range(image.ndim - 1):
        image = _convolve(image, kernel, axis)
    return {**example, "image": image}


def _convolve(image: jax.Array, kernel: jax.Array, axis: int) -> jax.Array:
    """Convolves along one axis as a sum of shifted images.

    XLA fuses the sum into one loop and can exchange halos between devices.
    """
    size, radius = image.shape[axis], len(kernel) // 2
    padding = [(radius, radius) if a == axis else (0, 0) for a in range(image.ndim)]
    padded = jnp.pad(image, padding, mode="reflect")
    shifted = (
        tap * jax.lax.slice_in_dim(padded, start, start + size, axis=axis)
        for start, tap in enumerate(kernel)
    )
    return jnp.asarray(sum(shifted))


def _reduce_pixels(reduce: Callable, image: jax.Array) -> jax.Array:
    return reduce(image, axis=tuple(range(image.ndim - 1)), keepdims=True)


def _broadcast_channels(values: jax.Array, image: jax.Array) -> jax.Array:
    return values.reshape(*[1] * (image.ndim - 1), -1)
