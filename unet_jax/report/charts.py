"""Charts as inline SVG: lines over steps, a strip of scores, a reliability diagram."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from unet_jax.report.axes import LEFT, RIGHT, TOP, Axis, axis, base, grid, svg, words
from unet_jax.report.contents import Number, Reliability
from unet_jax.report.markup import Markup, join, tag
from unet_jax.report.numbers import known, number, percent, ticks

DOTS = 40  # points that are still drawn as dots
POINTS = 300  # of one line; more are averaged


class Line(NamedTuple):
    """One curve; None breaks it."""

    name: str
    points: Sequence[tuple[float, Number]]


def lines(name: str, curves: Sequence[Line], *, marked: float | None = None) -> Markup:
    """Curves over training steps, with a vertical line at the marked step.

    The first curve is the one to look at: dark, with dots if they are few.
    """
    bottom, height = 160, 192
    places = [x for curve in curves for x, _ in curve.points]
    values = [y for curve in curves for _, y in curve.points if known(y)]
    end = max(*places, 1)
    steps = [tick for tick in ticks(0, end) if tick <= end]
    x = Axis(steps, 0, end, LEFT, RIGHT)
    y = axis(ticks(min(values), max(values)), bottom, TOP)
    drawn = [grid(y), base(x, bottom, "step")]
    if marked is not None and 0 <= marked <= end:
        at = x(marked)
        drawn.append(tag("line", class_="mark", x1=at, x2=at, y1=TOP, y2=bottom))
    for place, curve in reversed(list(enumerate(curves))):
        drawn.append(_curve(curve, x, y, f"line-{place}", dots=place == 0))
    return svg(f"{name} over training steps", height, drawn)


def strip(name: str, values: Sequence[Number]) -> Markup:
    """One tick for each image, where its score is."""
    bottom, height = 34, 66
    values = [value for value in values if known(value)]
    x = axis(ticks(min(values), max(values), most=6), LEFT - 20, RIGHT)
    each = [
        tag("line", class_="tick", x1=x(v), x2=x(v), y1=TOP, y2=bottom) for v in values
    ]
    return svg(f"{name} of each image", height, [base(x, bottom, name), *each])


def reliability(bins: Reliability) -> Markup:
    """Accuracy over confidence, by bins, and below how many answers are in each."""
    unit, bottom, low, height = [i / 5 for i in range(6)], 272, 330, 362
    x, y = axis(unit, LEFT, RIGHT), axis(unit, bottom, TOP)
    shares = bins.count / max(bins.count.sum(), 1)
    tallest = max(shares.max(), 1e-9)
    diagonal = tag("line", class_="diagonal", x1=x(0), x2=x(1), y1=y(0), y2=y(1))
    drawn = [grid(y), words("accuracy", LEFT + 6, TOP + 12, "start"), diagonal]
    seen = bins.count > 0
    columns = zip(bins.confidence[seen], bins.accuracy[seen], strict=True)
    points = [(float(sure), float(right)) for sure, right in columns]
    for sure, right in points:
        gap = {"x1": x(sure), "x2": x(sure), "y1": y(sure), "y2": y(right)}
        drawn.append(tag("line", class_="gap", **gap))
    drawn.append(_curve(Line("accuracy", points), x, y, "line-0", dots=True))
    width = 1 / len(shares)
    for i, share in enumerate(shares):
        tall = float(share / tallest) * (low - bottom - 14)
        place = {"x": x(i * width) + 1, "width": x(width) - x(0) - 2}
        drawn.append(tag("rect", class_="bar", y=low - tall, height=tall, **place))
    drawn.append(base(x, low, "confidence"))
    most = f"most in one bin: {percent(float(tallest))}"
    drawn.append(words(most, LEFT + 6, bottom + 16, "start"))
    return svg("accuracy over confidence", height, drawn)


def calibration_gap(bins: Reliability) -> float:
    """The mean of |accuracy - confidence|, each bin counting as its answers do."""
    gaps = np.nan_to_num(np.abs(bins.accuracy - bins.confidence))
    return float((bins.count * gaps).sum() / max(bins.count.sum(), 1))


def thinned(name: str, points: Sequence[tuple[float, Number]]) -> Line:
    """A line; of more points than it can show, means, which its name tells."""
    size = -(-len(points) // POINTS)
    if size <= 1:
        return Line(name, points)
    few = []
    for start in range(0, len(points), size):
        group = points[start : start + size]
        values = [y for _, y in group if known(y)]
        few.append((group[-1][0], sum(values) / len(values) if values else None))
    return Line(f"{name}, means of {size}", few)


def _curve(curve: Line, x: Axis, y: Axis, style: str, *, dots: bool) -> Markup:
    drawn = []
    for run in _unbroken(curve.points):
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in run)
        drawn.append(tag("polyline", class_=style, points=path))
        if (dots and len(curve.points) <= DOTS) or len(run) == 1:
            for a, b in run:
                says = tag("title", f"{curve.name} {number(b)} at {a:,g}")
                drawn.append(tag("circle", says, class_=style, cx=x(a), cy=y(b), r=2.4))
    return join(drawn)


def _unbroken(
    points: Sequence[tuple[float, Number]],
) -> Iterator[list[tuple[float, float]]]:
    for there, run in itertools.groupby(points, lambda point: known(point[1])):
        if there:
            yield list(run)
