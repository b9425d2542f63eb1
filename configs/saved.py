"""The config that a run folder holds: `--config=configs/saved.py:runs/isbi`.

`main.py --workdir=runs/isbi` without `--config` means this one.
"""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from configs import base
from unet_jax.run import folder


def get_config(workdir: str) -> ConfigDict:
    """Reads the run's config; a field that it lacks, being older, is the base's."""
    config = base.get_config()
    for name, value in folder.stored(Path(workdir).expanduser()).items():
        config[name] = _revive(value)
    return config


def _revive(value: Any) -> Any:
    """JSON has lists for tuples and dicts for specs."""
    if isinstance(value, list):
        return tuple(map(_revive, value))
    if isinstance(value, dict):
        return ConfigDict({key: _revive(field) for key, field in value.items()})
    return value
