"""What there is in a data set, counted: the tables and charts of an inspection."""

import math
from collections.abc import Sequence

from unet_jax.report import spreads
from unet_jax.report.charts import strip
from unet_jax.report.document import section, swatch
from unet_jax.report.findings import Inspection, Part, Share, Span
from unet_jax.report.markup import Markup, join, tag
from unet_jax.report.numbers import percent, short
from unet_jax.report.tables import row, table
from unet_jax.report.words import by, counted, extent, most_of, shape, sizes

LISTED = 50  # odd images in the table; inspect.json has them all
DISTINCT = 12  # sizes in the table
CHARTED = 6  # channels with a chart


def splits(inspection: Inspection) -> Markup | None:
    """What the images of each split are like."""
    parts = inspection.parts
    if not parts:
        return None
    rows: list[tuple[str, list[str]]] = [
        ("images", [f"{part.images:,d}" for part in parts]),
        ("format", [by(part.formats) for part in parts]),
        ("size", [_size(part) for part in parts]),
        ("spacing", [most_of(part.spacings) for part in parts]),
        ("channels", [by(part.channels) for part in parts]),
        ("type", [by(part.dtypes) for part in parts]),
        ("objects per image", [sizes(part.objects) for part in parts]),
        ("not annotated", [percent(part.ignored or None) for part in parts]),
        ("without foreground", [f"{len(part.empty):,d}" for part in parts]),
    ]
    said = [(name, cells) for name, cells in rows if set(cells) - {"", "–"}]
    body = [row(name, cells) for name, cells in said]
    names = [part.name for part in parts]
    return section("Splits", table(["", *names], body, kind="words"))


def values(inspection: Inspection) -> Markup | None:
    """What the values of the mask files become."""
    if not inspection.values:
        return None
    body = []
    for value in inspection.values:
        id = "–" if value.id is None else str(value.id)
        body.append(row(value.value, [id, value.name, f"{value.pixels:,d}"]))
    columns = ["value in the files", "class id", "class", "pixels"]
    return section("Mask values", table(columns, body, kind="narrow"))


def classes(inspection: Inspection) -> Markup | None:
    """How much of each split is of each class, and in how many images."""
    parts = [part for part in inspection.parts if part.classes]
    if not parts:
        return None
    colours = dict(inspection.legend)
    body = []
    for shares in zip(*(part.classes for part in parts), strict=True):
        name = shares[0].name
        head = [swatch(colours[name])] if name in colours else []
        cells = [_share(s, p) for s, p in zip(shares, parts, strict=True)]
        body.append(tag("tr", tag("th", *head, name, scope="row"), *cells))
    says = tag("p", "Percent of the annotated pixels, and the images that have it.")
    names = [part.name for part in parts]
    return section("Classes", says, table(["class", *names], body, kind="shares"))


def objects(inspection: Inspection) -> Markup | None:
    """How many objects the images have."""
    figures = []
    for part in inspection.parts:
        if part.objects:
            caption = tag("figcaption", f"{part.name}, {sizes(part.objects)}")
            figures.append(tag("figure", caption, strip("objects", part.objects)))
    if not figures:
        return None
    return section("Objects in each image", tag("div", *figures, class_="charts"))


def shapes(inspection: Inspection) -> Markup | None:
    """The sizes of the images, where there are several."""
    counts: dict[tuple[int, ...], int] = {}
    for part in inspection.parts:
        for size, images in part.shapes.items():
            counts[size] = counts.get(size, 0) + images
    if len(counts) < 2:
        return None
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    body = [row(shape(size), [f"{images:,d}"]) for size, images in ranked[:DISTINCT]]
    listed = [table(["size", "images"], body, kind="narrow")]
    if len(ranked) > DISTINCT:
        listed.append(tag("p", f"and {len(ranked) - DISTINCT:,d} other sizes"))
    axes = {len(size) for size in counts}
    if axes == {2}:
        charts = [tag("figure", spreads.shapes(counts))]
    else:
        charts = [
            tag("figure", strip(f"axis {i}", _along(counts, i)))
            for i in range(min(axes))
        ]
    pair = tag("div", tag("div", *charts), tag("div", *listed), class_="pair")
    return section("Sizes", pair)


def intensities(inspection: Inspection) -> Markup | None:
    """How bright the images are, and which are unlike the rest."""
    if not inspection.channels:
        return None
    columns = ["channel", "lowest", "0.5 %", "50 %", "99.5 %", "highest"]
    body, charts = [], []
    for i, channel in enumerate(inspection.channels):
        body.append(row(str(i), [short(value) for value in channel.percentiles]))
        if i < CHARTED and len(channel.spans) > 1:
            name = f"channel {i}, middle 99 % of each image"
            chart = spreads.spans(name, channel.spans)
            charts.append(tag("figure", tag("figcaption", name), chart))
    says = "The percentiles are medians over the images of each image's own."
    parts = [tag("p", says), table(columns, body, kind="narrow")]
    parts.append(tag("div", *charts, class_="charts"))
    odd = [(i, s) for i, c in enumerate(inspection.channels) for s in c.spans if s.odd]
    if odd:
        parts.append(_odd(sorted(odd, key=lambda item: -_far(item[1]))))
    return section("Intensities", *parts)


def _odd(found: Sequence[tuple[int, Span]]) -> Markup:
    """The images whose range is unlike the median range."""
    names = ["image", "split", "channel", "0.5 % to 99.5 %", "times the median range"]
    body = []
    for channel, span in found[:LISTED]:
        ends = f"{short(span.low)} to {short(span.high)}"
        body.append(row(span.name, [span.split, str(channel), ends, short(span.times)]))
    says = f"{counted(len(found), 'range')} far from the median range"
    if len(found) > LISTED:
        says += f", of which these {LISTED} are the farthest"
    return join([tag("p", f"{says}."), table(names, body)])


def _far(span: Span) -> float:
    """How many times larger or smaller its range is."""
    return max(span.times, 1 / span.times) if span.times else math.inf


def _size(part: Part) -> Markup:
    middle, around = extent(part)
    return join([middle, tag("small", around)] if around else [middle])


def _along(counts: dict[tuple[int, ...], int], axis: int) -> list[int]:
    return [size[axis] for size, images in counts.items() for _ in range(images)]


def _share(share: Share, part: Part) -> Markup:
    images = f"{share.images:,d} of {part.images:,d}"
    width = f"--share: {100 * (share.share or 0):.2f}%"
    return tag("td", percent(share.share), tag("small", images), style=width)
