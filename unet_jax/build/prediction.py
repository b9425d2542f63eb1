"""Builds the parts of a run that predict; needs no data set."""

import functools
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np
from ml_collections import ConfigDict

from unet_jax import parallel, postprocess, runtime, views
from unet_jax.arrays import Segmentation
from unet_jax.build import binding, field_checks
from unet_jax.build.preprocessing import Preprocessing, read_task_data
from unet_jax.data import normalize
from unet_jax.data.normalize import Scale
from unet_jax.data.resample import Resampling, make_resampling
from unet_jax.errors import UserError, prefix_errors
from unet_jax.inference import Inference
from unet_jax.models import UNet
from unet_jax.models.onnx_unet import write_unet
from unet_jax.parallel import LocalDevices
from unet_jax.runtime import Runtime
from unet_jax.specs import bind
from unet_jax.tasks import Task
from unet_jax.views import View


class PredictionParts(NamedTuple):
    """The parts of a run that predict.

    Attributes:
      task: the meaning of the output of the network.
      inference: the network, on the devices of this process.
      model: the network itself.
      variables: the shapes of the variables of the network, as in a checkpoint.
      measure: the pieces of a raw image -> its `normalize.Scale`.
      value_scale: the scale of an image -> the scale of the values predicted from it.
      views: of test-time augmentation.
      postprocess: `(segmentation, probabilities) -> segmentation`.
      options: the keys of `config.predict`, as attributes; see build/fields.py.
      preprocessing: the pre-processing, from the checkpoint.
    """

    task: Task
    inference: Inference
    model: nn.Module
    variables: Any
    measure: Callable[[normalize.Chunks], Scale]
    value_scale: Callable[[Scale], Scale]
    views: tuple[View, ...]
    postprocess: Callable[[Segmentation, np.ndarray], Segmentation]
    options: SimpleNamespace
    preprocessing: Preprocessing

    @property
    def convert(self) -> bool:
        """True if grey images are converted to RGB, or RGB images to grey."""
        return self.preprocessing["convert"] or self.options.channels == "convert"

    def segment(
        self, label: np.ndarray, prediction: np.ndarray, *, postprocess: bool
    ) -> Segmentation:
        """Returns the classes and the objects of a whole image.

        Args:
          label: `[*S]` or `[*S, K]`, of any integer type.
          prediction: `f32[*S, channels]`.
          postprocess: True to apply the post-processing of `config.predict`.
        """
        segmentation = Segmentation(label.astype(np.int32))
        if self.task.segment:
            segmentation = self.task.segment(segmentation.label, prediction)
        if not postprocess:
            return segmentation
        return self.postprocess(segmentation, self.task.probabilities(prediction))

    def plan_resampling(
        self, shape: tuple[int, ...], spacing: Sequence[float] | None
    ) -> Resampling:
        """Returns the resampling of an image to the spacing of the network.

        Args:
          shape: the spatial shape of the image.
          spacing: the size of its pixels along each axis; None if it is not known.

        Raises:
          UserError: the network needs a spacing, and that of the image is unknown or
            not possible.
        """
        spacing = spacing or self.preprocessing["file_spacing"]
        return make_resampling(shape, spacing, tuple(self.preprocessing["spacing"]))


def check_runtime(config: ConfigDict) -> None:
    """Checks `config.predict.runtime`, before anything is read.

    Raises:
      UserError: it is unknown, or cannot be used on this machine.
    """
    if field_checks.read_section(config, "predict")["runtime"] == "onnxruntime":
        runtime.check_usable()


def build_prediction(
    config: ConfigDict, preprocessing: Preprocessing, *, training: bool = False
) -> PredictionParts:
    """Builds the parts of a run that predict.

    Args:
      config: the config of the run.
      preprocessing: the pre-processing, from its checkpoint.
      training: True to compute with XLA, whatever `config.predict.runtime` says.

    Raises:
      UserError: a field of the config is wrong.
    """
    task = binding.build_task(config, read_task_data(preprocessing))
    options, postprocessing = bind_options(config, task)
    axes, channels = preprocessing["spatial_axes"], preprocessing["channels"]
    model = binding.build_model(config, None).clone(outputs=task.channels)
    devices = parallel.local_devices()
    name = "xla" if training else options.runtime
    computing = _make_runtime(name, config, model, preprocessing, devices)
    _check_tiling(options, model, axes)
    with prefix_errors("config.predict.tile"):
        inference = Inference(
            computing,
            geometry=model.geometry,
            task=task,
            channels=channels,
            devices=devices,
            edges=_expand_tile(options.tile, axes),
            batch=options.batch,
            even=options.tiling == "nnunet",
            scales=preprocessing.get("member_scales", ()),
        )
    return PredictionParts(
        task=task,
        inference=inference,
        model=model,
        variables=binding.read_variable_shapes(config, model, channels),
        measure=binding.bind_field(normalize, config, "normalize"),
        value_scale=make_value_scale(task, preprocessing["target_scale"]),
        views=getattr(views, options.tta)(axes),
        postprocess=postprocessing,
        options=options,
        preprocessing=preprocessing,
    )


def _make_runtime(
    name: str,
    config: ConfigDict,
    model: nn.Module,
    preprocessing: Preprocessing,
    devices: LocalDevices,
) -> Runtime:
    if name == "xla":
        return runtime.xla(model, devices.put_state, devices.batch_sharding)
    field = "config.predict.runtime='onnxruntime'"
    if preprocessing["samples"]:
        raise UserError(
            f"{field} is for networks that predict, and this run is a generator; set "
            "it to 'xla'"
        )
    if type(model) is not UNet:
        raise UserError(
            f"{field} computes the network UNet only, not {config.model.name!r}; set "
            "it to 'xla'"
        )
    write_graph = functools.partial(
        write_unet,
        model,
        axes=preprocessing["spatial_axes"],
        channels=preprocessing["channels"],
    )
    return runtime.onnxruntime(model, write_graph, devices.batch_sharding)


def make_value_scale(
    task: Task, target_scale: Sequence[Sequence[float]]
) -> Callable[[Scale], Scale]:
    """Returns a function from the scale of an image to the scale of its values.

    If the units are those of the targets, `target_scale` has the offsets and the widths
    of the targets, for each channel.
    """
    if task.units != "own":
        return lambda scale: scale._replace(clip=False)
    offset, width = map(np.asarray, target_scale)
    return lambda scale: Scale(offset, width)


def bind_options(config: ConfigDict, task: Task) -> tuple[SimpleNamespace, Callable]:
    """Returns the keys of `config.predict`, and its post-processing as a function.

    Raises:
      UserError: a key is wrong, or the task does not give the results it needs.
    """
    options = SimpleNamespace(**field_checks.read_section(config, "predict"))
    functions, name = [], config.task.name
    for i, spec in enumerate(options.postprocess):
        field = f"config.predict.postprocess[{i}]"
        function = bind(postprocess, spec, field)
        if not task.classes:
            raise UserError(
                f"{field}: {spec['name']!r} corrects labels, and the task {name!r} has "
                "none; remove it"
            )
        if task.finds_objects and postprocess.finds_objects(function):
            raise UserError(
                f"{field}: {spec['name']!r} finds objects, and the task {name!r} finds "
                "them itself; remove it"
            )
        functions.append(function)
    if options.save_probabilities and not task.probabilities:
        raise UserError(
            f"config.predict.save_probabilities: the task {name!r} has no classes; set "
            "it to False"
        )
    if options.save_uncertainty and not task.entropy:
        raise UserError(
            f"config.predict.save_uncertainty: the values of the task {name!r} have no "
            "entropy; set it to False"
        )
    chained = postprocess.chain_functions(functions)
    if task.classes:  # one pixel, so that a wrong function fails before prediction
        prediction = np.full((1, 1, task.channels), 1 / task.channels, np.float32)
        label = Segmentation(task.decide(prediction).astype(np.int32))
        with prefix_errors("config.predict.postprocess"):
            chained(label, task.probabilities(prediction))
    return options, chained


def _check_tiling(options: SimpleNamespace, model: nn.Module, axes: int) -> None:
    """Raises UserError if nnU-Net's tiles lack a size, or do not suit the network."""
    if options.tiling == "auto":
        return
    field = "config.predict.tiling='nnunet'"
    if not options.tile:
        raise UserError(
            f"{field} needs the size of a tile; set config.predict.tile, or "
            "config.predict.tiling='auto'"
        )
    if any(model.geometry(axes).margin):
        raise UserError(f"{field} needs config.model.padding='SAME'; set it to 'auto'")


def _expand_tile(tile: tuple[int, ...], axes: int) -> tuple[int, ...]:
    """Returns the size of a tile along each axis; a single size is for all axes."""
    return tile * axes if len(tile) == 1 else tile
