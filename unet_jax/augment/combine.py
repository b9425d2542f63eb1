"""Several operations as one."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from unet_jax.arrays import Example
from unet_jax.augment.warp import settle

Op = Callable[[jax.Array, Example], Example]


def chain(operations: Sequence[tuple[float, Op]]) -> Op:
    """Runs operations in order, each with its probability, and reads the pixels last.

    Operation i draws from `fold_in(key, i)`: to add one at the end changes no other.
    """
    steps = [op if p == 1 else _sometimes(p, op) for p, op in operations]

    def augment(key: jax.Array, example: Example) -> Example:
        for i, step in enumerate(steps):
            example = step(jax.random.fold_in(key, i), example)
        return settle(example)

    return augment


def _sometimes(probability: float, operation: Op) -> Op:
    def step(key: jax.Array, example: Example) -> Example:
        coin, key = jax.random.split(key)
        done = operation(key, example)
        left = _like(done, example)
        coin = jax.random.bernoulli(coin, probability)
        return jax.tree.map(lambda d, n: jnp.where(coin, d, n), done, left)

    return step


def _like(done: Example, example: Example) -> Example:
    """The example as it was, in the structure that the operation gave it."""
    if "moves" not in done:
        return settle(example)  # the operation did the same, and XLA does it once
    before = example.get("moves", ())
    added = done["moves"][len(before) :]
    return {**example, "moves": (*before, *jax.tree.map(jnp.zeros_like, added))}
