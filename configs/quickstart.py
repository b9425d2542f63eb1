"""Synthetic cells, drawn by the project: nothing to download.

Paper     none; a small U-Net with today's habits
Data      64 images of 128 x 128 to train on, 8 to validate, 16 to test
Command   ./launch.sh
Measured  Dice of the test images 0.969, of the cells alone 0.962, after 250 steps on 2
          shared CPU cores (2026-11-21, jax 0.10.2, one seed)
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """A network of 0.5 M parameters that learns in minutes on a laptop."""
    config = base.get_config()
    config.name = "quickstart"
    config.steps = 250
    config.eval_every = config.checkpoint_every = 50
    config.data = ConfigDict(
        {
            "name": "cells",
            "shape": (128, 128),  # pixels per axis; three axes make volumes
            "train": 64,  # images
            "val": 8,
            "test": 16,
        }
    )
    config.model.widths = (16, 32, 64, 128)
    config.metrics += (  # of objects: cells that touch must be told apart
        ConfigDict({"name": "average_precision"}),
        ConfigDict({"name": "panoptic_quality"}),
        ConfigDict({"name": "aggregated_jaccard"}),
    )
    return config
