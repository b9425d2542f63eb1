"""The arrays that a run starts from: those of another run, a file or a program."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors
from ml_collections import ConfigDict
from safetensors.numpy import load_file

from unet_jax import logs, parallel
from unet_jax.build.early_checks import find_source, is_own_file
from unet_jax.build.field_checks import to_plain
from unet_jax.checkpoint import list_steps
from unet_jax.errors import UserError
from unet_jax.models import UNet
from unet_jax.optimizers import format_path
from unet_jax.pytorch import Imported, adapt_channels, recognise
from unet_jax.run import run_folder
from unet_jax.run.conversion import format_flags
from unet_jax.text import listing

FIRST_KERNEL = "params/stem/Conv_0/kernel"  # the first kernel of a ResNet
INSIGNIFICANT = ("deep_supervision",)  # changes nothing in a prediction
DEFAULTS = {field.name: field.default for field in dataclasses.fields(UNet)}


def load_arrays(config: ConfigDict, fresh: Any) -> dict[str, np.ndarray]:
    """Loads the arrays of `config.init_from`, by name.

    Args:
      config: the config of the run.
      fresh: its variables, for the number of channels.

    Raises:
      UserError: the source has no arrays, or is damaged.
    """
    source = find_source(config)
    if source.is_file() and is_own_file(source):
        return _load_own_file(source)
    if not source.is_file() and list_steps(source):
        with run_folder.open_checkpoints(source, config) as checkpoints:
            _, variables = checkpoints.load_best(parallel.local_devices().abstract)
        return list_arrays(variables)
    imported = recognise(source)
    _say_differences(imported, config)
    return _fit_channels(imported, imported.load(), list_arrays(fresh))


def list_arrays(variables: Any) -> dict[str, Any]:
    """Returns the arrays of a tree by their names."""
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return {format_path(path): np.asarray(array) for path, array in leaves}


def _load_own_file(source: Path) -> dict[str, np.ndarray]:
    try:
        arrays = load_file(source)
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(
            f"has arrays of a type that NumPy cannot read ({error}); convert them "
            "to float32 or bfloat16"
        ) from error
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"cannot be read ({error}); name another file") from error
    return {name.replace(".", "/"): array for name, array in arrays.items()}


def _fit_channels(
    imported: Imported, loaded: dict[str, np.ndarray], fresh: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Adapts the first kernel of a ResNet to the number of channels of the images.

    That of other networks starts with random values, as do all arrays that do not fit.
    """
    given = imported.architecture.channels
    first = imported.architecture.layers[0].path
    if first not in fresh or fresh[first].ndim != loaded[first].ndim:
        return loaded
    channels = fresh[first].shape[-2]
    if channels == given:
        return loaded
    line = f"its images have {given} channels, and these have {channels}: the "
    if first != FIRST_KERNEL:
        logs.say(f"{line}first convolution starts with random values")
        return loaded
    rule = "summed" if channels == 1 else "repeated"
    logs.say(f"{line}channels of the first kernel are {rule}")
    return loaded | {FIRST_KERNEL: adapt_channels(loaded[FIRST_KERNEL], channels)}


def _say_differences(imported: Imported, config: ConfigDict) -> None:
    """Prints the network that was recognised, and the fields that do not suit it."""
    architecture = imported.architecture
    logs.say(f"{imported.path} has the weights of {architecture.name}")
    own, other = to_plain(config.model), {}
    for key, value in architecture.model.items():
        if key not in INSIGNIFICANT and own.get(key, DEFAULTS[key]) != value:
            other[f"model.{key}"] = value
    if other:
        logs.warn(
            "config.model has other options than this network; to use all of it, "
            f"set {format_flags(other)}"
        )
    normalize = architecture.fields.get("normalize")
    if normalize and to_plain(config.normalize) != normalize:
        logs.say(
            "note: this network was trained with "
            f"{format_flags({'normalize': normalize})}"
        )
    if assumed := architecture.assumed:
        logs.say(
            "note: assumed, since the file does not say: "
            f"{listing(assumed, separator='; ')}"
        )
