"""The parts of a run that predict, built without its data."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from unet_jax import parallel, postprocess, views
from unet_jax.arrays import Segmentation
from unet_jax.build import binding, checks
from unet_jax.data import normalize
from unet_jax.data.normalize import Scale
from unet_jax.data.resample import Resampling, make_resampling
from unet_jax.errors import UserError, naming
from unet_jax.inference import Inference
from unet_jax.specs import Spec, bind
from unet_jax.tasks import Data, Task
from unet_jax.views import View


class Options(NamedTuple):
    """The fields of `config.predict`; build/fields.py describes them."""

    tta: str
    tile: tuple[int, ...]
    batch: int
    channels: str
    save_probabilities: bool
    save_uncertainty: bool
    postprocess: tuple[Spec, ...]
    seed: int


class Predicting(NamedTuple):
    """The parts that predict; built from a config and its pre-processing alone.

    Attributes:
      task: what the output of the network means.
      inference: the network, on the devices of this process.
      variables: shapes of the variables of the network, as a checkpoint has them.
      measure: the pieces of a raw image -> its `normalize.Scale`.
      value_scale: the scale of an image -> that of the values predicted from it.
      views: of test-time augmentation.
      postprocess: `(segmentation, probabilities) -> segmentation`.
      options: the other fields of `config.predict`.
      preprocessing: JSON data that is saved with every checkpoint.
    """

    task: Task
    inference: Inference
    variables: Any
    measure: Callable[[normalize.Chunks], Scale]
    value_scale: Callable[[Scale], Scale]
    views: tuple[View, ...]
    postprocess: Callable[[Segmentation, np.ndarray], Segmentation]
    options: Options
    preprocessing: dict[str, Any]

    @property
    def convert(self) -> bool:
        """True if grey becomes RGB, or RGB grey, as in training or on request."""
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
        found = Segmentation(label.astype(np.int32))
        if self.task.segment:
            found = self.task.segment(found.label, prediction)
        if not postprocess:
            return found
        return self.postprocess(found, self.task.probabilities(prediction))

    def resampling(
        self, shape: tuple[int, ...], spacing: Sequence[float] | None
    ) -> Resampling:
        """Returns how an image of this shape is brought to the network, and back.

        Raises:
          UserError: the network needs a spacing, and it is not known or not possible.
        """
        spacing = spacing or self.preprocessing["file_spacing"]
        return make_resampling(shape, spacing, tuple(self.preprocessing["spacing"]))


def predicting(config: ConfigDict, preprocessing: dict[str, Any]) -> Predicting:
    """Builds the parts that predict.

    Args:
      config: of the run.
      preprocessing: what was saved with its checkpoints.

    Raises:
      UserError: a field of the config is wrong.
    """
    task = binding.task(config, data_of(preprocessing))
    chosen, postprocessing = options(config, task)
    axes, channels = preprocessing["spatial_axes"], preprocessing["channels"]
    model = binding.model(config, None).clone(outputs=task.channels)
    with naming("config.predict.tile"):
        inference = Inference(
            model,
            task=task,
            channels=channels,
            here=parallel.here(),
            edges=_edges(chosen, axes),
            batch=chosen.batch,
        )
    return Predicting(
        task=task,
        inference=inference,
        variables=jax.eval_shape(binding.variables(config, model, channels)),
        measure=binding.field(normalize, config, "normalize"),
        value_scale=value_scale(task, preprocessing["target_scale"]),
        views=getattr(views, chosen.tta)(axes),
        postprocess=postprocessing,
        options=chosen,
        preprocessing=preprocessing,
    )


def value_scale(task: Task, own: Sequence[Sequence[float]]) -> Callable:
    """Returns the function from the scale of an image to that of its values.

    Args:
      task: whose values may have the units of the image, or units of their own.
      own: offsets and widths of the latter.
    """
    if task.units != "own":
        return lambda scale: scale._replace(clip=False)
    return lambda scale: Scale(*map(np.asarray, own))


def options(config: ConfigDict, task: Task) -> tuple[Options, Callable]:
    """Returns the fields of `config.predict`, and post-processing as one function."""
    chosen = Options(**checks.section(config, "predict"))
    functions = [
        bind(postprocess, spec, f"config.predict.postprocess[{i}]")
        for i, spec in enumerate(chosen.postprocess)
    ]
    _check_serve(task, config.task.name, chosen, functions)
    return chosen, postprocess.chain(functions)


def _check_serve(
    task: Task, name: str, chosen: Options, functions: Sequence[Callable]
) -> None:
    """Raises UserError if the task gives no results that the options ask for."""
    for i, function in enumerate(functions):
        field = f"config.predict.postprocess[{i}]: {chosen.postprocess[i]['name']!r}"
        if not task.classes:
            raise UserError(f"{field} corrects labels, and the task {name!r} has none")
        if task.finds_objects and postprocess.finds_objects(function):
            raise UserError(
                f"{field} finds objects in labels, and the task {name!r} finds them "
                "itself; leave it out"
            )
    if chosen.save_probabilities and not task.probabilities:
        raise UserError(
            f"config.predict.save_probabilities: the task {name!r} has no classes; set "
            "it to False"
        )
    if chosen.save_uncertainty and not task.entropy:
        raise UserError(
            f"config.predict.save_uncertainty: the values of the task {name!r} have no "
            "entropy; set it to False"
        )
    if task.classes:
        _rehearse(task, functions)


def _rehearse(task: Task, functions: Sequence[Callable]) -> None:
    """Shows post-processing one pixel, so that it objects before there is an image."""
    prediction = np.full((1, 1, task.channels), 1 / task.channels, np.float32)
    label = task.decide(prediction).astype(np.int32)
    with naming("config.predict.postprocess"):
        postprocess.chain(functions)(
            Segmentation(label), task.probabilities(prediction)
        )


def data_of(preprocessing: dict[str, Any]) -> Data:
    """Returns the facts about the training data that a task depends on."""
    return Data(
        classes=tuple(preprocessing["classes"]),
        axes=preprocessing["spatial_axes"],
        channels=preprocessing["channels"],
        target_channels=preprocessing["target_channels"],
    )


def _edges(options: Options, axes: int) -> tuple[int, ...]:
    """The sizes of a tile, one for each axis; one number goes for all."""
    if len(options.tile) == 1:
        return options.tile * axes
    if options.tile and len(options.tile) != axes:
        raise UserError(f"needs {axes} sizes, not {options.tile}")
    return options.tile
