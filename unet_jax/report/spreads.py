"""Charts of a data set: the sizes of its images, and how bright they are."""

import math
from collections.abc import Callable, Mapping, Sequence

from unet_jax.report.axes import LEFT, RIGHT, TOP, Axis, axis, base, grid, svg, words
from unet_jax.report.findings import Span
from unet_jax.report.markup import Markup, tag
from unet_jax.report.numbers import short, ticks

MOST = 300  # images of one chart
WIDE = 50  # times the median from which on an axis is logarithmic
DECADES = 8  # that it has at most
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def shapes(counts: Mapping[tuple[int, ...], int]) -> Markup:
    """Height over width, a dot for each size whose area grows with its images."""
    bottom, height = 196, 228
    x = axis(ticks(0, max(width for _, width in counts), most=6), LEFT, RIGHT)
    y = axis(ticks(0, max(tall for tall, _ in counts)), bottom, TOP + 8)
    most = max(counts.values())
    drawn = [grid(y), words("height", LEFT + 6, TOP + 4, "start")]
    for (tall, wide), images in sorted(counts.items(), key=lambda item: -item[1]):
        says = tag("title", f"{tall} x {wide}: {images:,d} images")
        radius = max(9 * math.sqrt(images / most), 2.4)
        place = {"cx": x(wide), "cy": y(tall), "r": float(radius)}
        drawn.append(tag("circle", says, class_="size", **place))
    return svg("sizes of the images", height, [*drawn, base(x, bottom, "width")])


def spans(name: str, rows: Sequence[Span]) -> Markup:
    """A vertical line for each image, darkest first, from its low to its high end.

    Of many images every n-th is drawn, and all that are odd.
    """
    bottom, height = 196, 214
    ranked = sorted(rows, key=lambda row: (row.middle, row.high, row.name))
    step = -(-len(ranked) // MOST)
    shown = [row for i, row in enumerate(ranked) if row.odd or i % step == 0]
    y, place, labels = _brightness(shown, bottom)
    x = Axis([], -0.5, len(shown) - 0.5, LEFT, RIGHT)
    drawn = [grid(y, labels)]
    thick = f"stroke-width: {min((RIGHT - LEFT) / len(shown) * 0.6, 6):.2f}"
    for i, row in enumerate(shown):
        ends = f"{short(row.low)} to {short(row.high)}"
        says = tag("title", f"{row.split}, {row.name}: {ends}")
        low, high = place(row.low), place(row.high)
        style = "span odd" if row.odd else "span"
        where = {"x1": x(i), "x2": x(i), "y1": low + 0.5, "y2": high - 0.5}
        drawn.append(tag("line", says, class_=style, style=thick, **where))
    path = " ".join(
        f"{x(i):.1f},{place(row.middle):.1f}" for i, row in enumerate(shown)
    )
    drawn.append(tag("polyline", class_="middle", points=path))
    every = f"every {step}th of " if step > 1 else ""
    drawn.append(words(f"{every}{len(rows):,d} images", RIGHT, bottom + 16, "end"))
    return svg(name, height, drawn)


def _brightness(
    rows: Sequence[Span], bottom: float
) -> tuple[Axis, Callable[[float], float], list[str]]:
    """An axis for all of them; logarithmic where a few would hide the others."""
    lows, highs = [row.low for row in rows], sorted(row.high for row in rows)
    middle = highs[len(highs) // 2]
    if min(lows) < 0 or middle <= 0 or highs[-1] <= WIDE * middle:
        y = axis(ticks(min(lows), highs[-1]), bottom, TOP)
        return y, y, []
    most = math.ceil(math.log10(highs[-1]))
    darkest = min(value for value in (*lows, *highs) if value > 0)
    least = max(math.floor(math.log10(darkest)), most - DECADES)
    powers = [float(k) for k in range(least, most + 1, 2 if most - least > 5 else 1)]
    y = Axis(powers, least, most, bottom, TOP)
    labels = ["10" + f"{k:.0f}".translate(SUPERSCRIPT) for k in powers]

    def place(value: float) -> float:
        return y(math.log10(max(value, 10.0**least)))

    return y, place, labels
