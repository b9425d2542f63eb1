"""The run folder: what it holds, and whether a config belongs to it."""

import json
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from unet_jax.checkpoint import FOLDER
from unet_jax.errors import UserError
from unet_jax.logs import say

CONFIG, SCORES, PICTURE = "config.json", "scores.json", "predictions.png"

# What may change when a run goes on: how far, how it is watched, and where it runs.
FREE = (
    "steps",
    "log_every",
    "eval_every",
    "checkpoint_every",
    "threads",
    "name",
    "metrics",
    "parallel",
    "data.manual_dir",
    "data.data_dir",
)


def claim(workdir: Path, config: ConfigDict) -> None:
    """Makes the folder, or makes sure that what it holds is a run of this config.

    A folder without a checkpoint is nobody's: what failed at its start may be mended.

    Raises:
      UserError: the folder holds another run; the line names the fields that differ.
    """
    path = workdir / CONFIG
    workdir.mkdir(parents=True, exist_ok=True)
    if not path.exists() or not any((workdir / FOLDER).glob("[0-9]*")):
        return
    differences = _differences(_read(path), as_json(config))
    wrong = [
        f"{name} is {json.dumps(there)} there and {json.dumps(here)} here"
        for name, there, here in differences
        if not _free(name)
    ]
    if wrong:
        raise UserError(
            f"{workdir} holds another run: {'; '.join(wrong)}. Choose another "
            "--workdir, or remove it"
        )
    for name, there, here in differences:
        if name == "steps":
            say(f"steps: {there} before, {here} now; the schedule ends at {here}")


def record(workdir: Path, config: ConfigDict) -> None:
    """Writes the config into the folder, from one process of a run."""
    if jax.process_index() == 0:
        text = json.dumps(as_json(config), indent=2)
        (workdir / CONFIG).write_text(text + "\n")


def as_json(config: ConfigDict) -> dict[str, Any]:
    """The config as JSON data; tuples become lists."""
    return json.loads(config.to_json())


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}; remove the folder") from error


def _differences(old: Any, new: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    """The leaves that differ, as (dotted name, old, new)."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            difference
            for key in sorted(old.keys() | new.keys())
            for difference in _differences(
                old.get(key), new.get(key), f"{name}.{key}".lstrip(".")
            )
        ]
    return [] if old == new else [(name, old, new)]


def _free(name: str) -> bool:
    return any(name == free or name.startswith(f"{free}.") for free in FREE)
