"""What every chart is made of: an axis, its grid, its words and the picture itself.

All are 320 units wide, about the width of a phone, so that their text keeps its size
there; the colours are classes of the style sheet.
"""

from collections.abc import Sequence
from typing import NamedTuple

from unet_jax.report.markup import Markup, join, tag
from unet_jax.report.numbers import tick_labels

WIDTH = 320
LEFT, RIGHT, TOP = 44, 306, 10  # where the axes are


class Axis(NamedTuple):
    """Where values lie between two ends of the picture."""

    ticks: list[float]
    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The place of a value, in units of the picture."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def axis(values: list[float], start: float, end: float) -> Axis:
    """From the first tick to the last."""
    return Axis(values, values[0], values[-1], start, end)


def grid(y: Axis, labels: Sequence[str] = ()) -> Markup:
    """A horizontal line and a number, or a label, at every tick."""
    drawn = []
    for value, label in zip(y.ticks, labels or tick_labels(y.ticks), strict=True):
        at = y(value)
        drawn.append(tag("line", class_="grid", x1=LEFT, x2=RIGHT, y1=at, y2=at))
        drawn.append(words(label, LEFT - 6, at + 4, "end"))
    return join(drawn)


def base(x: Axis, bottom: float, name: str) -> Markup:
    """The horizontal axis, with numbers below it and its name at the end."""
    drawn = [tag("line", class_="axis", x1=x.start, x2=x.end, y1=bottom, y2=bottom)]
    for value, label in zip(x.ticks, tick_labels(x.ticks), strict=True):
        at = x(value)
        drawn.append(tag("line", class_="axis", x1=at, x2=at, y1=bottom, y2=bottom + 4))
        drawn.append(words(label, at, bottom + 16, "middle"))
    drawn.append(words(name, x.end, bottom + 29, "end"))
    return join(drawn)


def words(text: str, x: float, y: float, anchor: str) -> Markup:
    """Text that begins, ends or has its middle at a place."""
    return tag("text", text, x=x, y=y, text_anchor=anchor)


def svg(name: str, height: int, drawn: Sequence[Markup]) -> Markup:
    """The picture, with its name for those who cannot see it."""
    box = f"0 0 {WIDTH} {height}"
    return tag("svg", *drawn, viewBox=box, role="img", aria_label=name)
