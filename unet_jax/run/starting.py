"""The first state of a run: fresh, or with the variables of another run."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors
from ml_collections import ConfigDict
from safetensors.numpy import load_file

from unet_jax import logs, parallel
from unet_jax.build.training import Parts
from unet_jax.checkpoint import Checkpoints, check_format, steps
from unet_jax.errors import UserError, naming
from unet_jax.optimizers import path_name
from unet_jax.run import folder
from unet_jax.text import listing


def first_state(config: ConfigDict, parts: Parts, key: jax.Array) -> Any:
    """Returns the state before the first step, not yet on the devices.

    With `config.init_from`, arrays of the other run's variables replace those of the
    same name and shape; the rest begin anew and are listed.

    Raises:
      UserError: `config.init_from` holds no variables, or none that fit, or is damaged.
    """
    state = parts.init(key)
    if not config.init_from:
        return state
    with naming(f"config.init_from={config.init_from}"):
        fresh = parts.judging.method.variables(state)
        merged = _merged(fresh, _load(Path(config.init_from).expanduser(), config))
    return parts.init(key, jax.tree.map(np.asarray, merged))


def _load(source: Path, config: ConfigDict) -> dict[str, np.ndarray]:
    """Returns the arrays of a run folder's best checkpoint or of a file, by name."""
    if source.is_file():
        try:
            arrays = load_file(source)
        except (AttributeError, KeyError, TypeError) as error:
            raise UserError(
                f"has arrays of a type that NumPy cannot read ({error}); convert them "
                "to float32 or bfloat16"
            ) from error
        except (OSError, safetensors.SafetensorError) as error:
            raise UserError(
                f"is no file of safetensors ({error}); name one, or a run folder"
            ) from error
        return {name.replace(".", "/"): array for name, array in arrays.items()}
    if not steps(source):
        raise UserError(
            "holds no checkpoint; name the folder of a trained run, or a file of "
            "safetensors"
        )
    check_format(source)
    with Checkpoints(source, folder.chosen_by(source, config)) as checkpoints:
        like = parallel.here().abstract(checkpoints.shapes(checkpoints.best))
        variables = checkpoints.variables(checkpoints.best, like)
    return {
        path_name(path): np.asarray(array)
        for path, array in jax.tree_util.tree_leaves_with_path(variables)
    }


def _merged(fresh: Any, loaded: dict[str, np.ndarray]) -> Any:
    """The variables, with every loaded array that has the name and shape of one."""
    anew, used = [], []

    def choose(path: Any, array: jax.Array) -> Any:
        name = path_name(path)
        other = loaded.get(name)
        if other is not None and other.ndim != array.ndim:
            raise UserError(
                f"its {name} is {other.shape} and this run's {array.shape}: they have "
                "another number of axes; start from a run on images of the same kind"
            )
        if other is None or other.shape != array.shape:
            anew.append(name)
            return array
        used.append(name)
        return other.astype(array.dtype)

    merged = jax.tree_util.tree_map_with_path(choose, fresh)
    if not used:
        raise UserError(
            "none of its arrays has the name and shape of one of this network; start "
            "from a run of the same config.model"
        )
    logs.say(f"starting with {len(used)} of {len(used) + len(anew)} arrays")
    if anew:
        logs.say(f"these begin anew: {listing(anew)}")
    return merged
