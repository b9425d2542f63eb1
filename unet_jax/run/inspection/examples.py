"""Pictures of a data set: a few images of each split, and duplicates across splits."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unet_jax import pictures
from unet_jax.data import files
from unet_jax.data.dataset_report import DatasetReport
from unet_jax.data.label_map import apply_label_map
from unet_jax.data.record import Record, RecordStats
from unet_jax.data.source import Source, Splits
from unet_jax.report.contents import DatasetExample, DuplicatePair
from unet_jax.report.formatting import format_percent
from unet_jax.run.inspection.statistics import compute_foreground_share
from unet_jax.text import dimensions

MAX_SIZE = 384  # pixels along the longer side of a picture
SPACED = 2  # images of a split, besides those of the most and the least foreground
MAX_PAIRS = 6  # duplicates that are shown
LARGE = 2**25  # pixels of an image of which only the shown ones are loaded


def draw_examples(splits: Splits, report: DatasetReport) -> list[DatasetExample]:
    """Draws a few images of every split that has records."""
    drawn = []
    for split, source in splits.sources.items():
        records = [record for record in report.records if record.split == split]
        if len(records) == source.length:
            chosen = choose_examples(records, background=source.background)
            for index, reason in sorted(chosen.items()):
                drawn.append(_example(source, index, records[index], reason, report))
    return drawn


def choose_examples(
    records: Sequence[RecordStats], *, background: bool = True
) -> dict[int, str]:
    """Chooses the images with the most and the least foreground, and some others.

    Args:
      records: the measurements of the images.
      background: False if there is no background, and so no foreground.

    Returns:
      Their indices, each with the reason. The others are evenly spaced, without reason.
    """
    shares = [compute_foreground_share(record) for record in records]
    chosen = {}
    if background and shares and max(shares) > min(shares):
        chosen[int(np.argmax(shares))] = "most foreground"
        chosen[int(np.argmin(shares))] = "least foreground"
    others = [i for i in range(len(records)) if i not in chosen]
    for i in range(min(SPACED, len(others))):
        chosen[others[(2 * i + 1) * len(others) // (2 * SPACED)]] = ""
    return chosen


def class_legend(source: Source, report: DatasetReport) -> pictures.Legend:
    """Returns the classes and their colours; nothing if each object has a colour."""
    objects = any(record.objects is not None for record in report.records)
    legend = pictures.make_overlay_legend(
        source.classes, source.colours, background=source.background
    )
    return [] if objects and len(legend) == 1 else legend


def draw_duplicates(splits: Splits, report: DatasetReport) -> list[DuplicatePair]:
    """Draws pairs of similar images of two splits, identical ones first."""
    records = {record.id: record for record in report.records}
    across = [
        (not identical, records[a], records[b])
        for a, b, identical in report.duplicates
        if {a, b} <= records.keys() and records[a].split != records[b].split
    ]
    drawn = []
    for different, a, b in sorted(across, key=lambda pair: pair[0])[:MAX_PAIRS]:
        first, second = (_image(splits, report, record) for record in (a, b))
        if first and second:
            drawn.append(DuplicatePair(not different, first, second))
    return drawn


def _image(
    splits: Splits, report: DatasetReport, record: RecordStats
) -> DatasetExample | None:
    """Draws an image without classes: its record or, if errors drop it, its file."""
    source = splits.sources.get(record.split)
    ids = [other.id for other in report.records if other.split == record.split]
    if thin := _load_thin(record, report):
        image = thin["image"]
    elif source and source.length == len(ids):
        image = source.load(ids.index(record.id))["image"]
    elif record.image:
        image = _read_thin(record.image, record, report)
    else:
        return None
    png = pictures.encode_png(pictures.draw_image(_plane(image, image.ndim - 1)))
    return DatasetExample(
        record.split, record.split, record.id, dimensions(record.shape), png
    )


def _example(
    source: Source, index: int, stats: RecordStats, reason: str, report: DatasetReport
) -> DatasetExample:
    record = _load_thin(stats, report) or source.load(index)
    caption = dimensions(stats.shape)
    if stats.labelled and source.background:
        share = compute_foreground_share(stats)
        caption += f", foreground {format_percent(share)}"
    if len(stats.shape) > 2:
        caption += ", the middle slice"
    png = pictures.encode_png(_draw(record, source))
    return DatasetExample(stats.split, reason, stats.id, caption, png)


def _load_thin(stats: RecordStats, report: DatasetReport) -> Record | None:
    """Loads the shown pixels of a large image, and its mask if it has one with values.

    Returns:
      None if the image is not large, or not a file.
    """
    if math.prod(stats.shape) * stats.channels <= LARGE or not stats.image:
        return None
    record = {"image": _read_thin(stats.image, stats, report)}
    if stats.values and ", " not in stats.mask:
        ids = dict(report.label_map)
        mask = _read_thin(stats.mask, stats, report, indices=not report.coloured)
        record["label"] = apply_label_map(mask, ids)
    return record


def _read_thin(
    file: str, stats: RecordStats, report: DatasetReport, *, indices: bool = False
) -> np.ndarray:
    """Reads every n-th pixel of an image, or of the middle slice of a volume."""
    axes = len(stats.shape)
    path = Path(report.root) / file
    how = {"axes": axes, "tiff_axes": report.tiff_axes}
    with files.open_images(path, indices=indices, **how) as grid:
        page = int(stats.id.rpartition("/")[2]) if grid.count > 1 else 0
        step = -(-max(grid.shape[-2:]) // MAX_SIZE)
        middle = [slice(size // 2, size // 2 + 1) for size in grid.shape[:-2]]
        width = slice(0, grid.shape[-1])
        rows = [
            grid.read(page, [*middle, slice(row, row + 1), width])[..., ::step, :]
            for row in range(0, grid.shape[-2], step)
        ]
    return np.concatenate(rows, axis=-3)


def _draw(record: Record, source: Source) -> pictures.Picture:
    """Draws the classes and the outlines of the objects, if any, over the image."""
    axes = record["image"].ndim - 1
    keys = [key for key in ("image", "label", "instances") if key in record]
    planes = {key: _plane(record[key], axes) for key in keys}
    if "label" not in planes:
        return pictures.draw_image(planes["image"])
    return pictures.draw_overlay(
        planes["image"],
        planes["label"],
        source.colours,
        planes.get("instances"),
        background=source.background,
    )


def _plane(array: np.ndarray, axes: int) -> np.ndarray:
    """Returns the middle slice of a volume; if it is large, every n-th pixel."""
    return pictures.thin_out(pictures.take_slice(array, axes), MAX_SIZE)
