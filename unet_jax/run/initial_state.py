"""The initial state of a run: random, or with variables of another run or a file."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from safetensors.numpy import load_file

from unet_jax import logs, parallel
from unet_jax.build.early_checks import check_source
from unet_jax.build.training import TrainingParts
from unet_jax.errors import UserError, prefix_errors
from unet_jax.optimizers import format_path
from unet_jax.run import run_folder
from unet_jax.text import listing

MIN_SHARE = 0.5  # of the values that are loaded; less gives a warning


def create_initial_state(
    config: ConfigDict, parts: TrainingParts, key: jax.Array
) -> Any:
    """Initializes the state before the first step, not yet on the devices.

    Arrays of `config.init_from` replace the variables of the same name and shape; the
    other variables keep their random initial values and are listed on the terminal.

    Raises:
      UserError: `config.init_from` has no variables, or none that fit, or is damaged.
    """
    state = parts.init(key)
    if not config.init_from:
        return state
    check_source(config)
    with prefix_errors(f"config.init_from={config.init_from}"):
        fresh = parts.evaluation.method.variables(state)
        loaded = _load_arrays(Path(config.init_from).expanduser(), config)
        merged = _merge_arrays(fresh, loaded)
    return parts.init(key, jax.tree.map(np.asarray, merged))


def _load_arrays(source: Path, config: ConfigDict) -> dict[str, np.ndarray]:
    """Loads the arrays of a run folder's best checkpoint or of a file, by name."""
    if source.is_file():
        try:
            arrays = load_file(source)
        except (AttributeError, KeyError, TypeError) as error:
            raise UserError(
                f"has arrays of a type that NumPy cannot read ({error}); convert them "
                "to float32 or bfloat16"
            ) from error
        return {name.replace(".", "/"): array for name, array in arrays.items()}
    with run_folder.open_checkpoints(source, config) as checkpoints:
        _, variables = checkpoints.load_best(parallel.local_devices().abstract)
    return {
        format_path(path): np.asarray(array)
        for path, array in jax.tree_util.tree_leaves_with_path(variables)
    }


def _merge_arrays(fresh: Any, loaded: dict[str, np.ndarray]) -> Any:
    """Replaces the variables that a loaded array matches in name and shape."""
    kept, used = {}, {}  # the sizes of arrays

    def choose(path: Any, array: jax.Array) -> Any:
        name = format_path(path)
        other = loaded.get(name)
        if other is not None and other.ndim != array.ndim:
            raise UserError(
                f"its {name} has the shape {other.shape}, and this run's has "
                f"{array.shape}, another number of axes; start from a run on images of "
                "the same kind"
            )
        if other is None or other.shape != array.shape:
            kept[name] = array.size
            return array
        if not np.isfinite(other).all():
            raise UserError(f"its {name} is not finite; start from another run or file")
        used[name] = array.size
        return other.astype(array.dtype)

    merged = jax.tree_util.tree_map_with_path(choose, fresh)
    share = sum(used.values()) / sum((used | kept).values())
    if not used:
        raise UserError(
            "none of its arrays has the name and shape of a variable of this network; "
            "start from a run with the same config.model"
        )
    logs.say(
        f"loaded {len(used)} of {len(used) + len(kept)} arrays, {share:.1%} of all "
        "values"
    )
    if kept:
        logs.say(f"not loaded, with random initial values: {listing(kept)}")
    if share < MIN_SHARE:
        logs.say(
            "warning: most of the network has random initial values; start from a run "
            "with the same config.model"
        )
    return merged
