"""unet_jax through its command line, with the recipes of its configs.

Its time has initialisation and compilation: no run finds compiled programs of another
one.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from budget import Speed
from contender import Prepared, Trained
from data import Sample, list_overrides

ROOT = Path(__file__).resolve().parents[3]
BEGIN = "initialising the network"  # the line before anything is compiled
LOG_EVERY = 5  # steps between two lines of the run that is timed


class Recipe(NamedTuple):
    """A config for one data set.

    Attributes:
      config: the file.
      fields: those that differ from it.
      views: `predict.tta` of the scores with views; 'none' if there are none.
    """

    config: str
    fields: Mapping[str, str]
    views: str = "d4"


NUCLEI = {  # isbi_modern with the border weight, and instance norm
    "model.padding": "SAME",
    "model.norm": "instance",
    "model.dropout": "0.0",
    "model.widths": "16,32,64,128",
    "weight_map": "{'name':'border','w0':10.0,'sigma':5.0,'balance':False}",
    "loss": "({'name':'cross_entropy'},{'name':'dice','smooth':1.0})",
    "augment": "({'name':'flip'},{'name':'turn'})",
    "optimizer": (
        "{'name':'adamw','learning_rate':3e-3,'weight_decay':0.01,'clip':1.0}"
    ),
    "schedule": "{'name':'cosine','warmup':100}",
    "crop": "192,192",
    "batch_size": "4",
}
RECIPES = {
    ("modern", "isbi"): Recipe("configs/isbi_modern.py", {}),
    ("modern", "nuclei"): Recipe("configs/folder.py", NUCLEI),
    ("modern", "hippocampus"): Recipe("configs/hippocampus.py", {}, views="none"),
    # a quarter of the paper's widths, and a smaller tile, as in docs/results.md
    ("paper", "isbi"): Recipe(
        "configs/isbi.py", {"model.widths": "16,32,64,128,256", "crop": "380,380"}
    ),
}


class Line(NamedTuple):
    """A line that a run printed, and when, in seconds of `time.perf_counter`."""

    time: float
    text: str


def train(prepared: Prepared) -> Trained:
    """Trains for the steps of the budget, in a process of its own."""
    recipe = RECIPES[prepared.name, prepared.data.name]
    workdir = prepared.output / "run"
    shutil.rmtree(workdir, ignore_errors=True)
    steps = prepared.budget.steps
    for line in _run(prepared, recipe, workdir, steps, log_every=steps):
        print(line.text, flush=True)
    return Trained(_make_predict(workdir, recipe), recipe.views != "none")


def measure_speed(prepared: Prepared, seconds: float) -> Speed:
    """Starts a run, times its steps for some seconds, and stops it."""
    recipe = RECIPES[prepared.name, prepared.data.name]
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder) / "run"
        steps = prepared.budget.steps
        lines = _run(prepared, recipe, workdir, steps, log_every=LOG_EVERY)
        with contextlib.closing(lines):
            begin, times = None, []
            for line in lines:
                if line.text.startswith(BEGIN):
                    begin = line.time
                if line.text.startswith(f"step {LOG_EVERY * (len(times) + 1)} "):
                    times.append(line.time)
                    if len(times) > 1 and times[-1] - times[0] >= seconds:
                        break
    return find_speed(begin, times)


def find_speed(begin: float | None, times: list[float]) -> Speed:
    """Returns the speed by the times at which every `LOG_EVERY` steps were finished."""
    if begin is None or len(times) < 2:
        sys.exit("the run ended before its steps could be timed")
    step = (times[-1] - times[0]) / (LOG_EVERY * (len(times) - 1))
    return Speed(max(0.0, times[0] - begin - LOG_EVERY * step), step)


def _run(
    prepared: Prepared, recipe: Recipe, workdir: Path, steps: int, log_every: int
) -> Generator[Line, None, None]:
    """Runs main.py and yields its lines; stops it when the iterator is closed."""
    name = prepared.data.name
    root = Path(os.environ["PEERS_ROOT"])  # set by measure.py
    fields = {
        **recipe.fields,
        **list_overrides(name, root, prepared.cache.parent),
        "seed": str(prepared.seed),
        "steps": str(steps),
        "log_every": str(log_every),
        "eval_every": str(steps),  # only the last parameters are scored
        "checkpoint_every": str(steps),
        "logs": "()",
    }
    command = [
        sys.executable,
        str(ROOT / "main.py"),
        f"--config={recipe.config}",
        f"--workdir={workdir}",
        *(f"--config.{field}={value}" for field, value in fields.items()),
    ]
    with tempfile.TemporaryDirectory() as compiled:
        environ = {**os.environ, "JAX_COMPILATION_CACHE_DIR": compiled}
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        try:
            seen = []
            for text in process.stdout:
                seen.append(text)
                yield Line(time.perf_counter(), text.rstrip())
            if process.wait():
                sys.exit("".join(seen[-20:]))
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


def _make_predict(
    workdir: Path, recipe: Recipe
) -> Callable[[Sample, bool], np.ndarray]:
    """Returns the function of `Trained.predict`."""
    from unet_jax import Predictor

    predictors = {
        False: Predictor.load(workdir, tta="none"),
        True: Predictor.load(workdir, tta=recipe.views),
    }

    def predict(sample: Sample, views: bool) -> np.ndarray:
        spacing = sample.spacing or None
        return predictors[views].probabilities(sample.image, spacing)

    return predict
