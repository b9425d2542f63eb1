"""The log of a run: JSON lines, TensorBoard events and lines on the terminal."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
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
from rich.table import Column, Table
from tensorboardX import SummaryWriter

METRICS = "metrics.jsonl"


def program() -> str:
    """Returns the command that started this process, for commands in messages."""
    file = Path(sys.argv[0])
    if file.parts[-2:] == ("unet_jax", "__main__.py"):
        return "python -m unet_jax"
    return "unet-jax" if file.name == "unet-jax" else "python main.py"


def say(line: str) -> None:
    """Prints one line on the terminal, in process 0 only."""
    if jax.process_index() == 0:
        print(line, flush=True)


def write_file(path: Path, data: bytes) -> None:
    """Writes a file atomically: at any time it is the old file or the new one."""
    partial = path.with_name(f"{path.name}.part")
    partial.write_bytes(data)
    os.replace(partial, path)


class Log:
    """The log of a training run: scalars, pictures and progress.

    A terminal shows a progress bar with the speed and the remaining time. If the output
    is not a terminal, each line of scalars is printed instead. Only one process of a
    distributed run writes and prints.

    Args:
      workdir: the run folder, which exists.
      start: the step from which training starts or resumes. Lines of later steps are
        removed: an interrupted run has written them after its last checkpoint.
      steps: the last step of the run.
      writer: True if this process writes.
    """

    def __init__(self, workdir: Path, start: int, steps: int, *, writer: bool) -> None:
        self._writer = writer
        if not writer:
            return
        _remove_lines_after(workdir, start)
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

    def __exit__(self, *_: object) -> None:
        if self._writer:
            self._bar.stop()
            self._lines.close()
            self._board.close()

    def advance(self, step: int) -> None:
        """Moves the progress bar."""
        if self._writer:
            self._bar.update(self._task, completed=step)

    def write_scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        """Writes one line of scalars; None is an undefined score."""
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
                + "  ".join(f"{k} {_format_number(v)}" for k, v in short.items())
            )

    def write_picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """Writes a picture `u8[H, W, 3]` for TensorBoard."""
        if self._writer:
            self._board.add_image(name, picture, step, dataformats="HWC")


class Clock:
    """A clock for the speed of training; `pause` excludes the time of other work."""

    def __init__(self) -> None:
        self._since, self._images = time.perf_counter(), 0

    def count(self, images: int) -> None:
        """Adds the number of images of a training step."""
        self._images += images

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Leaves out the time that the context takes."""
        start = time.perf_counter()
        yield
        self._since += time.perf_counter() - start

    def measure_speed(self) -> float | None:
        """Returns the images per second since the last call; None without images."""
        now = time.perf_counter()
        speed = self._images / (now - self._since) if self._images else None
        self._since, self._images = now, 0
        return speed


def print_scores(
    title: str, scores: Mapping[str, float | None], classes: Sequence[str]
) -> None:
    """Prints scores named `split/metric` and `split/metric/class` as a table."""
    names = list(dict.fromkeys("/".join(name.split("/")[:2]) for name in scores))
    say(title)
    columns = (Column(name, justify="right") for name in ("mean", *classes))
    table = Table("", *columns)
    for name in names:
        cells = [scores.get(name), *(scores.get(f"{name}/{c}", "") for c in classes)]
        table.add_row(name.split("/")[1], *map(_format_number, cells))
    Console().print(table)


def _format_number(value: float | str | None) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.4g}"


def read_scalars(workdir: Path) -> list[dict[str, Any]]:
    """Returns the lines of scalars of a run; lines that are incomplete are skipped."""
    path, rows = workdir / METRICS, []
    for line in path.read_text().splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):
            rows.append(json.loads(line))
    return rows


def _remove_lines_after(workdir: Path, step: int) -> None:
    """Removes the lines of steps after `step`, and incomplete lines."""
    rows = read_scalars(workdir)
    kept = [json.dumps(row) + "\n" for row in rows if row["step"] <= step]
    write_file(workdir / METRICS, "".join(kept).encode())
