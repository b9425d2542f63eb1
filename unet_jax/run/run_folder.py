"""The run folder: reads and writes its files, and keeps others out of it."""

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import jax
from ml_collections import ConfigDict

from unet_jax.build.checks import get_selection_score_name
from unet_jax.build.fields import from_plain
from unet_jax.build.preprocessing import Preprocessing, check_preprocessing
from unet_jax.checkpoint import (
    CHECKPOINTS,
    DAMAGED,
    Checkpoints,
    holds_folds,
    holds_sweep,
    list_steps,
    load_newest_metadata,
)
from unet_jax.data.folders.cache import SURVEY_FILE
from unet_jax.errors import UserError
from unet_jax.logs import warn, write_file
from unet_jax.run import run_config, step_profile
from unet_jax.text import one_line

SCORES = "scores.json"
REPORT, PICTURE = "report.html", "predictions.png"
ENSEMBLE = "-ensemble"  # ends the names of the results of several runs
LOCK = ".lock"


def create_or_check(workdir: Path, config: ConfigDict) -> None:
    """Creates the run folder, or checks that it holds a run of this config.

    A run without a checkpoint may start again with another config.

    Raises:
      UserError: the folder cannot be created, or holds other files or another run; the
        message names the fields that differ.
    """
    create(workdir)
    if holds_folds(workdir):
        raise UserError(
            f"{workdir} holds the runs of a cross-validation; choose another "
            "--workdir, or continue it with --mode=crossval"
        )
    if holds_sweep(workdir):
        raise UserError(
            f"{workdir} holds the runs of a sweep; choose another --workdir, or "
            "continue it with --mode=sweep"
        )
    if not list_steps(workdir):
        _check_unused(workdir)
        return
    run_config.check_continues(workdir, config)


def advise_change(workdir: Path, change: str) -> str:
    """Returns where a user makes a change who trains again, for errors.

    Args:
      workdir: the run folder.
      change: what the user changes: 'lower config.steps'.
    """
    folder = workdir.parent
    if holds_sweep(folder) and not holds_folds(folder):
        return f"{change} in the sweep file, and start the sweep again"
    return f"{change}, and choose another --workdir"


def create(folder: Path, flag: str = "workdir") -> None:
    """Creates the folder that a flag names; raises UserError if that fails."""
    if flag == "workdir":
        _check_encoding(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if flag == "output":  # the run folder may be read-only during prediction
            tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        reason = "is a file" if folder.is_file() else error.strerror
        raise UserError(
            f"--{flag}={folder}: {reason}; name a folder you may write to"
        ) from error


def _check_encoding(workdir: Path) -> None:
    try:
        str(workdir).encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"--workdir={workdir}: this name is not UTF-8, and checkpoints cannot be "
            "written there; choose another"
        ) from error


def _check_unused(workdir: Path) -> None:
    """Raises UserError if training would overwrite files of another kind."""
    if (workdir / SCORES).exists():
        raise UserError(
            f"{workdir} holds the scores of a run without its checkpoints; choose "
            "another --workdir"
        )
    path = workdir / run_config.CONFIG
    if not path.exists():
        return
    if not path.is_file() or '"checkpoint_every"' not in path.read_text(
        "utf-8", "replace"
    ):
        raise UserError(f"{path} is not the config of a run; choose another --workdir")


def check_unlocked(workdir: Path) -> None:
    """Raises UserError if the folder exists and another process trains in it."""
    if (workdir / LOCK).exists():
        with lock(workdir):
            pass


@contextlib.contextmanager
def lock(workdir: Path) -> Iterator[None]:
    """Keeps other processes from training in the folder during the context.

    Only process 0 of a distributed run has the lock. The lock belongs to the process
    and not to the file: a killed process leaves none.

    Raises:
      UserError: another process trains in the folder.
    """
    if jax.process_index() != 0:
        yield
        return
    with _open_lock(workdir / LOCK) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{workdir} is in use: another process trains in it; wait for its end, "
                "or choose another --workdir"
            ) from None
        except OSError as error:
            warn(
                f"{workdir / LOCK} cannot be locked ({one_line(error)}), so a second "
                "process that trains in this folder will not be noticed"
            )
        yield


def check_not_removed(workdir: Path) -> None:
    """Raises UserError if the folder was removed since the config was written."""
    if not (workdir / run_config.CONFIG).exists():
        raise UserError(
            f"{workdir} was removed or emptied during the run; start the run again"
        )


def read_preprocessing(workdir: Path) -> Preprocessing | None:
    """Returns the pre-processing of the newest checkpoint; None without checkpoints.

    Raises:
      UserError: it is not valid.
    """
    if not list_steps(workdir):
        return None
    return check_preprocessing(load_newest_metadata(workdir)["preprocessing"], workdir)


def _open_lock(path: Path) -> IO[bytes]:
    """Opens the file of the lock; raises UserError for a link or a named pipe."""

    def open_file(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)

    try:
        return open(path, "ab", opener=open_file)
    except OSError as error:
        raise UserError(
            f"{path} cannot be opened ({one_line(error)}); delete it"
        ) from error


def check_links(workdir: Path) -> None:
    """Raises UserError if checkpoints or profiles would be written elsewhere.

    The run folder itself may be a link: the user named it.
    """
    folder = workdir / CHECKPOINTS
    folders = folder, workdir / DAMAGED, workdir / step_profile.PROFILE
    for path in (*folders, *folder.glob("*")):
        check_no_link(path, "training")


def check_no_link(path: Path, what: str) -> None:
    """Raises UserError if a path is a link, through which `what` would write."""
    if path.is_symlink():
        raise UserError(
            f"{path} is a symbolic link, and {what} would change what it names; "
            "replace it by a copy, or link the whole run folder instead"
        )


def open_checkpoints(workdir: Path, config: ConfigDict) -> Checkpoints:
    """Opens the checkpoints of a run; see `read_selection_score`."""
    return Checkpoints(workdir, read_selection_score(workdir, config))


def read_selection_score(workdir: Path, config: ConfigDict) -> str:
    """Returns the name of the score that selects the best checkpoint: 'val/dice'.

    It is the first metric of the run's original config, or of this config if there is
    no checkpoint yet. A later config cannot change it, because the older checkpoints
    have no value of another metric.

    Raises:
      UserError: the newest checkpoint is damaged or was written by another program.
    """
    if not list_steps(workdir):
        return get_selection_score_name(config)
    about = load_newest_metadata(workdir)
    if name := about.get("chosen_by"):
        return name
    try:
        return get_selection_score_name(from_plain(about["config"]))
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(
            f"{workdir}: the config of its newest checkpoint names no metrics, so "
            "another program may have written it; name the folder of a run"
        ) from error


def write_config(workdir: Path, config: ConfigDict, notes: Mapping[str, Any]) -> None:
    """Writes config.json and the notes of the data set, in process 0 only.

    config.json also gets the files that define the external names of the config. The
    notes are JSON data by file name.
    """
    if jax.process_index() == 0:
        data = run_config.make_config_content(config)
        for file, content in {run_config.CONFIG: data, **notes}.items():
            write_json(workdir / file, content)


def restore_config(workdir: Path, config: ConfigDict, notes: Mapping[str, Any]) -> None:
    """Writes config.json and the notes if the user has removed config.json."""
    if not (workdir / run_config.CONFIG).exists():
        write_config(workdir, config, notes)


def write_json(path: Path, content: Any) -> None:
    """Writes JSON data; indents it, except a survey, which may be large."""
    indent = None if path.name == SURVEY_FILE else 2
    write_file(path, (json.dumps(content, indent=indent) + "\n").encode())


def find_notes(workdir: Path, config: ConfigDict) -> dict[str, str]:
    """Finds the saved split and survey that the data set of a config can reuse.

    The survey can always be reused, because it is checked against the files. The split
    is reused only if the folder holds a run on the same data set.

    Returns:
      Paths by keyword argument of the data set: 'survey' and 'split', if they exist.
    """
    names = ["survey"]
    if list_steps(workdir):
        data = run_config.read_config(workdir)["data"]
        if data["name"] == config.data.name:
            names.append("split")
    paths = {name: workdir / f"{name}.json" for name in names}
    return {name: str(path) for name, path in paths.items() if path.exists()}


def name_ensemble_file(name: str) -> str:
    """Returns the name of a result of several runs: 'scores-ensemble.json'."""
    path = Path(name)
    return f"{path.stem}{ENSEMBLE}{path.suffix}"
