"""What the facts of an account come to: per split, per channel, per mask value."""

import math
import statistics
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from unet_jax.arrays import IGNORE
from unet_jax.data.dataset_report import DatasetReport, total_pixels
from unet_jax.data.record import RecordStats
from unet_jax.report.findings import Channel, Part, Range, Share, Span, Value
from unet_jax.report.words import spread

ODD = 10  # times the median range, or a tenth of it

WHOLE = "all"  # splits together

Thing = TypeVar("Thing", bound=Hashable)


def parts(account: DatasetReport) -> list[Part]:
    """One for each split that has facts, train, val, test, and one of all together."""
    by_split: dict[str, list[RecordStats]] = {"train": [], "val": [], "test": []}
    for fact in account.records:
        by_split.setdefault(fact.split or "no split", []).append(fact)
    there = {split: facts for split, facts in by_split.items() if facts}
    if len(there) > 1:
        there[WHOLE] = list(account.records)
    return [_part(split, facts, account.classes) for split, facts in there.items()]


def values(account: DatasetReport) -> list[Value]:
    """The values of the mask files, those that become a class first."""
    pixels: Counter[str] = Counter()
    for fact in account.records:
        pixels.update(fact.values)
    mapping: Mapping[str, int | None] = dict(account.label_map)
    names = dict(enumerate(account.classes)) | {IGNORE: "ignored", None: "none"}
    unmapped = sorted(pixels.keys() - mapping.keys())
    return [
        Value(value, id, names.get(id, "none"), pixels[value])
        for value, id in [*mapping.items(), *((value, None) for value in unmapped)]
    ]


def channels(account: DatasetReport) -> list[Channel]:
    """The intensities of each channel, over the images that have it.

    An image is odd whose range, of its middle 99 %, is more than ten times the median
    range, or less than a tenth of it.
    """
    most = max((fact.channels for fact in account.records), default=0)
    return [_channel(account.records, i) for i in range(most)]


def foreground(fact: RecordStats) -> float:
    """The share of an image's annotated pixels that are of a class above 0."""
    known = _known(fact)
    return 1 - fact.pixels.get(0, 0) / known if known else 0.0


def _part(name: str, facts: Sequence[RecordStats], classes: Sequence[str]) -> Part:
    shapes = _count(fact.shape for fact in facts)
    same = len({len(shape) for shape in shapes}) == 1
    pixels = total_pixels(facts)
    total, ignored = sum(map(_known, facts)), pixels.get(IGNORE, 0)
    shares = [
        Share(
            name=name,
            pixels=pixels.get(k, 0),
            share=pixels.get(k, 0) / total if total else None,
            images=sum(fact.pixels.get(k, 0) > 0 for fact in facts),
        )
        for k, name in enumerate(classes)
    ]
    return Part(
        name=name,
        images=len(facts),
        formats=_count(fact.kind for fact in facts),
        shapes=shapes,
        channels=_count(fact.channels for fact in facts),
        dtypes=_count(fact.dtype for fact in facts),
        spacings=_count(fact.spacing for fact in facts if fact.spacing),
        sizes=_sizes(facts) if same else (),
        classes=shares,
        ignored=ignored / (ignored + total) if ignored else 0.0,
        empty=tuple(f.id for f in facts if f.labelled and not foreground(f)),
        objects=tuple(f.objects for f in facts if f.objects is not None),
    )


def _known(fact: RecordStats) -> int:
    """The number of annotated pixels; classes that are independent share them."""
    if not fact.labelled:
        return 0
    return math.prod(fact.shape) - fact.pixels.get(IGNORE, 0)


def _sizes(facts: Sequence[RecordStats]) -> list[Range]:
    return [spread(lengths) for lengths in zip(*(f.shape for f in facts), strict=True)]


def _count(things: Iterable[Thing]) -> dict[Thing, int]:
    """How often each is there, the most frequent first, equals in their own order."""
    counts = Counter(things)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _channel(facts: Sequence[RecordStats], channel: int) -> Channel:
    having = [fact for fact in facts if fact.channels > channel]
    table = [fact.intensity[channel] for fact in having]
    lowest, low, middle, high, highest = zip(*table, strict=True)
    ranges = [top - bottom for bottom, top in zip(low, high, strict=True)]
    usual = statistics.median(ranges)
    spans = []
    for fact, (_, bottom, centre, top, _) in zip(having, table, strict=True):
        times = (top - bottom) / usual if usual else 1.0
        odd = not 1 / ODD <= times <= ODD
        spans.append(Span(fact.split, fact.id, bottom, centre, top, times, odd))
    medians = map(statistics.median, (low, middle, high))
    return Channel((min(lowest), *medians, max(highest)), spans)
