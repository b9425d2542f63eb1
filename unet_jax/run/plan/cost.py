"""What a training step costs: the very step of a run, compiled and taken."""

import itertools
import time
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from unet_jax.build.training import TrainingParts, build
from unet_jax.data.source import Splits
from unet_jax.errors import UserError
from unet_jax.run.batches import batches

TIMED = 2  # steps


class Compiled(NamedTuple):
    """The step of a config, for the devices there are.

    Attributes:
      parts: the run.
      step: `(state, batch, key) -> (state, scalars)`.
      memory: bytes that it takes on each device; 0 where the backend cannot say.
      fixed: bytes of it that no smaller batch would save: the state and the gradient.
    """

    parts: TrainingParts
    step: Any
    memory: int
    fixed: int


def compiled(config: ConfigDict, splits: Splits) -> Compiled | None:
    """Compiles the step for the batches that the run would have.

    None says that not even the compilation finds the memory.

    Raises:
      UserError: the config or a record is wrong.
    """
    parts = build(config, splits=splits)
    key = jax.random.key(config.seed)
    shapes = jax.eval_shape(parts.init, key)
    fixed = _size(shapes) + _size(shapes.params)
    state = parts.layout.abstract(shapes)
    try:
        batch = parts.layout.put_batch(next(batches(config, parts, 0, 1)))
        step = parts.train_step.lower(state, batch, key).compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None
    return Compiled(parts, step, _bytes(step), fixed)


def seconds(config: ConfigDict, compiled: Compiled) -> float:
    """How long a step takes, reading its batch included: the mean of two real ones.

    A step comes first that nobody times, and then so many batches as are read ahead:
    with those at hand, reading would seem to take no time at all.

    Raises:
      UserError: the devices have not the memory, or a record is wrong.
    """
    parts, step, key = compiled.parts, compiled.step, jax.random.key(config.seed)
    ahead = batches(config, parts, 0, 1 + 2 * config.threads + TIMED)
    try:
        state = parts.layout.put_state(parts.init(key))
        state, _ = step(state, parts.layout.put_batch(next(ahead)), key)
        jax.block_until_ready(state)
        for _ in itertools.islice(ahead, 2 * config.threads):
            pass
        start = time.perf_counter()
        for batch in itertools.islice(ahead, TIMED):
            state, _ = step(state, parts.layout.put_batch(batch), key)
        jax.block_until_ready(state)
        return (time.perf_counter() - start) / TIMED
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(
            f"a step of {compiled.memory / 2**30:.3g} GiB does not fit into the memory "
            "that is left; free some of it, or plan on another machine"
        ) from error


def _bytes(step: Any) -> int:
    """What goes in, comes out and lies between; the state is donated: counted once."""
    memory = step.memory_analysis()
    if memory is None:
        return 0
    given = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return given - memory.alias_size_in_bytes + memory.temp_size_in_bytes


def _size(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
