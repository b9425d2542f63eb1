"""Runs one contender in a process of its own.

python contender.py NAME DATA SEED OUTPUT --cores=0,1 [--steps=STEPS]

DATA is a folder that data.py has written. With --steps, OUTPUT gets the probabilities
of the test images, plain/*.npy and views/*.npy as f32[*S, K]. Without it, the contender
trains for a minute, and OUTPUT gets its speed, speed.json.
"""

import argparse
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from budget import WARM_UP, Budget, Speed  # noqa: E402  after the path is set
from data import Data, Sample, read  # noqa: E402

# The file in peers/ of each contender, and the data sets that it takes.
CONTENDERS = {
    "modern": ("ours", ("isbi", "nuclei", "hippocampus")),
    "paper": ("ours", ("isbi",)),
    "torch": ("plain_torch", ("isbi", "nuclei")),
    "smp": ("smp", ("isbi", "nuclei")),
    "monai": ("monai_unet", ("isbi", "nuclei")),
    "nnunet": ("nnunet", ("isbi", "nuclei", "hippocampus")),
}
TIMED_SECONDS = 60.0  # of the steps that give the speed
ENDLESS = 1_000_000  # steps of the run that gives the speed


class Prepared(NamedTuple):
    """The data, budget and seed of a contender.

    Attributes:
      name: of the contender.
      data: the samples.
      budget: the steps of training.
      seed: of the run.
      cache: the folder of the contender's own preparation, the same for all runs.
      output: the folder of the run.
    """

    name: str
    data: Data
    budget: Budget
    seed: int
    cache: Path
    output: Path


class Trained(NamedTuple):
    """A trained contender.

    Attributes:
      predict: maps a sample, and True for test-time augmentation, to `f32[*S, K]`.
      views: False if it has no test-time augmentation for these data.
    """

    predict: Callable[[Sample, bool], np.ndarray]
    views: bool = True


def main() -> None:
    """Prepares, trains and predicts, or measures the speed; writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=CONTENDERS)
    parser.add_argument("data", type=Path)
    parser.add_argument("seed", type=int)
    parser.add_argument("output", type=Path)
    parser.add_argument("--cores", required=True)
    parser.add_argument("--steps", type=int)
    options = parser.parse_args()
    # before PyTorch and JAX are imported, which make a thread for each core
    os.sched_setaffinity(0, {int(core) for core in options.cores.split(",")})
    module = importlib.import_module(f"peers.{CONTENDERS[options.name][0]}")
    prepared = Prepared(
        name=options.name,
        data=read(options.data),
        budget=Budget(options.steps) if options.steps else Budget(ENDLESS),
        seed=options.seed,
        cache=options.data.parent / f"{options.data.name}-{options.name}",
        output=options.output,
    )
    preparation = _prepare(module, prepared)
    if options.steps:
        _predict(module.train(prepared), prepared)
        return
    numbers = _measure_speed(module, prepared)._asdict()
    rounded = {name: round(seconds, 4) for name, seconds in numbers.items()}
    account = {**rounded, "preparation": round(preparation, 1)}
    (options.output / "speed.json").write_text(json.dumps(account))


def _predict(trained: Trained, prepared: Prepared) -> None:
    """Writes the probabilities of the test images."""
    for kind in ("plain", "views") if trained.views else ("plain",):
        folder = prepared.output / kind
        folder.mkdir(parents=True, exist_ok=True)
        for i, sample in enumerate(prepared.data.test):
            answer = trained.predict(sample, kind == "views").astype(np.float32)
            expected = *sample.label.shape, len(prepared.data.classes)
            if answer.shape != expected:
                sys.exit(f"{sample.id}: predicted {answer.shape}, not {expected}")
            np.save(folder / f"{i:03d}.npy", answer)


def _measure_speed(module: Any, prepared: Prepared) -> Speed:
    """Trains for a minute, or lets the contender measure its speed itself."""
    if hasattr(module, "measure_speed"):
        return module.measure_speed(prepared, TIMED_SECONDS)
    budget = Budget(ENDLESS, TIMED_SECONDS)
    module.train(prepared._replace(budget=budget))
    if len(budget.times) < WARM_UP + 3:
        sys.exit(f"{prepared.name} has a step of over {TIMED_SECONDS / 4:g} s")
    return budget.find_speed()


def _prepare(module: Any, prepared: Prepared) -> float:
    """Lets a contender prepare its data once; returns the seconds that it took."""
    prepare = getattr(module, "prepare", None)
    done = prepared.cache / "seconds.txt"
    if prepare is None:
        return 0.0
    if not done.exists():
        prepared.cache.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        prepare(prepared)
        done.write_text(str(time.perf_counter() - start))
    return float(done.read_text())


if __name__ == "__main__":
    # the files in peers/ import this module by its name
    importlib.import_module("contender").main()
