"""The initial state of a run: random, or with variables of another run or a file."""

from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from unet_jax import logs
from unet_jax.build.early_checks import check_source
from unet_jax.build.training import TrainingParts
from unet_jax.errors import UserError, prefix_errors
from unet_jax.optimizers import format_path
from unet_jax.run.weights import load_arrays
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
        loaded = load_arrays(config, fresh)
        merged = _merge_arrays(fresh, loaded)
    return parts.init(key, jax.tree.map(np.asarray, merged))


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
        logs.warn(
            "most of the network has random initial values; start from a run with "
            "the same config.model"
        )
    return merged
