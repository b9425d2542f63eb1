"""Losses: the error of a network's output, one number for each example.

The second argument of a loss names the kind of target that it reads; a task has targets
of one kind or of both.

- `(logits, label, weight, *, <numbers>) -> f32[B]` compares logits `f32[B, *S, K]` with
  a label `i32[B, *S]` of exclusive classes (softmax) or `i32[B, *S, K]` of independent
  ones (sigmoid).
- `(output, value, weight, *, <numbers>) -> f32[B]` compares numbers `f32[B, *S, C]`.

The weight is `f32[B, *S]`, for any number of spatial axes. Shapes that do not belong
together raise AssertionError. A pixel of weight 0 or with a negative label takes no
part, whatever the output and the value are; an example that has no other pixels has
loss 0 and no gradient.

In the formulas w, p and g are the weight, the probability and the truth (0 or 1) of
one class at one pixel, and sums run over the pixels of an example.
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

Term = Callable[[jax.Array, jax.Array, Weight], jax.Array]  # a loss of one kind
ByKind = Mapping[str, jax.Array]
Loss = Callable[[ByKind, ByKind, Weight], jax.Array]  # of all outputs and targets


def cross_entropy(
    logits: Logits,
    label: Label,
    weight: Weight,
    *,
    class_weights: tuple[NonNegative, ...] = (),
    label_smoothing: BelowOne = 0.0,
) -> jax.Array:
    """The weighted mean of -log p(truth), in nats.

    Exclusive classes: `sum w (-log p(truth)) / sum w`, equation 1 of Ronneberger et al.
    2015 divided by the sum of its weights; the border map of equation 2 goes into
    `weight`. Independent classes: the same mean of `-g log p - (1 - g) log(1 - p)`,
    over pixels and classes.

    The terms of class k cost `class_weights[k]` times as much. These weights are no
    part of the divisor, or they would cancel in an example of one class only.
    `label_smoothing` is the part of the truth that is spread evenly over the answers:
    K classes, or yes and no if independent (Szegedy et al. 2016, section 7).

    Raises:
      UserError: the number of class weights is neither 0 nor K.
    """
    inputs = _prepare_inputs(logits, label, weight)
    answers = 2 if inputs.independent else logits.shape[-1]
    cost = sum(
        -(truth * (1 - label_smoothing) + label_smoothing / answers) * log_p
        for truth, log_p in _compute_log_likelihoods(inputs)
    )
    return _average_pixels(
        cost * _expand_class_weights(class_weights, logits), inputs.weight
    )


def focal(
    logits: Logits,
    label: Label,
    weight: Weight,
    *,
    gamma: NonNegative = 2.0,
    class_weights: tuple[NonNegative, ...] = (),
) -> jax.Array:
    """Cross-entropy in which a pixel counts (1 - p(truth))^gamma times.

    Lin et al. 2017, equation 5, for K sigmoids and, by the same formula, a softmax.
    `class_weights` (their alpha and 1 - alpha), divisor and errors are as in
    `cross_entropy`, which `gamma=0` gives back.
    """
    inputs = _prepare_inputs(logits, label, weight)
    cost = sum(
        -truth * _raise_to(-jnp.expm1(log_p), gamma) * log_p  # -expm1(log p) is 1 - p
        for truth, log_p in _compute_log_likelihoods(inputs)
    )
    return _average_pixels(
        cost * _expand_class_weights(class_weights, logits), inputs.weight
    )


def dice(
    logits: Logits,
    label: Label,
    weight: Weight,
    *,
    smooth: NonNegative = 1.0,
    background: bool = True,
) -> jax.Array:
    """One minus the soft Dice coefficient, averaged over the classes.

    Per class `1 - (2 sum w p g + s) / (sum w p + sum w g + s)`: Milletari et al. 2016
    with plain, not squared, sums in the denominator. In true and false positives and
    negatives it reads `(FP + FN) / (2 TP + FP + FN + s)`, which loses no digits near 0.
    `smooth` is s, in pixels of weight 1; `background=False` leaves class 0, of
    exclusive classes, out of the mean.

    Raises:
      UserError: `background=False` with independent classes, which have none.
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
    """(1 - the Tversky index)^gamma, averaged over the classes.

    The index is `(TP + s) / (TP + alpha FP + beta FN + s)`: alpha weighs false
    positives and beta false negatives (Salehi et al. 2017, equation 3). gamma is the
    exponent of the focal Tversky loss (Abraham and Khan 2018, who write it 1/gamma).
    `smooth`, `background` and errors are as in `dice`; `dice(smooth=s)` is
    `tversky(alpha=0.5, beta=0.5, smooth=s / 2)`.
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
    """The Lovász extension of 1 - IoU, of each example, averaged over the classes.

    Berman et al. 2018: Lovász-softmax, of the errors `|g - p|`, for exclusive classes
    and the Lovász hinge, of `max(0, 1 - logit (2 g - 1))`, for independent ones. A
    weight of 0 leaves a pixel out; other weights make no difference.

    `classes='present'` averages over the exclusive classes that the label of an example
    holds. Independent classes are all in the mean: nothing else would punish their
    false positives.
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
    """The weighted mean of |output - value|, over pixels and channels."""
    difference, weight = _mask_difference(output, value, weight)
    # The gradient of `jnp.abs` is 1 at 0; that of a pixel without an error must be 0.
    return _average_pixels(difference * jnp.sign(difference), weight)


def l2(output: Value, value: Value, weight: Weight) -> jax.Array:
    """The weighted mean of (output - value)^2, over pixels and channels."""
    difference, weight = _mask_difference(output, value, weight)
    return _average_pixels(jnp.square(difference), weight)


def charbonnier(
    output: Value, value: Value, weight: Weight, *, epsilon: Positive = 1e-3
) -> jax.Array:
    """The weighted mean of sqrt((output - value)^2 + epsilon^2): a smooth `l1`.

    Charbonnier et al. 1994, in the form of Lai et al. 2017 (LapSRN). `epsilon`, in the
    units of the scaled target, is where the quadratic bottom passes into `l1`, and the
    loss of a perfect output.
    """
    difference, weight = _mask_difference(output, value, weight)
    return _average_pixels(jnp.sqrt(jnp.square(difference) + epsilon**2), weight)


def get_kind(loss: Term) -> str:
    """Returns the kind of target that a loss reads, 'label' or 'value'.

    Raises:
      UserError: its second argument is called something else.
    """
    names = list(inspect.signature(loss).parameters)
    if len(names) < 3 or names[1] not in ("label", "value"):
        raise UserError(
            "a loss must have the arguments (logits, label, weight) or (output, value, "
            f"weight), not ({', '.join(names)})"
        )
    return names[1]


def combine_losses(terms: Sequence[tuple[float, Term]]) -> Loss:
    """Returns the loss `sum scale * term`; a term of scale 0 is not computed."""
    terms = [(scale, get_kind(term), term) for scale, term in terms if scale != 0]
    if not terms:
        raise UserError("no term has a scale other than 0; give one")

    def total(outputs: ByKind, targets: ByKind, weight: Weight) -> jax.Array:
        return sum(
            scale * term(outputs[kind], targets[kind], weight)
            for scale, kind, term in terms
        )

    return total


def compute_deep_supervision(
    loss: Loss,
    outputs: Sequence[ByKind],
    targets: ByKind,
    weight: Weight,
    strides: Sequence[tuple[int, ...]],
) -> jax.Array:
    """Returns the loss `f32[B]` of outputs that may be smaller or coarser than targets.

    Output i has one pixel for every `strides[i]` of the target along each axis and
    counts 2^-i, normalised to a sum of 1 (nnU-Net's weights, but for the coarsest,
    which nnU-Net leaves out). Each is compared with the middle of the target, every
    `strides[i]`-th pixel.
    """
    total = 0.0
    for i, (output, stride) in enumerate(zip(outputs, strides, strict=False)):
        shape = next(iter(output.values())).shape[1:-1]
        coarse = {
            kind: _subsample_centre(t, shape, stride) for kind, t in targets.items()
        }
        total += 0.5**i * loss(output, coarse, _subsample_centre(weight, shape, stride))
    return total / sum(0.5**i for i in range(len(outputs)))


def _subsample_centre(
    array: jax.Array, shape: tuple[int, ...], stride: tuple[int, ...]
) -> jax.Array:
    """The middle `shape * stride` of an array, every `stride`-th pixel of it."""
    array = crop_centre(array, tuple(n * s for n, s in zip(shape, stride, strict=True)))
    middle = (slice(s // 2, None, s) for s in stride)
    return array[(slice(None), *middle)]


class _LossInputs(NamedTuple):
    """What every loss starts from; all three are 0 where nothing counts."""

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
    # Multiplying by weight 0 would not do: 0 * inf is NaN, in the gradient too.
    logits = jnp.where(counts, logits, 0)
    return _LossInputs(logits, truth, jnp.where(counts, weight, 0), independent)


def _mask_difference(
    output: Value, value: Value, weight: Weight
) -> tuple[jax.Array, jax.Array]:
    """Returns `output - value` and its weights, `f32[B, *S, C]`, 0 where none count."""
    chex.assert_equal_shape([output, value])
    chex.assert_shape(weight, output.shape[:-1])
    weight = jnp.broadcast_to(weight[..., None], output.shape)
    counts = weight > 0
    output, value = jnp.where(counts, output, 0), jnp.where(counts, value, 0)
    return output - value, jnp.where(counts, weight, 0)


def _compute_log_likelihoods(inputs: _LossInputs) -> list[tuple[jax.Array, jax.Array]]:
    """For each answer a class can have: whether it is the truth, and its log p."""
    logits, truth = inputs.logits, inputs.truth
    if inputs.independent:
        yes, no = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
        return [(truth, yes), (1 - truth, no)]
    return [(truth, jax.nn.log_softmax(logits))]


def _count_soft_overlap(inputs: _LossInputs) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Soft true positives, false positives and false negatives, each `f32[B, K]`."""
    p = (jax.nn.sigmoid if inputs.independent else jax.nn.softmax)(inputs.logits)
    g, w = inputs.truth, inputs.weight
    space = range(1, p.ndim - 1)
    return tuple(
        jnp.sum(w * term, axis=space) for term in (p * g, p * (1 - g), (1 - p) * g)
    )


def _average_classes(
    loss: jax.Array, inputs: _LossInputs, background: bool
) -> jax.Array:
    """`f32[B, K]` -> `f32[B]`, without class 0 if the background is not wanted."""
    if inputs.independent and not background:
        raise UserError(
            "background=False needs exclusive classes, and this label "
            "has independent ones; leave it out"
        )
    return loss[:, 0 if background else 1 :].mean(axis=-1)


def _expand_class_weights(
    class_weights: tuple[float, ...], logits: Logits
) -> jax.Array | float:
    classes = logits.shape[-1]
    if not class_weights:
        return 1.0
    if len(class_weights) != classes:
        raise UserError(
            f"class_weights has length {len(class_weights)} and there "
            f"are {classes} classes; give one number a class"
        )
    shape = (1,) * (logits.ndim - 1) + (classes,)
    return jnp.asarray(class_weights, logits.dtype).reshape(shape)


def _average_pixels(cost: jax.Array, weight: jax.Array) -> jax.Array:
    """Sums `f32[B, *S, K]` over an example and divides by the sum of its weights.

    A weight without a class axis adds the classes up, one with it averages them.
    """
    rest = range(1, cost.ndim)
    return _divide_or_zero(
        jnp.sum(weight * cost, axis=rest), jnp.sum(weight, axis=rest)
    )


def _divide_or_zero(part: jax.Array, whole: jax.Array) -> jax.Array:
    """The quotient, and 0, without a gradient, where there is no whole."""
    return jnp.where(whole > 0, part, 0) / jnp.where(whole > 0, whole, 1)


def _raise_to(x: jax.Array, gamma: float) -> jax.Array:
    """x^gamma for x in 0..1; 0 below rounding, where gamma < 1 is infinitely steep."""
    eps = jnp.finfo(x.dtype).eps
    return jnp.where(x > eps, jnp.maximum(x, eps) ** gamma, 0)


def _flatten_pixels(array: jax.Array) -> jax.Array:
    """`[B, *S, K]` -> `[B, K, N]`."""
    array = jnp.moveaxis(array, -1, 1)
    return array.reshape(*array.shape[:2], -1)


def _lovasz_extension(errors: jax.Array, truth: jax.Array) -> jax.Array:
    """`f32[..., N]` x 2 -> `f32[...]`: algorithm 1 of Berman et al. 2018.

    Pixels join the wrong ones from the largest error down, and each counts by how much
    the Jaccard loss `1 - intersection / union` rises when it does. The rise is written
    out, `1 / union` or `intersection / (union (union - 1))`: in a large image the
    difference of two float32 Jaccard losses would be mostly rounding.
    """
    descending, truth = jax.lax.sort((-errors, truth), num_keys=1)
    hit = truth > 0
    total = jnp.sum(hit, axis=-1, keepdims=True)
    intersection = total - jnp.cumsum(hit, axis=-1)
    union = total + jnp.cumsum(~hit, axis=-1)
    before = jnp.maximum(union - 1.0, 1)
    # A class that is absent goes from nothing wrong, loss 0, to loss 1 at once.
    rise = jnp.where(union == 1, 1, intersection / (union * before))
    rise = jnp.where(hit, 1 / union, rise)
    return -jnp.sum(descending * rise, axis=-1)
