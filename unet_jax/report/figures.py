"""The figures of the pages, drawn by matplotlib.

All are 320 points wide, about the width of a phone.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unet_jax.report.contents import IntensityRange, Number, ReliabilityBins
from unet_jax.report.formatting import format_percent, format_value
from unet_jax.report.svg import (
    FIFTH,
    FIRST,
    FOURTH,
    INK,
    RULE,
    SECOND,
    SOFT,
    THIRD,
    Drawing,
    apply_settings,
)
from unet_jax.text import dimensions, format_score, is_defined, with_minus

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 320, 44, 306, 10, 36  # points: figure, ends of axes
MAX_DOTS = 40  # points of a curve that are drawn as dots
MAX_POINTS = 300  # of a curve; more are averaged
MAX_RANGES = 300  # intensity ranges in a figure
LOG_RATIO = 50  # the maximum over the median; above it an axis is logarithmic
MAX_DECADES = 8  # of a logarithmic axis
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
# Curves of many runs differ by their colour, then by their dashes; see style.css.
RUN_COLOURS = (FIRST, SECOND, THIRD, FOURTH, FIFTH, INK)
RUN_DASHES = ("solid", "dashed", "dotted")


class Curve(NamedTuple):
    """A named curve of (x, y) points; a y that is undefined breaks it."""

    name: str
    points: Sequence[tuple[float, Number]]


@apply_settings()
def learning_curves(curves: Sequence[Curve], *, marked: float | None = None) -> Drawing:
    """Draws one or two curves over training steps, and a line at the marked step.

    The first curve is thicker, with dots if it has few points.
    """
    figure, axes = _figure(196)
    tooltips = {}
    for i, curve in reversed(list(enumerate(curves))):
        gid, dotted = f"dots-{i}", i == 0 and len(curve.points) <= MAX_DOTS
        style = {"color": (FIRST, SECOND)[i], "linewidth": (1.75, 1)[i]}
        tooltips[gid] = _plot_curve(axes, curve, gid, dotted=dotted, **style)
    end = _divide_steps(axes, curves)
    if marked is not None and 0 <= marked <= end:
        axes.axvline(marked, color=SOFT, linewidth=1, linestyle="dashed")
    _divide(axes, "y", _defined(curves))
    return Drawing(figure, tooltips)


@apply_settings()
def compared_curves(curves: Sequence[Curve | None]) -> Drawing:
    """Draws the curves of several runs over training steps.

    The place of a curve gives its colour and its dashes, so None keeps those of the
    others. The axis is logarithmic if a few values would hide the others.
    """
    figure, axes = _figure(196)
    tooltips = {}
    for i, curve in reversed(list(enumerate(curves))):
        if curve is not None:
            colour, dashes = choose_line(i)
            style = {"color": RUN_COLOURS[colour], "linestyle": RUN_DASHES[dashes]}
            gid, dotted = f"dots-{i}", len(curve.points) <= MAX_DOTS
            tooltips[gid] = _plot_curve(
                axes, curve, gid, dotted=dotted, linewidth=1.25, **style
            )
    drawn = [curve for curve in curves if curve is not None]
    _divide_steps(axes, drawn)
    values = np.array(_defined(drawn))
    if values.max() > LOG_RATIO * np.median(values) > 0 < values.min():
        _divide_decades(axes, values)
    else:
        _divide(axes, "y", values.tolist())
    return Drawing(figure, tooltips)


def choose_line(place: int) -> tuple[int, int]:
    """Returns the indices of the colour and of the dashes of the curve at a place."""
    dashes, colour = divmod(place, len(RUN_COLOURS))
    return colour, dashes % len(RUN_DASHES)


def _plot_curve(
    axes: Axes, curve: Curve, gid: str, *, dotted: bool, color: str, **style: Any
) -> list[str]:
    """Draws a curve, and dots where it is dotted or alone; returns their tooltips."""
    x, y = np.array(curve.points, float).T
    y[~np.isfinite(y)] = math.nan
    beside = np.pad(np.isfinite(y), 1)
    lone = ~(beside[:-2] | beside[2:])  # a line does not show these
    dots = np.isfinite(y) & (lone | dotted)
    axes.plot(x, y, color=color, **style)
    axes.plot(x[dots], y[dots], "o", color=color, gid=gid)
    points = zip(x[dots], y[dots], strict=True)
    return [f"{curve.name} {format_score(b)} at {a:,g}" for a, b in points]


def _divide_steps(axes: Axes, curves: Sequence[Curve]) -> float:
    """Puts ticks on the axis of the steps, and returns its end."""
    end = max(1, *(x for curve in curves for x, _ in curve.points))
    _divide(axes, "x", [0, max(end, 4)])  # no fractions of a step
    axes.set_xlim(0, end)
    axes.set_xlabel("step", loc="right")
    return end


def _defined(curves: Sequence[Curve]) -> list[float]:
    return [y for curve in curves for _, y in curve.points if is_defined(y)]


@apply_settings()
def score_strip(name: str, values: Sequence[Number]) -> Drawing:
    """Draws a tick at the score of each image."""
    figure, axes = _figure(70, left=24)
    defined = [value for value in values if is_defined(value)]
    axes.vlines(defined, 0, 1, FIRST, alpha=0.6)
    axes.set(ylim=(0, 1), yticks=[])
    _divide(axes, "x", defined)
    axes.set_xlabel(name, loc="right")
    return Drawing(figure, {})


@apply_settings()
def reliability_diagram(bins: ReliabilityBins) -> Drawing:
    """Draws accuracy over confidence, and below it the share of pixels of each bin."""
    figure, axes = _figure(366, top=22, bottom=100)
    _, histogram = _figure(366, top=290, figure=figure)
    used, unit = bins.predictions > 0, np.linspace(0, 1, 6)
    x, y = bins.confidence[used], bins.accuracy[used]
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle="dashed")
    axes.vlines(x, x, y, SECOND, linewidth=2)
    axes.plot(x, y, color=FIRST, linewidth=1.75)
    axes.plot(x, y, "o", color=FIRST, gid="bins")
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=unit, title="accuracy")
    axes.spines["bottom"].set_visible(False)
    shares = bins.predictions / max(bins.predictions.sum(), 1)
    width, tallest = 1 / len(shares), shares.max()
    centres = (np.arange(len(shares)) + 0.5) * width
    histogram.bar(centres, shares, 0.9 * width, color=RULE)
    histogram.set(xlim=(0, 1), ylim=(0, tallest or 1), xticks=unit, yticks=[])
    histogram.set_title(f"most in one bin: {format_percent(tallest)}")
    histogram.set_xlabel("confidence", loc="right")
    points = zip(x, y, strict=True)
    texts = [f"accuracy {format_score(b)} at {a:.3f}" for a, b in points]
    return Drawing(figure, {"bins": texts})


@apply_settings()
def image_sizes(counts: Mapping[tuple[int, ...], int]) -> Drawing:
    """Draws height over width, a disc per size whose area grows with its images."""
    figure, axes = _figure(238, top=24)
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    sizes, images = zip(*ranked, strict=True)
    height, width = zip(*sizes, strict=True)
    area = np.maximum(18**2 * np.array(images) / images[0], 4.8**2)
    axes.scatter(width, height, area, [(FIRST, 0.45)], edgecolors=FIRST, gid="sizes")
    _divide(axes, "x", [0, *width])
    _divide(axes, "y", [0, *height])
    axes.set_title("height")
    axes.set_xlabel("width", loc="right")
    texts = [f"{dimensions(size)}: {count:,d} images" for size, count in ranked]
    return Drawing(figure, {"sizes": texts})


@apply_settings()
def intensity_ranges(ranges: Sequence[IntensityRange]) -> Drawing:
    """Draws a line for each image from its low to its high end, darkest first.

    Of many images it draws every n-th, and all that are odd. The axis is logarithmic if
    a few images would hide the others.
    """
    figure, axes = _figure(214, bottom=18)
    tooltips = {}
    ranked = sorted(ranges, key=lambda each: (each.middle, each.high, each.name))
    step = -(-len(ranked) // MAX_RANGES)
    shown = [each for i, each in enumerate(ranked) if each.odd or i % step == 0]
    low, middle, high = np.array([each[2:5] for each in shown], float).T
    if high.max() > LOG_RATIO * np.median(high) > 0 <= low.min():
        least = _divide_decades(axes, np.concatenate([low, high]))
        low, middle, high = np.maximum((low, middle, high), least)
    else:
        _divide(axes, "y", [*low, *high])
    x, odd = np.arange(len(shown)), np.array([each.odd for each in shown])
    width = min((RIGHT - LEFT) / len(shown) * 0.6, 3)
    for gid, mask, color in (("usual", ~odd, (FIRST, 0.65)), ("odd", odd, SECOND)):
        lines = axes.vlines(x[mask], low[mask], high[mask], [color], linewidth=width)
        lines.set(gid=gid, capstyle="projecting")  # so that a constant image shows
        tooltips[gid] = [
            f"{r.split}, {r.name}: {format_value(r.low)} to {format_value(r.high)}"
            for r in itertools.compress(shown, mask)
        ]
    axes.plot(x, middle, color=INK, linewidth=1.25)
    axes.set(xlim=(-0.5, len(shown) - 0.5), xticks=[])
    axes.spines["bottom"].set_visible(False)
    part = f"one in {step} of " if step > 1 else ""
    axes.set_xlabel(f"{part}{len(ranges):,d} images", loc="right")
    return Drawing(figure, tooltips)


def averaged(curve: Curve) -> Curve:
    """Averages groups of points of a long curve, and says so in its name."""
    size = -(-len(curve.points) // MAX_POINTS)
    if size <= 1:
        return curve
    points = []
    for start in range(0, len(curve.points), size):
        group = curve.points[start : start + size]
        values = [y for _, y in group if is_defined(y)]
        points.append((group[-1][0], sum(values) / len(values) if values else None))
    return Curve(f"{curve.name}, means of {size}", points)


def _figure(
    height: int,
    *,
    left: int = LEFT,
    top: int = TOP,
    bottom: int = BOTTOM,
    figure: Figure | None = None,
) -> tuple[Figure, Axes]:
    """Makes a figure, unless there is one, and adds axes; all sizes are in points."""
    figure = figure or Figure(figsize=(WIDTH / 72, height / 72))
    width, inner = (RIGHT - left) / WIDTH, (height - top - bottom) / height
    axes = figure.add_axes((left / WIDTH, bottom / height, width, inner))
    axes.patch.set_visible(False)
    return figure, axes


def _divide(axes: Axes, axis: str, values: Sequence[float]) -> None:
    """Puts at most five round ticks on an axis, from below to above all values."""
    low, high = min(values), max(values)
    if math.isclose(low, high, rel_tol=1e-6):  # equal but for the rounding of float32
        low, high = low - (abs(low) / 10 or 1), high + (abs(low) / 10 or 1)
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = step * np.arange(first, last + 1)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    labels = [with_minus(f"{tick:,.{decimals}f}") for tick in ticks]
    form = {"ticks": ticks, "ticklabels": labels, "lim": ticks[[0, -1]]}
    axes.set(**{f"{axis}{name}": value for name, value in form.items()})


def _divide_decades(axes: Axes, values: np.ndarray) -> float:
    """Makes the y-axis logarithmic, and returns its lower end.

    It covers the positive values, but at most `MAX_DECADES` below the highest one.
    """
    most = math.ceil(math.log10(values.max()))
    least = math.floor(math.log10(values[values > 0].min()))
    least = max(least, most - MAX_DECADES)
    powers = range(least, most + 1, 2 if most - least > 5 else 1)
    labels = [f"10{str(k).translate(SUPERSCRIPTS)}" for k in powers]
    axes.set(yscale="log", ylim=(10.0**least, 10.0**most))
    axes.set_yticks([10.0**k for k in powers], labels)
    axes.minorticks_off()
    return 10.0**least
