"""Builds the record of a prediction that the exported formats are written from."""

import inspect
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from unet_jax.build import binding, field_checks
from unet_jax.build.prediction import PredictionParts
from unet_jax.data import normalize
from unet_jax.errors import UserError, prefix_errors
from unet_jax.export.pipeline import Pipeline, find_borders
from unet_jax.export.scales import MEASURES
from unet_jax.specs import Spec


def build_pipeline(
    config: ConfigDict, setup: PredictionParts, members: Sequence[Any]
) -> Pipeline:
    """Builds the pipeline of a run, or of an ensemble.

    Args:
      config: the config of the first run.
      setup: the parts of the run that predict.
      members: the variables of each run.

    Raises:
      UserError: a part of the prediction cannot be exported.
    """
    options = field_checks.read_section(config, "export")
    preprocessing = setup.preprocessing
    if setup.options.postprocess:
        names = [spec["name"] for spec in setup.options.postprocess]
        raise UserError(
            f"config.predict.postprocess: no format holds {names[0]!r}; set "
            '--config.predict.postprocess="()", and apply it to the prediction'
        )
    dtype, channels = np.dtype(options["dtype"]), preprocessing["channels"]
    spec = _complete_normalization(config, dtype)
    if config.normalize.name == "unit" and options["dtype"] == "float32":
        raise UserError(
            "config.export.dtype: the normalisation 'unit' divides integers by the "
            "largest number of their type, so name the type of the image files, such "
            "as --config.export.dtype=uint8"
        )
    with prefix_errors("config.export.channels"):
        stored = options["channels"] or channels
        _check_channels(stored, channels)
    with prefix_errors("config.predict.tta"):
        geometry = setup.model.geometry(preprocessing["spatial_axes"])
        borders = find_borders(geometry, setup.views)
    return Pipeline(
        model=setup.model,
        members=tuple(jax.tree.map(np.asarray, member) for member in members),
        task=setup.task,
        views=setup.views,
        borders=borders,
        channels=stored,
        network_channels=channels,
        dtype=dtype,
        normalize=spec,
        target_scale=preprocessing["target_scale"],
        member_scales=preprocessing.get("member_scales", ()),
    )


def _complete_normalization(config: ConfigDict, dtype: np.dtype) -> Spec:
    """Returns the spec of the normalisation with all of its keywords.

    That of `unit` depends on the type of the pixels, so it becomes numbers.
    """
    name = config.normalize.name
    if name == "unit":
        largest = float(np.iinfo(dtype).max) if dtype.kind in "ui" else 1.0
        return {"name": "fixed", "mean": (0.0,), "std": (largest,)}
    if name not in MEASURES:
        raise UserError(
            f"config.normalize: {name!r} cannot be exported; the formats hold "
            f"{', '.join(sorted([*MEASURES, 'unit']))}"
        )
    return complete_spec(normalize, config, "normalize")


def complete_spec(module: ModuleType, config: ConfigDict, field: str) -> Spec:
    """Returns the spec of a field with all keywords of the function that it names."""
    function = binding.bind_field(module, config, field)
    parameters = inspect.signature(function).parameters.values()
    keywords = {p.name: p.default for p in parameters if p.kind == p.KEYWORD_ONLY}
    return {"name": config[field].name, **keywords}


def _check_channels(stored: int, channels: int) -> None:
    if stored != channels and (stored, channels) not in ((1, 3), (3, 1)):
        raise UserError(
            f"images of {stored} channels cannot become images of {channels}, which "
            f"the network takes; set it to {channels}, or to 0"
        )
