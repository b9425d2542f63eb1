"""The training mathematics of one replica: pure functions of arrays."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from unet_jax.arrays import Batch, Image, Label, Logits, Weight, centre

Loss = Callable[[Logits, Label, Weight], jax.Array]
Augment = Callable[[jax.Array, Batch], Batch]
Scalars = dict[str, jax.Array]


class State(NamedTuple):
    """All that training changes, and nothing but arrays."""

    step: jax.Array  # i32[], updates made so far
    params: Any
    stats: Any  # running statistics of batch norm, of params and not of ema
    opt_state: Any
    ema: Any  # exponential moving average of params; () where it is off

    @property
    def variables(self) -> dict[str, Any]:
        """What the model is evaluated with: the average where there is one."""
        params = self.ema if jax.tree.leaves(self.ema) else self.params
        return {"params": params, "batch_stats": self.stats}


def init(
    key: jax.Array,
    image: Image,
    *,
    model: nn.Module,
    tx: optax.GradientTransformation,
    ema: float = 0.0,
) -> State:
    """The state before the first step, for images shaped like `image`."""
    variables = model.init({"params": key, "dropout": key}, image)
    params = variables["params"]
    return State(
        step=jnp.zeros((), jnp.int32),
        params=params,
        stats=variables.get("batch_stats", {}),
        opt_state=tx.init(params),
        # a copy: the two must not share a buffer that the step then donates
        ema=jax.tree.map(jnp.copy, params) if ema else (),
    )


def train_step(
    state: State,
    batch: Batch,
    key: jax.Array,
    axis_name: str | None = None,
    *,
    model: nn.Module,
    loss: Loss,
    augment: Augment,
    tx: optax.GradientTransformation,
    ema: float = 0.0,
) -> tuple[State, Scalars]:
    """One update of the parameters.

    Args:
      state: as `init` made it, or a step left it.
      batch: this replica's share; every replica's has the same number of examples.
      key: of the run, the same at every step and on every replica. Randomness belongs
        to the example: what varies is folded in from `batch['seed']`.
      axis_name: the axis of replicas under `pmap`; None where arrays are global.
      model: `(image, train, seed) -> logits`.
      loss: `(logits, label, weight) -> f32[B]`.
      augment: `(key, example) -> example`.
      tx: the optimizer.
      ema: decay of the average of the parameters; 0 keeps none. After t updates it is
        at most (1 + t) / (10 + t), so that the random start is soon forgotten.

    Returns:
      The next state, and the scalars `loss` and `grad_norm`, averaged over replicas, of
      the state that went in, and `param_norm` of the one that comes out.
    """
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, batch["seed"])
    example = {name: batch[name] for name in ("image", "label", "weight")}
    example = jax.vmap(augment)(keys, example)

    def objective(params: Any) -> tuple[jax.Array, Any]:
        logits, updates = model.apply(
            {"params": params, "batch_stats": state.stats},
            example["image"],
            train=True,
            seed=batch["seed"],
            rngs={"dropout": jax.random.fold_in(key, 1)},
            mutable=["batch_stats"],
        )
        several = not isinstance(logits, jax.Array)
        axes = example["weight"].ndim - 1
        strides = model.geometry(axes).strides if several else ()
        losses = supervise(loss, logits, example["label"], example["weight"], strides)
        return losses.mean(), updates.get("batch_stats", {})

    gradient = jax.value_and_grad(objective, has_aux=True)
    (value, stats), grads = gradient(state.params)
    value, grads, stats = mean((value, grads, stats), axis_name)

    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    decay = jnp.minimum(ema, (1 + state.step) / (10 + state.step))
    average = optax.incremental_update(params, state.ema, 1 - decay) if ema else ()
    scalars = {
        "loss": value,
        "grad_norm": optax.tree.norm(grads),
        "param_norm": optax.tree.norm(params),
    }
    return State(state.step + 1, params, stats, opt_state, average), scalars


def supervise(
    loss: Loss,
    logits: Logits | Sequence[Logits],
    label: Label,
    weight: Weight,
    strides: Sequence[tuple[int, ...]] = (),
) -> jax.Array:
    """The loss `f32[B]` of logits that may be smaller or coarser than the label.

    Of several logits, as deep supervision gives them, element i counts 2^-i, normalised
    to a sum of 1 (nnU-Net's weights, but for the coarsest, which nnU-Net leaves out).
    Each is compared with the middle of the label, one pixel for each of its own.

    Args:
      loss: `(logits, label, weight) -> f32[B]`.
      logits: one array, or several.
      label: as large as the image.
      weight: likewise.
      strides: of several logits, the pixels of the label along one pixel of each
        element, per axis; those of the network's geometry.
    """
    if isinstance(logits, jax.Array):
        logits, strides = (logits,), ((1,) * (logits.ndim - 2),)
    total = sum(
        0.5**i * loss(part, _coarse(label, part, s), _coarse(weight, part, s))
        for i, (part, s) in enumerate(zip(logits, strides, strict=False))
    )
    return total / sum(0.5**i for i in range(len(logits)))


def _coarse(array: jax.Array, logits: Logits, stride: tuple[int, ...]) -> jax.Array:
    sizes = zip(logits.shape[1:-1], stride, strict=True)
    array = centre(array, tuple(size * step for size, step in sizes))
    return array[(slice(None), *(slice(step // 2, None, step) for step in stride))]


def image_loss(
    logits: Logits, label: Label, weight: Weight, *, loss: Loss
) -> jax.Array:
    """The loss `f32[]` of one whole image's `f32[*S, K]`, without augmentation."""
    return loss(logits[None], label[None], weight[None])[0]


def mean(tree: Any, axis_name: str | None) -> Any:
    """The mean over replicas; the tree itself where arrays are already global."""
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)
