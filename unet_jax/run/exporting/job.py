"""The facts that all formats of an export are written from."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from unet_jax.export.pipeline import Pipeline


class Job(NamedTuple):
    """An export of a run, or of an ensemble.

    Attributes:
      name: of the run.
      pipeline: the prediction.
      halo: the pixels on each side of a tile whose output should not be used.
      exact: True if tiles with this halo equal the whole image.
      description: the content of model.json.
      options: the keys of `config.export`, as attributes.
      convert: a raw image `[*S, C]` -> one with the channels of the network.
      normalize: an image with these channels -> what the network sees.
      picture: the picture of predictions of the run, as PNG; empty without one.
    """

    name: str
    pipeline: Pipeline
    halo: tuple[int, ...]
    exact: bool
    description: Mapping[str, Any]
    options: SimpleNamespace
    convert: Callable[[np.ndarray], np.ndarray]
    normalize: Callable[[np.ndarray], np.ndarray]
    picture: bytes

    @property
    def precision(self) -> type:
        """The number type of networks in ONNX files."""
        return np.float16 if self.options.precision == "float16" else np.float32


class Files(NamedTuple):
    """The files of one format.

    Attributes:
      contents: by their path in the output folder.
      difference: the largest one from `Predictor`; None if the files hold no function.
      checked_by: the program that computed them.
    """

    contents: Mapping[str, bytes]
    difference: float | None
    checked_by: str
