"""Losses of labels that are means over pixels: cross-entropy and its relatives."""

import jax
import jax.numpy as jnp

from unet_jax.arrays import Label, Logits, Weight
from unet_jax.errors import UserError
from unet_jax.losses.inputs import (
    LabelInputs,
    average_pixels,
    prepare_labels,
    raise_to,
)
from unet_jax.specs import BelowOne, NonNegative

__all__ = ["cross_entropy", "focal"]


def cross_entropy(
    logits: Logits,
    label: Label,
    weight: Weight,
    *,
    class_weights: tuple[NonNegative, ...] = (),
    label_smoothing: BelowOne = 0.0,
) -> jax.Array:
    """Computes the weighted mean of -log p(truth), in nats.

    Exclusive classes: `sum w (-log p(truth)) / sum w`. This is equation 1 of
    Ronneberger et al. 2015, divided by the sum of the weights. The border weight map of
    their equation 2 is part of `weight`; data/weights.py computes it. Independent
    classes: the same mean of `-g log p - (1 - g) log(1 - p)`, over pixels and classes.

    Args:
      logits: `f32[B, *S, K]`.
      label: `i32[B, *S]` or `i32[B, *S, K]`.
      weight: `f32[B, *S]`.
      class_weights: K factors, one for the terms of each class; () for none. They are
        not part of the divisor, where they would cancel in an example with a single
        class.
      label_smoothing: the share of the truth that is spread evenly over the possible
        answers: K classes, or yes and no for an independent class (Szegedy et al. 2016,
        section 7).

    Returns:
      `f32[B]`.

    Raises:
      UserError: the number of class weights is neither 0 nor K.
    """
    inputs = prepare_labels(logits, label, weight)
    answers = 2 if inputs.independent else logits.shape[-1]
    costs = (
        -(truth * (1 - label_smoothing) + label_smoothing / answers) * log_p
        for truth, log_p in _log_likelihoods(inputs)
    )
    cost = jnp.asarray(sum(costs))
    return average_pixels(cost * _scale_classes(class_weights, logits), inputs.weight)


def focal(
    logits: Logits,
    label: Label,
    weight: Weight,
    *,
    gamma: NonNegative = 2.0,
    class_weights: tuple[NonNegative, ...] = (),
) -> jax.Array:
    """Computes the focal loss: cross-entropy times (1 - p(truth))^gamma at each pixel.

    Lin et al. 2017, equation 5, for independent classes; the same formula with a
    softmax for exclusive classes. With `gamma=0` it is `cross_entropy`.

    Args:
      logits: `f32[B, *S, K]`.
      label: `i32[B, *S]` or `i32[B, *S, K]`.
      weight: `f32[B, *S]`.
      gamma: the exponent; the larger it is, the less a well classified pixel counts.
      class_weights: as in `cross_entropy`; the paper's alpha and 1 - alpha.

    Returns:
      `f32[B]`.

    Raises:
      UserError: the number of class weights is neither 0 nor K.
    """
    inputs = prepare_labels(logits, label, weight)
    costs = (
        -truth * raise_to(-jnp.expm1(log_p), gamma) * log_p  # -expm1(log p) is 1 - p
        for truth, log_p in _log_likelihoods(inputs)
    )
    cost = jnp.asarray(sum(costs))
    return average_pixels(cost * _scale_classes(class_weights, logits), inputs.weight)


def _log_likelihoods(inputs: LabelInputs) -> list[tuple[jax.Array, jax.Array]]:
    """Returns (truth, log p) pairs: one for all classes, or for yes and for no."""
    logits, truth = inputs.logits, inputs.truth
    if inputs.independent:
        yes, no = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
        return [(truth, yes), (1 - truth, no)]
    return [(truth, jax.nn.log_softmax(logits))]


def _scale_classes(
    class_weights: tuple[float, ...], logits: Logits
) -> jax.Array | float:
    classes = logits.shape[-1]
    if not class_weights:
        return 1.0
    if len(class_weights) != classes:
        raise UserError(
            f"class_weights has length {len(class_weights)} and there are {classes} "
            "classes; give one number per class"
        )
    shape = (1,) * (logits.ndim - 1) + (classes,)
    return jnp.asarray(class_weights, logits.dtype).reshape(shape)
