"""The run folder: reads and writes its files, and checks that a config fits it."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from unet_jax.build.checks import get_selection_score_name
from unet_jax.build.fields import from_plain, may_change
from unet_jax.checkpoint import (
    Checkpoints,
    check_format,
    list_steps,
    load_newest_metadata,
)
from unet_jax.data.folders.cache import SURVEY_FILE
from unet_jax.errors import UserError
from unet_jax.logs import say, write_file
from unet_jax.specs import find_externals, find_source_file

ABSENT = "absent"  # stands for a field that a config does not have
CONFIG, SCORES = "config.json", "scores.json"
REPORT, PICTURE = "report.html", "predictions.png"
EXTERNAL = "external"  # key of config.json: the file of each external name


def create_or_check(workdir: Path, config: ConfigDict) -> None:
    """Creates the run folder, or checks that it holds a run of this config.

    A run without a checkpoint may start again with another config.

    Raises:
      UserError: the folder cannot be created, or holds other files or another run; the
        message names the fields that differ.
    """
    create(workdir)
    if not list_steps(workdir):
        _check_unused(workdir)
        return
    differences = _list_differences(read_config(workdir), config_to_json(config))
    wrong, changes = [], []
    for name, old, new in differences:
        if name == "steps":
            changes.append(f"steps: {old} before; the schedule now ends at step {new}")
        elif old is ABSENT and "." not in name:
            changes.append(f"{name}: the run is older than this field; it is now {new}")
        elif not may_change(name):
            wrong.append(f"{name} is {old} in the folder and {new} in this config")
    if wrong:
        raise UserError(
            f"{workdir} holds another run: {'; '.join(wrong)}. Choose another "
            f"--workdir, or continue the run with its own config: --workdir={workdir} "
            "without --config and --config.FIELD"
        )
    for line in changes:
        say(line)


def create(folder: Path, flag: str = "workdir") -> None:
    """Creates the folder that a flag names; raises UserError if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if flag == "output":  # the run folder may be read-only during prediction
            tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(
            f"--{flag}={folder}: {error.strerror}; name a folder you may write to"
        ) from error


def _check_unused(workdir: Path) -> None:
    """Raises UserError if training would overwrite files of another kind."""
    if (workdir / SCORES).exists():
        raise UserError(
            f"{workdir} holds the scores of a run without its checkpoints; choose "
            "another --workdir"
        )
    path = workdir / CONFIG
    if path.exists() and '"checkpoint_every"' not in path.read_text(errors="replace"):
        raise UserError(f"{path} is not the config of a run; choose another --workdir")


def check_trained(workdir: Path) -> None:
    """Raises UserError unless the folder holds a finished checkpoint."""
    check_format(workdir)
    if not list_steps(workdir):
        raise UserError(
            f"{workdir} holds no finished checkpoint; train first, or name another "
            "--workdir"
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


def read_config(workdir: Path) -> dict[str, Any]:
    """Reads the config of a run from config.json or else from its newest checkpoint.

    Raises:
      UserError: the folder has neither.
    """
    check_format(workdir)
    try:
        config = json.loads((workdir / CONFIG).read_text())
    except (FileNotFoundError, ValueError):
        config = load_newest_metadata(workdir)["config"]
    return {name: value for name, value in config.items() if name != EXTERNAL}


def check_trusted(
    config: Mapping[str, Any],
    workdir: Path,
    *,
    trust: bool,
    used: Mapping[str, Any] | None = None,
) -> None:
    """Checks that the user allows the external code that a run folder names.

    A run folder is data: it must not run code without the user's consent. Call this
    before anything is built from the config; the check itself imports nothing.

    `config` is the config as it was read from the folder, and `used` the config after
    the overrides of the command line, if there are any. Names that the user has
    replaced are not imported, and new ones come from the user, so neither needs
    consent.

    Raises:
      UserError: a spec has an external name, and `trust` is False.
    """
    kept = None if used is None else set(_list_external_names(used))
    for place, name in () if trust else _list_external_names(config):
        if kept is None or (place, name) in kept:
            raise UserError(
                f"{place} in {workdir} is {name!r}, code from outside unet_jax; if you "
                "trust it, add --trust (in Python: trust=True)"
            )


def _list_external_names(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields the field and the name of every spec that has an external name."""
    for field, value in config.items():
        yield from find_externals(value, f"config.{field}")


def write_config(workdir: Path, config: ConfigDict, notes: Mapping[str, Any]) -> None:
    """Writes config.json and the notes of the data set, in process 0 only.

    config.json also gets the files that define the external names of the config. The
    notes are JSON data by file name.
    """
    if jax.process_index() == 0:
        data = config_to_json(config)
        names = [name for _, name in _list_external_names(data)]
        if names:
            data[EXTERNAL] = {name: str(find_source_file(name)) for name in names}
        for file, content in {CONFIG: data, **notes}.items():
            write_json(workdir / file, content)


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
    if list_steps(workdir) and read_config(workdir)["data"]["name"] == config.data.name:
        names.append("split")
    paths = {name: workdir / f"{name}.json" for name in names}
    return {name: str(path) for name, path in paths.items() if path.exists()}


def config_to_json(config: ConfigDict) -> dict[str, Any]:
    """Returns the config as JSON data, with lists for tuples."""
    return json.loads(config.to_json())


def _list_differences(old: Any, new: Any, name: str = "") -> list[tuple[str, str, str]]:
    """Returns (dotted name, old, new) of values that differ, as JSON or ABSENT."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            difference
            for key in sorted(old.keys() | new.keys())
            for difference in _list_differences(
                old.get(key, ABSENT), new.get(key, ABSENT), f"{name}.{key}".lstrip(".")
            )
        ]
    if old == new:
        return []
    old, new = (v if v is ABSENT else json.dumps(v) for v in (old, new))
    return [(name, old, new)]
