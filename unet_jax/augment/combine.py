"""Several operations as one."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from unet_jax.arrays import Example
from unet_jax.augment.displacement import apply_displacements

Operation = Callable[[jax.Array, Example], Example]


def compose(operations: Sequence[tuple[float, Operation]]) -> Operation:
    """Runs operations in order, each with its probability, and reads the pixels last.

    Operation i draws from `fold_in(key, i)`: to add one at the end changes no other.
    """
    steps = [op if p == 1 else _apply_sometimes(p, op) for p, op in operations]

    def augment(key: jax.Array, example: Example) -> Example:
        for i, step in enumerate(steps):
            example = step(jax.random.fold_in(key, i), example)
        return apply_displacements(example)

    return augment


def _apply_sometimes(probability: float, operation: Operation) -> Operation:
    def step(key: jax.Array, example: Example) -> Example:
        coin, key = jax.random.split(key)
        done = operation(key, example)
        left = _match_structure(done, example)
        coin = jax.random.bernoulli(coin, probability)
        return jax.tree.map(lambda d, n: jnp.where(coin, d, n), done, left)

    return step


def _match_structure(done: Example, example: Example) -> Example:
    """The example as it was, in the structure that the operation gave it."""
    if "displacements" not in done:
        return apply_displacements(
            example
        )  # the operation did the same, and XLA does it once
    before = example.get("displacements", ())
    added = done["displacements"][len(before) :]
    return {**example, "displacements": (*before, *jax.tree.map(jnp.zeros_like, added))}
