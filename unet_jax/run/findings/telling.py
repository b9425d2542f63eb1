"""An inspection on the terminal and as JSON data."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from unet_jax.data.dataset_report import DatasetReport, Issue
from unet_jax.data.record import PERCENTS
from unet_jax.report import Inspection
from unet_jax.report.findings import Advice, Part
from unet_jax.report.numbers import percent, short
from unet_jax.report.words import (
    by,
    counted,
    extent,
    label,
    lasting,
    memory,
    most_of,
    sizes,
)


def lines(inspection: Inspection) -> Iterator[str]:
    """What the terminal shows: errors, warnings, decisions, numbers."""
    levels = [level for level, _, _ in inspection.faults]
    found = " and ".join(
        counted(levels.count(level), level) for level in ("error", "warning")
    )
    yield f"{inspection.title}: {found}"
    for level in ("error", "warning"):
        faults = [(kind, text) for lv, kind, text in inspection.faults if lv == level]
        for kind in dict.fromkeys(kind for kind, _ in faults):
            yield f"{level}: {kind}"
            yield from (f"  {text}" for k, text in faults if k == kind)
    if inspection.said:
        yield "decided"
        yield from (f"  {line}" for line in inspection.said)
    if inspection.parts:
        yield from _aligned(_rows(inspection.parts))
    for i, channel in enumerate(inspection.channels):
        low, *middle, high = map(short, channel.percentiles)
        odd = [span.name for span in channel.spans if span.odd]
        unlike = f"; far from the median range: {_some(odd)}" if odd else ""
        yield (
            f"channel {i}: {low} to {high}, medians of the 0.5th, 50th and 99.5th "
            f"percentile {', '.join(middle)}{unlike}"
        )
    if inspection.values:
        yield "mask values: " + ", ".join(
            f"{v.value} -> {'?' if v.id is None else v.id} {v.name} ({v.pixels:,d})"
            for v in inspection.values
        )


def plan(advice: Advice) -> Iterator[str]:
    """What was chosen, what it costs and how to train it."""
    yield "plan"
    yield from _aligned([(f"  {f}", [v, why]) for f, v, why in advice.choices])
    yield (
        f"  {memory(advice.memory)} for a step, {lasting(advice.seconds)} for 1000 "
        f"steps, measured on {advice.device}"
    )
    yield f"train it with: {advice.command}"


def _rows(parts: Sequence[Part]) -> list[tuple[str, list[str]]]:
    rows = [
        ("", [part.name for part in parts]),
        ("images", [f"{part.images:,d}" for part in parts]),
        ("format", [by(part.formats) for part in parts]),
        ("size", [extent(part)[0] for part in parts]),
        ("", [extent(part)[1] for part in parts]),
        ("spacing", [most_of(part.spacings, 1) for part in parts]),
        ("channels", [by(part.channels) for part in parts]),
        ("type", [by(part.dtypes) for part in parts]),
        ("objects", [sizes(part.objects) for part in parts]),
        ("no foreground", [f"{len(part.empty):,d}" for part in parts]),
    ]
    for shares in zip(*(part.classes for part in parts), strict=True):
        rows.append((shares[0].name, [percent(share.share) for share in shares]))
    return [(name, cells) for name, cells in rows if any(cells)]


def _aligned(rows: Sequence[tuple[str, Sequence[str]]]) -> Iterator[str]:
    """Rows as lines whose columns stand under each other."""
    table = [[name, *cells] for name, cells in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        yield "  ".join(
            c.ljust(width) for c, width in zip(row, widths, strict=True)
        ).rstrip()


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most:,d} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def as_json(account: DatasetReport, inspection: Inspection) -> dict[str, Any]:
    """All but the pictures and the thumbnails, as JSON data."""
    levels = [level for level, _, _ in inspection.faults]
    return _data(
        {
            "data": account.root,
            "errors": levels.count("error"),
            "warnings": levels.count("warning"),
            "faults": [Issue(*fault) for fault in inspection.faults],
            "said": account.decisions,
            "classes": account.classes,
            "mask_values": inspection.values,
            "splits": {part.name: part for part in inspection.parts},
            "percents": PERCENTS,
            "channels": [c.percentiles for c in inspection.channels],
            "unlike": [s for c in inspection.channels for s in c.spans if s.odd],
            "plan": inspection.advice,
            "images": [fact._replace(thumbnail=None) for fact in account.records],
        }
    )


def _data(value: Any) -> Any:
    """Named tuples as dicts, and what is not JSON as text."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
        value.pop("thumbnail", None)
    if isinstance(value, Mapping):
        return {label(key): _data(field) for key, field in value.items()}
    if isinstance(value, (tuple, list)):
        return [_data(one) for one in value]
    return None if isinstance(value, float) and value != value else value
