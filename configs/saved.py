"""The config of a run folder: `--config=configs/saved.py:runs/isbi`.

`main.py --workdir=runs/isbi` without `--config` uses it. `main.py` refuses the external
names of such a config, unless it is called with `--trust`.
"""

from pathlib import Path

from ml_collections import ConfigDict

from configs import base
from unet_jax.build.fields import from_plain
from unet_jax.run import folder


def get_config(workdir: str) -> ConfigDict:
    """Reads a run's config; a field that the run is older than has its default."""
    config = base.get_config()
    for name, value in folder.stored(Path(workdir).expanduser()).items():
        config[name] = from_plain(value)
    return config
