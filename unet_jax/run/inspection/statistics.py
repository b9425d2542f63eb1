"""Statistics of the records of a data set: per split, channel and mask value."""

import math
import statistics
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

from unet_jax.arrays import IGNORE
from unet_jax.data.dataset_report import DatasetReport, total_pixels
from unet_jax.data.record import RecordStats
from unet_jax.report.contents import (
    ChannelStatistics,
    ClassStatistics,
    IntensityRange,
    MaskValue,
    SplitStatistics,
)
from unet_jax.report.formatting import spread_of

ODD = 10  # an intensity range is odd above 10 times the median, or below a tenth of it
ALL = "all"  # the splits together

Key = TypeVar("Key", bound=Hashable)


def split_statistics(account: DatasetReport) -> list[SplitStatistics]:
    """Returns the statistics of train, val, test, and of several splits together."""
    by_split: dict[str, list[RecordStats]] = {"train": [], "val": [], "test": []}
    for fact in account.records:
        by_split.setdefault(fact.split or "no split", []).append(fact)
    by_split = {split: facts for split, facts in by_split.items() if facts}
    if len(by_split) > 1:
        by_split[ALL] = list(account.records)
    return [_split(name, facts, account.classes) for name, facts in by_split.items()]


def mask_values(account: DatasetReport) -> list[MaskValue]:
    """Returns the values of the mask files, those with a class first."""
    pixels: Counter[str] = Counter()
    for fact in account.records:
        pixels.update(fact.values)
    ids: dict[str, int | None] = dict(account.label_map)
    ids |= dict.fromkeys(sorted(pixels.keys() - ids.keys()))
    names: dict[int | None, str] = {None: "none", IGNORE: "ignored"}
    names |= dict(enumerate(account.classes))
    return [
        MaskValue(value, id, names.get(id, "none"), pixels[value])
        for value, id in ids.items()
    ]


def channel_statistics(account: DatasetReport) -> list[ChannelStatistics]:
    """Returns the intensities of each channel, over the images that have it."""
    count = max((fact.channels for fact in account.records), default=0)
    return [_channel(account.records, i) for i in range(count)]


def foreground(fact: RecordStats) -> float:
    """Returns the fraction of an image's annotated pixels that are not background."""
    annotated = _annotated(fact)
    return 1 - fact.pixels.get(0, 0) / annotated if annotated else 0.0


def _split(
    name: str, facts: Sequence[RecordStats], classes: Sequence[str]
) -> SplitStatistics:
    shapes = _count(fact.shape for fact in facts)
    same_axes = len(set(map(len, shapes))) == 1
    pixels = total_pixels(facts)
    total, ignored = sum(map(_annotated, facts)), pixels.get(IGNORE, 0)
    return SplitStatistics(
        name=name,
        images=len(facts),
        formats=_count(fact.kind for fact in facts),
        shapes=shapes,
        channels=_count(fact.channels for fact in facts),
        dtypes=_count(fact.dtype for fact in facts),
        spacings=_count(fact.spacing for fact in facts if fact.spacing),
        sizes=[
            spread_of(sizes)
            for sizes in zip(*(fact.shape for fact in facts), strict=True)
        ]
        if same_axes
        else (),
        classes=[
            ClassStatistics(
                name=name,
                pixels=pixels.get(k, 0),
                share=pixels.get(k, 0) / total if total else None,
                images=sum(fact.pixels.get(k, 0) > 0 for fact in facts),
            )
            for k, name in enumerate(classes)
        ],
        ignored=ignored / (ignored + total) if ignored else 0.0,
        empty=tuple(f.id for f in facts if f.labelled and not foreground(f)),
        objects=tuple(f.objects for f in facts if f.objects is not None),
    )


def _annotated(fact: RecordStats) -> int:
    """Counts the annotated pixels, once each, also if classes are independent."""
    if not fact.labelled:
        return 0
    return math.prod(fact.shape) - fact.pixels.get(IGNORE, 0)


def _count(keys: Iterable[Key]) -> dict[Key, int]:
    """Counts equal keys, the most frequent first, ties in the order of the keys."""
    return dict(sorted(Counter(keys).items(), key=lambda item: (-item[1], item[0])))


def _channel(facts: Sequence[RecordStats], channel: int) -> ChannelStatistics:
    facts = [fact for fact in facts if fact.channels > channel]
    percentiles = [fact.intensity[channel] for fact in facts]
    lowest, low, middle, high, highest = zip(*percentiles, strict=True)
    widths = [top - bottom for bottom, top in zip(low, high, strict=True)]
    median = statistics.median(widths)
    ranges = []
    for i, fact in enumerate(facts):
        times = widths[i] / median if median else 1.0
        odd = not 1 / ODD <= times <= ODD
        ends = low[i], middle[i], high[i]
        ranges.append(IntensityRange(fact.split, fact.id, *ends, times, odd))
    medians = map(statistics.median, (low, middle, high))
    return ChannelStatistics((min(lowest), *medians, max(highest)), ranges)
