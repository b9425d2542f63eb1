"""What a run needs to segment images: built without its data."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from unet_jax import parallel, postprocess, views
from unet_jax.build import binding, checks
from unet_jax.data import normalize
from unet_jax.data.resample import Resampling, between
from unet_jax.errors import UserError, naming
from unet_jax.inference import Inference
from unet_jax.postprocess import Segmentation
from unet_jax.specs import Count, Spec, Whole, bind, check_keywords
from unet_jax.views import View


class Options(NamedTuple):
    """What `config.predict` says."""

    tta: Literal["none", "flips", "rot4", "d4", "paper"] = "none"
    tile: tuple[Count, ...] = ()
    batch: Whole = 0
    channels: Literal["exact", "convert"] = "exact"
    save_probabilities: bool = False
    save_uncertainty: bool = False
    postprocess: tuple[Spec, ...] = ()


class Predicting(NamedTuple):
    """How a run segments images; built of its config and pre-processing alone.

    Attributes:
      inference: the network, on the devices of this process.
      init: `key -> state`, whose shapes a checkpoint has.
      measure: the pieces of a raw image -> its `normalize.Scale`.
      views: of test-time augmentation.
      mend: post-processing, `(segmentation, probabilities) -> segmentation`.
      options: what else `config.predict` says.
      preprocessing: JSON data that is saved with every checkpoint.
    """

    inference: Inference
    init: Callable
    measure: Callable[[normalize.Pieces], normalize.Scale]
    views: tuple[View, ...]
    mend: Callable[[Segmentation, np.ndarray], Segmentation]
    options: Options
    preprocessing: dict[str, Any]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the model's outputs."""
        return outputs(self.preprocessing)

    @property
    def independent(self) -> bool:
        """Whether they are independent (sigmoid), not exclusive (softmax)."""
        return self.preprocessing["head"] == "sigmoid"

    @property
    def convert(self) -> bool:
        """Whether grey becomes RGB, or RGB grey, as it did in training or is wished."""
        trained = self.preprocessing.get("convert", False)  # absent in older runs
        return trained or self.options.channels == "convert"

    def resampling(
        self, shape: tuple[int, ...], spacing: Sequence[float] | None
    ) -> Resampling:
        """How an image of this shape is brought to the network, and back.

        Raises:
          UserError: the network needs a spacing, and it is not known or not possible.
        """
        spacing = spacing or self.preprocessing.get("file_spacing")  # of older runs: no
        return between(shape, spacing, spacing_of(self.preprocessing))


def predicting(config: ConfigDict, preprocessing: dict[str, Any]) -> Predicting:
    """Builds what segments images, without the data that the run was trained on.

    Raises:
      UserError: a field of the config is wrong.
    """
    chosen, mend = options(config)
    classes, channels = len(outputs(preprocessing)), preprocessing["channels"]
    independent = preprocessing["head"] == "sigmoid"
    _rehearse(mend, classes, independent=independent)
    model = binding.model(config, None).clone(outputs=classes)
    with naming("config.predict.tile"):
        inference = Inference(
            model,
            channels=channels,
            independent=independent,
            here=parallel.here(),
            edges=_edges(chosen, preprocessing["spatial_axes"]),
            batch=chosen.batch,
        )
    return Predicting(
        inference=inference,
        init=binding.init(config, model, binding.optimizer(config)[1], channels),
        measure=binding.field(normalize, config, "normalize"),
        views=getattr(views, chosen.tta)(preprocessing["spatial_axes"]),
        mend=mend,
        options=chosen,
        preprocessing=preprocessing,
    )


def options(config: ConfigDict) -> tuple[Options, Callable]:
    """What `config.predict` says, and its post-processing as one function."""
    values = checks.plain(config.predict)
    check_keywords(Options, values, "config.predict")
    chosen = Options(**values)
    mends = [
        bind(postprocess, spec, f"config.predict.postprocess[{i}]")
        for i, spec in enumerate(chosen.postprocess)
    ]
    return chosen, postprocess.chain(mends)


def _rehearse(mend: Callable, classes: int, *, independent: bool) -> None:
    """Shows post-processing one pixel, so that it objects before there is an image."""
    label = np.zeros((1, 1, classes) if independent else (1, 1), np.int32)
    with naming("config.predict.postprocess"):
        mend(Segmentation(label), np.full((1, 1, classes), 1 / classes, np.float32))


def _edges(options: Options, axes: int) -> tuple[int, ...]:
    """The sizes of a tile, one for each axis; one number goes for all."""
    if len(options.tile) == 1:
        return options.tile * axes
    if options.tile and len(options.tile) != axes:
        raise UserError(f"needs {axes} sizes, not {options.tile}")
    return options.tile


def spacing_of(preprocessing: dict[str, Any]) -> tuple[float, ...]:
    """The size of a pixel that images are resampled to; (), as they are.

    A checkpoint from before there was one does not name it.
    """
    return tuple(preprocessing.get("spacing", ()))


def outputs(preprocessing: dict[str, Any]) -> tuple[str, ...]:
    """The classes that the network has outputs for: of a sigmoid no background."""
    background = preprocessing["head"] == "sigmoid"
    return tuple(preprocessing["classes"][background:])
