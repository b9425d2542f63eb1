"""The run folder: its files, and the checks that a config belongs to it."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from unet_jax.build.checks import best_score
from unet_jax.build.fields import may_change, revive
from unet_jax.checkpoint import check_format, newest, steps
from unet_jax.data.folders.cache import SURVEY_FILE
from unet_jax.errors import UserError
from unet_jax.logs import say, write
from unet_jax.specs import externals, source_of

ABSENT = "absent"
CONFIG, SCORES = "config.json", "scores.json"
REPORT, PICTURE = "report.html", "predictions.png"
EXTERNAL = "external"  # in config.json: which file defines each external name


def claim(workdir: Path, config: ConfigDict) -> None:
    """Makes the folder, or checks that it holds a run of this config.

    A run without a checkpoint may begin again with another config.

    Raises:
      UserError: the folder cannot be made, or holds something else, or another run;
        the line then names the fields that differ.
    """
    make(workdir)
    if not steps(workdir):
        _check_vacant(workdir)
        return
    differences = _differences(stored(workdir), as_json(config))
    wrong, news = [], []
    for name, there, here in differences:
        if name == "steps":
            news.append(f"steps: {there} before, {here} now; the schedule ends there")
        elif there is ABSENT and "." not in name:
            news.append(f"{name}: the run is older than this field; it is now {here}")
        elif not may_change(name):
            wrong.append(f"{name} is {there} there and {here} here")
    if wrong:
        raise UserError(
            f"{workdir} holds another run: {'; '.join(wrong)}. Choose another "
            f"--workdir, or go on with what it holds: --workdir={workdir} alone"
        )
    for line in news:
        say(line)


def make(workdir: Path) -> None:
    """Makes the folder, or raises UserError if it cannot be."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--workdir={workdir}: {error.strerror}; name a folder you may write to"
        ) from error


def check_output(target: Path) -> None:
    """Makes the folder of --output, or raises UserError if it cannot be written to."""
    try:
        target.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=target).close()
    except OSError as error:
        raise UserError(
            f"--output={target}: {error.strerror}; name a folder you may write to"
        ) from error


def _check_vacant(workdir: Path) -> None:
    """Raises UserError if training would overwrite the files of something else."""
    if (workdir / SCORES).exists():
        raise UserError(
            f"{workdir} holds the scores of a run whose checkpoints are gone; choose "
            "another --workdir"
        )
    path = workdir / CONFIG
    if path.exists() and '"checkpoint_every"' not in path.read_text(errors="replace"):
        raise UserError(f"{path} is not that of a run; choose another --workdir")


def check_trained(workdir: Path) -> None:
    """Raises UserError unless there is a checkpoint to judge or to predict with."""
    check_format(workdir)
    if not steps(workdir):
        raise UserError(
            f"{workdir} holds no finished checkpoint; train first, or name another "
            "--workdir"
        )


def chosen_by(workdir: Path, config: ConfigDict) -> str:
    """Returns the validation score that chooses the best checkpoint of a folder.

    It is the first metric of the config that the run began with. Another metric cannot
    choose later: the older checkpoints have no value of it.

    Raises:
      UserError: the newest checkpoint is damaged, or of another program.
    """
    if not steps(workdir):
        return best_score(config)
    about = newest(workdir)
    if score := about.get("chosen_by"):
        return score
    try:
        return best_score(revive(about["config"]))
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(
            f"{workdir}: the config of its newest checkpoint names no metrics, as if "
            "another program had written it; name the folder of a run"
        ) from error


def stored(workdir: Path) -> dict[str, Any]:
    """Returns the config of a run: config.json, or else that of its newest checkpoint.

    Raises:
      UserError: there is neither.
    """
    check_format(workdir)
    try:
        config = json.loads((workdir / CONFIG).read_text())
    except (FileNotFoundError, ValueError):
        config = newest(workdir)["config"]
    return {name: value for name, value in config.items() if name != EXTERNAL}


def check_trusted(
    config: Mapping[str, Any],
    workdir: Path,
    *,
    trust: bool,
    used: Mapping[str, Any] | None = None,
) -> None:
    """Checks that a config from a run folder may import what it names.

    A run folder is data: without the user's consent, no code runs because a folder
    names it. Call this before anything is built from the config; it imports nothing.

    Args:
      config: as it was read from the folder: a dict or a ConfigDict.
      workdir: the run folder.
      trust: the user's consent.
      used: the config that is built, where the command line has changed `config`. The
        names that it replaces are not imported, and its own come from the user.

    Raises:
      UserError: there is no consent, and a spec has an external name.
    """
    kept = None if used is None else set(_externals(used))
    for place, name in () if trust else _externals(config):
        if kept is None or (place, name) in kept:
            raise UserError(
                f"{place} in {workdir} is {name!r}, code from outside unet_jax; if you "
                "trust it, add --trust (in Python: trust=True)"
            )


def _externals(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields the place and the external name of every spec of a config."""
    for field, value in config.items():
        yield from externals(value, f"config.{field}")


def record(workdir: Path, config: ConfigDict, notes: Mapping[str, Any]) -> None:
    """Writes config.json and the notes of the data, from one process of a run.

    Args:
      workdir: the run folder.
      config: the config of the run; the files that define its external names are
        written beside its fields.
      notes: JSON data by file name.
    """
    if jax.process_index() == 0:
        data = as_json(config)
        names = [name for key in data for _, name in externals(data[key], key)]
        if names:
            data[EXTERNAL] = {name: str(source_of(name)) for name in names}
        for file, content in {CONFIG: data, **notes}.items():
            write_json(workdir / file, content)


def write_json(path: Path, content: Any) -> None:
    """Writes JSON data, indented unless it is a survey, which may be large."""
    indent = None if path.name == SURVEY_FILE else 2
    write(path, (json.dumps(content, indent=indent) + "\n").encode())


def notes(workdir: Path, config: ConfigDict) -> dict[str, str]:
    """Returns the notes of a run folder that the data set of a config can use.

    The survey of the files always, since it is checked against them; the split only if
    the folder holds a run of this data set that goes on.

    Returns:
      Keywords of the data set, and the paths of their files.
    """
    names = ["survey"]
    if steps(workdir) and stored(workdir)["data"]["name"] == config.data.name:
        names.append("split")
    paths = {name: workdir / f"{name}.json" for name in names}
    return {name: str(path) for name, path in paths.items() if path.exists()}


def as_json(config: ConfigDict) -> dict[str, Any]:
    """Returns the config as JSON data, with lists for tuples."""
    return json.loads(config.to_json())


def _differences(old: Any, new: Any, name: str = "") -> list[tuple[str, str, str]]:
    """The values that differ, as (dotted name, old, new), in JSON or ABSENT."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            difference
            for key in sorted(old.keys() | new.keys())
            for difference in _differences(
                old.get(key, ABSENT), new.get(key, ABSENT), f"{name}.{key}".lstrip(".")
            )
        ]
    if old == new:
        return []
    old, new = (v if v is ABSENT else json.dumps(v) for v in (old, new))
    return [(name, old, new)]
