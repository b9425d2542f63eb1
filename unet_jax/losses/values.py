"""Losses of numbers, such as the values of a regression."""

import chex
import jax
import jax.numpy as jnp

from unet_jax.arrays import Value, Weight
from unet_jax.losses.inputs import average_pixels
from unet_jax.specs import Positive

__all__ = ["charbonnier", "l1", "l2"]


def l1(output: Value, value: Value, weight: Weight) -> jax.Array:
    """Computes the weighted mean of |output - value| over pixels and channels."""
    difference, weight = _mask_difference(output, value, weight)
    # Not jnp.abs, whose gradient at 0 is 1: a pixel without an error must have none.
    return average_pixels(difference * jnp.sign(difference), weight)


def l2(output: Value, value: Value, weight: Weight) -> jax.Array:
    """Computes the weighted mean of (output - value)^2 over pixels and channels."""
    difference, weight = _mask_difference(output, value, weight)
    return average_pixels(jnp.square(difference), weight)


def charbonnier(
    output: Value, value: Value, weight: Weight, *, epsilon: Positive = 1e-3
) -> jax.Array:
    """Computes the weighted mean of sqrt((output - value)^2 + epsilon^2): a smooth L1.

    Charbonnier et al. 1994, in the form of Lai et al. 2017 (LapSRN).

    Args:
      output: `f32[B, *S, C]`.
      value: `f32[B, *S, C]`.
      weight: `f32[B, *S]`.
      epsilon: the error at which the loss changes from quadratic to linear, in units of
        the scaled target. A perfect output has the loss epsilon.

    Returns:
      `f32[B]`.
    """
    difference, weight = _mask_difference(output, value, weight)
    return average_pixels(jnp.sqrt(jnp.square(difference) + epsilon**2), weight)


def _mask_difference(
    output: Value, value: Value, weight: Weight
) -> tuple[jax.Array, jax.Array]:
    """Returns `output - value` and its weights, `f32[B, *S, C]`, 0 where ignored."""
    chex.assert_equal_shape([output, value])
    chex.assert_shape(weight, output.shape[:-1])
    weight = jnp.broadcast_to(weight[..., None], output.shape)
    counts = weight > 0
    output, value = jnp.where(counts, output, 0), jnp.where(counts, value, 0)
    return output - value, jnp.where(counts, weight, 0)
