"""Writes the variables of a network as safetensors, a format that holds no code."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save

from unet_jax.optimizers import format_path


def write_weights(variables: Any, metadata: Mapping[str, str]) -> bytes:
    """Returns a safetensors file of all arrays, unchanged.

    The names are paths, such as `params.down0.Conv_0.kernel`. `config.init_from` takes
    the file.

    Args:
      variables: of a network.
      metadata: written to the file as they are.
    """
    arrays = {
        format_path(path).replace("/", "."): np.ascontiguousarray(array)
        for path, array in jax.tree_util.tree_leaves_with_path(variables)
    }
    return save(arrays, dict(metadata))
