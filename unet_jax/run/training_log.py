"""The log of a training run: metrics.jsonl, the trackers and the progress."""

import contextlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unet_jax import logs
from unet_jax.logs import FIRST_STEP, METRICS, SECONDS
from unet_jax.progress import show_progress
from unet_jax.run.trackers import Tracker
from unet_jax.text import finite_or_none, format_duration


class TrainingLog:
    """The log of a training run: scalars, pictures and progress.

    A terminal shows a clock until the first step is finished, and then a progress bar
    with the speed and the remaining time. If the output is not a terminal and no
    tracker is visible, each line of scalars is printed, too. Only one process of a
    distributed run writes and prints.

    Args:
      workdir: the run folder, which exists.
      start: the step from which training starts or resumes. Lines of later steps are
        removed: an interrupted run has written them after its last checkpoint.
      steps: the last step of the run.
      trackers: other programs that get the scalars and the pictures.
      writer: True if this process writes.
    """

    def __init__(
        self,
        workdir: Path,
        start: int,
        steps: int,
        trackers: Sequence[Tracker] = (),
        *,
        writer: bool,
    ) -> None:
        self._writer = writer
        if not writer:
            return
        self._steps, self._trackers, self._speed = steps, trackers, ""
        visible = any(tracker.visible for tracker in trackers)
        self._prints = not (visible or sys.stdout.isatty())
        lines = _remove_lines_after(workdir, start)
        self._lines = (workdir / METRICS).open("a")
        for tracker in trackers:
            tracker.start(start)
        self._earlier = logs.find_times(lines).total or 0.0  # before the resumption
        self._start_time = time.perf_counter()
        self._first_step: float | None = None  # seconds
        self._unwritten: dict[str, float] = {}  # times for the next line
        self._bar = contextlib.ExitStack()
        self._bar.enter_context(show_progress("compiling the training step"))

    def __enter__(self) -> "TrainingLog":
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer:
            self._bar.close()
            self._lines.close()

    def advance(self, step: int) -> None:
        """Moves the progress bar; the first time, the step must be finished."""
        if not self._writer:
            return
        if self._first_step is None:
            self._first_step = time.perf_counter() - self._start_time
            self._unwritten = {FIRST_STEP: round(self._first_step, 3)}
            self._bar.close()
            bar = show_progress("training", self._steps, silent=True)
            self._report = self._bar.enter_context(bar)
        self._report(step, note=self._speed)

    def write_scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        """Writes one line of scalars; None is an undefined score."""
        if not self._writer:
            return
        values = {name: finite_or_none(value) for name, value in values.items()}
        times = {SECONDS: round(self._measure_total(), 3), **self._unwritten}
        self._unwritten = {}
        self._lines.write(json.dumps({"step": step, **times, **values}) + "\n")
        self._lines.flush()
        defined = {name: x for name, x in values.items() if x is not None}
        for tracker in self._trackers:
            tracker.write_scalars(step, defined)
        if speed := values.get("train/images_per_second"):
            self._speed = f"{speed:.1f} images/s"
        if self._prints:
            logs.print_scalars(step, values)

    def write_picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """Writes a picture `u8[H, W, 3]` for the trackers."""
        if self._writer:
            for tracker in self._trackers:
                tracker.write_picture(step, name, picture)

    def say_times(self) -> None:
        """Prints the duration of the training."""
        if self._writer and self._first_step is not None:
            logs.say(
                f"trained in {format_duration(self._measure_total())}; the first "
                f"step, with compilation, took {format_duration(self._first_step)}"
            )

    def _measure_total(self) -> float:
        """Returns the seconds of training, with those before the resumption."""
        return self._earlier + time.perf_counter() - self._start_time


def _remove_lines_after(workdir: Path, step: int) -> list[dict[str, Any]]:
    """Removes the lines of later steps, and incomplete lines; returns the others."""
    kept = [row for row in logs.read_scalars(workdir) if row["step"] <= step]
    text = "".join(json.dumps(row) + "\n" for row in kept)
    logs.write_file(workdir / METRICS, text.encode())
    return kept
