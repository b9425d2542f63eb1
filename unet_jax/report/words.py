"""What is counted and sized, in words that the page and the terminal share."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from unet_jax.report.findings import Part, Range
from unet_jax.report.numbers import NONE, short


def counted(count: int, thing: str) -> str:
    """`'no errors'`, `'1 error'`, `'2 errors'`."""
    return f"{f'{count:,d}' if count else 'no'} {thing}{'' if count == 1 else 's'}"


def shape(sizes: Sequence[float]) -> str:
    """`'512 x 512'`."""
    return " x ".join(f"{size:g}" for size in sizes)


def label(key: Any) -> str:
    """A thing that is counted: a shape or a name."""
    return shape(key) if isinstance(key, tuple) else str(key)


def by(counts: Mapping[Any, int]) -> str:
    """`'png'`, where all are, or `'png (16), tif (2)'`."""
    if len(counts) == 1:
        return label(next(iter(counts)))
    return ", ".join(f"{label(key)} ({count:,d})" for key, count in counts.items())


def most_of(counts: Mapping[Any, int], most: int = 3) -> str:
    """The same of the most frequent, and how many others there are."""
    text = by(dict(list(counts.items())[:most]))
    return f"{text} and {len(counts) - most:,d} others" if len(counts) > most else text


def extent(part: Part) -> tuple[str, str]:
    """The one size, or the median along each axis, and what lies around it."""
    if len(part.shapes) < 2 or not part.sizes:
        return most_of(part.shapes), ""
    low, middle, high = (shape(lengths) for lengths in zip(*part.sizes, strict=True))
    return middle, f"median; {low} to {high}, {len(part.shapes):,d} sizes"


def spread(values: Sequence[float]) -> Range:
    """The least, the median and the most of some numbers."""
    return Range(min(values), statistics.median(values), max(values))


def sizes(values: Sequence[float]) -> str:
    """`'1 to 369, median 25'`; nothing of no numbers."""
    if not values:
        return ""
    least, median, most = map(short, spread(values))
    return least if least == most else f"{least} to {most}, median {median}"


def memory(size: int) -> str:
    """Bytes in MiB, or in GiB from one on; 0 is not known."""
    if not size:
        return NONE
    return f"{size / 2**30:.3g} GiB" if size >= 2**30 else f"{size / 2**20:.3g} MiB"


def lasting(seconds: float) -> str:
    """A time in seconds, minutes or hours."""
    for name, unit in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.3g} seconds"
