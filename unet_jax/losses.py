"""Loss functions, each of which returns one number per example.

The second argument of a loss names the kind of target that it reads. A task has targets
of one kind or of both.

- `(logits, label, weight, *, <options>) -> f32[B]` compares logits `f32[B, *S, K]` with
  a label, `i32[B, *S]` for exclusive classes (softmax) or `i32[B, *S, K]` for
  independent classes (sigmoid).
- `(output, value, weight, *, <options>) -> f32[B]` compares numbers `f32[B, *S, C]`.

The weight is `f32[B, *S]`. Any number of spatial axes is allowed. Shapes that do not
fit together raise AssertionError. Pixels of weight 0 and pixels with a negative label
are ignored, even where the output or the value is not finite. An example without any
other pixel has loss 0 and gradient 0.

In the formulas, w, p and g are the weight, the predicted probability and the truth (0
or 1) of one class at one pixel. Sums run over the pixels of one example.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp

from unet_jax import arrays
from unet_jax.arrays import IGNORE, Label, Logits, Value, Weight, crop_centre
from unet_jax.errors import UserError
from unet_jax.specs import BelowOne, NonNegative, Positive

__all__ = [
    "charbonnier",
    "cross_entropy",
    "dice",
    "focal",
    "l1",
    "l2",
    "lovasz",
    "tversky",
]

Term = Callable[[jax.Array, jax.Array, Weight], jax.Array]  # reads one kind of target
ByKind = Mapping[str, jax.Array]
Loss = Callable[[ByKind, ByKind, Weight], jax.Array]  # reads outputs, targets, weight


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
    inputs = _prepare_inputs(logits, label, weight)
    answers = 2 if inputs.independent else logits.shape[-1]
    costs = (
        -(truth * (1 - label_smoothing) + label_smoothing / answers) * log_p
        for truth, log_p in _log_likelihoods(inputs)
    )
    cost = jnp.asarray(sum(costs))
    return _average(cost * _scale_classes(class_weights, logits), inputs.weight)


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
    inputs = _prepare_inputs(logits, label, weight)
    costs = (
        -truth * _raise_to(-jnp.expm1(log_p), gamma) * log_p  # -expm1(log p) is 1 - p
        for truth, log_p in _log_likelihoods(inputs)
    )
    cost = jnp.asarray(sum(costs))
    return _average(cost * _scale_classes(class_weights, logits), inputs.weight)


def dice(
    logits: Logits,
    label: Label,
    weight: Weight,
    *,
    smooth: NonNegative = 1.0,
    background: bool = True,
) -> jax.Array:
    """Computes 1 - the soft Dice coefficient, averaged over the classes.

    Per class `1 - (2 sum w p g + s) / (sum w p + sum w g + s)`: Milletari et al. 2016,
    with plain instead of squared sums in the denominator. The code computes the
    equivalent form `(FP + FN) / (2 TP + FP + FN + s)` of soft true and false positives
    and negatives, which keeps its precision near 0.

    Args:
      logits: `f32[B, *S, K]`.
      label: `i32[B, *S]` or `i32[B, *S, K]`.
      weight: `f32[B, *S]`.
      smooth: s, in pixels of weight 1.
      background: False leaves class 0 of exclusive classes out of the mean.

    Returns:
      `f32[B]`.

    Raises:
      UserError: `background=False` with independent classes, which have no background.
    """
    inputs = _prepare_inputs(logits, label, weight)
    tp, fp, fn = _count_soft_overlap(inputs)
    loss = _divide_or_zero(fp + fn, 2 * tp + fp + fn + smooth)
    return _average_classes(loss, inputs, background)


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
    inputs = _prepare_inputs(logits, label, weight)
    tp, fp, fn = _count_soft_overlap(inputs)
    wrong = alpha * fp + beta * fn
    loss = _raise_to(_divide_or_zero(wrong, tp + wrong + smooth), gamma)
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
    inputs = _prepare_inputs(logits, label, weight)
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
    return _divide_or_zero((loss * present).sum(axis=-1), present.sum(axis=-1))


def l1(output: Value, value: Value, weight: Weight) -> jax.Array:
    """Computes the weighted mean of |output - value| over pixels and channels."""
    difference, weight = _mask_difference(output, value, weight)
    # Not jnp.abs, whose gradient at 0 is 1: a pixel without an error must have none.
    return _average(difference * jnp.sign(difference), weight)


def l2(output: Value, value: Value, weight: Weight) -> jax.Array:
    """Computes the weighted mean of (output - value)^2 over pixels and channels."""
    difference, weight = _mask_difference(output, value, weight)
    return _average(jnp.square(difference), weight)


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
    return _average(jnp.sqrt(jnp.square(difference) + epsilon**2), weight)


def get_kind(loss: Term) -> str:
    """Returns the kind of target that a loss reads: 'label' or 'value'.

    Raises:
      UserError: the second argument of the loss has another name.
    """
    names = list(inspect.signature(loss).parameters)
    if len(names) < 3 or names[1] not in ("label", "value"):
        raise UserError(
            f"the arguments of the loss are ({', '.join(names)}); name them (logits, "
            "label, weight) or (output, value, weight)"
        )
    return names[1]


def combine_losses(terms: Sequence[tuple[float, Term]]) -> Loss:
    """Returns the loss function `sum scale * term`. Terms of scale 0 are not computed.

    Args:
      terms: (scale, loss) pairs.

    Returns:
      `(outputs, targets, weight) -> f32[B]`, where outputs and targets are dicts of
      arrays by the kind of target that a loss reads (see `get_kind`).

    Raises:
      UserError: all scales are 0.
    """
    kinds = [(scale, get_kind(term), term) for scale, term in terms if scale != 0]
    if not kinds:
        raise UserError("no term has a scale other than 0; set one scale above 0")

    def total(outputs: ByKind, targets: ByKind, weight: Weight) -> jax.Array:
        losses = (s * term(outputs[k], targets[k], weight) for s, k, term in kinds)
        return jnp.asarray(sum(losses))

    return total


def compute_deep_supervision(
    loss: Loss,
    outputs: Sequence[ByKind],
    targets: ByKind,
    weight: Weight,
    strides: Sequence[tuple[int, ...]],
) -> jax.Array:
    """Computes the mean loss of outputs at several levels: of one, the loss itself.

    Output i has weight 2^-i, and the weights are normalised to a sum of 1. nnU-Net uses
    the same weights but leaves out the coarsest output. Output i is compared with the
    middle part of the target, at every `strides[i]`-th pixel.

    Args:
      loss: `(outputs, targets, weight) -> f32[B]`.
      outputs: the outputs by kind, the finest level first. They may be smaller than the
        target, as with VALID padding.
      targets: the targets by kind, at full resolution.
      weight: `f32[B, *S]`.
      strides: for each level and axis, the target pixels per output pixel.

    Returns:
      `f32[B]`.
    """
    losses = []
    for i, (output, stride) in enumerate(zip(outputs, strides, strict=False)):
        shape = next(iter(output.values())).shape[1:-1]
        coarse = {kind: _subsample(t, shape, stride) for kind, t in targets.items()}
        level = loss(output, coarse, _subsample(weight, shape, stride))
        losses.append(0.5**i * level)
    return jnp.asarray(sum(losses)) / sum(0.5**i for i in range(len(outputs)))


def _subsample(
    array: jax.Array, shape: tuple[int, ...], stride: tuple[int, ...]
) -> jax.Array:
    """Crops the middle `shape * stride` pixels and keeps every `stride`-th of them."""
    array = crop_centre(array, tuple(n * s for n, s in zip(shape, stride, strict=True)))
    middle = (slice(s // 2, None, s) for s in stride)
    return array[(slice(None), *middle)]


class _LossInputs(NamedTuple):
    """The inputs of a loss of labels; arrays are 0 at ignored pixels."""

    logits: jax.Array  # f32[B, *S, K]
    truth: jax.Array  # f32[B, *S, K] of 0 and 1
    weight: jax.Array  # f32[B, *S, 1] exclusive, f32[B, *S, K] independent
    independent: bool


def _prepare_inputs(logits: Logits, label: Label, weight: Weight) -> _LossInputs:
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
    return _LossInputs(logits, truth, jnp.where(counts, weight, 0), independent)


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


def _log_likelihoods(inputs: _LossInputs) -> list[tuple[jax.Array, jax.Array]]:
    """Returns (truth, log p) pairs: one for all classes, or for yes and for no."""
    logits, truth = inputs.logits, inputs.truth
    if inputs.independent:
        yes, no = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
        return [(truth, yes), (1 - truth, no)]
    return [(truth, jax.nn.log_softmax(logits))]


def _count_soft_overlap(inputs: _LossInputs) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns soft true positives, false positives, false negatives, `f32[B, K]`."""
    p = (jax.nn.sigmoid if inputs.independent else jax.nn.softmax)(inputs.logits)
    g, w = inputs.truth, inputs.weight
    space = range(1, p.ndim - 1)
    tp, fp, fn = (
        jnp.sum(w * term, axis=space) for term in (p * g, p * (1 - g), (1 - p) * g)
    )
    return tp, fp, fn


def _average_classes(
    loss: jax.Array, inputs: _LossInputs, background: bool
) -> jax.Array:
    """Averages `f32[B, K]` over the classes; `background=False` leaves out class 0."""
    if inputs.independent and not background:
        raise UserError(
            "background=False needs exclusive classes, but the classes of this label "
            "are independent; leave the option out"
        )
    return loss[:, 0 if background else 1 :].mean(axis=-1)


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


def _average(cost: jax.Array, weight: jax.Array) -> jax.Array:
    """Returns the weighted mean of `f32[B, *S, K]` over each example.

    A weight without a class axis sums over the classes; a weight with one averages
    them.
    """
    rest = range(1, cost.ndim)
    total = jnp.sum(weight * cost, axis=rest)
    return _divide_or_zero(total, jnp.sum(weight, axis=rest))


def _divide_or_zero(part: jax.Array, whole: jax.Array) -> jax.Array:
    """Divides; returns 0, with gradient 0, where the divisor is 0."""
    return jnp.where(whole > 0, part, 0) / jnp.where(whole > 0, whole, 1)


def _raise_to(x: jax.Array, gamma: float) -> jax.Array:
    """Computes x^gamma for x in 0..1, and 0 for x at rounding level.

    The gradient of x^gamma with gamma < 1 is infinite at 0.
    """
    eps = jnp.finfo(x.dtype).eps
    return jnp.where(x > eps, jnp.maximum(x, eps) ** gamma, 0)


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
