"""The run folder: what it holds, and whether a config belongs to it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from unet_jax.build.checks import best_score
from unet_jax.checkpoint import newest, steps
from unet_jax.errors import UserError
from unet_jax.logs import say, write

ABSENT = "absent"
CONFIG, SCORES = "config.json", "scores.json"
REPORT, PICTURE = "report.html", "predictions.png"

# What may change when a run goes on: how far, how it is watched, and where it runs.
FREE = (
    "steps",
    "log_every",
    "eval_every",
    "checkpoint_every",
    "cache",
    "threads",
    "name",
    "metrics",
    "predict",
    "parallel",
    "data.manual_dir",
    "data.data_dir",
    "data.root",
    "data.records",
)


def claim(workdir: Path, config: ConfigDict) -> None:
    """Makes the folder, or makes sure that what it holds is a run of this config.

    A run without a checkpoint may be begun anew: what failed at its start is mended.

    Raises:
      UserError: the folder cannot be made, or holds something else, or another run;
        then the line names the fields that differ.
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
        elif not _free(name):
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


def _check_vacant(workdir: Path) -> None:
    """Nothing that somebody may want to keep is there to be written over."""
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
    if not steps(workdir):
        raise UserError(
            f"{workdir} holds no finished checkpoint; train first, or name another "
            "--workdir"
        )


def chosen_by(workdir: Path, config: ConfigDict) -> str:
    """The validation score by which the best checkpoint of a folder is chosen.

    It is the first of the config that the run began with, whatever is judged later: a
    checkpoint that was scored by something else cannot be compared.
    """
    if not steps(workdir):
        return best_score(config)
    about = newest(workdir)
    return about.get("chosen_by") or best_score(revive(about["config"]))


def stored(workdir: Path) -> dict[str, Any]:
    """The config of the run in a folder: config.json, or else its newest checkpoint's.

    Raises:
      UserError: there is neither.
    """
    try:
        return json.loads((workdir / CONFIG).read_text())
    except (FileNotFoundError, ValueError):
        return newest(workdir)["config"]


def record(workdir: Path, config: ConfigDict, notes: Mapping[str, Any]) -> None:
    """Writes the config and what the data note, from one process of a run."""
    if jax.process_index() == 0:
        for name, data in {CONFIG: as_json(config), **notes}.items():
            write(workdir / name, (json.dumps(data, indent=2) + "\n").encode())


def notes(workdir: Path, config: ConfigDict) -> Path | None:
    """Returns the folder, if it holds notes about the data of a run that goes on."""
    if not steps(workdir):
        return None
    return workdir if stored(workdir)["data"]["name"] == config.data.name else None


def as_json(config: ConfigDict) -> dict[str, Any]:
    """The config as JSON data; tuples become lists."""
    return json.loads(config.to_json())


def revive(value: Any) -> Any:
    """The other way: JSON has lists for tuples and dicts for specs."""
    if isinstance(value, list):
        return tuple(map(revive, value))
    if isinstance(value, dict):
        return ConfigDict({key: revive(field) for key, field in value.items()})
    return value


def _differences(old: Any, new: Any, name: str = "") -> list[tuple[str, str, str]]:
    """The leaves that differ, as (dotted name, old, new), in JSON or ABSENT."""
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


def _free(name: str) -> bool:
    return any(name == free or name.startswith(f"{free}.") for free in FREE)
