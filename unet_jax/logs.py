"""What a run says of itself: JSON lines, TensorBoard, and the terminal."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from tensorboardX import SummaryWriter

METRICS = "metrics.jsonl"


def say(line: str) -> None:
    """Prints one line on the terminal, once however many processes run."""
    if jax.process_index() == 0:
        print(line, flush=True)


def write(path: Path, data: bytes) -> None:
    """Writes a file whole: who looks, or cuts the run off, finds the old or the new."""
    beside = path.with_name(f"{path.name}.part")
    beside.write_bytes(data)
    os.replace(beside, path)


class Log:
    """Writes a run's scalars and pictures into its folder, and shows how it goes.

    On a terminal there is a progress bar with speed and time left; elsewhere each
    scalar line is printed as it is written. A process that is not the `writer` of a
    distributed run stays silent.

    Args:
      workdir: the run folder, which exists.
      start: the step from which the run goes on; later lines, of a run that went on
        beyond its last checkpoint and was cut off, are dropped.
      steps: at which the run ends.
      writer: whether this process writes.
    """

    def __init__(self, workdir: Path, start: int, steps: int, *, writer: bool) -> None:
        self._writer = writer
        if not writer:
            return
        _keep_until(workdir, start)
        self._lines = (workdir / METRICS).open("a")
        self._board = SummaryWriter(str(workdir), purge_step=start + 1)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            disable=not sys.stdout.isatty(),
        )
        self._task = self._bar.add_task(
            "training", total=steps, completed=start, speed=""
        )
        self._bar.start()

    def __enter__(self) -> "Log":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer:
            self._bar.stop()
            self._lines.close()
            self._board.close()

    def advance(self, step: int) -> None:
        """Moves the progress bar."""
        if self._writer:
            self._bar.update(self._task, completed=step)

    def scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        """Writes one line of numbers; None is a score that does not exist."""
        if not self._writer:
            return
        self._lines.write(json.dumps({"step": step, **values}) + "\n")
        self._lines.flush()
        for name, value in values.items():
            if value is not None:
                self._board.add_scalar(name, value, step)
        if speed := values.get("train/images_per_second"):
            self._bar.update(self._task, speed=f"{speed:.1f} images/s")
        if self._bar.disable:
            short = {k: v for k, v in values.items() if k.count("/") < 2}
            say(
                f"step {step}  "
                + "  ".join(f"{k} {_number(v)}" for k, v in short.items())
            )

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """Shows a picture `u8[H, W, 3]` on TensorBoard."""
        if self._writer:
            self._board.add_image(name, picture, step, dataformats="HWC")


class Clock:
    """Images per second of training, without the time spent on anything else."""

    def __init__(self) -> None:
        self._since, self._images = time.perf_counter(), 0

    def count(self, images: int) -> None:
        """Adds images that a step has taken."""
        self._images += images

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves out the time spent in the context."""
        start = time.perf_counter()
        yield
        self._since += time.perf_counter() - start

    def speed(self) -> float | None:
        """Images per second since the last call; None where there were no images."""
        now = time.perf_counter()
        speed = self._images / (now - self._since) if self._images else None
        self._since, self._images = now, 0
        return speed


def table(
    title: str, scores: Mapping[str, float | None], classes: Sequence[str]
) -> None:
    """Prints scores named `split/metric` and `split/metric/class` as a table."""
    names = list(dict.fromkeys("/".join(name.split("/")[:2]) for name in scores))
    say(title)
    shown = Table()
    shown.add_column("")
    for column in ("mean", *classes):
        shown.add_column(column, justify="right")
    for name in names:
        cells = [scores.get(name), *(scores.get(f"{name}/{c}", "") for c in classes)]
        shown.add_row(name.split("/")[1], *map(_number, cells))
    Console().print(shown)


def _number(value: float | str | None) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.4g}"


def rows(workdir: Path) -> list[dict[str, Any]]:
    """The lines of a run's scalars, but for one that a crash cut short."""
    path, found = workdir / METRICS, []
    for line in path.read_text().splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found


def _keep_until(workdir: Path, step: int) -> None:
    """Drops the lines after `step`, and one that a crash cut short."""
    kept = [json.dumps(row) + "\n" for row in rows(workdir) if row["step"] <= step]
    write(workdir / METRICS, "".join(kept).encode())
