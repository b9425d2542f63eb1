"""Builds the parts of a run that generate images; needs no data set."""

from typing import Any, NamedTuple

from ml_collections import ConfigDict

from unet_jax import parallel
from unet_jax.build import binding, field_checks
from unet_jax.build.learning import build_learning
from unet_jax.build.preprocessing import Preprocessing, read_task_data
from unet_jax.methods import Method


class GenerationParts(NamedTuple):
    """The parts of a run that generate images.

    Attributes:
      method: the method, with its `sample`.
      variables: the shapes of the variables of the network.
      shape: the shape `(*S, C)` of an image.
      devices: the devices of this process.
    """

    method: Method
    variables: Any
    shape: tuple[int, ...]
    devices: parallel.LocalDevices


def build_generation(
    config: ConfigDict, preprocessing: Preprocessing
) -> GenerationParts:
    """Builds the parts of a run that generate images; needs no data set.

    The arguments are those of `build_prediction`.

    Raises:
      UserError: a field of the config is wrong.
    """
    field_checks.check_fields(config)
    task = binding.build_task(config, read_task_data(preprocessing))
    learning = build_learning(config, task, None)
    channels = preprocessing["channels"]
    return GenerationParts(
        method=learning.method,
        variables=binding.read_variable_shapes(config, learning.model, channels),
        shape=(*config.crop, channels),
        devices=parallel.local_devices(),
    )
