"""The data of a config, read through before any training."""

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
from unet_jax.errors import UserError, naming
from unet_jax.logs import say

NONE: Mapping[str, str] = MappingProxyType({})


def sound(config: ConfigDict, notes: Mapping[str, str] = NONE) -> Splits:
    """Returns the splits of the data that a config names, and prints the findings.

    Args:
      config: of the run.
      notes: keywords of the data set that name files of the run folder; those that
        the data set does not have are left out.

    Raises:
      UserError: the spec is wrong, the data cannot be found, or have mistakes in them,
        which are then all listed.
    """
    splits = _checked(_splits(config, notes), config)
    if account := splits.report:
        warnings = [fault.text for fault in account.issues if fault.level == "warning"]
        for line in (*account.decisions, *(f"warning: {text}" for text in warnings)):
            say(line)
        with naming("config.data"):
            raise_errors(account)
    return splits


def survey(config: ConfigDict, notes: Mapping[str, str] = NONE) -> Splits:
    """The splits with their account; of a data set without one, every record is read.

    Args:
      config: of the run.
      notes: as in `sound`.

    Raises:
      UserError: a field of the config is wrong, or the data cannot be found.
    """
    checks.fields(config)
    splits = _splits(config, notes)
    if splits.report is None:
        splits = splits._replace(report=_account(splits, config.threads))
    return _checked(splits, config)


def resampled(
    config: ConfigDict, account: DatasetReport | None
) -> list[tuple[int, ...]]:
    """The shapes of the training images as the network sees them, if they are known.

    Raises:
      UserError: one cannot be resampled.
    """
    return [
        make_resampling(fact.shape, fact.spacing, tuple(config.spacing)).shape
        for fact in (account.records if account else ())
        if fact.split == "train"
    ]


def _checked(splits: Splits, config: ConfigDict) -> Splits:
    """The splits with what else is wrong with their account, under this config."""
    if (account := splits.report) is None:
        return splits
    faults = merge_issues(*account.issues, *_unfit(config, splits.train, account))
    return splits._replace(report=account._replace(issues=faults))


def _unfit(
    config: ConfigDict, source: Source, account: DatasetReport
) -> Iterator[Issue]:
    """What the config makes of classes that may overlap, and of the size of pixels."""
    task = binding.task(config, binding.ANY_DATA)
    if source.independent and not task.overlapping:
        text = f"{account.root}: each class has a mask of its own, and may overlap "
        yield Issue("error", "task", text + "others; set --config.task.name=multilabel")
    for fact in account.records:
        try:
            with naming(fact.image):
                make_resampling(fact.shape, fact.spacing, tuple(config.spacing))
        except UserError as error:
            yield Issue("error", "spacing", str(error))


def _splits(config: ConfigDict, notes: Mapping[str, str]) -> Splits:
    make_splits = binding.field(data, config, "data")
    known = inspect.signature(make_splits).parameters
    given = {name: path for name, path in notes.items() if name in known}
    with naming("config.data"):
        return binding.call(make_splits, Splits, config.data.name, **given)


def _account(splits: Splits, threads: int) -> DatasetReport:
    """What is found in the records; one that cannot be read is a fault."""
    facts, faults = [], []
    with ThreadPoolExecutor(threads) as pool:
        for split, source in splits.sources.items():
            for found in pool.map(_reader(split, source), range(source.length)):
                (facts if isinstance(found, RecordStats) else faults).append(found)
    faults += check_leaks(facts, find_duplicates(facts), "allow")
    return DatasetReport(
        root=splits.train.name.removesuffix("/train"),
        classes=splits.train.classes,
        records=tuple(facts),
        issues=tuple(faults),
    )


def _reader(split: str, source: Source) -> Callable[[int], RecordStats | Issue]:
    def read(index: int) -> RecordStats | Issue:
        try:
            return measure_record(source.load(index), split)
        except UserError as error:
            return Issue("error", "unreadable", str(error))

    return read
