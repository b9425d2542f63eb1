"""The tables of a report; each scrolls in a box of its own where it is too wide."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from unet_jax.report.contents import Measure, Number, Reliability, Report
from unet_jax.report.markup import Markup, join, tag
from unet_jax.report.numbers import known, number, percent

MOST = 50  # images in the table


def scores(report: Report) -> Markup:
    """Measures down, the whole set and its classes across."""
    said = [m for m in report.measures if f"{report.split}/{m.name}" in report.scores]
    columns = ["", "all", *_classes_scored(report, said)]
    body = []
    for measure in said:
        name = f"{report.split}/{measure.name}"
        values = [report.scores[name]]
        values += [report.scores.get(f"{name}/{c}", "") for c in columns[2:]]
        better = f"{'lower' if measure.lower else 'higher'} is better"
        how = ", ".join(part for part in (measure.reduction, better) if part)
        head = tag("th", title(measure), tag("small", how), scope="row")
        body.append(tag("tr", head, *map(_cell, values)))
    return table(columns, body)


def images(report: Report) -> tuple[Markup, int]:
    """The worst images by the first measure, at most 50, and how many there are.

    Images without a score are last, equals in the order that they came in.
    """
    first, *others = report.measures
    rows = ranked(report.images, first)[:MOST]
    columns = {first.name: first.name}
    for c in report.classes:
        columns[f"{first.name}/{c}"] = join([first.name, tag("small", c)])
    columns |= {m.name: m.name for m in others}
    keys = [key for key in columns if any(key in row for row in rows)]
    body = []
    for row in rows:
        head = tag("th", str(row["id"]), scope="row")
        body.append(tag("tr", head, *(_cell(row.get(key)) for key in keys)))
    return table(["image", *(columns[key] for key in keys)], body), len(rows)


def ranked(
    images: Sequence[Mapping[str, str | Number]], first: Measure
) -> list[Mapping[str, str | Number]]:
    """Images, worst first."""

    def place(row: Mapping[str, str | Number]) -> tuple[bool, float]:
        value = row.get(first.name)
        if not known(value):
            return True, 0.0
        return False, -value if first.lower else value

    return sorted(images, key=place)


def bins(reliability: Reliability) -> Markup:
    """The bins of a reliability diagram that hold answers."""
    width = 1 / len(reliability.count)
    body = []
    for i, (count, confidence, accuracy) in enumerate(zip(*reliability, strict=True)):
        if count:
            span = f"{i * width:.2f}–{(i + 1) * width:.2f}"
            cells = (f"{count:,d}", f"{confidence:.3f}", f"{accuracy:.3f}")
            head = tag("th", span, scope="row")
            body.append(tag("tr", head, *(tag("td", cell) for cell in cells)))
    return table(["bin", "answers", "confidence", "accuracy"], body, kind="narrow")


def confusion(counts: np.ndarray, names: Sequence[str]) -> Markup:
    """Each truth's row in percent, with its counts, shaded by the share."""
    body = []
    for name, row in zip(names, counts, strict=True):
        total = int(row.sum())
        shares = [int(count) / total if total else None for count in row]
        cells = [
            tag(
                "td",
                percent(share),
                tag("small", f"{int(count):,d}"),
                style=f"--share: {share or 0:.4f}",
            )
            for share, count in zip(shares, row, strict=True)
        ]
        body.append(tag("tr", tag("th", name, scope="row"), *cells))
    return table(["truth", *names], body, kind="heat")


def title(measure: Measure) -> str:
    """The name of a measure with its unit."""
    return f"{measure.name}, {measure.unit}" if measure.unit else measure.name


def _classes_scored(report: Report, measures: Sequence[Measure]) -> list[str]:
    names = [f"{report.split}/{measure.name}" for measure in measures]
    return [
        c
        for c in report.classes
        if any(f"{name}/{c}" in report.scores for name in names)
    ]


def _cell(value: Number | str) -> Markup:
    return tag("td", value if isinstance(value, str) else number(value))


def table(columns: Sequence[str], body: Sequence[Markup], *, kind: str = "") -> Markup:
    """Rows under the names of their columns, in a box that scrolls by itself."""
    names = [tag("th", tag("span", c), scope="col") for c in columns]
    head = tag("thead", tag("tr", *names))
    whole = tag("table", head, tag("tbody", join(body)), class_=kind or "plain")
    return tag("div", whole, class_="box", tabindex=0)


def row(name: str, cells: Iterable[str]) -> Markup:
    """Cells after the name of their row."""
    return tag("tr", tag("th", name, scope="row"), *(tag("td", c) for c in cells))
