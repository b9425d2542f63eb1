"""The config of a run folder: `--config=saved:runs/isbi`.

`--workdir=runs/isbi` without `--config` uses this file. The command line refuses
external names in such a config unless `--trust` is given.
"""

from pathlib import Path

from ml_collections import ConfigDict

from unet_jax.run import run_config


def get_config(workdir: str) -> ConfigDict:
    """Reads the config of a run; fields newer than the run have their defaults."""
    folder = Path(workdir).expanduser()
    return run_config.make_config(run_config.read_config(folder), folder)
