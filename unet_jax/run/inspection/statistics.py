"""Statistics of the records of a data set: per split, channel and mask value."""

import math
import statistics
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

from unet_jax.arrays import IGNORE
from unet_jax.data.dataset_report import DatasetReport, total_pixels
from unet_jax.data.label_map import parse_value
from unet_jax.data.record import RecordStats
from unet_jax.report.contents import (
    ChannelStatistics,
    ClassStatistics,
    IntensityRange,
    MaskValue,
    SplitStatistics,
)
from unet_jax.report.formatting import spread_of

ODD = 10  # an outlier is a range above 10 times the median, or below a tenth
ALL = "all"  # the splits together

Key = TypeVar("Key", bound=Hashable)


def split_statistics(
    report: DatasetReport, *, background: bool = True
) -> list[SplitStatistics]:
    """Returns the statistics of train, val, test, and of several splits together.

    Args:
      report: the measurements of the records.
      background: False if class 0 is a class like the others. `empty` is then None.

    Returns:
      The statistics. `classes` and `empty` are None if the classes of the mask values
      are unknown.
    """
    unknown = are_classes_unknown(report)
    by_split: dict[str, list[RecordStats]] = {"train": [], "val": [], "test": []}
    for record in report.records:
        by_split.setdefault(record.split or "no split", []).append(record)
    by_split = {split: records for split, records in by_split.items() if records}
    if len(by_split) > 1:
        by_split[ALL] = list(report.records)
    return [
        _split(
            name,
            records,
            None if unknown else report.classes,
            background=background and not unknown,
        )
        for name, records in by_split.items()
    ]


def are_classes_unknown(report: DatasetReport) -> bool:
    """Returns True if masks have values, and no value has a class."""
    return not report.label_map and any(record.values for record in report.records)


def mask_values(report: DatasetReport) -> list[MaskValue]:
    """Returns the values of the mask files, those with a class first."""
    pixels: Counter[str] = Counter()
    for record in report.records:
        pixels.update(record.values)
    ids: dict[str, int | None] = dict(report.label_map)
    ids |= dict.fromkeys(sorted(pixels.keys() - ids.keys(), key=parse_value))
    names: dict[int | None, str] = {IGNORE: "ignored"}
    names |= dict(enumerate(report.classes))
    return [
        MaskValue(value, id, names.get(id), pixels[value]) for value, id in ids.items()
    ]


def channel_statistics(report: DatasetReport) -> list[ChannelStatistics]:
    """Returns the intensities of each channel, over the images that have it."""
    count = max((record.channels for record in report.records), default=0)
    return [_channel(report.records, i) for i in range(count)]


def compute_foreground_share(record: RecordStats) -> float:
    """Returns the fraction of an image's annotated pixels that are not background."""
    annotated = _annotated(record)
    return 1 - record.pixels.get(0, 0) / annotated if annotated else 0.0


def _split(
    name: str,
    records: Sequence[RecordStats],
    classes: Sequence[str] | None,
    *,
    background: bool,
) -> SplitStatistics:
    shapes = _count(record.shape for record in records)
    same_axes = len(set(map(len, shapes))) == 1
    pixels = total_pixels(records)
    total, ignored = sum(map(_annotated, records)), pixels.get(IGNORE, 0)
    return SplitStatistics(
        name=name,
        images=len(records),
        formats=_count(record.kind for record in records),
        shapes=shapes,
        channels=_count(record.channels for record in records),
        dtypes=_count(record.dtype for record in records),
        spacings=_count(record.spacing for record in records if record.spacing),
        sizes=[
            spread_of(sizes)
            for sizes in zip(*(record.shape for record in records), strict=True)
        ]
        if same_axes
        else (),
        classes=[
            ClassStatistics(
                name=name,
                pixels=pixels.get(k, 0),
                share=pixels.get(k, 0) / total if total else None,
                images=sum(record.pixels.get(k, 0) > 0 for record in records),
            )
            for k, name in enumerate(classes)
        ]
        if classes is not None
        else None,
        ignored=ignored / (ignored + total) if ignored else 0.0,
        empty=_find_empty(records) if background and total else None,
        objects=tuple(r.objects for r in records if r.objects is not None),
    )


def _find_empty(records: Sequence[RecordStats]) -> tuple[str, ...]:
    """Returns the ids of the labelled images with nothing but background."""
    labelled = [record for record in records if record.labelled]
    return tuple(r.id for r in labelled if not compute_foreground_share(r))


def _annotated(record: RecordStats) -> int:
    """Counts the annotated pixels, once each, also if classes are independent."""
    if not record.labelled:
        return 0
    return math.prod(record.shape) - record.pixels.get(IGNORE, 0)


def _count(keys: Iterable[Key]) -> dict[Key, int]:
    """Counts equal keys, the most frequent first, ties in the order of the keys."""
    return dict(sorted(Counter(keys).items(), key=lambda item: (-item[1], item[0])))


def _channel(records: Sequence[RecordStats], channel: int) -> ChannelStatistics:
    records = [record for record in records if record.channels > channel]
    percentiles = [record.intensity[channel] for record in records]
    lowest, low, middle, high, highest = zip(*percentiles, strict=True)
    widths = [top - bottom for bottom, top in zip(low, high, strict=True)]
    median = statistics.median(widths)
    ranges = []
    for i, record in enumerate(records):
        times = widths[i] / median if median else 1.0
        odd = not 1 / ODD <= times <= ODD
        ends = low[i], middle[i], high[i]
        ranges.append(IntensityRange(record.split, record.id, *ends, times, odd))
    medians = map(statistics.median, (low, middle, high))
    return ChannelStatistics((min(lowest), *medians, max(highest)), ranges)
