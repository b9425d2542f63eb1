"""The largest crop and batch that this machine trains in a given time and memory.

The rules give candidates from the shapes of the images, from a small crop of the fewest
examples to the largest crop of a full batch. Each measurement compiles and runs the
whole step. It starts with a small candidate, so that there is soon a plan. The next one
is the largest that is predicted to fit, assuming that the time, and all memory but that
of the state and the gradient, are proportional to the number of pixels.
"""

import math
import time
from collections.abc import Sequence
from typing import NamedTuple

from unet_jax import logs
from unet_jax.data.source import Splits
from unet_jax.errors import UserError
from unet_jax.progress import show_progress
from unet_jax.report.formatting import format_bytes
from unet_jax.run.planning import cost
from unet_jax.run.planning.drafts import Candidate
from unet_jax.text import dimensions, format_duration

MEMORY_SHARE = 0.5  # of the free memory that a step may take
TRAINING_SHARE = 0.8  # of the hours of a run; the rest is for evaluation
FIRST_PIXELS = 2 * 128**2  # of the batch that is measured first
GROWTH = 8  # largest factor from one measured batch to the next, in pixels
WORTHWHILE = 1.25  # smallest factor that is worth another measurement
SAFETY = 1.5  # factor on the predicted time of a measurement
TOO_SLOW = "takes longer than config.plan.hours"


class Trial(NamedTuple):
    """A measured candidate.

    Attributes:
      candidate: its config.
      memory: bytes of the step on each device; infinite if it could not be compiled.
      fixed: bytes that do not depend on the batch.
      step_seconds: of a training step; infinite if it does not fit into the memory.
      seconds: that the measurement took.
    """

    candidate: Candidate
    memory: float
    fixed: float
    step_seconds: float
    seconds: float


class Limits(NamedTuple):
    """Limits of a training step.

    Attributes:
      memory: bytes on each device.
      step_seconds: for all steps of the run to end in time.
      deadline: of the measurements, on the clock of `time.monotonic`.
    """

    memory: float
    step_seconds: float
    deadline: float


def search(
    found: Sequence[Candidate], splits: Splits, limits: Limits
) -> tuple[Trial, str]:
    """Measures candidates and returns the largest one that fits.

    If every measured step is too slow, the result is the fastest one. The first
    measurement ends, even if it takes longer than there is time.

    Args:
      found: candidates with rising numbers of pixels.
      splits: the data.
      limits: of a step and of the measurements.

    Returns:
      The measured candidate, and in words why it is not a larger one; '' for the
      largest.

    Raises:
      UserError: the config is wrong, or the smallest step needs too much memory.
    """
    place = max(sum(each.pixels <= FIRST_PIXELS for each in found) - 1, 0)
    trials: dict[int, Trial] = {}
    low, high = -1, len(found)  # the largest that fits, the smallest that does not
    while place is not None:
        trial = trials[place] = _measure(found[place], splits, limits)
        if _problem(trial, limits):
            high = place
        else:
            low = place
        place = _choose_next(found, low, high, trial, limits)
    if low < 0:
        slow = {i: t for i, t in trials.items() if t.memory <= limits.memory}
        if not slow:
            raise _never_fits(trials[high], limits)
        low = min(slow, key=lambda i: slow[i].step_seconds)
        return slow[low], f"a larger one {TOO_SLOW}"
    best = trials[low]
    if low == len(found) - 1:
        return best, ""
    problem = _problem(trials.get(high) or _predict(best, found[low + 1]), limits)
    if not problem:
        return best, "larger ones were not measured, see config.plan.seconds"
    return best, f"a larger one {problem}"


def _choose_next(
    found: Sequence[Candidate], low: int, high: int, trial: Trial, limits: Limits
) -> int | None:
    """Returns the index of the next candidate to measure; None to end the search.

    Args:
      found: the candidates.
      low: the index of the largest that fits; -1 if none is known.
      high: the index of the smallest that does not fit.
      trial: the last measurement.
      limits: of a step and of the measurements.
    """
    left = limits.deadline - time.monotonic()
    too_much_memory = trial.memory > limits.memory
    for i in range(high - 1, low, -1):
        pixels, guess = found[i].pixels, _predict(trial, found[i])
        last = i == len(found) - 1
        if low >= 0 and not last and pixels < WORTHWHILE * found[low].pixels:
            return None
        if pixels > GROWTH * trial.candidate.pixels or _problem(guess, limits):
            continue
        if guess.seconds < left or (low < 0 and too_much_memory):
            return i
    if low < 0 < high and (too_much_memory or _predict(trial, found[0]).seconds < left):
        return 0
    return None


def _measure(candidate: Candidate, splits: Splits, limits: Limits) -> Trial:
    config, start = candidate.config, time.monotonic()
    text = f"a step of {config.batch_size} x {dimensions(config.crop)} pixels"
    with show_progress(f"compiling {text}"):
        compiled = cost.compile_step(config, splits)
    compilation = format_duration(time.monotonic() - start)
    memory = compiled.memory if compiled else math.inf
    fixed, step = compiled.fixed if compiled else 0, math.inf
    if compiled and memory <= limits.memory:
        with show_progress(f"measuring {text}", silent=True):
            step = cost.measure_step_time(config, compiled)
        logs.say(
            f"  compiled in {compilation}; {step:.3g} s and "
            f"{format_bytes(int(memory))} for a step"
        )
    return Trial(candidate, memory, fixed, step, time.monotonic() - start)


def _predict(trial: Trial, candidate: Candidate) -> Trial:
    """Returns what the measurement of another candidate is expected to give."""
    ratio = candidate.pixels / trial.candidate.pixels
    if math.isinf(trial.memory):  # the compiler ran out of memory
        memory = math.inf if ratio > 1 / 2 else 0.0
        return Trial(candidate, memory, 0, 0.0, SAFETY * trial.seconds)
    memory = trial.fixed + ratio * (trial.memory - trial.fixed)
    step = ratio * trial.step_seconds if math.isfinite(trial.step_seconds) else 0.0
    more = max(step - trial.step_seconds, 0) * (1 + cost.TIMED_STEPS) if step else 0.0
    return Trial(candidate, memory, trial.fixed, step, SAFETY * (trial.seconds + more))


def _problem(trial: Trial, limits: Limits) -> str:
    """Returns in words why a step does not fit; '' if it does."""
    if trial.memory > limits.memory:
        return "needs more than half of the free memory"
    return TOO_SLOW if trial.step_seconds > limits.step_seconds else ""


def _never_fits(trial: Trial, limits: Limits) -> UserError:
    config = trial.candidate.config
    needs = "needs more"
    if math.isfinite(trial.memory):
        needs = f"needs {trial.memory / 2**30:.3g} GiB, more"
    return UserError(
        f"a training step of {config.batch_size} x {dimensions(config.crop)} pixels "
        f"{needs} than half of the {limits.memory / MEMORY_SHARE / 2**30:.3g} GiB that "
        "are free; set fewer config.model.widths, config.model.remat=True, or on a GPU "
        "config.precision=bfloat16"
    )
