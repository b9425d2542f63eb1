"""The total loss: the sum of its terms, at the levels of deep supervision."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from unet_jax.arrays import Weight, crop_centre
from unet_jax.errors import UserError

Term = Callable[[jax.Array, jax.Array, Weight], jax.Array]  # reads one kind of target
ByKind = Mapping[str, jax.Array]
Loss = Callable[..., jax.Array]  # outputs, targets, weight, axis_name: combine_losses
AXIS_NAME = "axis_name"  # the keyword of losses of the whole batch


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
      `(outputs, targets, weight, axis_name=None) -> f32[B]`, where outputs and targets
      are dicts of arrays by the kind of target that a loss reads (see `get_kind`).
      `axis_name` is passed to the losses of the whole batch.

    Raises:
      UserError: all scales are 0.
    """
    used = [(scale, get_kind(term), term) for scale, term in terms if scale != 0]
    if not used:
        raise UserError("no term has a scale other than 0; set one scale above 0")

    def total(
        outputs: ByKind,
        targets: ByKind,
        weight: Weight,
        axis_name: str | None = None,
    ) -> jax.Array:
        losses = (
            scale * _span_devices(term, axis_name)(outputs[kind], targets[kind], weight)
            for scale, kind, term in used
        )
        return jnp.asarray(sum(losses))

    return total


def _span_devices(term: Callable, axis_name: str | None) -> Callable:
    """Returns a loss of the whole batch with its devices; other losses unchanged."""
    if axis_name is None or AXIS_NAME not in inspect.signature(term).parameters:
        return term
    return functools.partial(term, axis_name=axis_name)


def compute_deep_supervision(
    loss: Loss,
    outputs: Sequence[ByKind],
    targets: ByKind,
    weight: Weight,
    strides: Sequence[tuple[int, ...]],
    *,
    coarsest: bool = True,
) -> jax.Array:
    """Computes the mean loss of outputs at several levels: of one, the loss itself.

    Output i has weight 2^-i, and the weights are normalised to a sum of 1. Output i is
    compared with the middle part of the target, at every `strides[i]`-th pixel.

    Args:
      loss: `(outputs, targets, weight) -> f32[B]`.
      outputs: the outputs by kind, the finest level first. They may be smaller than the
        target, as with VALID padding.
      targets: the targets by kind, at full resolution.
      weight: `f32[B, *S]`.
      strides: for each level and axis, the target pixels per output pixel.
      coarsest: False leaves out the coarsest of several outputs, as nnU-Net does.

    Returns:
      `f32[B]`.
    """
    if not coarsest and len(outputs) > 1:
        outputs = outputs[:-1]
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
