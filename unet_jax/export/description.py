"""Describes an exported model: model.json, and the metadata of an ONNX file."""

import json
from collections.abc import Mapping
from typing import Any

from unet_jax.export.pipeline import Pipeline
from unet_jax.models.onnx_nodes import OPSET

FORMAT = 1  # of model.json


def name_output(pipeline: Pipeline) -> str:
    """Returns the name of the output: probabilities, values or prediction."""
    if not pipeline.task.classes:
        return "values"
    return "prediction" if pipeline.task.vectors else "probabilities"


def name_channels(pipeline: Pipeline) -> list[str]:
    """Returns a name for each channel of the output."""
    task = pipeline.task
    if not task.classes:
        return [f"value{i}" for i in range(task.channels)]
    if not task.vectors:
        return list(task.classes)
    axes = ("z", "y", "x")[-task.vectors :]
    return [*(f"vector_{axis}" for axis in axes), *task.classes[1:]]


def describe_model(
    pipeline: Pipeline, about: Mapping[str, Any], halo: tuple[int, ...] | None
) -> dict[str, Any]:
    """Returns the content of model.json, as JSON data.

    Args:
      pipeline: the prediction.
      about: further facts: the config, the pre-processing, the classes and so on.
      halo: the largest distance between an output pixel and a pixel of the image that
        it depends on; None if it depends on the whole image.
    """
    p = pipeline
    return {
        "format": FORMAT,
        "input": {
            "name": "image",
            "dtype": str(p.dtype),
            "channels": p.channels,
            "spatial_axes": p.axes,
            "spacing": about["preprocessing"]["spacing"],
        },
        "normalize": {**p.normalize},
        "network": {
            "channels": p.network_channels,
            "halo": None if halo is None else list(halo),
            "least_size": [border.least for border in p.borders],
            "multiple": [border.multiple for border in p.borders],
            "margin": [border.margin for border in p.borders],
        },
        "output": {"name": name_output(p), "channels": name_channels(p)},
        "classes": list(p.task.classes),
        "background": p.task.background,
        "members": len(p.members),
        "views": len(p.views),
        **about,
    }


def make_metadata(description: Mapping[str, Any]) -> dict[str, str]:
    """Returns the description as the metadata of an ONNX file, with its opset."""
    left_out = ("config", "preprocessing")
    kept = {k: v for k, v in description.items() if k not in left_out}
    return {"opset": str(OPSET), "description": json.dumps(kept, sort_keys=True)}
