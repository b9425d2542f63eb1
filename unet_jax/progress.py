"""Progress of the work: bars and clocks on the terminal, or lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

import jax
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from unet_jax import notebook
from unet_jax.logs import say
from unet_jax.text import format_duration

PROGRESS_INTERVAL = 30.0  # seconds between two lines about progress, off a terminal

Item = TypeVar("Item")

_bars: Progress | None = None  # what the terminal shows now


class ReportProgress(Protocol):
    """A function that is called when another part of some work is finished."""

    def __call__(self, done: int, total: int | None = None, note: str = "") -> None:
        """Shows the numbers of finished parts and of all parts, and a note.

        Without a total, the one before it remains.
        """


@contextlib.contextmanager
def show_progress(
    text: str, total: int | None = None, *, silent: bool = False
) -> Iterator[ReportProgress]:
    """Shows that the context is at work, in process 0 only.

    A terminal shows the text with a running clock and, if there is a total, a bar. Bars
    of nested contexts stand below each other, and a bar disappears with its context. A
    notebook shows the same in the output of the cell, without the clock. Elsewhere, the
    text is printed as a line, and then the progress, at most every `PROGRESS_INTERVAL`
    seconds.

    Args:
      text: the work: 'compiling the training step'.
      total: the number of its parts; None if they are not counted, or not yet.
      silent: True to print no line at the start.

    Yields:
      The function that reports progress.
    """
    if jax.process_index() != 0:
        yield lambda done, total=None, note="": None
    elif sys.stdout.isatty():
        with _open_bars() as bars:
            count = "" if total is None else f"0/{total}"
            task = bars.add_task(text, total=total, text=count)

            def move(done: int, total: int | None = None, note: str = "") -> None:
                bars.update(task, completed=done, total=total)
                whole = next(t.total for t in bars.tasks if t.id == task)
                count = "" if whole is None else f"{done}/{whole:.0f}"
                bars.update(task, text=f"{count}  {note}".strip())

            try:
                yield move
            finally:
                bars.remove_task(task)
    elif notebook.is_running():
        with notebook.show_bar(notebook.Bar(f"{text} ...")) as show:
            yield _make_bar_mover(show, text, total)
    else:
        if not silent:
            say(f"{text} ...")
        yield _make_progress_printer(text, total)


def iterate_with_progress(
    items: Iterable[Item], total: int, text: str
) -> Iterator[Item]:
    """Yields the items, and shows how many of them are done; see `show_progress`.

    Args:
      items: the items; the work on one is done when the next one is asked for.
      total: their number.
      text: the work: 'reading 20,000 pairs'. No line is printed at the start.
    """
    with show_progress(text, total, silent=True) as report:
        for done, item in enumerate(items, start=1):
            yield item
            report(done)


@contextlib.contextmanager
def _open_bars() -> Iterator[Progress]:
    """Yields the bars on the terminal, and opens them if they are not open."""
    global _bars
    if _bars is not None:
        yield _bars
        return
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[text]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(soft_wrap=True),
        refresh_per_second=4,
        transient=True,
    ) as _bars:
        _bars.console.show_cursor()  # a process that is killed cannot do it later
        try:
            yield _bars
        finally:
            _bars = None


def _make_bar_mover(
    show: Callable[[notebook.Bar], None], text: str, total: int | None
) -> ReportProgress:
    """Returns a function that moves a bar in a notebook and shows the time left."""
    whole = total
    first: tuple[int, float] | None = None  # of the first report: done, and its time

    def move(done: int, total: int | None = None, note: str = "") -> None:
        nonlocal whole, first
        whole, now = total or whole, time.perf_counter()
        first = first or (done, now)
        share = done / whole if whole else None
        parts = [f"{text} {done}" if whole is None else f"{text} {done}/{whole}", note]
        if whole and done > first[0]:
            pace = (now - first[1]) / (done - first[0])
            parts.append(f"{format_duration(pace * (whole - done))} left")
        show(notebook.Bar("  ".join(filter(None, parts)), share))

    return move


def _make_progress_printer(text: str, total: int | None) -> ReportProgress:
    """Returns a function that prints a line if the last one was long ago."""
    start = last = time.perf_counter()
    whole = total

    def print_line(done: int, total: int | None = None, note: str = "") -> None:
        nonlocal last, whole
        whole, now = total or whole, time.perf_counter()
        if now - last >= PROGRESS_INTERVAL:
            last = now
            say(f"{text}: {done} of {whole} in {format_duration(now - start)}")

    return print_line
