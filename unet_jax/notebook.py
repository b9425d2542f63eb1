"""The output of a notebook cell: areas that are replaced, progress bars and pages.

It works wherever a Jupyter kernel runs: in Jupyter, Colab and VS Code. IPython is
loaded there already, and is never imported elsewhere.
"""

import contextlib
import html
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

BAR_INTERVAL = 0.25  # seconds between two updates of a progress bar
PAGE_HEIGHT = 640  # pixels


def is_running() -> bool:
    """Returns True if a Jupyter kernel runs this process."""
    return getattr(_get_shell(), "kernel", None) is not None


def _get_shell() -> Any:
    """Returns the shell of IPython, or None without one."""
    ipython = sys.modules.get("IPython")
    return ipython and ipython.get_ipython()


def open_area() -> Callable[[str], None]:
    """Adds an area to the output of the cell; the result shows HTML in it."""
    from IPython.display import HTML, display  # type: ignore

    handle: Any = display(HTML(""), display_id=True)
    return lambda content: handle.update(HTML(content))


def show_page(path: str | Path, height: int = PAGE_HEIGHT) -> None:
    """Shows an HTML file, such as the report of a run, in the output of the cell.

    Args:
      path: the file.
      height: of the frame, in pixels.
    """
    page = html.escape(Path(path).expanduser().read_text("utf-8"))
    style = f"width: 100%; height: {height}px; border: 1px solid #ccc"
    open_area()(f'<div><iframe srcdoc="{page}" style="{style}"></iframe></div>')


class Bar(NamedTuple):
    """A progress bar.

    Attributes:
      text: the line beside it.
      share: the part that is done, from 0 to 1; None if it is not known.
    """

    text: str
    share: float | None = None


class _Bars:
    """The bars of nested contexts, below each other in one area of each cell."""

    def __init__(self) -> None:
        self._bars: list[Bar] = []
        self._cell, self._drawn = -1, 0.0
        self._show: Callable[[str], None] = lambda content: None

    def add(self, bar: Bar) -> None:
        cell = _get_shell().execution_count
        if cell != self._cell:  # an area cannot move to another cell
            self._cell, self._bars, self._show = cell, [], open_area()
        self._bars.append(bar)
        self._draw()

    def update(self, place: int, bar: Bar) -> None:
        self._bars[place] = bar
        if time.monotonic() - self._drawn >= BAR_INTERVAL:
            self._draw()

    def remove(self, place: int) -> None:
        del self._bars[place:]
        self._draw()

    def __len__(self) -> int:
        return len(self._bars)

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        lines = "".join(map(_format_bar, self._bars))
        # room for two bars, so that what is below does not move up and down
        self._show(lines and f'<div style="min-height: 3rem">{lines}</div>')


def _format_bar(bar: Bar) -> str:
    value = "" if bar.share is None else f' value="{bar.share:.4f}"'
    return (
        f'<div style="font: 13px sans-serif"><progress{value}></progress> '
        f"{html.escape(bar.text)}</div>"
    )


_BARS = _Bars()


@contextlib.contextmanager
def show_bar(bar: Bar) -> Iterator[Callable[[Bar], None]]:
    """Shows a progress bar in the output of the cell, which the context removes again.

    Args:
      bar: the bar at the start.

    Yields:
      The function that shows another bar in its place.
    """
    _BARS.add(bar)
    place = len(_BARS) - 1
    try:
        yield lambda bar: _BARS.update(place, bar)
    finally:
        _BARS.remove(place)
