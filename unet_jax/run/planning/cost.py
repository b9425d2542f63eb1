"""Memory and time of a training step, measured by compiling and running it."""

import itertools
import time
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from unet_jax.build.training import TrainingParts, build
from unet_jax.data.source import Splits
from unet_jax.errors import UserError
from unet_jax.inference import DeviceError, is_out_of_memory

TIMED_STEPS = 2


class CompiledStep(NamedTuple):
    """The compiled training step of a config, for the available devices.

    Attributes:
      parts: the run.
      step: `(state, batch, key) -> (state, scalars)`.
      memory: bytes on each device; 0 if the backend does not report it.
      fixed: bytes that do not depend on the batch: the state and the gradient.
    """

    parts: TrainingParts
    step: Any
    memory: int
    fixed: int


def compile_step(config: ConfigDict, splits: Splits) -> CompiledStep | None:
    """Compiles the training step for batches like those of the run.

    Returns:
      The compiled step; None if the compiler runs out of memory.

    Raises:
      UserError: the config or a record is wrong.
    """
    parts = build(config, splits=splits)
    key = jax.random.key(config.seed)
    shapes = jax.eval_shape(parts.init, key)
    fixed = _tree_bytes(shapes) + _tree_bytes(shapes.params)
    state = parts.layout.abstract(shapes)
    try:
        batch = parts.layout.put_batch(next(parts.read_batches(0, 1)))
        step = parts.train_step.lower(state, batch, key).compile()
    except DeviceError as error:
        if not is_out_of_memory(error):
            raise
        return None
    return CompiledStep(parts, step, _step_bytes(step), fixed)


def measure_step_time(config: ConfigDict, compiled: CompiledStep) -> float:
    """Returns the seconds of one training step, including reading its batch.

    The result is the mean of `TIMED_STEPS` steps. One step, and the batches that the
    pipeline has read ahead, come first and are not timed. Otherwise the time of reading
    would be hidden.

    Raises:
      UserError: the devices do not have enough memory, or a record is wrong.
    """
    parts, step, key = compiled.parts, compiled.step, jax.random.key(config.seed)
    ahead = parts.read_batches(0, 1 + 2 * config.threads + TIMED_STEPS)
    try:
        # zeros take as long as initial parameters, which take seconds to compile
        shapes = jax.eval_shape(parts.init, key)
        zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
        state = parts.layout.put_state(zeros)
        state, _ = step(state, parts.layout.put_batch(next(ahead)), key)
        jax.block_until_ready(state)
        for _ in itertools.islice(ahead, 2 * config.threads):
            pass
        start = time.perf_counter()
        for batch in itertools.islice(ahead, TIMED_STEPS):
            state, _ = step(state, parts.layout.put_batch(batch), key)
        jax.block_until_ready(state)
        return (time.perf_counter() - start) / TIMED_STEPS
    except DeviceError as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"a training step needs {compiled.memory / 2**30:.3g} GiB, more than the "
            "devices have free; free some memory, or plan on another machine"
        ) from error


def _step_bytes(step: Any) -> int:
    """Returns the memory of arguments, results and temporaries of a compiled step.

    The state is donated, so its buffers are counted once.
    """
    memory = step.memory_analysis()
    if memory is None:
        return 0
    given = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return given - memory.alias_size_in_bytes + memory.temp_size_in_bytes


def _tree_bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
