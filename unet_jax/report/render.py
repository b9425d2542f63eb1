"""HTML pages from their contents, by the Jinja2 templates in `templates/`."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from unet_jax.report import figures, formatting
from unet_jax.report.comparison import draw_histories, list_scalars
from unet_jax.report.contents import (
    Inspection,
    IntensityRange,
    MetricInfo,
    ReliabilityBins,
    Report,
    SplitStatistics,
)
from unet_jax.report.environment import draw_svg, render_template
from unet_jax.report.figures import Curve
from unet_jax.text import UNDEFINED, format_score, is_defined

LIVE = 3  # figures of a run in a notebook: the loss and the first scores
CHARTED = 6  # channels with a figure
RATE = "learning_rate"
SPLITS_OF_CURVES = {"loss": ("val", "train"), RATE: ("train",)}  # the others: val
ERRORS_OF_OBJECTS = ("missed", "invented", "merged", "split")  # in `Report.objects`


def render_report(report: Report) -> str:
    """Renders the report of a run as an HTML file that loads nothing else."""
    return render_template(
        "report.html",
        title=report.title,
        report=report,
        curves=_curves(report.history, report.metrics, report.step),
        folds=_folds(report),
        scores=_scores(report),
        reliability=_reliability(report.reliability),
        images=_images(report),
    )


def render_inspection(inspection: Inspection) -> str:
    """Renders an inspection as an HTML file that loads nothing else."""
    return render_template(
        "inspection.html",
        title=inspection.title,
        inspection=inspection,
        objects=[_objects(split) for split in inspection.splits if split.objects],
        sizes=_sizes(inspection.splits),
        intensities=_intensities(inspection),
        odd=_odd(inspection),
    )


def render_training(
    history: Sequence[Mapping[str, Any]], picture: bytes | None = None
) -> str:
    """Renders the state of a run for the output of a notebook cell, as HTML elements.

    Args:
      history: as in `Report`.
      picture: a PNG file with predictions; None if there is none yet.
    """
    curves = _curves(history, (), None)[:LIVE]
    return render_template("training.html", curves=curves, picture=picture)


def _folds(report: Report) -> dict[str, Any] | None:
    """Tabulates the scores of the folds, and draws their curves over each other."""
    if report.folds is None:
        return None
    runs, scores, mean, deviation = report.folds
    keys = {f"test/{m.name}": m for m in report.metrics if f"test/{m.name}" in mean}
    rows = [
        (metric, *(_cells(each, [key], UNDEFINED)[0] for each in columns))
        for key, metric in keys.items()
        for columns in [(mean, deviation, *scores)]
    ]
    return {
        "names": [run.name for run in runs],
        "lines": [figures.choose_line(i) for i in range(len(runs))],
        "rows": rows,
        "charts": draw_histories(runs, list_scalars(runs)),
    }


def _curves(
    history: Sequence[Mapping[str, Any]],
    metrics: Sequence[MetricInfo],
    marked: int | None,
) -> list[tuple[MetricInfo, list[str], Markup]]:
    """Draws the losses, every validation score of the split, and the learning rate."""
    infos = {metric.name: metric for metric in metrics}
    keys = dict.fromkeys(key for row in history for key in row)
    found = [key.removeprefix("val/") for key in keys if key.startswith("val/")]
    names = {n: None for n in (*infos, *found) if n in found and "/" not in n}
    drawn = []
    for name in dict.fromkeys(["loss", *names, RATE]):
        curves = []
        for split in SPLITS_OF_CURVES.get(name, ("val",)):
            key = f"{split}/{name}"
            points = [(row["step"], row[key]) for row in history if key in row]
            if any(is_defined(y) for _, y in points):
                curves.append(figures.averaged(Curve(split, points)))
        if curves:
            drawing = figures.learning_curves(curves, marked=marked)
            svg = draw_svg(drawing, f"{name} over training steps")
            metric = infos.get(name, MetricInfo(name.replace("_", " ")))
            drawn.append((metric, [curve.name for curve in curves], svg))
    return drawn


def _scores(report: Report) -> dict[str, Any]:
    """Tabulates the scores: metrics down, the whole split and its classes across."""
    keys = {f"test/{metric.name}": metric for metric in report.metrics}
    keys = {key: metric for key, metric in keys.items() if key in report.scores}
    classes = [
        c for c in report.classes if any(f"{key}/{c}" in report.scores for key in keys)
    ]
    rows = [
        (metric, _cells(report.scores, [key, *(f"{key}/{c}" for c in classes)], ""))
        for key, metric in keys.items()
    ]
    return {"classes": classes, "rows": rows}


def _images(report: Report) -> dict[str, Any] | None:
    """Tabulates all images, the worst of the first metric first, undefined ones last.

    An image that is drawn among the examples has a link to it.
    """
    if not report.images or not report.metrics:
        return None
    first, *others = report.metrics

    def place(row: Mapping[str, Any]) -> float:
        value = row.get(first.name)
        return (-value if first.lower else value) if is_defined(value) else math.inf

    ranked = sorted(report.images, key=place)
    ranking = {first.name: [first.name]}
    ranking |= {f"{first.name}/{c}": [first.name, c] for c in report.classes}
    rest = {metric.name: [metric.name] for metric in others}
    ranking, rest = (
        {k: title for k, title in columns.items() if any(k in row for row in ranked)}
        for columns in (ranking, rest)
    )
    counted = ERRORS_OF_OBJECTS if report.objects is not None else ()
    links = {example.name: i for i, example in enumerate(report.examples, 1)}
    rows = []
    for row in ranked:
        counts = row.get("objects", {})
        cells = [
            *_cells(row, ranking, UNDEFINED),
            *(f"{counts[k]:,d}" if k in counts else UNDEFINED for k in counted),
            *_cells(row, rest, UNDEFINED),
        ]
        rows.append((row["id"], links.get(row["id"]), cells))
    values = [row.get(first.name) for row in report.images]
    svg = None
    if sum(map(is_defined, values)) > 1:
        strip = figures.score_strip(first.name, values)
        svg = draw_svg(strip, f"{first.name} of each image")
    objects = [[name, "objects"] for name in counted]
    columns = [*ranking.values(), *objects, *rest.values()]
    return {"columns": columns, "rows": rows, "svg": svg}


def _cells(scores: Mapping[str, Any], keys: Iterable[str], missing: str) -> list[str]:
    return [format_score(scores[k]) if k in scores else missing for k in keys]


def _reliability(bins: ReliabilityBins | None) -> dict[str, Any] | None:
    """Lists the bins with predictions, and computes the calibration error."""
    if bins is None or not bins.predictions.sum():
        return None
    edges = np.linspace(0, 1, len(bins.predictions) + 1)
    gaps = np.nan_to_num(np.abs(bins.accuracy - bins.confidence))
    return {
        "bins": [b for b in zip(edges, edges[1:], *bins, strict=False) if b[2]],
        "error": np.average(gaps, weights=bins.predictions),
        "svg": draw_svg(figures.reliability_diagram(bins), "accuracy over confidence"),
    }


def _objects(split: SplitStatistics) -> tuple[str, Markup]:
    """Draws the number of objects in each image, with a caption."""
    strip = figures.score_strip("objects", split.objects)
    caption = f"{split.name}, {formatting.format_spread(split.objects)}"
    return caption, draw_svg(strip, f"objects in each image of {split.name}")


def _sizes(splits: Sequence[SplitStatistics]) -> dict[str, Any] | None:
    """Counts and draws the sizes of all images, if there are several."""
    counts = Counter[tuple[int, ...]]()
    for split in [split for split in splits if split.name == "all"] or splits:
        counts.update(split.shapes)
    if len(counts) < 2:
        return None
    if {len(size) for size in counts} == {2}:
        drawings = {"sizes of the images": figures.image_sizes(counts)}
    else:
        axes = zip(*counts.elements(), strict=False)
        drawings = {
            f"axis {i} of each image": figures.score_strip(f"axis {i}", sizes)
            for i, sizes in enumerate(axes)
        }
    svgs = [draw_svg(drawing, label) for label, drawing in drawings.items()]
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {"figures": svgs, "counts": ranked}


def _intensities(inspection: Inspection) -> list[tuple[str, Markup]]:
    """Draws the intensities of the first channels, with captions."""
    charts = []
    for i, channel in enumerate(inspection.channels[:CHARTED]):
        ranges = [r for r in channel.ranges if is_defined(r.low) and is_defined(r.high)]
        if len(ranges) > 1:
            caption = f"channel {i}, middle 99 % of each image"
            charts.append(
                (caption, draw_svg(figures.intensity_ranges(ranges), caption))
            )
    return charts


def _odd(inspection: Inspection) -> list[tuple[int, IntensityRange]]:
    """Lists the channels and ranges far from the median range, farthest first."""
    ranges = [(i, r) for i, c in enumerate(inspection.channels) for r in c.ranges]
    odd = [(i, r) for i, r in ranges if r.odd]
    return sorted(
        odd, key=lambda item: -max(item[1].times, 1 / (item[1].times or 1e-99))
    )
