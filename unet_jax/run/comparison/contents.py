"""The comparison of runs: what differs between them, and which is better."""

from collections.abc import Mapping, Sequence
from typing import Any

from unet_jax.build.fields import may_change
from unet_jax.report.contents import (
    ComparedRun,
    ComparedScore,
    Comparison,
    MetricInfo,
    Number,
)
from unet_jax.run.comparison.changes import list_changes
from unet_jax.run.comparison.facts import describe_state, list_facts
from unet_jax.run.comparison.run_record import RunRecord
from unet_jax.text import format_score, listing

HIGHER, LOWER = "higher is better", "lower is better"
# Fields that name a run or its files, and not how it was trained.
UNCOMPARED = ("name",)
# Fields of `data` that only choose images, which the ids of the test images show.
CHOICES = {
    f"data.{name}"
    for name in ("fold", "folds", "labelled", "test", "train", "unlabelled", "val")
}
LOSS_FIELDS = ("loss", "weight_map")  # by which test/loss is computed


def compare_runs(records: Sequence[RunRecord], names: Sequence[str]) -> Comparison:
    """Compares the records of runs; `names` are their short names."""
    warnings = [*_compare_test_images(records, names), *_compare_means(records, names)]
    return Comparison(
        runs=[
            ComparedRun(
                name=name,
                state=describe_state(record),
                finished=record.about is not None,
                history=record.history,
                picture=record.picture,
            )
            for record, name in zip(records, names, strict=True)
        ],
        warnings=warnings,
        scores=_compare_scores(records, comparable=not warnings),
        changes=_list_changes(records),
        facts=list_facts(records),
    )


def _compare_test_images(
    records: Sequence[RunRecord], names: Sequence[str]
) -> list[str]:
    """Returns a warning if the scores of the runs come from different images."""
    scored = _keep_scored(records, names)
    if len(scored) < 2:
        return []
    (first, one), *others = scored
    for record, name in others:
        if record.test_ids != first.test_ids:
            shared = len(record.test_ids & first.test_ids)
            return [
                f"The scores cannot be compared: {one} was tested on "
                f"{len(first.test_ids):,d} images and {name} on "
                f"{len(record.test_ids):,d}; they share {shared:,d}."
            ]
    data = [{"data": record.config.get("data")} for record, _ in scored]
    fields = [
        field
        for field, _ in list_changes(data)
        if field not in CHOICES and not may_change(field)
    ]
    if fields:
        return [
            "The scores may not be comparable: the names of the test images are the "
            f"same, but the data sets differ in {listing(fields)}."
        ]
    return []


def _compare_means(records: Sequence[RunRecord], names: Sequence[str]) -> list[str]:
    """Returns a warning if the scores are means over different classes."""
    scored = _keep_scored(records, names)
    means = {record.about.mean_over: name for record, name in scored if record.about}
    if len(means) < 2:
        return []
    words = " and ".join(
        f"{mean or 'unknown'} ({name})" for mean, name in means.items()
    )
    return [f"The scores cannot be compared: they are means over {words}."]


def _keep_scored(
    records: Sequence[RunRecord], names: Sequence[str]
) -> list[tuple[RunRecord, str]]:
    pairs = zip(records, names, strict=True)
    return [(record, name) for record, name in pairs if record.about is not None]


def _compare_scores(
    records: Sequence[RunRecord], *, comparable: bool
) -> list[ComparedScore]:
    """Returns the test scores of the runs, those of the classes below their mean."""
    keys = dict.fromkeys(key for record in records for key in record.scores)
    keys = [key.removeprefix("test/") for key in keys]
    metrics = list(dict.fromkeys(key.partition("/")[0] for key in keys))
    metrics.sort(key="loss".__eq__)  # last
    rows = []
    for name in metrics:
        lower = _find_direction(records, name)
        words = {True: LOWER, False: HIGHER, None: ""}[lower]
        reduction = _find_reduction(records, name)
        for key in keys:
            if key.partition("/")[0] == name:
                values = [record.scores.get(f"test/{key}") for record in records]
                best = _find_best(values, lower) if comparable else []
                own = (reduction, words) if key == name else ("", "")
                info = MetricInfo(key, own[0], bool(lower))
                rows.append(ComparedScore(info, values, best, own[1]))
    return rows


def _find_direction(records: Sequence[RunRecord], name: str) -> bool | None:
    """Returns True if lower is better; None if it is unknown or not comparable.

    A score is comparable only if all runs compute it in the same way.
    """
    having = [record for record in records if f"test/{name}" in record.scores]
    if name == "loss":
        specs = [[r.config.get(f) for f in LOSS_FIELDS] for r in having]
        directions = {True}
    else:
        found = [record.metrics.get(name) for record in having]
        specs = [pair and pair[0] for pair in found]
        directions = {None if pair is None else pair[1].lower for pair in found}
    same = all(spec == specs[0] for spec in specs)
    return directions.pop() if same and len(directions) == 1 else None


def _find_reduction(records: Sequence[RunRecord], name: str) -> str:
    """Returns the reduction of a score in words, if all runs agree on it."""
    found = {r.about.reductions.get(name, "") for r in records if r.about is not None}
    return found.pop() if len(found) == 1 else ""


def _find_best(values: Sequence[Number], lower: bool | None) -> list[int]:
    """Returns the places of the best values, if there are different ones to compare.

    Values with the same text, which a reader cannot tell apart, are equal.
    """
    defined = [value for value in values if value is not None]
    if lower is None or len(set(map(format_score, defined))) < 2:
        return []
    best = format_score(min(defined) if lower else max(defined))
    return [i for i, value in enumerate(values) if format_score(value) == best]


def _list_changes(records: Sequence[RunRecord]) -> list[tuple[str, list[str]]]:
    """Returns the fields that differ between the configs, with their values.

    The fields of `predict` are those of the evaluation, if there was one.
    """
    changes = list_changes([_use_evaluated(record) for record in records])
    return [(name, values) for name, values in changes if name not in UNCOMPARED]


def _use_evaluated(record: RunRecord) -> Mapping[str, Any]:
    if record.about is None or record.about.predict is None:
        return record.config
    return {**record.config, "predict": record.about.predict}
