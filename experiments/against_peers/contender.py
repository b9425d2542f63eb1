"""Runs one contender in a process of its own.

python contender.py NAME DATA MINUTES SEED OUTPUT

DATA is a folder that data.py has written. OUTPUT gets the probabilities of the test
images, plain/*.npy and views/*.npy as f32[*S, K], and account.json.
"""

import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from data import Data, Sample, read  # noqa: E402  after the path is set

# The file in peers/ of each contender, and the data sets that it takes.
CONTENDERS = {
    "modern": ("ours", ("isbi", "nuclei", "hippocampus")),
    "paper": ("ours", ("isbi",)),
    "torch": ("plain_torch", ("isbi", "nuclei")),
    "smp": ("smp", ("isbi", "nuclei")),
    "monai": ("monai_unet", ("isbi", "nuclei")),
    "nnunet": ("nnunet", ("isbi", "nuclei", "hippocampus")),
}


class Prepared(NamedTuple):
    """The data, minutes and seed of a contender.

    Attributes:
      name: of the contender.
      data: the samples.
      minutes: of training.
      seed: of the run.
      cache: the folder of the contender's own preparation, the same for all runs.
      output: the folder of the run.
    """

    name: str
    data: Data
    minutes: float
    seed: int
    cache: Path
    output: Path


class Trained(NamedTuple):
    """A trained contender.

    Attributes:
      steps: the number of updates.
      seconds: of training, with compilation.
      predict: maps a sample, and True for test-time augmentation, to `f32[*S, K]`.
      views: False if it has no test-time augmentation for these data.
    """

    steps: int
    seconds: float
    predict: Callable[[Sample, bool], np.ndarray]
    views: bool = True


def main(name: str, data: str, minutes: str, seed: str, output: str) -> None:
    """Prepares, trains and predicts; writes the results."""
    place, folder = Path(data), Path(output)
    module = importlib.import_module(f"peers.{CONTENDERS[name][0]}")
    cache = place.parent / f"{place.name}-{name}"
    numbers = float(minutes), int(seed)
    prepared = Prepared(name, read(place), *numbers, cache, folder)
    preparation = _prepare(module, prepared)
    trained = module.train(prepared)
    for kind in ("plain", "views") if trained.views else ("plain",):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for i, sample in enumerate(prepared.data.test):
            answer = trained.predict(sample, kind == "views").astype(np.float32)
            expected = *sample.label.shape, len(prepared.data.classes)
            if answer.shape != expected:
                sys.exit(f"{sample.id}: predicted {answer.shape}, not {expected}")
            np.save(folder / kind / f"{i:03d}.npy", answer)
    account = {
        "steps": trained.steps,
        "seconds": round(trained.seconds, 1),
        "preparation": round(preparation, 1),
    }
    (folder / "account.json").write_text(json.dumps(account))


def _prepare(module: object, prepared: Prepared) -> float:
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
    importlib.import_module("contender").main(*sys.argv[1:])
