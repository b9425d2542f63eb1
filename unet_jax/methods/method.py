"""The record of a training method, and the steps that methods share.

A method is built from `Ingredients` and does not depend on devices, files or configs.
Its functions are used like those of `optax.GradientTransformation`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from unet_jax.arrays import Batch, Image, Seed
from unet_jax.errors import UserError
from unet_jax.losses import Loss, compute_deep_supervision
from unet_jax.tasks import Task

Augment = Callable[[jax.Array, Batch], Batch]
GeneratorFunction = Any  # a function; None for methods that learn to predict
Scalars = dict[str, Any]  # numbers: JAX arrays on the device, floats on the host
Variables = dict[str, Any]  # params and batch_stats, for `model.apply`


class State(NamedTuple):
    """All arrays that training updates."""

    step: jax.Array  # i32[], the number of updates so far
    params: Any
    stats: Any  # running statistics of batch norm; they belong to params, not to ema
    opt_state: Any
    ema: Any = ()  # exponential moving average of params; () if there is none
    extra: Any = ()  # further arrays of the method


class Ingredients(NamedTuple):
    """The objects that a method is built from.

    Attributes:
      model: the network, `(image, train, seed) -> output`.
      task: the meaning of the output.
      loss: as `losses.combine_losses` returns it.
      augment: `(key, example) -> example`.
      tx: the optimizer.
      ema: the decay of the moving average of the parameters; 0 for no average.
      coarsest: as in `losses.compute_deep_supervision`.
    """

    model: nn.Module
    task: Task
    loss: Loss
    augment: Augment
    tx: optax.GradientTransformation
    ema: float = 0.0
    coarsest: bool = True


class Method(NamedTuple):
    """The functions of a training method.

    Attributes:
      init: `(key, image, variables) -> state` before the first step.
        `image f32[B, *S, C]` gives the shape of the images. If `variables` is None, the
        parameters are initialised.
      update: `(state, batch, key, axis_name) -> (state, scalars)`: one training step of
        one replica. Every replica has the same number of examples. `key` is the key of
        the run, the same at every step and on every replica; `batch['seed']` is folded
        in to vary it. `axis_name` is the axis of replicas under `pmap`, and None if
        arrays are global. The scalars are averaged over replicas and include `loss`,
        `grad_norm` and `param_norm`.
      variables: `state -> variables` for prediction. It only selects arrays of the
        state, so that a checkpoint does not store them twice.
      unlabelled: the share of unlabelled images in every batch. `count_unlabelled_rows`
        turns it into a number of rows, the last ones of the batch.
      sample: `(variables, keys, shape) -> f32[B, *shape]`: generates one image of
        `shape` = (*S, C) per key. An image depends on its own key only. None for
        methods that learn to predict.
      val_loss: `(variables, batch, key) -> f32[B]`: a loss of the generator for each
        image, from `image` and `seed` of the batch. It is deterministic. None for
        methods that learn to predict.
    """

    init: Callable[[jax.Array, Image, Variables | None], State]
    update: Callable[..., tuple[State, Scalars]]
    variables: Callable[[State], Variables]
    unlabelled: float = 0.0
    sample: GeneratorFunction = None
    val_loss: GeneratorFunction = None


def count_unlabelled_rows(share: float, size: int) -> int:
    """Returns the number of unlabelled rows in a global batch.

    It is the rounded share, but leaves at least one row of each kind. A share of 0
    gives 0.

    Args:
      share: the share of unlabelled rows, from 0 to below 1.
      size: the number of rows in the global batch.

    Raises:
      UserError: the batch is too small for one row of each kind.
    """
    if not share:
        return 0
    if size < 2:
        raise UserError(
            f"{size} is too small for labelled and unlabelled images; set 2 or more"
        )
    return min(max(round(share * size), 1), size - 1)


def init_state(
    parts: Ingredients, key: jax.Array, image: Image, variables: Variables | None = None
) -> State:
    """Returns the state before the first step, without extra arrays.

    Only the shape of `image f32[B, *S, C]` matters. If `variables` is None, they are
    initialised.
    """
    if variables is None:
        variables = dict(parts.model.init({"params": key, "dropout": key}, image))
    params = variables["params"]
    return State(
        step=jnp.zeros((), jnp.int32),
        params=params,
        stats=variables.get("batch_stats", {}),
        opt_state=parts.tx.init(params),
        # A copy, since the training step donates the buffers of the state.
        ema=jax.tree.map(jnp.copy, params) if parts.ema else (),
    )


def select_variables(state: State) -> Variables:
    """Returns the variables for prediction: averaged parameters if there are any."""
    params = state.ema if jax.tree.leaves(state.ema) else state.params
    return {"params": params, "batch_stats": state.stats}


def augment_batch(parts: Ingredients, batch: Batch, key: jax.Array) -> Batch:
    """Augments every example with random numbers that depend on its seed only."""
    return jax.vmap(parts.augment)(fold_in_seeds(key, batch["seed"]), batch)


def fold_in_seeds(key: jax.Array, seed: Seed) -> jax.Array:
    """Returns one key per example, which depends on its seed only."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, seed)


def draw_noise(keys: jax.Array, image: Image) -> Image:
    """Draws N(0, 1) noise shaped like `image f32[B, *S, C]`, with one key per row."""
    return jax.vmap(lambda key: jax.random.normal(key, image.shape[1:]))(keys)


def forward(
    parts: Ingredients,
    params: Any,
    stats: Any,
    batch: Batch,
    key: jax.Array,
    **inputs: Any,
) -> tuple[Any, Any]:
    """Applies the network in training mode.

    Args:
      parts: the ingredients.
      params: the parameters of the network.
      stats: the running statistics of batch norm.
      batch: the images, `image f32[B, *S, C]`, and their seeds, `seed u32[B]`.
      key: the key of the run; that of the dropout is derived from it.
      **inputs: further inputs of the network, such as `time`.

    Returns:
      The output and the new running statistics. The output is `f32[B, *S, C']`, with a
      smaller S for VALID padding, or a tuple of one for each level with deep
      supervision.
    """
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


def compute_loss(
    parts: Ingredients, output: Any, batch: Batch, axis_name: str | None = None
) -> jax.Array:
    """Returns the loss `f32[B]` of one output, or of several with deep supervision.

    Args:
      parts: the ingredients.
      output: of the network.
      batch: the targets and the weights.
      axis_name: the axis of replicas; None if arrays are global.
    """
    levels = (output,) if isinstance(output, jax.Array) else output
    outputs = [parts.task.outputs(level) for level in levels]
    strides = parts.model.geometry(batch["image"].ndim - 2).strides
    loss = parts.loss
    if axis_name is not None:
        loss = functools.partial(loss, axis_name=axis_name)
    return compute_deep_supervision(
        loss,
        outputs,
        parts.task.targets(batch),
        batch["weight"],
        strides,
        coarsest=parts.coarsest,
    )


def take_step(
    parts: Ingredients, state: State, objective: Callable, axis_name: str | None
) -> tuple[State, Scalars]:
    """Updates the state by the gradient of an objective, averaged over replicas.

    Args:
      parts: the ingredients.
      state: the state before the step.
      objective: `params -> (loss, (stats, scalars))`: the mean loss, the new running
        statistics, and further scalars.
      axis_name: the axis of replicas; None if arrays are global.

    Returns:
      The next state, and the scalars of this step.
    """
    gradient = jax.value_and_grad(objective, has_aux=True)
    (loss, (stats, more)), grads = gradient(state.params)
    averages = average_replicas((loss, grads, stats, more), axis_name)
    loss, grads, stats, more = averages
    new, scalars = apply_gradients(parts, state, loss, stats, grads)
    return new, scalars | more


def apply_gradients(
    parts: Ingredients, state: State, loss: jax.Array, stats: Any, grads: Any
) -> tuple[State, Scalars]:
    """Updates the state with gradients that are averaged over replicas.

    After t updates the decay of the moving average is at most (1 + t) / (10 + t), so
    that the average soon forgets the random initialisation. This is the usual warm-up,
    that of `num_updates` in TensorFlow's `ExponentialMovingAverage`.

    Args:
      parts: the ingredients.
      state: the state before the step.
      loss: `f32[]`, the mean loss.
      stats: the new running statistics of batch norm.
      grads: the gradients, a tree like `state.params`.

    Returns:
      The next state, and the scalars `loss`, `grad_norm` and `param_norm`, each
      `f32[]`. The norms are those of the gradients and of the new parameters.
    """
    updates, opt_state = parts.tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema = ()
    if parts.ema:
        decay = jnp.minimum(parts.ema, (1 + state.step) / (10 + state.step))
        ema = optax.incremental_update(params, state.ema, 1 - decay)
    scalars = {
        "loss": loss,
        "grad_norm": optax.tree.norm(grads),
        "param_norm": optax.tree.norm(params),
    }
    new = State(state.step + 1, params, stats, opt_state, ema, state.extra)
    return new, scalars


def skip_non_finite(update: Callable) -> Callable:
    """Returns an update that changes only the step if any new number is not finite.

    One infinite gradient would otherwise spoil the parameters, the moments of the
    optimizer or the running statistics for good. The scalars of a skipped step are
    those of the update, and `skipped` is 1.

    Args:
      update: `Method.update`.
    """

    def guarded(state: State, *arguments: Any, **options: Any) -> tuple[State, Scalars]:
        new, scalars = update(state, *arguments, **options)
        scalars_finite = jax.tree.map(lambda x: jnp.isfinite(x).all(), scalars)
        # an optimizer may start with infinite values; they may stay
        state_finite = jax.tree.map(
            lambda n, o: (jnp.isfinite(n) | (n == o)).all(), new, state
        )
        every = jax.tree.leaves((scalars_finite, state_finite))
        # The smallest one, by a sort. XLA would copy a reduction of all these numbers
        # into each selection below, and compile for twice as long.
        finite = jax.lax.sort(jnp.stack(every))[0]
        kept = jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, state)
        skipped = 1 - finite.astype(jnp.float32)
        return kept._replace(step=new.step), scalars | {"skipped": skipped}

    return guarded


def keep_statistics(update: Callable, is_frozen: Callable[[Any], bool]) -> Callable:
    """Returns an update that leaves the running statistics of frozen layers unchanged.

    Args:
      update: `Method.update`.
      is_frozen: True for the path of a statistic of such a layer.
    """

    def kept(state: State, *arguments: Any, **options: Any) -> tuple[State, Scalars]:
        new, scalars = update(state, *arguments, **options)
        stats = jax.tree_util.tree_map_with_path(
            lambda path, n, o: o if is_frozen(path) else n, new.stats, state.stats
        )
        return new._replace(stats=stats), scalars

    return kept


def average_replicas(tree: Any, axis_name: str | None) -> Any:
    """Averages a tree over replicas, or returns it unchanged if arrays are global."""
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)
