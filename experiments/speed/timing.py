"""Seconds of functions that are called in turn, and of processes."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Finished(NamedTuple):
    """A process that has ended.

    Attributes:
      seconds: from its start to its end.
      output: what it printed.
    """

    seconds: float
    output: str


def time_in_turn(
    runs: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, tuple[float, ...]]:
    """Returns the seconds of every function, one for each round.

    Every round calls every function once, so that other load on the machine affects all
    of them alike. A first call of each is not counted.

    Args:
      runs: the functions by name; each waits for its result.
      rounds: the number of calls that are counted.
    """
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: tuple(values) for name, values in seconds.items()}


def run_process(
    arguments: Sequence[str], *, code: int = 0, environ: Mapping[str, str] | None = None
) -> Finished:
    """Runs Python with arguments to its end.

    Args:
      arguments: of Python.
      code: the expected exit code.
      environ: environment variables to add.

    Raises:
      RuntimeError: the exit code is another one.
    """
    start = time.perf_counter()
    process = start_process(arguments, environ)
    output, _ = process.communicate()
    if process.returncode != code:
        command = " ".join(arguments)
        raise RuntimeError(f"{command} exited with {process.returncode}:\n{output}")
    return Finished(time.perf_counter() - start, output)


def start_process(
    arguments: Sequence[str], environ: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Starts Python in the root of the repository; its output can be read."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environ or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def find_ratios(
    seconds: Mapping[str, Sequence[float]], name: str, other: str
) -> tuple[float, ...]:
    """Returns the seconds of one function divided by those of another, by round."""
    pairs = zip(seconds[name], seconds[other], strict=True)
    return tuple(own / theirs for own, theirs in pairs)


def find_slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Returns the exponent b of y = a x^b, by least squares of the logarithms."""
    import math

    pairs = [[math.log(value) for value in values] for values in (x, y)]
    return statistics.linear_regression(*pairs).slope
