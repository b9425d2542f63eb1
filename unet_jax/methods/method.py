"""The record that says how parameters are learnt, and the steps that methods share.

A method is built from `Ingredients` and knows nothing of devices, files or configs. Its
three functions are used like those of `optax.GradientTransformation`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from unet_jax.arrays import Batch, Image
from unet_jax.errors import UserError
from unet_jax.losses import Loss, compute_deep_supervision
from unet_jax.tasks import Task

Augment = Callable[[jax.Array, Batch], Batch]
Scalars = dict[str, jax.Array]
Variables = dict[str, Any]  # params and batch_stats, as Flax applies them


class State(NamedTuple):
    """Everything that training changes, and nothing but arrays."""

    step: jax.Array  # i32[], updates made so far
    params: Any
    stats: Any  # running statistics of batch norm, of params and not of ema
    opt_state: Any
    ema: Any = ()  # exponential moving average of params; () where it is off
    extra: Any = ()  # the method's own arrays


class Ingredients(NamedTuple):
    """The parts that methods put together.

    Attributes:
      model: `(image, train, seed) -> output`.
      task: what the output means.
      loss: `(outputs, targets, weight) -> f32[B]`, of dicts by kind.
      augment: `(key, example) -> example`.
      tx: the optimizer.
      ema: decay of the average of the parameters; 0 keeps none.
    """

    model: nn.Module
    task: Task
    loss: Loss
    augment: Augment
    tx: optax.GradientTransformation
    ema: float = 0.0


class Method(NamedTuple):
    """A way to learn.

    Attributes:
      init: `(key, image, variables) -> state` before the first step, for images shaped
        like `image f32[B, *S, C]`; with fresh variables if they are None.
      update: `(state, batch, key, axis_name) -> (state, scalars)`: one step of one
        replica. Every replica has the same number of examples. `key` is the run's, the
        same at every step and on every replica; what varies is folded in from
        `batch['seed']`. `axis_name` names the axis of replicas under `pmap` and is None
        where arrays are global. The scalars are averaged over replicas; `loss`,
        `grad_norm` and `param_norm` are always there.
      variables: state -> variables that predict. It picks arrays out of the state and
        computes nothing, so that a checkpoint need not store them twice.
      unlabelled: the share of every batch that comes from unlabelled images;
        `unlabelled_rows` turns it into a number of rows, the last ones of a batch.
      sample: `(variables, keys, shape) -> f32[B, *shape]`, images drawn by a generator,
        each of `shape` = (*S, C); image i depends on `keys[i]` alone. None for methods
        that learn to predict.
      score: `(variables, batch, key) -> f32[B]`, how badly a generator explains
        images, from `image` and `seed` of the batch; the same at every call. None for
        methods that learn to predict.
    """

    init: Callable[[jax.Array, Image, Variables | None], State]
    update: Callable[..., tuple[State, Scalars]]
    variables: Callable[[State], Variables]
    unlabelled: float = 0.0
    sample: Callable[..., Image] | None = None
    score: Callable[..., jax.Array] | None = None


def count_unlabelled_rows(share: float, size: int) -> int:
    """Returns how many of the `size` rows of a global batch are unlabelled.

    The share, rounded, but at least one row of each kind; none if the share is 0.

    Raises:
      UserError: there is no row for one of the kinds.
    """
    if not share:
        return 0
    if size < 2:
        raise UserError(
            f"{size} has no room for labelled and unlabelled images; set 2 or more"
        )
    return min(max(round(share * size), 1), size - 1)


def init_state(
    parts: Ingredients,
    key: jax.Array,
    image: Image,
    variables: Variables | None = None,
) -> State:
    """Returns a state without extra arrays.

    Args:
      parts: the ingredients.
      key: of the run.
      image: `f32[B, *S, C]`, of which the shape matters.
      variables: to begin with; fresh ones if they are None.
    """
    if variables is None:
        variables = parts.model.init({"params": key, "dropout": key}, image)
    params = variables["params"]
    return State(
        step=jnp.zeros((), jnp.int32),
        params=params,
        stats=variables.get("batch_stats", {}),
        opt_state=parts.tx.init(params),
        # a copy: the two must not share a buffer that the step then donates
        ema=jax.tree.map(jnp.copy, params) if parts.ema else (),
    )


def select_variables(state: State) -> Variables:
    """Returns the averaged parameters where there are any, and else the parameters."""
    params = state.ema if jax.tree.leaves(state.ema) else state.params
    return {"params": params, "batch_stats": state.stats}


def augment_batch(parts: Ingredients, batch: Batch, key: jax.Array) -> Batch:
    """Augments every example with random numbers that belong to its seed."""
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, batch["seed"])
    return jax.vmap(parts.augment)(keys, batch)


def forward(
    parts: Ingredients,
    params: Any,
    stats: Any,
    batch: Batch,
    key: jax.Array,
    **inputs: Any,
) -> tuple[Any, Any]:
    """Applies the network in training mode; returns its output and new statistics."""
    output, updates = parts.model.apply(
        {"params": params, "batch_stats": stats},
        batch["image"],
        train=True,
        seed=batch["seed"],
        rngs={"dropout": jax.random.fold_in(key, 1)},
        mutable=["batch_stats"],
        **inputs,
    )
    return output, updates.get("batch_stats", {})


def compute_loss(parts: Ingredients, output: Any, batch: Batch) -> jax.Array:
    """Returns the loss `f32[B]` of an output, or of several (deep supervision)."""
    several = (output,) if isinstance(output, jax.Array) else output
    outputs = [parts.task.outputs(one) for one in several]
    strides = parts.model.geometry(batch["image"].ndim - 2).strides
    targets = parts.task.targets(batch)
    return compute_deep_supervision(
        parts.loss, outputs, targets, batch["weight"], strides
    )


def apply_gradients(
    parts: Ingredients, state: State, value: jax.Array, stats: Any, grads: Any
) -> tuple[State, Scalars]:
    """Applies averaged gradients: the next state and the scalars of this step.

    After t updates the decay of the average is at most (1 + t) / (10 + t), so that the
    random start is soon forgotten.
    """
    updates, opt_state = parts.tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema = ()
    if parts.ema:
        decay = jnp.minimum(parts.ema, (1 + state.step) / (10 + state.step))
        ema = optax.incremental_update(params, state.ema, 1 - decay)
    scalars = {
        "loss": value,
        "grad_norm": optax.tree.norm(grads),
        "param_norm": optax.tree.norm(params),
    }
    new = State(state.step + 1, params, stats, opt_state, ema, state.extra)
    return new, scalars


def average_replicas(tree: Any, axis_name: str | None) -> Any:
    """Averages over replicas; returns the tree itself where arrays are global."""
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)
