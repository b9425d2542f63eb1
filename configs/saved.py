"""The config of a run folder: `--config=saved:runs/isbi`.

`--workdir=runs/isbi` without `--config` uses this file. The command line refuses
external names in such a config unless `--trust` is given.
"""

from pathlib import Path

from ml_collections import ConfigDict

from unet_jax.build.fields import from_plain
from unet_jax.configs import base
from unet_jax.run import run_folder


def get_config(workdir: str) -> ConfigDict:
    """Reads the config of a run; fields newer than the run have their defaults."""
    config = base.get_config()
    for name, value in run_folder.read_config(Path(workdir).expanduser()).items():
        config[name] = from_plain(value)
    return config
