"""The config that a run folder holds: `--config=configs/saved.py:runs/isbi`.

`main.py --workdir=runs/isbi` without `--config` means this one.
"""

from pathlib import Path

from ml_collections import ConfigDict

from configs import base
from unet_jax.run import folder


def get_config(workdir: str) -> ConfigDict:
    """Reads the run's config; a field that it lacks, being older, is the base's."""
    config = base.get_config()
    for name, value in folder.stored(Path(workdir).expanduser()).items():
        config[name] = folder.revive(value)
    return config
