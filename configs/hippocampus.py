"""Hippocampus in MRI: a 3-D U-Net for its anterior and its posterior part.

Paper     Antonelli et al. 2022, Nat. Commun. 13:4128, the Medical Segmentation
          Decathlon, task 4 (data: Simpson et al. 2019, arXiv:1902.09063)
Data      T1-weighted volumes around the hippocampus, about 35 x 50 x 36 voxels of
          1 mm; ROOT holds images/ and masks/, or train/images/ and train/masks/, with
          NIfTI files of the same names and masks of 0, 1, 2
Command   python main.py --config=configs/hippocampus.py --config.data.root=ROOT

Measured  on 40 of the 260 public volumes (28, 6 and 6, split by the folder), 2 shared
          CPU cores, one seed (2026-11-26, jax 0.12.0.1): Dice of the 6 test volumes
          0.846 anterior and 0.844 posterior, surface Dice at 1 mm 0.889, 95th
          percentile of distances 1.8 mm, mean distance 0.64 mm

As in nnU-Net (Isensee et al. 2021): volumes are resampled to one spacing and normalised
one by one; instance norm, leaky ReLU, cross-entropy and Dice; a third of the patches
lie around a foreground voxel; whole volumes are predicted in blended tiles of the size
of a patch, because instance norm depends on the size of its input.
Departures, for a CPU: a quarter of the channels, and 600 steps of Adam with two patches
each (nnU-Net: 250,000 steps of SGD). Volumes are mirrored only from left to right,
because the position of a voxel tells anterior from posterior.
"""

from ml_collections import ConfigDict

from unet_jax.configs import base


def get_config() -> ConfigDict:
    """Returns a small nnU-Net for volumes."""
    config = base.get_config()
    config.name = "hippocampus"
    config.steps = 600
    config.batch_size = 2
    config.crop = (32, 48, 32)  # (depth, height, width): most of a volume
    config.log_every = 20
    config.eval_every = 200
    config.checkpoint_every = 200
    config.data = ConfigDict(
        {
            "name": "folder",
            "root": "",
            "axes": 3,
            "classes": ("background", "anterior", "posterior"),
        }
    )
    config.spacing = (1.0, 1.0, 1.0)  # mm
    config.sampling = ConfigDict({"name": "foreground", "probability": 1 / 3})
    config.model.update(
        {"widths": (8, 16, 32, 64), "norm": "instance", "activation": "leaky_relu"}
    )
    config.augment = (
        ConfigDict({"name": "flip", "axes": (2,)}),  # left and right, of [Z, Y, X]
        ConfigDict({"name": "rotation", "degrees": 30.0, "probability": 0.5}),
        ConfigDict({"name": "scale", "low": 0.8, "high": 1.25, "probability": 0.5}),
        ConfigDict({"name": "brightness", "sigma": 0.1}),
        ConfigDict({"name": "gamma", "low": 0.7, "high": 1.5, "probability": 0.5}),
    )
    config.metrics = (
        ConfigDict({"name": "dice"}),
        ConfigDict({"name": "surface_dice", "tolerance": 1.0}),  # mm
        ConfigDict({"name": "hausdorff95"}),
        ConfigDict({"name": "surface_distance"}),
    )
    config.predict.tile = config.get_ref("crop")
    return config
