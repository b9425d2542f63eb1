"""The inputs of losses of labels, and the arithmetic that several losses share."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from unet_jax import arrays
from unet_jax.arrays import IGNORE, Label, Logits, Weight


class LabelInputs(NamedTuple):
    """The inputs of a loss of labels; arrays are 0 at ignored pixels."""

    logits: jax.Array  # f32[B, *S, K]
    truth: jax.Array  # f32[B, *S, K] of 0 and 1
    weight: jax.Array  # f32[B, *S, 1] exclusive, f32[B, *S, K] independent
    independent: bool


def prepare_labels(logits: Logits, label: Label, weight: Weight) -> LabelInputs:
    """Checks the shapes, and returns the inputs without what is ignored."""
    arrays.check_shapes(logits, label, weight)
    independent = arrays.is_independent(label, weight)
    weight = weight[..., None]
    label = label if independent else label[..., None]
    label = jnp.where(weight > 0, label, IGNORE)
    counts = label >= 0
    if independent:
        truth = (label > 0).astype(logits.dtype)
    else:
        truth = jax.nn.one_hot(label[..., 0], logits.shape[-1], dtype=logits.dtype)
    # Not multiplied by weight 0: 0 * inf is NaN, also in the gradient.
    logits = jnp.where(counts, logits, 0)
    return LabelInputs(logits, truth, jnp.where(counts, weight, 0), independent)


def average_pixels(cost: jax.Array, weight: jax.Array) -> jax.Array:
    """Returns the weighted mean of `f32[B, *S, K]` over each example.

    A weight without a class axis sums over the classes; a weight with one averages
    them.
    """
    rest = range(1, cost.ndim)
    total = jnp.sum(weight * cost, axis=rest)
    return divide_or_zero(total, jnp.sum(weight, axis=rest))


def divide_or_zero(part: jax.Array, whole: jax.Array) -> jax.Array:
    """Divides; returns 0, with gradient 0, where the divisor is 0."""
    return jnp.where(whole > 0, part, 0) / jnp.where(whole > 0, whole, 1)


def raise_to(x: jax.Array, gamma: float) -> jax.Array:
    """Computes x^gamma for x in 0..1, and 0 for x at rounding level.

    The gradient of x^gamma with gamma < 1 is infinite at 0.
    """
    eps = jnp.finfo(x.dtype).eps
    return jnp.where(x > eps, jnp.maximum(x, eps) ** gamma, 0)
