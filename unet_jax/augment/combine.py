"""The combination of several operations into one."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from unet_jax.arrays import Example
from unet_jax.augment.displacement import apply_displacements

Operation = Callable[[jax.Array, Example], Example]


def compose(operations: Sequence[tuple[float, Operation]]) -> Operation:
    """Combines operations that run in order, each with its own probability.

    Operation i draws from `fold_in(key, i)`, so that an operation added at the end does
    not change the others. Pending displacements are applied at the end.

    Args:
      operations: (probability, operation) pairs.
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
        changed = operation(key, example)
        unchanged = _match_structure(example, changed)
        coin = jax.random.bernoulli(coin, probability)
        return jax.tree.map(lambda c, u: jnp.where(coin, c, u), changed, unchanged)

    return step


def _match_structure(example: Example, changed: Example) -> Example:
    """Returns an equivalent of the example with the tree structure of `changed`."""
    if "displacements" not in changed:
        # The operation has done the same. XLA merges the two computations.
        return apply_displacements(example)
    before = example.get("displacements", ())
    added = jax.tree.map(jnp.zeros_like, changed["displacements"][len(before) :])
    return {**example, "displacements": (*before, *added)}
