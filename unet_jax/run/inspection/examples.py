"""Pictures of a data set: a few images of each split, and duplicates across splits."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unet_jax import pictures
from unet_jax.data import files
from unet_jax.data.dataset_report import DatasetReport
from unet_jax.data.duplicates import find_duplicates
from unet_jax.data.record import Record, RecordStats
from unet_jax.data.source import Source, Splits
from unet_jax.report.contents import DatasetExample, DuplicatePair
from unet_jax.report.formatting import format_percent
from unet_jax.run.inspection.statistics import compute_foreground_share
from unet_jax.text import dimensions

MAX_SIZE = 384  # pixels along the longer side of a picture
SPACED = 2  # images of a split, besides those of the most and the least foreground
MAX_PAIRS = 6  # duplicates that are shown


def draw_examples(splits: Splits, report: DatasetReport) -> list[DatasetExample]:
    """Draws a few images of every split that has records."""
    drawn = []
    for split, source in splits.sources.items():
        records = [record for record in report.records if record.split == split]
        if len(records) == source.length:
            for index, reason in sorted(choose_examples(records).items()):
                drawn.append(_example(source, index, records[index], reason))
    return drawn


def choose_examples(records: Sequence[RecordStats]) -> dict[int, str]:
    """Chooses the images with the most and the least foreground, and some others.

    Returns:
      Their indices, each with the reason. The others are evenly spaced, without reason.
    """
    shares = [compute_foreground_share(record) for record in records]
    chosen = {}
    if shares and max(shares) > min(shares):
        chosen[int(np.argmax(shares))] = "most foreground"
        chosen[int(np.argmin(shares))] = "least foreground"
    others = [i for i in range(len(records)) if i not in chosen]
    for i in range(min(SPACED, len(others))):
        chosen[others[(2 * i + 1) * len(others) // (2 * SPACED)]] = ""
    return chosen


def class_legend(source: Source) -> list[tuple[str, tuple[int, ...]]]:
    """Returns the classes above 0 and their colours in an overlay."""
    count = len(source.classes)
    if count < 2:
        return []
    apart = np.arange(2 * count)[None] % 2 * (np.arange(2 * count)[None] // 2)
    strip = pictures.draw_overlay(np.zeros((*apart.shape, 1)), apart, source.colours)
    drawn = strip[0, 1::2].tolist()
    return [(source.classes[k], tuple(drawn[k])) for k in range(1, count)]


def draw_duplicates(splits: Splits, report: DatasetReport) -> list[DuplicatePair]:
    """Draws pairs of similar images of two splits, identical ones first."""
    records = report.records
    across = [
        pair
        for pair in find_duplicates(records)
        if records[pair.a].split != records[pair.b].split
        and {records[pair.a].split, records[pair.b].split} <= splits.sources.keys()
    ]
    drawn = []
    for pair in sorted(across, key=lambda pair: (not pair.identical, pair))[:MAX_PAIRS]:
        first, second = (_image(splits, report, records[i]) for i in (pair.a, pair.b))
        if first and second:
            drawn.append(DuplicatePair(pair.identical, first, second))
    return drawn


def _image(
    splits: Splits, report: DatasetReport, record: RecordStats
) -> DatasetExample | None:
    """Draws an image without classes: its record or, if errors drop it, its file."""
    source = splits.sources.get(record.split)
    ids = [other.id for other in report.records if other.split == record.split]
    if source and source.length == len(ids):
        image = source.load(ids.index(record.id))["image"]
    elif record.image:
        path = Path(report.root) / record.image
        with files.open_images(path, axes=len(record.shape)) as grid:
            if grid.count > 1:
                return None
            image = grid.read(0, [slice(0, size) for size in grid.shape])
    else:
        return None
    png = pictures.encode_png(pictures.draw_image(_plane(image, image.ndim - 1)))
    return DatasetExample(
        record.split, record.split, record.id, dimensions(record.shape), png
    )


def _example(
    source: Source, index: int, stats: RecordStats, reason: str
) -> DatasetExample:
    record = source.load(index)
    caption = dimensions(stats.shape)
    if stats.labelled:
        share = compute_foreground_share(stats)
        caption += f", foreground {format_percent(share)}"
    if len(stats.shape) > 2:
        caption += ", the middle slice"
    png = pictures.encode_png(_draw(record, source.colours))
    return DatasetExample(stats.split, reason, record["id"], caption, png)


def _draw(record: Record, colours: pictures.Colours) -> pictures.Picture:
    """Draws the classes and the outlines of the objects, if any, over the image."""
    axes = record["image"].ndim - 1
    keys = [key for key in ("image", "label", "instances") if key in record]
    planes = {key: _plane(record[key], axes) for key in keys}
    if "label" not in planes:
        return pictures.draw_image(planes["image"])
    return pictures.draw_overlay(
        planes["image"], planes["label"], colours, planes.get("instances")
    )


def _plane(array: np.ndarray, axes: int) -> np.ndarray:
    """Returns the middle slice of a volume; if it is large, every n-th pixel."""
    return pictures.thin_out(pictures.take_slice(array, axes), MAX_SIZE)
