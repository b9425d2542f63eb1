"""Optimizers by their Optax names, with weight decay and gradient clipping.

An optimizer is `(schedule, *, learning_rate, ...) -> GradientTransformation`; the
schedule already peaks at `learning_rate`. Weight decay leaves biases and the scales
and offsets of norms alone. `clip` bounds the global norm of the gradient; 0 is off.
"""

import fnmatch
from typing import Any

import jax
import optax

from unet_jax.errors import UserError
from unet_jax.specs import BelowOne, NonNegative, Positive

__all__ = ["adam", "adamw", "lamb", "sgd"]


def sgd(
    schedule: optax.Schedule,
    *,
    learning_rate: NonNegative,
    momentum: BelowOne = 0.9,
    nesterov: bool = False,
    weight_decay: NonNegative = 0.0,
    clip: NonNegative = 0.0,
) -> optax.GradientTransformation:
    """Stochastic gradient descent; the paper's momentum is 0.99 (section 3)."""
    step = optax.sgd(schedule, momentum=momentum, nesterov=nesterov)
    return optax.chain(_clip(clip), _decay(weight_decay), step)


def adam(
    schedule: optax.Schedule,
    *,
    learning_rate: NonNegative,
    b1: BelowOne = 0.9,
    b2: BelowOne = 0.999,
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.0,
    clip: NonNegative = 0.0,
) -> optax.GradientTransformation:
    """Adam (Kingma and Ba 2015); weight decay is an L2 term of the loss."""
    step = optax.adam(schedule, b1=b1, b2=b2, eps=eps)
    return optax.chain(_clip(clip), _decay(weight_decay), step)


def adamw(
    schedule: optax.Schedule,
    *,
    learning_rate: NonNegative,
    b1: BelowOne = 0.9,
    b2: BelowOne = 0.999,
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 1e-4,
    clip: NonNegative = 0.0,
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""
    numbers = {"b1": b1, "b2": b2, "eps": eps, "weight_decay": weight_decay}
    return optax.chain(
        _clip(clip), optax.adamw(schedule, **numbers, mask=_mark_kernels)
    )


def lamb(
    schedule: optax.Schedule,
    *,
    learning_rate: NonNegative,
    b1: BelowOne = 0.9,
    b2: BelowOne = 0.999,
    eps: Positive = 1e-6,
    weight_decay: NonNegative = 0.0,
    clip: NonNegative = 0.0,
) -> optax.GradientTransformation:
    """Layer-wise adaptive rates for large batches (You et al. 2020)."""
    numbers = {"b1": b1, "b2": b2, "eps": eps, "weight_decay": weight_decay}
    return optax.chain(_clip(clip), optax.lamb(schedule, **numbers, mask=_mark_kernels))


def freeze(
    tx: optax.GradientTransformation, patterns: tuple[str, ...], params: optax.Params
) -> optax.GradientTransformation:
    """Keeps the parameters whose names match a pattern as they are.

    They get no update, no weight decay and no share in the norm of the gradient.

    Args:
      tx: the optimizer of the others.
      patterns: as in a shell, for names such as 'down0/Conv_0/kernel'; '*' matches
        '/', too, so 'down*' is the whole contracting path.
      params: a tree with the structure of the parameters.

    Raises:
      UserError: a pattern matches no parameter, or all parameters are kept.
    """
    names = [
        format_path(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)
    ]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            tops = dict.fromkeys(name.split("/")[0] for name in names)
            raise UserError(
                f"{pattern!r} matches no parameter; they begin with {', '.join(tops)}"
            )

    def is_frozen(path: Any, _: Any) -> bool:
        return any(fnmatch.fnmatchcase(format_path(path), p) for p in patterns)

    def mark_frozen(tree: optax.Params) -> optax.Params:
        return jax.tree_util.tree_map_with_path(is_frozen, tree)

    def mark_trained(tree: optax.Params) -> optax.Params:
        return jax.tree.map(lambda frozen: not frozen, mark_frozen(tree))

    if not any(jax.tree.leaves(mark_trained(params))):
        raise UserError("all parameters would be kept; leave some of them to train")
    return optax.chain(
        optax.masked(tx, mark_trained), optax.masked(optax.set_to_zero(), mark_frozen)
    )


def format_path(path: Any) -> str:
    """Returns the name of a parameter, such as 'down0/Conv_0/kernel'."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _mark_kernels(params: optax.Params) -> optax.Params:
    """True where weight decay applies: what has one axis is a bias or a scale."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def _decay(weight_decay: float) -> optax.GradientTransformation:
    return optax.add_decayed_weights(weight_decay, mask=_mark_kernels)


def _clip(norm: float) -> optax.GradientTransformation:
    return optax.clip_by_global_norm(norm) if norm > 0 else optax.identity()
