"""Checks of the fields and paths of a command, before the slow imports and the devices.

A typo or a wrong path is then reported within a second. Nothing here imports Flax,
Optax, Orbax, SciPy or matplotlib.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import safetensors
from ml_collections import ConfigDict

from unet_jax.build.field_checks import check_fields
from unet_jax.checkpoint import check_trained, find_runs, list_steps
from unet_jax.data import files
from unet_jax.errors import UserError, prefix_errors
from unet_jax.pytorch import holds_plans, hub, recognise


def check_command(
    config: ConfigDict,
    mode: str,
    workdir: Path,
    *,
    input: str | None = None,
    ensemble: Sequence[str] = (),
) -> None:
    """Checks the fields of the config and the paths that a mode reads.

    Args:
      config: the config of the run.
      mode: the value of --mode.
      workdir: the run folder.
      input: the images to predict: a file, a folder or a glob.
      ensemble: further run folders.

    Raises:
      UserError: a field is unknown or of another type, or a path does not exist.
    """
    source = os.path.expanduser(input or "")
    if mode == "predict" and source and not os.path.lexists(source):
        files.find_images(source)
    if mode in ("evaluate", "predict", "export"):
        for folder in (workdir, *(Path(run).expanduser() for run in ensemble)):
            for run in find_runs(folder):
                check_trained(run)
    if mode == "sample":
        check_trained(workdir)
    check_fields(config)
    if mode == "train" and not list_steps(workdir):
        check_source(config)
    root = config.data.get("root", "")
    reads_data = mode in ("train", "evaluate", "inspect")
    if reads_data and config.data.name == "folder" and root and isinstance(root, str):
        with prefix_errors("config.data"):
            files.check_folder(Path(root).expanduser())


def check_source(config: ConfigDict) -> None:
    """Checks that `config.init_from` has variables, before the data are read.

    Raises:
      UserError: it is neither a run folder with a checkpoint nor a file with weights
        of a network that is known.
    """
    if not config.init_from:
        return
    place = f"config.init_from={config.init_from}"
    with prefix_errors(place):
        source = find_source(config)
        if list_steps(source):
            return
        if not source.exists() or (source.is_dir() and not holds_plans(source)):
            raise UserError(
                "holds no checkpoint; name the folder of a trained run, or a file with "
                "weights"
            )
    if not is_own_file(source):
        with prefix_errors("config.init_from"):  # the error names the file
            recognise(source)


def find_source(config: ConfigDict) -> Path:
    """Returns the path of `config.init_from`, downloaded if it is a name of the Hub.

    Raises:
      UserError: it cannot be downloaded.
    """
    if hub.is_name(config.init_from):
        return hub.download(config.init_from)
    return Path(config.init_from).expanduser()


def is_own_file(source: Path) -> bool:
    """Returns True for a safetensors file with the names of our variables."""
    if not source.is_file():
        return False
    try:
        with safetensors.safe_open(source, "np") as file:
            names = list(file.keys())
    except (OSError, safetensors.SafetensorError):
        return False
    return any(re.match(r"params[./]", name) for name in names)
