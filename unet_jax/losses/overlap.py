"""Losses of labels that compare regions: the overlap of truth and prediction."""

from typing import Literal

import jax
import jax.numpy as jnp

from unet_jax.arrays import Label, Logits, Weight
from unet_jax.errors import UserError
from unet_jax.losses.inputs import (
    LabelInputs,
    divide_or_zero,
    prepare_labels,
    raise_to,
)
from unet_jax.specs import NonNegative, Positive

__all__ = ["dice", "lovasz", "tversky"]


def dice(
    logits: Logits,
    label: Label,
    weight: Weight,
    *,
    smooth: NonNegative = 1.0,
    background: bool = True,
    batch: bool = False,
    axis_name: str | None = None,
) -> jax.Array:
    """Computes 1 - the soft Dice coefficient, averaged over the classes.

    Per class `1 - (2 sum w p g + s) / (sum w p + sum w g + s)`: Milletari et al. 2016,
    with plain instead of squared sums in the denominator. The code computes the
    equivalent form `(FP + FN) / (2 TP + FP + FN + s)` of soft true and false positives
    and negatives, which keeps its precision near 0.

    With `batch`, the sums run over all examples of a training step, on all devices, as
    in nnU-Net: a class that most crops lack weighs less, and is stable.

    Args:
      logits: `f32[B, *S, K]`.
      label: `i32[B, *S]` or `i32[B, *S, K]`.
      weight: `f32[B, *S]`.
      smooth: s, in pixels of weight 1.
      background: False leaves class 0 of exclusive classes out of the mean.
      batch: True computes one coefficient for all examples.
      axis_name: the axis of the devices that share the batch; None if arrays are
        global.

    Returns:
      `f32[B]`. With `batch`, all examples with a weight have the same loss.

    Raises:
      UserError: `background=False` with independent classes, which have no background.
    """
    inputs = prepare_labels(logits, label, weight)
    counts = _count_soft_overlap(inputs)
    tp, fp, fn = _sum_examples(counts, axis_name) if batch else counts
    loss = divide_or_zero(fp + fn, 2 * tp + fp + fn + smooth)
    loss = _average_classes(loss, inputs, background)
    if batch:
        weighed = inputs.weight.reshape(len(logits), -1).any(axis=1)
        loss = jnp.where(weighed, loss, 0)
    return loss


def tversky(
    logits: Logits,
    label: Label,
    weight: Weight,
    *,
    alpha: NonNegative = 0.5,
    beta: NonNegative = 0.5,
    gamma: Positive = 1.0,
    smooth: NonNegative = 1.0,
    background: bool = True,
) -> jax.Array:
    """Computes (1 - the Tversky index)^gamma, averaged over the classes.

    The index is `(TP + s) / (TP + alpha FP + beta FN + s)` (Salehi et al. 2017,
    equation 3). `dice(smooth=s)` equals `tversky(alpha=0.5, beta=0.5, smooth=s / 2)`.

    Args:
      logits: `f32[B, *S, K]`.
      label: `i32[B, *S]` or `i32[B, *S, K]`.
      weight: `f32[B, *S]`.
      alpha: the weight of false positives.
      beta: the weight of false negatives.
      gamma: the exponent of the focal Tversky loss (Abraham and Khan 2018, who write it
        as 1 / gamma).
      smooth: s, in pixels of weight 1.
      background: False leaves class 0 of exclusive classes out of the mean.

    Returns:
      `f32[B]`.

    Raises:
      UserError: `background=False` with independent classes, which have no background.
    """
    inputs = prepare_labels(logits, label, weight)
    tp, fp, fn = _count_soft_overlap(inputs)
    wrong = alpha * fp + beta * fn
    loss = raise_to(divide_or_zero(wrong, tp + wrong + smooth), gamma)
    return _average_classes(loss, inputs, background)


def lovasz(
    logits: Logits,
    label: Label,
    weight: Weight,
    *,
    classes: Literal["present", "all"] = "present",
) -> jax.Array:
    """Computes the Lovász extension of 1 - IoU, averaged over the classes.

    Berman et al. 2018. Exclusive classes: the Lovász-softmax loss, of the errors
    `|g - p|`. Independent classes: the Lovász hinge loss, of the errors
    `max(0, 1 - logit (2 g - 1))`.

    Args:
      logits: `f32[B, *S, K]`.
      label: `i32[B, *S]` or `i32[B, *S, K]`.
      weight: `f32[B, *S]`. Pixels of weight 0 are ignored; all others count alike.
      classes: 'present' averages over the exclusive classes that occur in the label of
        an example, 'all' over all K. Independent classes are all averaged, since no
        other term would punish their false positives.

    Returns:
      `f32[B]`.
    """
    inputs = prepare_labels(logits, label, weight)
    if inputs.independent:
        errors = jax.nn.relu(1 - inputs.logits * (2 * inputs.truth - 1))
    else:
        errors = jnp.abs(inputs.truth - jax.nn.softmax(inputs.logits))
    errors = jnp.where(inputs.weight > 0, errors, 0)
    truth = _flatten_pixels(inputs.truth)
    loss = _lovasz_extension(_flatten_pixels(errors), truth)
    if inputs.independent or classes == "all":
        return loss.mean(axis=-1)
    present = truth.any(axis=-1)
    return divide_or_zero((loss * present).sum(axis=-1), present.sum(axis=-1))


def _count_soft_overlap(inputs: LabelInputs) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns soft true positives, false positives, false negatives, `f32[B, K]`."""
    p = (jax.nn.sigmoid if inputs.independent else jax.nn.softmax)(inputs.logits)
    g, w = inputs.truth, inputs.weight
    space = range(1, p.ndim - 1)
    tp, fp, fn = (
        jnp.sum(w * term, axis=space) for term in (p * g, p * (1 - g), (1 - p) * g)
    )
    return tp, fp, fn


def _sum_examples(
    counts: tuple[jax.Array, ...], axis_name: str | None
) -> tuple[jax.Array, ...]:
    """Sums counts `f32[B, K]` over the examples of all devices, to `f32[1, K]`.

    The transpose of `psum` is `psum`: the mean over the devices of their gradients is
    the gradient of the loss.
    """
    total = tuple(count.sum(axis=0, keepdims=True) for count in counts)
    return total if axis_name is None else jax.lax.psum(total, axis_name)


def _average_classes(
    loss: jax.Array, inputs: LabelInputs, background: bool
) -> jax.Array:
    """Averages `f32[B, K]` over the classes; `background=False` leaves out class 0."""
    if inputs.independent and not background:
        raise UserError(
            "background=False needs exclusive classes, but the classes of this label "
            "are independent; leave the option out"
        )
    return loss[:, 0 if background else 1 :].mean(axis=-1)


def _flatten_pixels(array: jax.Array) -> jax.Array:
    """Reshapes `[B, *S, K]` to `[B, K, N]`."""
    array = jnp.moveaxis(array, -1, 1)
    return array.reshape(*array.shape[:2], -1)


def _lovasz_extension(errors: jax.Array, truth: jax.Array) -> jax.Array:
    """Computes the Lovász extension of the Jaccard loss, `f32[...]`.

    Berman et al. 2018, algorithm 1. Pixels are sorted by decreasing error. Each error
    is weighted by the increase of the Jaccard loss `1 - intersection / union` when its
    pixel becomes wrong too. The increase is written in closed form, `1 / union` or
    `intersection / (union (union - 1))`: in a large image the difference of two float32
    Jaccard losses would be mostly rounding error.

    Args:
      errors: `f32[..., N]`.
      truth: `f32[..., N]` of 0 and 1.
    """
    descending, truth = jax.lax.sort((-errors, truth), num_keys=1)
    hit = truth > 0
    total = jnp.sum(hit, axis=-1, keepdims=True)
    intersection = total - jnp.cumsum(hit, axis=-1)
    union = total + jnp.cumsum(~hit, axis=-1)
    before = jnp.maximum(union - 1.0, 1)
    # For an absent class the first wrong pixel raises the loss from 0 to 1.
    rise = jnp.where(union == 1, 1, intersection / (union * before))
    rise = jnp.where(hit, 1 / union, rise)
    return -jnp.sum(descending * rise, axis=-1)
