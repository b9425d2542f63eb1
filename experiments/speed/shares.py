"""Augmentation, input pipeline and waiting as shares of a training step.

The step, the augmentation and the loop are those of `--mode=train`. Waiting is measured
in a loop that finishes each step before it asks for the next batch. Otherwise JAX
computes a step while the loop waits, which would count time that is not lost.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
from ml_collections import ConfigDict
from results import Result
from timing import find_ratios, time_in_turn

from unet_jax import augment
from unet_jax.build import binding, training
from unet_jax.configs import isbi, quickstart
from unet_jax.data import pipeline
from unet_jax.methods.method import fold_in_seeds
from unet_jax.specs import Proportion

SECTION = "shares"


def measure(short: bool) -> Iterator[Result]:
    """Yields shares of a training step, in percent, and the seconds of a step.

    Args:
      short: True for a tiny network and few steps.
    """
    for name, config in make_configs(short).items():
        rounds, steps = (1, 2) if short else (5, 20)
        yield from measure_config(name, config, rounds, steps)


def make_configs(short: bool) -> dict[str, ConfigDict]:
    """Returns the configs by name; isbi gets synthetic cells, which need no download.

    Args:
      short: True for tiny networks and images.
    """
    own, paper = quickstart.get_config(), isbi.get_config()
    paper.model.widths = (16, 32, 64, 128, 256)
    paper.crop, shape = (380, 380), (512, 512)
    if short:
        own.model.widths = paper.model.widths = (2, 4)
        own.crop = own.data.shape = shape = (32, 32)
        paper.crop = (32, 32)
    paper.data = ConfigDict(
        {"name": "cells", "shape": shape, "train": 18, "val": 1, "test": 1}
    )
    paper.augment = paper.augment[1:] if short else paper.augment  # elastic compiles
    return {"quickstart": own, "isbi, a quarter of the widths": paper}


def measure_config(
    name: str, config: ConfigDict, rounds: int, steps: int
) -> Iterator[Result]:
    """Yields the shares for one config.

    Args:
      name: of the config.
      config: the config.
      rounds: the number of measurements.
      steps: of the loop, in each of them.
    """
    parts = training.build(config)
    for index in range(len(parts.train)):
        parts.train[index]  # fills the cache of examples, as the first epoch does
    key = jax.random.key(config.seed)
    state = parts.layout.put_state(parts.init(key))
    batch = next(iter(parts.read_batches(0, 1)))
    placed = parts.layout.put_batch(batch)
    host = read_in_this_thread(config, parts)
    augment_rows = make_augment(config)

    def take_step() -> None:
        nonlocal state
        state, scalars = parts.train_step(state, placed, key)
        jax.block_until_ready((state, scalars))

    seconds = time_in_turn(
        {
            "step": take_step,
            "augmentation": lambda: jax.block_until_ready(augment_rows(key, batch)),
            "input pipeline": lambda: next(host),
        },
        rounds,
    )
    yield Result(SECTION, name, "training step", "unet_jax", "s", seconds["step"])
    for part in ("augmentation", "input pipeline"):
        shares = tuple(100 * x for x in find_ratios(seconds, part, "step"))
        yield Result(SECTION, name, part, "unet_jax", "% of a step", shares)
    waiting = []
    for _ in range(rounds):
        share, state = measure_waiting(parts, state, key, steps)
        waiting.append(100 * share)
    yield Result(SECTION, name, "waiting", "unet_jax", "% of the time", tuple(waiting))


def measure_waiting(
    parts: training.TrainingParts, state: Any, key: jax.Array, steps: int
) -> tuple[float, Any]:
    """Returns the share of the time that a loop waits for batches, and the state.

    The first batch, for which the threads start, is not counted.
    """
    batches = iter(parts.read_batches(0, steps + 1))
    batch, waited = next(batches), 0.0
    start = time.perf_counter()
    for _ in range(steps):
        state, scalars = parts.train_step(state, parts.layout.put_batch(batch), key)
        jax.block_until_ready((state, scalars))
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
    return waited / (time.perf_counter() - start), state


def make_augment(config: ConfigDict) -> Callable[..., Any]:
    """Returns the augmentation of a batch, compiled alone."""
    operations = binding.bind_terms(
        augment, config, "augment", "probability", Proportion
    )
    function = augment.compose(operations)
    return jax.jit(
        lambda key, batch: jax.vmap(function)(fold_in_seeds(key, batch["seed"]), batch)
    )


def read_in_this_thread(
    config: ConfigDict, parts: training.TrainingParts
) -> Iterator[dict]:
    """Yields the batches of a run, which are made when they are asked for."""
    batches = pipeline.batch_dataset(
        parts.train,
        seed=config.seed,
        crop=config.crop,
        margin=parts.model.geometry(len(config.crop)).margin,
        batch_size=config.batch_size,
    )
    return pipeline.iterate_batches(batches, start=0, stop=config.steps, threads=0)
