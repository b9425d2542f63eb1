"""Checkpoints of a run: the latest two and the best, saved in the background.

A checkpoint has two parts, each a tree of arrays in a folder of its own. `variables`
are the arrays that prediction and fine-tuning read. `training` are the other arrays of
the state. The metadata are saved beside them as JSON: the config, the pre-processing,
the validation scores, and checksums. A part is verified whenever it is loaded.
"""

from unet_jax.checkpoint.checkpoints import (
    CHECKPOINTS,
    DAMAGED,
    Checkpoints,
    check_trained,
    clean,
    list_steps,
    load_newest_metadata,
)
from unet_jax.checkpoint.damage import DamagedCheckpointError
from unet_jax.checkpoint.folds import (
    FOLDS_FILE,
    JOURNAL,
    find_runs,
    holds_folds,
    holds_sweep,
)

__all__ = [
    "DAMAGED",
    "CHECKPOINTS",
    "FOLDS_FILE",
    "JOURNAL",
    "Checkpoints",
    "DamagedCheckpointError",
    "check_trained",
    "clean",
    "find_runs",
    "holds_folds",
    "holds_sweep",
    "list_steps",
    "load_newest_metadata",
]
