"""Supervised learning from labelled examples."""

import functools
from typing import Any

import jax

from unet_jax.arrays import Batch
from unet_jax.methods.method import (
    Ingredients,
    Method,
    Scalars,
    State,
    augment_batch,
    compute_loss,
    forward,
    init_state,
    select_variables,
    take_step,
)


def supervised(parts: Ingredients) -> Method:
    """Minimises the mean loss of augmented labelled examples."""

    def update(
        state: State, batch: Batch, key: jax.Array, axis_name: str | None = None
    ) -> tuple[State, Scalars]:
        batch = augment_batch(parts, batch, key)

        def objective(params: Any) -> tuple[jax.Array, Any]:
            output, stats = forward(parts, params, state.stats, batch, key)
            return compute_loss(parts, output, batch, axis_name).mean(), (stats, {})

        return take_step(parts, state, objective, axis_name)

    return Method(
        init=functools.partial(init_state, parts),
        update=update,
        variables=select_variables,
    )
