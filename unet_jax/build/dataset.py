"""Builds the data set of a run, and checks it before training."""

import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

from ml_collections import ConfigDict

from unet_jax import data
from unet_jax.build import binding, checks, field_checks
from unet_jax.data.dataset_report import (
    DatasetReport,
    Issue,
    merge_issues,
    raise_errors,
    total_pixels,
)
from unet_jax.data.duplicates import check_leaks, find_duplicates, name_duplicates
from unet_jax.data.folders.splits import SPLIT_FILE
from unet_jax.data.record import RecordStats, measure_record
from unet_jax.data.resample import make_resampling
from unet_jax.data.source import Source, Splits
from unet_jax.data.splitting import SPLITS
from unet_jax.errors import UserError, prefix_errors
from unet_jax.logs import say, warn
from unet_jax.progress import iterate_with_progress
from unet_jax.tasks import Task
from unet_jax.text import listing

NONE: Mapping[str, str] = MappingProxyType({})


def load_splits(config: ConfigDict, notes: Mapping[str, str] = NONE) -> Splits:
    """Returns the splits of the data set; prints its warnings, raises its errors.

    Args:
      config: the config of the run.
      notes: paths of saved files, by keyword argument of the data set: 'split' and
        'survey'. Keywords that the data set does not have are ignored.

    Raises:
      UserError: the spec is wrong, the data cannot be found, or the data have errors,
        which are all listed.
    """
    splits = _add_config_issues(_build_splits(config, notes), config)
    with prefix_errors("config.data"):
        checks.check_class_names(splits.train.classes)
    if report := splits.report:
        for line in report.decisions:
            say(line)
        for issue in report.issues:
            if issue.level == "warning":
                warn(issue.text)
        with prefix_errors("config.data"):
            raise_errors(report)
    return splits


def list_test_ids(config: ConfigDict, notes: Mapping[str, str] = NONE) -> list[str]:
    """Returns the ids of the test images of a data set that writes down its split.

    The arguments and errors are those of `load_splits`. Nothing is printed.
    """
    return _build_splits(config, notes).notes[SPLIT_FILE]["test"]


def survey_splits(config: ConfigDict, notes: Mapping[str, str] = NONE) -> Splits:
    """Returns the splits of the data set, with the report of all records.

    Every record is read if the data set gives no report. Errors in the data are not
    raised; they are in the report.

    Raises:
      UserError: a field of the config is wrong, or the data cannot be found.
    """
    field_checks.check_fields(config)
    splits = _build_splits(config, notes)
    with prefix_errors("config.data"):
        checks.check_class_names(splits.train.classes)
    if splits.report is None:
        report = _measure_records(splits, config.threads)
        splits = splits._replace(report=report)
    return _add_config_issues(splits, config)


def get_network_shapes(
    config: ConfigDict, report: DatasetReport | None
) -> list[tuple[int, ...]]:
    """Returns the spatial shapes of the training images after resampling.

    Without a report of the data set, the result is empty.

    Raises:
      UserError: an image cannot be resampled.
    """
    return [
        make_resampling(record.shape, record.spacing, tuple(config.spacing)).shape
        for record in (report.records if report else ())
        if record.split == "train"
    ]


def _add_config_issues(splits: Splits, config: ConfigDict) -> Splits:
    """Adds the issues of the data under this config to their report, if any."""
    if (report := splits.report) is None:
        return splits
    issues = merge_issues(
        *report.issues, *_find_config_issues(config, splits.train, report)
    )
    return splits._replace(report=report._replace(issues=issues))


def _find_config_issues(
    config: ConfigDict, source: Source, report: DatasetReport
) -> Iterator[Issue]:
    """Yields the issues of labels for the task and of pixel sizes for the spacing."""
    task = binding.build_task(config, binding.ANY_DATA)
    if source.independent and not task.overlapping:
        remedy = "set --config.task.name=multilabel"
        if "instances" in task.needs:
            remedy = f"task {config.task.name} needs one file of object ids per image"
        text = f"{report.root}: each class has its own mask, so classes may overlap; "
        yield Issue("error", "task", text + remedy)
    if names_absent_classes(task):
        yield from _find_absent_classes(source, report)
    for record in report.records:
        try:
            with prefix_errors(record.image):
                make_resampling(record.shape, record.spacing, tuple(config.spacing))
        except UserError as error:
            yield Issue("error", "spacing", str(error))


def names_absent_classes(task: Task) -> bool:
    """Returns True if the report of a data set names the classes that a split lacks."""
    return bool(task.classes) and not task.finds_objects


def _find_absent_classes(source: Source, report: DatasetReport) -> Iterator[Issue]:
    """Yields a warning for each split that lacks classes of the training images."""
    pixels = {
        split: total_pixels(r for r in report.records if r.split == split)
        for split in SPLITS
    }
    first = 1 if source.background else 0
    classes = {k: name for k, name in enumerate(report.classes) if k >= first}
    for split in ("val", "test"):
        trained = [k for k in classes if k in pixels["train"]]
        absent = [classes[k] for k in trained if k not in pixels[split]]
        if absent and any(record.split == split for record in report.records):
            text = checks.describe_absent_classes(absent, split)
            if report.split_remedy:
                text += f". {_describe_remedy(report, absent)}"
            yield Issue("warning", "absent class", text)


def _describe_remedy(report: DatasetReport, absent: Sequence[str]) -> str:
    """Returns how to get classes into each split, as far as images have them."""
    ids = {name: k for k, name in enumerate(report.classes)}
    counts = {n: sum(ids[n] in r.pixels for r in report.records) for n in absent}
    few = [name for name in absent if counts[name] < len(SPLITS)]
    enough = [name for name in absent if name not in few]
    remedies = []
    if enough:
        remedies.append(f"for {listing(map(repr, enough))}, {report.split_remedy}")
    if few:
        remedies.append(
            f"add images with {listing(map(repr, few))}, which is in too few"
        )
    text = "; ".join(remedies)
    return text[0].upper() + text[1:]


def _build_splits(config: ConfigDict, notes: Mapping[str, str]) -> Splits:
    make_splits = binding.bind_field(data, config, "data")
    known = inspect.signature(make_splits).parameters
    given = {name: path for name, path in notes.items() if name in known}
    with prefix_errors("config.data"):
        return binding.call_checked(make_splits, Splits, config.data.name, **given)


def _measure_records(splits: Splits, threads: int) -> DatasetReport:
    """Reads every record; a record that cannot be read is an issue."""
    records, issues = [], []
    with ThreadPoolExecutor(threads) as pool:
        for split, source in splits.sources.items():
            measure = functools.partial(_measure_one, source, split)
            found = pool.map(measure, range(source.length))
            title = f"reading {source.length:,} {split} images"
            for result in iterate_with_progress(found, source.length, title):
                (records if isinstance(result, RecordStats) else issues).append(result)
    duplicates = find_duplicates(records)
    issues += check_leaks(records, duplicates, "allow")
    return DatasetReport(
        root=splits.train.name.removesuffix("/train"),
        classes=splits.train.classes,
        records=tuple(records),
        issues=tuple(issues),
        duplicates=name_duplicates(records, duplicates),
    )


def _measure_one(source: Source, split: str, index: int) -> RecordStats | Issue:
    try:
        return measure_record(source.load(index), split)
    except UserError as error:
        return Issue("error", "unreadable", str(error))
