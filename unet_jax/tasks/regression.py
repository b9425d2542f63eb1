"""Regression of images, for denoising, restoration or virtual staining."""

from typing import Literal

import numpy as np

from unet_jax.arrays import Example
from unet_jax.errors import UserError
from unet_jax.tasks.activation import Activation, Activations
from unet_jax.tasks.task import Task, TaskData


def regression(
    data: TaskData,
    *,
    target: Literal["file", "image"] = "file",
    units: Literal["image", "own"] = "image",
) -> Task:
    """Predicts C numbers for each pixel; the prediction is the output of the network.

    The target is `target f32[*S, C]`, scaled for the network. A prediction is
    `f32[*S, C]` on the same scale.

    Args:
      data: the properties of the data set.
      target: 'file' for the target image of each record, or 'image' for the image
        itself, before augmentation changes its intensities (autoencoders, generators).
      units: the units of the target. 'image': those of the image, as in denoising; the
        scale of each image is used for its target, too. 'own': units of their own, as
        in virtual staining; one scale is used for all targets of the data set. The runs
        of an ensemble may have other scales; they are averaged in these units.

    Raises:
      UserError: the data set has no targets, or the options do not fit the numbers of
        channels.
    """
    itself = target == "image"
    channels = data.channels if itself else data.target_channels
    if not channels:
        raise UserError(
            "the data set has no targets; add a folder targets/ with one target for "
            "each image, or choose another --config.task.name"
        )
    if itself and units == "own":
        raise UserError(
            "config.task.units='own' needs target files, and with "
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
        activate=Activations((Activation("identity", channels),)),
        units=units,
    )


def _copy_image_to_target(example: Example) -> Example:
    return {**example, "target": np.asarray(example["image"], np.float32)}
