"""Image to image: numbers for each pixel, to denoise, to restore or to stain."""

from typing import Literal

import numpy as np

from unet_jax.arrays import Example
from unet_jax.errors import UserError
from unet_jax.tasks.task import Data, Task


def regression(
    data: Data,
    *,
    target: Literal["file", "image"] = "file",
    units: Literal["image", "own"] = "image",
) -> Task:
    """C numbers for each pixel: the output itself, without an activation.

    The target is `target f32[*S, C]`, scaled for the network; a prediction is
    `f32[*S, C]` of the same scale.

    Args:
      data: the facts about the data set.
      target: 'file', the target image that each record has; or 'image', the image
        itself, as it is before augmentation changes its intensities (autoencoders,
        generators).
      units: of the target. 'image', those of the image, as in denoising: the scale of
        each image serves its target too. 'own', as in virtual staining: one scale
        serves the targets of the whole data set.

    Raises:
      UserError: the data set has no targets, or the options and the numbers of channels
        do not fit together.
    """
    itself = target == "image"
    channels = data.channels if itself else data.target_channels
    if not channels:
        raise UserError(
            "the data set has no targets; add a folder targets/ with one image for "
            "each image, or choose another --config.task.name"
        )
    if itself and units == "own":
        raise UserError(
            "config.task.units='own' is for target files, and with "
            "config.task.target='image' there are none; set --config.task.units=image"
        )
    if units == "image" and data.channels not in (1, channels):
        raise UserError(
            f"config.task.units='image' needs targets with the {data.channels} "
            f"channels of the images, but they have {channels}; set "
            "--config.task.units=own"
        )
    return Task(
        channels=channels,
        classes=(),
        losses=("value",),
        metrics=("value",),
        needs=() if itself else ("target",),
        prepare=_copy_image_to_target if itself else lambda example: example,
        targets=lambda batch: {"value": batch["target"]},
        outputs=lambda output: {"value": output},
        activate=lambda output: output,
        units=units,
    )


def _copy_image_to_target(example: Example) -> Example:
    return {**example, "target": np.asarray(example["image"], np.float32)}
