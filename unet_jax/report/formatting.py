"""Numbers, counts and sizes as text, for the pages and the terminal."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from unet_jax.report.contents import Number, SplitStatistics, Spread
from unet_jax.text import UNDEFINED, dimensions, is_defined, with_minus


def format_value(value: Number) -> str:
    """Formats a measured value with four digits; whole from a thousand on."""
    if not is_defined(value):
        return UNDEFINED
    return with_minus(f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}")


def format_percent(value: Number) -> str:
    """Formats a fraction; '0 %' and '100 %' only for exactly 0 and 1."""
    if not is_defined(value):
        return UNDEFINED
    if value in (0, 1):
        return f"{100 * value:.0f} %"
    if value < 0.0005:
        return "< 0.1 %"
    return "> 99.9 %" if value > 0.9995 else f"{100 * value:.1f} %"


def format_count(count: int, noun: str) -> str:
    """Returns 'no errors', '1 error' or '2 errors'."""
    return f"{f'{count:,d}' if count else 'no'} {noun}{'' if count == 1 else 's'}"


def format_key(key: Any) -> str:
    """Formats a counted thing: a shape or a name."""
    return dimensions(key) if isinstance(key, tuple) else str(key)


def format_counts(counts: Mapping[Any, int], limit: int | None = None) -> str:
    """Returns 'png' for a single key, else 'png (16), tif (2) and 3 others'.

    The counts are sorted, the most frequent first. At most `limit` of them are listed.
    """
    shown = list(counts.items())[:limit]
    if len(shown) == 1:
        text = format_key(shown[0][0])
    else:
        text = ", ".join(f"{format_key(key)} ({count:,d})" for key, count in shown)
    others = len(counts) - len(shown)
    return f"{text} and {others:,d} others" if others else text


def spread_of(values: Sequence[float]) -> Spread:
    """Returns the minimum, the median and the maximum."""
    return Spread(min(values), statistics.median(values), max(values))


def format_spread(values: Sequence[float]) -> str:
    """Returns '1 to 369, median 25'; an empty text without values."""
    if not values:
        return ""
    least, median, most = map(format_value, spread_of(values))
    return least if least == most else f"{least} to {most}, median {median}"


def format_bytes(size: int) -> str:
    """Formats a size in MiB or GiB; 0 is unknown."""
    if not size:
        return UNDEFINED
    return f"{size / 2**30:.3g} GiB" if size >= 2**30 else f"{size / 2**20:.3g} MiB"


def issues_by_kind(
    issues: Sequence[tuple[str, str, str]], level: str
) -> list[tuple[str, list[str]]]:
    """Returns the kinds of issues of a level, each with the texts of its issues."""
    kinds: dict[str, list[str]] = {}
    for found, kind, text in issues:
        if found == level:
            kinds.setdefault(kind, []).append(text)
    return list(kinds.items())


def split_rows(
    splits: Sequence[SplitStatistics], spacings: int = 3
) -> list[tuple[str, list[str]]]:
    """Returns the table of the splits: names of rows, and a cell for each split.

    At most so many spacings are listed.
    """
    several = any(len(split.shapes) > 1 and split.sizes for split in splits)
    size = "median size" if several else "size"
    rows = [
        ("images", [f"{split.images:,d}" for split in splits]),
        ("format", [format_counts(split.formats) for split in splits]),
        (size, [_median_size(split) for split in splits]),
        ("sizes", [_range_of_sizes(split) for split in splits]),
        ("spacing", [format_counts(split.spacings, spacings) for split in splits]),
        ("channels", [format_counts(split.channels) for split in splits]),
        ("type", [format_counts(split.dtypes) for split in splits]),
        ("objects per image", [format_spread(split.objects) for split in splits]),
        ("not annotated", [format_percent(split.ignored or None) for split in splits]),
        ("without foreground", [_count_empty(split) for split in splits]),
    ]
    return [(name, cells) for name, cells in rows if set(cells) - {"", UNDEFINED}]


def _count_empty(split: SplitStatistics) -> str:
    return UNDEFINED if split.empty is None else f"{len(split.empty):,d}"


def _median_size(split: SplitStatistics) -> str:
    if len(split.shapes) < 2 or not split.sizes:
        return format_counts(split.shapes, 3)
    return dimensions([size.median for size in split.sizes])


def _range_of_sizes(split: SplitStatistics) -> str:
    if len(split.shapes) < 2 or not split.sizes:
        return ""
    least = dimensions([size.least for size in split.sizes])
    most = dimensions([size.most for size in split.sizes])
    return f"{least} to {most}, {len(split.shapes):,d} sizes"
