"""The run folder: what it holds, and whether a config belongs to it."""

import json
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from unet_jax.errors import UserError

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
    """Makes the folder this config's, or makes sure that it is.

    Raises:
      UserError: the folder holds a run of another config; the line names the fields
        that differ.
    """
    path = workdir / CONFIG
    new = as_json(config)
    if path.exists():
        old = _read(path)
        differing = [
            f"{name} is {json.dumps(there)} there and {json.dumps(here)} here"
            for name, there, here in _differences(old, new)
            if not _free(name)
        ]
        if differing:
            raise UserError(
                f"{workdir} holds another run: {'; '.join(differing)}. Choose another "
                "--workdir, or remove it"
            )
    if jax.process_index() == 0:
        workdir.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(new, indent=2) + "\n")


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
