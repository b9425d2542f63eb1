"""Mode `crossval`: trains a run for each fold, and scores the images as one set."""

import inspect
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from ml_collections import ConfigDict

from unet_jax import data, logs, parallel
from unet_jax.build import binding, field_checks
from unet_jax.build.dataset import list_test_ids, load_splits
from unet_jax.build.sweep_file import Point, Sweep
from unet_jax.checkpoint import CHECKPOINTS, FOLDS_FILE, JOURNAL, find_runs, holds_folds
from unet_jax.data.folders.cache import SURVEY_FILE
from unet_jax.data.source import Splits
from unet_jax.errors import UserError, prefix_errors
from unet_jax.json_file import read_json
from unet_jax.run import run_config, run_folder
from unet_jax.run.cross_validation.folds import (
    check_test_images,
    hash_log,
    set_fold,
)
from unet_jax.run.run_config import config_to_json
from unet_jax.run.sweep import run_sweep
from unet_jax.run.sweeping.files import LOGS
from unet_jax.run.sweeping.study import import_optuna
from unet_jax.run.sweeping.trial import PROGRAM, make_environment
from unet_jax.text import listing

LEAST_FOLDS = 3
KIND = "cross-validation"
FOLD, FOLDS = "data.fold", "data.folds"  # fields


def crossval(
    config: ConfigDict,
    workdir: Path,
    *,
    source: str,
    given: Mapping[str, Any],
    workers: int = 1,
) -> int:
    """Trains a run for each fold, as a sweep, and scores the folds together.

    The same command continues it, and takes part in it on further machines that share
    the folder. Afterwards the folder holds the scores and the prediction of every
    image, and modes `predict` and `evaluate` take it like that of a run.

    Args:
      config: the config of the runs; `data.folds` is the number of folds.
      workdir: the folder of the cross-validation.
      source: the name of the config, as --config takes it.
      given: the fields of the command line.
      workers: the number of folds that train at the same time here.

    Returns:
      0, or the code of the process that evaluates the folds, or 128 plus the number of
      the signal that stopped the runs.

    Raises:
      UserError: the data set has no folds, a field is wrong, a run failed, or the
        folder holds something else.
    """
    parallel.stay_on_cpu()  # before anything asks for the devices
    import_optuna(KIND)
    _check_source(source, workdir)
    _check_given(given)
    folds = count_folds(config)
    names = [f"fold-{k}" for k in range(folds)]
    _check_folder(workdir, names)
    folders = [workdir / name for name in names]
    splits = _load_first_fold(config, folders)
    run_folder.create(workdir)  # only now, so that wrong folds leave no folder
    if SURVEY_FILE in splits.notes:
        _share_survey(splits.notes[SURVEY_FILE], folders)
        _check_folds(config, folders)
    run_folder.write_json(workdir / FOLDS_FILE, {"folds": names})
    points = tuple(Point(name, {FOLD: k}) for k, name in enumerate(names))
    sweep = Sweep(base=source, points=points, given=given, kind=KIND)
    code, results = run_sweep(sweep, config, workdir, workers=workers)
    failed = [result.name for result in results if result.state == "failed"]
    if failed and code <= 1:
        raise UserError(
            f"{len(failed)} of {folds} folds failed: {listing(failed)}; read "
            f"{workdir / LOGS}, and start the command again to repeat them"
        )
    if code == 0 and is_scored(workdir):
        logs.say(
            f"{workdir} is scored already{_describe_other_options(config, workdir)}; "
            f"--mode=evaluate --workdir={workdir} scores it again"
        )
        return 0
    return code or _evaluate(config, workdir)


class _ScoredFold(msgspec.Struct):
    """The part of a fold in scores.json that tells which training was scored."""

    run: str
    log: str


class _ScoresFile(msgspec.Struct):
    """The part of scores.json that is read here: the folds."""

    folds: list[_ScoredFold]


def is_scored(workdir: Path) -> bool:
    """Returns True if the folds were scored, to the end, since the last one trained."""
    if not (workdir / run_folder.REPORT).exists():  # it is written after the scores
        return False
    try:
        scored = read_json(workdir / run_folder.SCORES, _ScoresFile, "").folds
    except UserError:
        return False
    trained = [_ScoredFold(run.name, hash_log(run)) for run in find_runs(workdir)]
    return scored == trained


def _describe_other_options(config: ConfigDict, workdir: Path) -> str:
    """Returns a phrase if scores.json has other options of prediction, or ''."""
    path = workdir / run_folder.SCORES
    remedy = f"run --mode=evaluate --workdir={workdir}"
    scored = read_json(path, dict[str, Any], remedy).get("predict")
    wanted = config_to_json(config)["predict"]
    return "" if scored in (None, wanted) else ", with other values of config.predict"


def count_folds(config: ConfigDict) -> int:
    """Returns the number of folds of the data set.

    Raises:
      UserError: the data set has no folds, or they are not chosen.
    """
    field_checks.check_fields(config)
    make_splits = binding.bind_field(data, config, "data")
    parameters = inspect.signature(make_splits).parameters
    if not {"fold", "folds"} <= parameters.keys():
        known = [name for name in data.__all__ if _has_folds(name)]
        raise UserError(
            f"config.data.name: the data set {config.data.name!r} has no folds; name "
            f"one that has: {listing(known)}"
        )
    folds = parameters["folds"].default
    if folds < LEAST_FOLDS:
        raise UserError(
            f"config.{FOLDS} must be at least {LEAST_FOLDS}, not {folds}; set "
            f"--config.{FOLDS}=5"
        )
    return folds


def _has_folds(name: str) -> bool:
    parameters = inspect.signature(getattr(data, name)).parameters
    return {"fold", "folds"} <= parameters.keys()


def _check_source(source: str, workdir: Path) -> None:
    """Raises UserError if the config is that of the folder itself."""
    _, _, stored = source.partition("saved:")
    if stored and Path(stored).expanduser().resolve() == workdir.resolve():
        raise UserError(
            f"--mode=crossval needs --config; the command that started {workdir} "
            "continues it, and --mode=evaluate scores it again"
        )


def _check_given(given: Mapping[str, Any]) -> None:
    """Raises UserError if the command line sets the fold."""
    if FOLD in given:
        raise UserError(
            f"--config.{FOLD}: --mode=crossval trains every fold; leave it out, or "
            "train one fold without --mode"
        )


def _check_folder(workdir: Path, names: list[str]) -> None:
    """Raises UserError if the folder holds something else."""
    if holds_folds(workdir):
        started = [run.name for run in find_runs(workdir)]
        if started != names:
            raise UserError(
                f"{workdir} holds a cross-validation of {len(started)} folds, not "
                f"{len(names)}; choose another --workdir"
            )
        return
    owners = {
        run_folder.SCORES: "a run",
        run_config.CONFIG: "a run",
        CHECKPOINTS: "a run",
        JOURNAL: "a sweep",
    }
    for file, owner in owners.items():
        if (workdir / file).exists():
            raise UserError(f"{workdir} holds {owner}; choose another --workdir")


def _load_first_fold(config: ConfigDict, folders: Sequence[Path]) -> Splits:
    """Returns the splits of the first fold; reuses the survey of an earlier start.

    Raises:
      UserError: as in `load_splits`, which also prints the warnings.
    """
    known = next((f for f in folders if (f / SURVEY_FILE).exists()), folders[0])
    first = set_fold(config, 0)
    return load_splits(first, run_folder.find_notes(known, first))


def _share_survey(survey: Any, folders: Sequence[Path]) -> None:
    """Writes a survey to each run folder that has none, so that files are read once."""
    for folder in folders:
        folder.mkdir(exist_ok=True)
        if not (folder / SURVEY_FILE).exists():
            run_folder.write_json(folder / SURVEY_FILE, survey)


def _check_folds(config: ConfigDict, folders: Sequence[Path]) -> None:
    """Raises UserError if two folds test on the same image."""
    tested = {}
    for fold, folder in enumerate(folders):
        of_fold = set_fold(config, fold)
        notes = run_folder.find_notes(folder, of_fold)
        with prefix_errors("config.data"):
            tested[folder.name] = list_test_ids(of_fold, notes)
    with prefix_errors("config.data"):
        check_test_images(tested)


def _evaluate(config: ConfigDict, workdir: Path) -> int:
    """Scores the folds in another process, which may use the accelerators.

    If another machine does it already, nothing is done.
    """
    try:
        with run_folder.lock(workdir):
            arguments = ["--mode=evaluate", f"--workdir={workdir}"]
            if _needs_trust(config, workdir):
                arguments.append("--trust")
            logs.say(f"{logs.program()} {shlex.join(arguments)}")
            sys.stdout.flush()
            done = subprocess.run([*PROGRAM, *arguments], env=make_environment())
    except UserError as error:
        logs.say(f"the folds are scored by another process: {error}")
        return 0
    return done.returncode


def _needs_trust(config: ConfigDict, workdir: Path) -> bool:
    """Returns True if the config names code or folders that are not of this package.

    The user has named them on this command line.
    """
    try:
        run_config.check_trusted(config_to_json(config), workdir, trust=False)
    except UserError:
        return True
    return False
