"""Builds the data set of a run, and checks it before training."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

from ml_collections import ConfigDict

from unet_jax import data
from unet_jax.build import binding, checks
from unet_jax.data.dataset_report import (
    DatasetReport,
    Issue,
    merge_issues,
    raise_errors,
)
from unet_jax.data.duplicates import check_leaks, find_duplicates
from unet_jax.data.record import RecordStats, measure_record
from unet_jax.data.resample import make_resampling
from unet_jax.data.source import Source, Splits
from unet_jax.errors import UserError, prefix_errors
from unet_jax.logs import say

NONE: Mapping[str, str] = MappingProxyType({})


def load_splits(config: ConfigDict, notes: Mapping[str, str] = NONE) -> Splits:
    """Returns the splits of the data set, without errors; prints its warnings.

    Args:
      config: of the run.
      notes: files of the run folder, by the keyword of the data set that takes them.
        Keywords that the data set does not have are ignored.

    Raises:
      UserError: the spec is wrong, the data cannot be found, or the data have errors,
        which are all listed.
    """
    splits = _add_config_faults(_build_splits(config, notes), config)
    if account := splits.report:
        warnings = [fault.text for fault in account.issues if fault.level == "warning"]
        for line in (*account.decisions, *(f"warning: {text}" for text in warnings)):
            say(line)
        with prefix_errors("config.data"):
            raise_errors(account)
    return splits


def survey_splits(config: ConfigDict, notes: Mapping[str, str] = NONE) -> Splits:
    """Returns the splits of the data set, with the account of all records.

    Every record is read if the data set gives no account. Errors in the data are not
    raised; they are in the account.

    Args:
      config: of the run.
      notes: as in `load_splits`.

    Raises:
      UserError: a field of the config is wrong, or the data cannot be found.
    """
    checks.check_fields(config)
    splits = _build_splits(config, notes)
    if splits.report is None:
        account = _measure_records(splits, config.threads)
        splits = splits._replace(report=account)
    return _add_config_faults(splits, config)


def get_network_shapes(
    config: ConfigDict, account: DatasetReport | None
) -> list[tuple[int, ...]]:
    """Returns the spatial shapes of the training images after resampling.

    Args:
      config: of the run.
      account: of the data set; without one, the result is empty.

    Raises:
      UserError: an image cannot be resampled.
    """
    return [
        make_resampling(fact.shape, fact.spacing, tuple(config.spacing)).shape
        for fact in (account.records if account else ())
        if fact.split == "train"
    ]


def _add_config_faults(splits: Splits, config: ConfigDict) -> Splits:
    """Adds the faults of the data under this config to their account, if any."""
    if (account := splits.report) is None:
        return splits
    faults = merge_issues(
        *account.issues, *_find_config_faults(config, splits.train, account)
    )
    return splits._replace(report=account._replace(issues=faults))


def _find_config_faults(
    config: ConfigDict, source: Source, account: DatasetReport
) -> Iterator[Issue]:
    """Yields the faults of labels for the task, and of pixel sizes for the spacing."""
    task = binding.build_task(config, binding.ANY_DATA)
    if source.independent and not task.overlapping:
        text = (
            f"{account.root}: each class has its own mask, so classes may overlap; set "
            "--config.task.name=multilabel"
        )
        yield Issue("error", "task", text)
    for fact in account.records:
        try:
            with prefix_errors(fact.image):
                make_resampling(fact.shape, fact.spacing, tuple(config.spacing))
        except UserError as error:
            yield Issue("error", "spacing", str(error))


def _build_splits(config: ConfigDict, notes: Mapping[str, str]) -> Splits:
    make_splits = binding.bind_field(data, config, "data")
    known = inspect.signature(make_splits).parameters
    given = {name: path for name, path in notes.items() if name in known}
    with prefix_errors("config.data"):
        return binding.call_checked(make_splits, Splits, config.data.name, **given)


def _measure_records(splits: Splits, threads: int) -> DatasetReport:
    """Reads every record; a record that cannot be read is a fault."""
    facts, faults = [], []
    with ThreadPoolExecutor(threads) as pool:
        for split, source in splits.sources.items():
            for result in pool.map(_make_reader(split, source), range(source.length)):
                (facts if isinstance(result, RecordStats) else faults).append(result)
    faults += check_leaks(facts, find_duplicates(facts), "allow")
    return DatasetReport(
        root=splits.train.name.removesuffix("/train"),
        classes=splits.train.classes,
        records=tuple(facts),
        issues=tuple(faults),
    )


def _make_reader(split: str, source: Source) -> Callable[[int], RecordStats | Issue]:
    """Returns a function that measures the record at an index."""

    def read(index: int) -> RecordStats | Issue:
        try:
            return measure_record(source.load(index), split)
        except UserError as error:
            return Issue("error", "unreadable", str(error))

    return read
