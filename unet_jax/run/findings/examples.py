"""Which images of a data set are shown, and how: under the classes of their labels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unet_jax import pictures
from unet_jax.data import files
from unet_jax.data.dataset_report import DatasetReport
from unet_jax.data.duplicates import find_duplicates
from unet_jax.data.record import Record, RecordStats
from unet_jax.data.source import Source, Splits
from unet_jax.report.findings import Example, Pair
from unet_jax.report.numbers import percent
from unet_jax.report.words import shape
from unet_jax.run.findings.summary import foreground

SHOWN = 384  # pixels along the longer side of a picture, at most
EVENLY = 2  # images of a split, besides those of the most and the least foreground
PAIRS = 6  # that are shown


def examples(splits: Splits, account: DatasetReport) -> list[Example]:
    """A few images of every split that has records."""
    shown = []
    for split, source in splits.sources.items():
        facts = [fact for fact in account.records if fact.split == split]
        if len(facts) == source.length:
            for index, rank in sorted(chosen(facts).items()):
                shown.append(_example(source, index, facts[index], rank))
    return shown


def chosen(facts: Sequence[RecordStats]) -> dict[int, str]:
    """Places of the images to show, and why: evenly spaced, and the two extremes."""
    shares = [foreground(fact) for fact in facts]
    places = {}
    if shares and max(shares) > min(shares):
        places[int(np.argmax(shares))] = "most foreground"
        places[int(np.argmin(shares))] = "least foreground"
    others = [i for i in range(len(facts)) if i not in places]
    for i in range(min(EVENLY, len(others))):
        places[others[(2 * i + 1) * len(others) // (2 * EVENLY)]] = ""
    return places


def legend(source: Source) -> list[tuple[str, tuple[int, ...]]]:
    """The names of the classes above 0 and the colours that an overlay gives them."""
    count = len(source.classes)
    if count < 2:
        return []
    apart = np.arange(2 * count)[None] % 2 * (np.arange(2 * count)[None] // 2)
    strip = pictures.overlay(np.zeros((*apart.shape, 1)), apart, source.colours)
    drawn = strip[0, 1::2].tolist()
    return [(source.classes[k], tuple(drawn[k])) for k in range(1, count)]


def pairs(splits: Splits, account: DatasetReport) -> list[Pair]:
    """Images of two splits that are alike, those of the same pixels first."""
    facts = account.records
    across = [
        twin
        for twin in find_duplicates(facts)
        if facts[twin.a].split != facts[twin.b].split
        and {facts[twin.a].split, facts[twin.b].split} <= splits.sources.keys()
    ]
    shown = []
    for twin in sorted(across, key=lambda twin: (not twin.identical, twin))[:PAIRS]:
        two = [_plain(splits, account, facts[i]) for i in (twin.a, twin.b)]
        if all(two):
            shown.append(Pair(twin.identical, *two))
    return shown


def _plain(splits: Splits, account: DatasetReport, fact: RecordStats) -> Example | None:
    """An image alone: of its record or, where errors keep these away, of its file."""
    source = splits.sources.get(fact.split)
    same = [other.id for other in account.records if other.split == fact.split]
    if source and source.length == len(same):
        image = source.load(same.index(fact.id))["image"]
    elif fact.image:
        path = Path(account.root) / fact.image
        with files.open_images(path, axes=len(fact.shape)) as grid:
            if grid.count > 1:
                return None
            image = grid.read(0, [slice(0, size) for size in grid.shape])
    else:
        return None
    axes = image.ndim - 1
    png = pictures.png(pictures.grey(_seen(image, axes)))
    return Example(fact.split, f"{fact.split},", fact.id, shape(fact.shape), png)


def _example(source: Source, index: int, fact: RecordStats, rank: str) -> Example:
    record = source.load(index)
    says = shape(fact.shape)
    if fact.labelled:
        says += f", foreground {percent(foreground(fact))}"
    if len(fact.shape) > 2:
        says += ", the middle slice"
    png = pictures.png(_draw(record, source.colours))
    return Example(fact.split, rank, record["id"], says, png)


def _draw(record: Record, colours: pictures.Colours) -> pictures.Picture:
    """A record under its classes, and with the outlines of its objects, if any."""
    axes = record["image"].ndim - 1
    if "label" not in record:
        return pictures.grey(_seen(record["image"], axes))
    objects = record.get("instances")
    return pictures.overlay(
        _seen(record["image"], axes),
        _seen(record["label"], axes),
        colours,
        None if objects is None else _seen(objects, axes),
    )


def _seen(array: np.ndarray, axes: int) -> np.ndarray:
    """The middle slice of a volume, thinned out if it is large."""
    for _ in range(axes - 2):
        array = array[len(array) // 2]
    step = -(-max(array.shape[:2]) // SHOWN)
    return array[::step, ::step]
