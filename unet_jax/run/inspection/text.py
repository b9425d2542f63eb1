"""An inspection as lines of the terminal and as JSON data."""

from collections.abc import Iterator, Mapping
from typing import Any

from unet_jax.data.dataset_report import DatasetReport
from unet_jax.data.image_stats import PERCENTS
from unet_jax.report.contents import Inspection, PlanSummary
from unet_jax.report.formatting import (
    format_bytes,
    format_count,
    format_key,
    format_percent,
    format_value,
    issues_by_kind,
    split_rows,
)
from unet_jax.text import align_columns, fold, format_duration, listing

SHOWN_VALUES = 20  # of the masks; inspect.json has all


def describe_issues(inspection: Inspection) -> Iterator[str]:
    """Yields the lines of the terminal about errors and warnings, one for each."""
    levels = [level for level, _, _ in inspection.issues]
    counts = [format_count(levels.count(each), each) for each in ("error", "warning")]
    yield f"{inspection.title}: {' and '.join(counts)}"
    for level in ("error", "warning"):
        for kind, texts in issues_by_kind(inspection.issues, level):
            yield f"{level}: {kind}"
            yield from (f"  {text}" for text in texts)


def describe_data(inspection: Inspection, width: int) -> Iterator[str]:
    """Yields the lines of the terminal about the decisions and the statistics.

    Lines are as wide as the terminal, `width` columns.
    """
    if inspection.decisions:
        yield "decisions"
        for line in inspection.decisions:
            yield from fold(["", "", *line.split(" ")], width)
    if splits := inspection.splits:
        rows = [("", [split.name for split in splits]), *split_rows(splits, spacings=1)]
        for classes in zip(*(split.classes or () for split in splits), strict=True):
            rows.append((classes[0].name, [format_percent(c.share) for c in classes]))
        yield from align_columns([[name, *cells] for name, cells in rows], width)
    for i, channel in enumerate(inspection.channels):
        low, *medians, high = map(format_value, channel.percentiles)
        odd = [each.name for each in channel.ranges if each.odd]
        line = f"channel {i}: {low} to {high}, medians of the 0.5th, 50th and 99.5th "
        line += f"percentile {', '.join(medians)}"
        line += f"; far from the median range: {listing(odd)}" if odd else ""
        yield from fold(line.split(" "), width)
    if any(value.id is not None for value in inspection.mask_values):
        first, *others = (
            f"{v.value} -> {'?' if v.id is None else v.id} {v.name or 'none'} "
            f"({v.pixels:,d})"
            for v in inspection.mask_values[:SHOWN_VALUES]
        )
        if (more := len(inspection.mask_values) - SHOWN_VALUES) > 0:
            others.append(f"and {more:,d} more")
        yield from fold([f"mask values: {first}", *others], width, separator=", ")


def describe_plan(plan: PlanSummary, width: int) -> Iterator[str]:
    """Yields the lines of the terminal, of `width` columns: the choices, their cost."""
    yield "plan"
    yield from align_columns([(f"  {f}", v, why) for f, v, why in plan.choices], width)
    yield (
        f"  {format_bytes(plan.memory)} for a step, {format_duration(plan.seconds)} "
        f"for 1000 steps, measured on {plan.device}"
    )


def as_json(report: DatasetReport, inspection: Inspection) -> dict[str, Any]:
    """Returns all but the pictures and the thumbnails, as JSON data."""
    levels = [level for level, _, _ in inspection.issues]
    return _plain(
        {
            "data": report.root,
            "errors": levels.count("error"),
            "warnings": levels.count("warning"),
            "issues": inspection.issues,
            "decisions": report.decisions,
            "classes": report.classes,
            "mask_values": inspection.mask_values,
            "splits": {split.name: split for split in inspection.splits},
            "percents": PERCENTS,
            "channels": [channel.percentiles for channel in inspection.channels],
            "unlike": [r for c in inspection.channels for r in c.ranges if r.odd],
            "plan": inspection.plan,
            "images": [record._replace(thumbnail=None) for record in report.records],
        }
    )


def _plain(value: Any) -> Any:
    """Converts named tuples to dicts, keys to text and NaN to None, recursively."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
        value.pop("thumbnail", None)
    if isinstance(value, Mapping):
        return {format_key(key): _plain(field) for key, field in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and value != value else value
