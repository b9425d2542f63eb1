"""Touching synthetic cells, separated into objects: nothing to download.

Paper     Stringer et al. 2021 (Cellpose, Nature Methods 18): vectors to the centre of
          each cell; here with a small U-Net
Data      64 images of 128 x 128 to train on, 8 to validate, 16 to test
Command   ./launch.sh
Measured  the 16 test images after 250 steps, one seed: average precision (IoU 0.5 to
          0.95) of the cells 0.796, panoptic quality 0.888, Dice of the cells 0.959
          (2026-11-26, 2 shared CPU cores, jax 0.10.2)

For comparison, with the same augmentation and number of steps the connected regions of
a class reach an average precision of 0.266, and 0.415 after a watershed:
--config.task.name=semantic --config.loss="({'name':'cross_entropy'},{'name':'dice'})",
without and with --config.predict.postprocess="({'name':'watershed'},)".
"""

from ml_collections import ConfigDict

from unet_jax.configs import base


def get_config() -> ConfigDict:
    """Returns a network of 0.5 M parameters that trains in minutes on a laptop."""
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
    config.task = ConfigDict({"name": "flow"})
    config.loss = (  # two terms for the foreground, one for the vectors
        ConfigDict({"name": "cross_entropy", "scale": 1.0}),
        ConfigDict({"name": "dice", "scale": 1.0, "smooth": 1.0}),
        ConfigDict({"name": "l2", "scale": 1.0}),
    )
    # No rotation: a crop is a whole image here, so a rotation by any other angle than
    # 90 degrees would fill its corners with mirrored parts of cells.
    config.augment = (
        ConfigDict({"name": "flip"}),
        ConfigDict({"name": "turn"}),
        ConfigDict({"name": "brightness", "sigma": 0.1}),
        ConfigDict({"name": "gamma", "low": 0.7, "high": 1.5, "probability": 0.5}),
    )
    config.metrics = (
        ConfigDict({"name": "average_precision"}),
        ConfigDict({"name": "panoptic_quality"}),
        ConfigDict({"name": "aggregated_jaccard"}),
        *config.metrics,
    )
    return config
