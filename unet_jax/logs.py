"""Lines on the terminal, and the files that a log writes."""

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from unet_jax.errors import UserError
from unet_jax.json_file import decode_json
from unet_jax.text import UNDEFINED, fold, format_score, printable, tabulate

METRICS = "metrics.jsonl"
SECONDS, FIRST_STEP = "seconds", "first_step_seconds"  # in metrics.jsonl
WIDTH = 80  # columns of tables that go to a file or a pipe

given_warnings: list[str] = []  # by this process, for the provenance of its run


def program() -> str:
    """Returns the command that started this process, for commands in messages."""
    file = Path(sys.argv[0])
    if file.parts[-2:] == ("unet_jax", "__main__.py"):
        return "python -m unet_jax"
    return "unet-jax" if file.name == "unet-jax" else "python main.py"


def find_line_width() -> int:
    """Returns the columns of a table: those of the terminal, or else `WIDTH`."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH


def say(line: str) -> None:
    """Prints a message on the terminal, in process 0 only; see `printable`.

    Messages are not folded, because log files are searched for them, and paths and
    flags are copied.
    """
    if jax.process_index() == 0:
        print(printable(line, keep="\n"), flush=True)


def warn(text: str) -> None:
    """Prints a warning as `say` does, and adds it to `given_warnings`."""
    given_warnings.append(text)
    say(f"warning: {text}")


def write_file(path: Path, data: bytes) -> None:
    """Writes a file atomically: at any time it is the old file or the new one.

    A symbolic link of this name is replaced; what it names is left as it is.
    """
    partial = path.with_name(f"{path.name}.part")
    partial.unlink(missing_ok=True)
    with partial.open("xb") as file:  # x: never opens the target of a link
        file.write(data)
    os.replace(partial, path)


class Times(NamedTuple):
    """The duration of the training of a run, in seconds; None if it is not known.

    Attributes:
      total: from the start to the last line of the log. It includes evaluations and
        checkpoints, and leaves out the time between a stop and the resumption.
      first_step: the first step after the last start or resumption, with compilation.
    """

    total: float | None
    first_step: float | None


def read_times(workdir: Path) -> Times:
    """Returns the duration of the training of a run, from its metrics.jsonl."""
    return find_times(read_scalars(workdir))


def find_times(rows: Sequence[Mapping[str, Any]]) -> Times:
    """Returns the duration of the training, from the lines of its metrics.jsonl."""

    def last(name: str) -> float | None:
        found = (row.get(name) for row in reversed(rows))
        return next((x for x in found if isinstance(x, int | float)), None)

    return Times(last(SECONDS), last(FIRST_STEP))


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


def print_scalars(step: int, scalars: Mapping[str, float | None]) -> None:
    """Prints the scalars of a step, without those of single classes.

    The group of scalars, such as 'train', is named once. A line that is too wide is
    folded between two scalars.
    """
    parts, last = [f"step {step}"], ""
    for name, value in scalars.items():
        group, _, short = name.rpartition("/")
        if "/" in group:
            continue
        title = f"{group}: " if group != last else ""
        parts.append(f"{title}{short} {_format_number(value)}")
        last = group
    for line in fold(parts, find_line_width(), separator="  "):
        say(line)


def print_scores(
    title: str,
    scores: Mapping[str, float | None],
    classes: Sequence[str],
    *,
    averaged: Sequence[str],
    omit_background: bool,
) -> None:
    """Prints the scores of a split: a row for each class, then the other scores.

    Lines are as wide as the terminal, or 80 columns. An undefined score is "–".

    Args:
      title: the line above them.
      scores: the scores by name: `split/metric` and `split/metric/class`.
      classes: the names of the classes.
      averaged: the metrics whose score is the mean over the classes.
      omit_background: True if the mean leaves out class 0.
    """
    cells = {name.partition("/")[2]: format_score(v) for name, v in scores.items()}
    metrics = list(dict.fromkeys(name.partition("/")[0] for name in cells))
    columns = [m for m in metrics if any(f"{m}/{c}" in cells for c in classes)]
    mean = "mean (foreground)" if omit_background else "mean (all classes)"
    means = [cells[m] if m in averaged else "" for m in columns]
    rows = [[c, *(cells.get(f"{m}/{c}", "") for m in columns)] for c in classes]
    others = [[m, cells[m]] for m in metrics if m not in averaged]
    width = find_line_width()
    say(title)
    for table in [["", *columns], [mean, *means], *rows] if columns else [], others:
        for line in tabulate(table, width):
            say(line)


def _format_number(value: float | str | None) -> str:
    if value is None:
        return UNDEFINED
    return value if isinstance(value, str) else f"{value:.4g}"


def read_scalars(workdir: Path) -> list[dict[str, Any]]:
    """Returns the lines of scalars of a run; lines that are not valid are left out."""
    path, rows = workdir / METRICS, []
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        with contextlib.suppress(UserError):  # an interrupted run cuts its last line
            row = decode_json(line, dict[str, float | None], str(path), "")
            if (step := row.get("step")) is not None and step == int(step):
                rows.append(row | {"step": int(step)})
    return rows
