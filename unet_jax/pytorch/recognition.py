"""Finds the architecture of a checkpoint of PyTorch and loads its variables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unet_jax.errors import UserError, prefix_errors
from unet_jax.pytorch import basic_unet, milesial, nnunet, resnet, smp_unet
from unet_jax.pytorch.architecture import (
    Architecture,
    Describe,
    find_differences,
    load_variables,
)
from unet_jax.pytorch.checkpoint_file import Checkpoint, read_checkpoint
from unet_jax.pytorch.tensor import Tensor
from unet_jax.text import listing

DESCRIPTIONS: tuple[Describe, ...] = (
    milesial.describe,
    basic_unet.describe,
    smp_unet.describe,
    resnet.describe,
)
SHOWN = 3  # layers of an error


class Imported(NamedTuple):
    """A network of another program that was recognised.

    Attributes:
      path: the file that was read.
      architecture: the network.
      tensors: its weights, which are not loaded yet.
      classes: names by id; () if they are not known.
      mask_values: the value of each class in the masks; () if they are not known.
    """

    path: Path
    architecture: Architecture
    tensors: Mapping[str, Tensor]
    classes: tuple[str, ...] = ()
    mask_values: tuple[int, ...] = ()

    def load(self) -> dict[str, np.ndarray]:
        """Loads the variables of our network by name: 'params/down0/Conv_0/kernel'.

        Raises:
          UserError: a number is not finite, or the file is damaged.
        """
        with prefix_errors(str(self.path)):
            return load_variables(self.tensors, self.architecture)


def recognise(source: Path) -> Imported:
    """Reads a checkpoint and recognises its network.

    Args:
      source: a file of PyTorch or safetensors, or a folder of nnU-Net v2.

    Raises:
      UserError: the file cannot be read, its network is not one that we know, or a part
        of it is not supported.
    """
    path = source
    if source.is_dir():
        found = nnunet.find_checkpoint(source)
        if found is None:
            raise UserError(
                f"{source} is a folder without plans.json, so nnU-Net v2 did not write "
                "it; name a checkpoint, or the folder of a fold"
            )
        path = found
    checkpoint = read_checkpoint(path)
    classes: tuple[str, ...] = ()
    if nnunet.is_nnunet(checkpoint):
        checkpoint, architecture, plan = nnunet.read_nnunet(path)
        classes = plan.classes
        with prefix_errors(str(path)):
            _check_fits(checkpoint.tensors, architecture)
    else:
        with prefix_errors(str(path)):
            architecture = find_architecture(checkpoint.tensors)
    values = _read_mask_values(checkpoint, architecture)
    return Imported(path, architecture, checkpoint.tensors, classes, values)


def find_architecture(tensors: Mapping[str, Tensor]) -> Architecture:
    """Returns the description of the network that these tensors are of.

    Raises:
      UserError: none fits; the error names the nearest one and what differs.
    """
    nearest, most, lines = None, -1.0, ()
    for describe in DESCRIPTIONS:
        architecture = describe(tensors)
        differences = find_differences(tensors, architecture)
        if not differences.lines:
            return architecture
        share = differences.matched / len(architecture.layers)
        if share > most:
            nearest, most, lines = architecture, share, differences.lines
    assert nearest is not None
    raise _report_differences(nearest, lines)


def _check_fits(tensors: Mapping[str, Tensor], architecture: Architecture) -> None:
    differences = find_differences(tensors, architecture)
    if differences.lines:
        raise _report_differences(architecture, differences.lines)


def _report_differences(nearest: Architecture, lines: tuple[str, ...]) -> UserError:
    return UserError(
        f"is of no network that is known; the nearest is {nearest.name}, and of its "
        f"tensors {listing(lines, SHOWN, '; ')}. docs/how-to/import.md lists the "
        "networks that can be imported"
    )


def _read_mask_values(
    checkpoint: Checkpoint, architecture: Architecture
) -> tuple[int, ...]:
    """Returns the mask values that milesial/Pytorch-UNet saves beside the weights."""
    values: Any = checkpoint.content.get("mask_values")
    if not isinstance(values, list) or len(values) != architecture.outputs:
        return ()
    if not all(type(value) is int and abs(value) < 2**31 for value in values):
        return ()
    return tuple(values)
