"""Optimizers under their Optax names, with weight decay and gradient clipping.

An optimizer is `(schedule, *, learning_rate, ...) -> GradientTransformation`. The
schedule already has its peak at `learning_rate`. Weight decay applies to kernels, not
to biases or to the scales and offsets of norms. `clip` is the largest global norm of
the gradient; 0 means no clipping. `multipliers` are pairs of a pattern for the names of
parameters and a factor for their updates; the first pattern that matches counts.
"""

import fnmatch
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import jax
import optax

from unet_jax.errors import UserError
from unet_jax.specs import BelowOne, Domain, NonNegative, Positive

__all__ = ["adam", "adamw", "lamb", "sgd"]


def _is_pair(value: tuple) -> bool:
    match value:
        case (str(), int() | float() as factor):
            return 0 <= factor < float("inf")
    return False


_Pair = Annotated[
    tuple, Domain("of a pattern and a factor, 0 or more: ('down*',0.1)", _is_pair)
]
Multipliers = tuple[_Pair, ...]


def sgd(
    schedule: optax.Schedule,
    *,
    learning_rate: NonNegative,
    momentum: BelowOne = 0.9,
    nesterov: bool = False,
    weight_decay: NonNegative = 0.0,
    clip: NonNegative = 0.0,
    multipliers: Multipliers = (),
) -> optax.GradientTransformation:
    """Creates stochastic gradient descent with momentum.

    The momentum of Ronneberger et al. 2015 is 0.99 (section 3).
    """
    step = optax.sgd(schedule, momentum=momentum, nesterov=nesterov)
    tx = optax.chain(_clip(clip), _decay(weight_decay), step)
    return _multiply(tx, multipliers)


def adam(
    schedule: optax.Schedule,
    *,
    learning_rate: NonNegative,
    b1: BelowOne = 0.9,
    b2: BelowOne = 0.999,
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.0,
    clip: NonNegative = 0.0,
    multipliers: Multipliers = (),
) -> optax.GradientTransformation:
    """Creates Adam (Kingma and Ba 2015). Weight decay is an L2 term of the loss."""
    step = optax.adam(schedule, b1=b1, b2=b2, eps=eps)
    tx = optax.chain(_clip(clip), _decay(weight_decay), step)
    return _multiply(tx, multipliers)


def adamw(
    schedule: optax.Schedule,
    *,
    learning_rate: NonNegative,
    b1: BelowOne = 0.9,
    b2: BelowOne = 0.999,
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 1e-4,
    clip: NonNegative = 0.0,
    multipliers: Multipliers = (),
) -> optax.GradientTransformation:
    """Creates Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""
    numbers = {"b1": b1, "b2": b2, "eps": eps, "weight_decay": weight_decay}
    step = optax.adamw(schedule, **numbers, mask=_mark_kernels)
    return _multiply(optax.chain(_clip(clip), step), multipliers)


def lamb(
    schedule: optax.Schedule,
    *,
    learning_rate: NonNegative,
    b1: BelowOne = 0.9,
    b2: BelowOne = 0.999,
    eps: Positive = 1e-6,
    weight_decay: NonNegative = 0.0,
    clip: NonNegative = 0.0,
    multipliers: Multipliers = (),
) -> optax.GradientTransformation:
    """Creates LAMB, layer-wise adaptive rates for large batches (You et al. 2020)."""
    numbers = {"b1": b1, "b2": b2, "eps": eps, "weight_decay": weight_decay}
    step = optax.lamb(schedule, **numbers, mask=_mark_kernels)
    return _multiply(optax.chain(_clip(clip), step), multipliers)


def freeze(
    tx: optax.GradientTransformation, patterns: tuple[str, ...], params: optax.Params
) -> optax.GradientTransformation:
    """Returns an optimizer that does not train parameters whose names match a pattern.

    Frozen parameters get no update and no weight decay, and do not count in the
    gradient norm for clipping.

    Args:
      tx: the optimizer of the other parameters.
      patterns: shell patterns for names such as 'down0/Conv_0/kernel'. '*' also matches
        '/', so 'down*' is the whole contracting path.
      params: a tree with the structure of the parameters.

    Raises:
      UserError: a pattern matches no parameter, or the patterns match all parameters.
    """
    check_patterns(patterns, params)

    def is_frozen(path: Any, _: Any) -> bool:
        return any(fnmatch.fnmatchcase(format_path(path), p) for p in patterns)

    def mark_frozen(tree: optax.Params) -> optax.Params:
        return jax.tree_util.tree_map_with_path(is_frozen, tree)

    def mark_trained(tree: optax.Params) -> optax.Params:
        return jax.tree.map(lambda frozen: not frozen, mark_frozen(tree))

    if not any(jax.tree.leaves(mark_trained(params))):
        raise UserError("all parameters would be frozen; leave some of them to train")
    return optax.chain(
        optax.masked(tx, mark_trained), optax.masked(optax.set_to_zero(), mark_frozen)
    )


def check_patterns(patterns: Sequence[str], params: optax.Params) -> None:
    """Raises UserError if a pattern matches the name of no parameter."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    names = [format_path(path) for path, _ in leaves]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            tops = dict.fromkeys(name.split("/")[0] for name in names)
            raise UserError(
                f"{pattern!r} matches no parameter; the names begin with "
                f"{', '.join(tops)}"
            )


def find_multiplier(path: Any, multipliers: Multipliers) -> float:
    """Returns the factor of the first pattern that matches a name; 1 if none does."""
    name = format_path(path)
    matches = (f for pattern, f in multipliers if fnmatch.fnmatchcase(name, pattern))
    return next(matches, 1.0)


def _multiply(
    tx: optax.GradientTransformation, multipliers: Multipliers
) -> optax.GradientTransformation:
    """Returns an optimizer whose updates are multiplied by a factor for each parameter.

    Parameters with a factor of 0 do not count in the gradient norm for clipping.
    """
    if not multipliers:
        return tx

    def map_factors(updates: optax.Updates, change: Callable) -> optax.Updates:
        return jax.tree_util.tree_map_with_path(
            lambda path, x: change(find_multiplier(path, multipliers), x), updates
        )

    before = optax.stateless(
        lambda updates, _: map_factors(updates, lambda f, x: x if f else x * 0)
    )
    after = optax.stateless(lambda updates, _: map_factors(updates, lambda f, x: f * x))
    return optax.chain(before, tx, after)


def format_path(path: Any) -> str:
    """Returns the name of a parameter by its path, such as 'down0/Conv_0/kernel'."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _mark_kernels(params: optax.Params) -> optax.Params:
    """Returns True for kernels. Arrays with one axis are biases or scales."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def _decay(weight_decay: float) -> optax.GradientTransformation:
    return optax.add_decayed_weights(weight_decay, mask=_mark_kernels)


def _clip(norm: float) -> optax.GradientTransformation:
    return optax.clip_by_global_norm(norm) if norm > 0 else optax.identity()
