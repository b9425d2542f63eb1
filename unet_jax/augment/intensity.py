"""Intensity operations, which change the image but no label and no weight.

The image is expected to be standardised (mean 0, standard deviation 1), so that every
sigma of an intensity is in standard deviations of the image. Pending displacements are
applied first.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from unet_jax.arrays import Example
from unet_jax.augment.displacement import apply_displacements
from unet_jax.augment.draws import broadcast_channels, draw_log_uniform
from unet_jax.specs import NonNegative, Positive

__all__ = ["brightness", "contrast", "gamma", "multiplicative_brightness", "noise"]

TINY = 1e-7  # a standard deviation that counts as 0


def gamma(
    key: jax.Array,
    example: Example,
    *,
    low: Positive = 0.7,
    high: Positive = 1.5,
    invert: bool = False,
    retain_stats: bool = False,
) -> Example:
    """Raises each channel to a power log-uniform in low..high and keeps its range.

    A channel is scaled to 0..1 by its minimum and maximum, and scaled back afterwards.

    Args:
      key: the random key.
      example: the arrays of one example.
      low: the least power.
      high: the largest power.
      invert: True to turn the image into its negative before, and back afterwards: dark
        pixels change as bright pixels do without it.
      retain_stats: True to restore the mean and the standard deviation of each channel.

    Raises:
      UserError: `0 < low <= high` does not hold.
    """
    example = apply_displacements(example)
    image = -example["image"] if invert else example["image"]
    floor, ceiling = _reduce_pixels(jnp.min, image), _reduce_pixels(jnp.max, image)
    span = ceiling - floor
    unit = (image - floor) / jnp.where(span > 0, span, 1)
    power = draw_log_uniform(key, low, high, image.shape[-1:])
    curved = floor + span * unit ** broadcast_channels(power, image)
    if retain_stats:
        curved = _match_stats(curved, image)
    return {**example, "image": -curved if invert else curved}


def brightness(
    key: jax.Array, example: Example, *, sigma: NonNegative = 0.2
) -> Example:
    """Adds a number from N(0, sigma) to each channel.

    The unit of sigma is the standard deviation of the image.
    """
    example = apply_displacements(example)
    image = example["image"]
    offset = sigma * jax.random.normal(key, image.shape[-1:])
    return {**example, "image": image + broadcast_channels(offset, image)}


def multiplicative_brightness(
    key: jax.Array, example: Example, *, low: Positive = 0.75, high: Positive = 1.25
) -> Example:
    """Multiplies each channel by a factor log-uniform in low..high.

    Raises:
      UserError: `0 < low <= high` does not hold.
    """
    example = apply_displacements(example)
    image = example["image"]
    factor = draw_log_uniform(key, low, high, image.shape[-1:])
    return {**example, "image": image * broadcast_channels(factor, image)}


def contrast(
    key: jax.Array,
    example: Example,
    *,
    low: Positive = 0.75,
    high: Positive = 1.25,
    preserve_range: bool = False,
) -> Example:
    """Scales each channel around its mean by a factor log-uniform in low..high.

    Args:
      key: the random key.
      example: the arrays of one example.
      low: the least factor.
      high: the largest factor.
      preserve_range: True to clip each channel to its former minimum and maximum.

    Raises:
      UserError: `0 < low <= high` does not hold.
    """
    example = apply_displacements(example)
    image = example["image"]
    mean = _reduce_pixels(jnp.mean, image)
    factor = draw_log_uniform(key, low, high, image.shape[-1:])
    scaled = mean + broadcast_channels(factor, image) * (image - mean)
    if preserve_range:
        least, most = _reduce_pixels(jnp.min, image), _reduce_pixels(jnp.max, image)
        scaled = jnp.clip(scaled, least, most)
    return {**example, "image": scaled}


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


def _reduce_pixels(reduce: Callable, image: jax.Array) -> jax.Array:
    return reduce(image, axis=tuple(range(image.ndim - 1)), keepdims=True)


def _match_stats(image: jax.Array, other: jax.Array) -> jax.Array:
    """Gives each channel the mean and the standard deviation of another image."""
    mean, deviation = _reduce_pixels(jnp.mean, image), _reduce_pixels(jnp.std, image)
    ratio = _reduce_pixels(jnp.std, other) / jnp.maximum(deviation, TINY)
    return (image - mean) * ratio + _reduce_pixels(jnp.mean, other)
