"""The description of a model for the BioImage Model Zoo, of format 0.5.

https://bioimage-io.github.io/spec-bioimage-io: a folder with rdf.yaml, an ONNX file,
test images and a cover. bioimageio.core reads it.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unet_jax.export.description import name_channels, name_output
from unet_jax.export.pipeline import Pipeline
from unet_jax.models.onnx_nodes import OPSET

FORMAT_VERSION = "0.5.12"
WEIGHTS, DESCRIPTION = "model.onnx", "rdf.yaml"
TEST_INPUT, TEST_OUTPUT = "test_input.npy", "test_output.npy"
COVER, README = "cover.png", "README.md"
PAPER = {
    "text": "Ronneberger, Fischer and Brox: U-Net: Convolutional Networks for "
    "Biomedical Image Segmentation. MICCAI 2015.",
    "doi": "10.1007/978-3-319-24574-4_28",
}
EPSILON = 1e-6  # that the format adds to a deviation; the smallest possible


def takes_raw_images(pipeline: Pipeline) -> bool:
    """Returns True if the ONNX file must normalise the image itself.

    Otherwise rdf.yaml describes the normalisation, so that programs can compute it for
    a whole image and predict tiles. It has no way back to the units of the image, and
    no scheme or limit for each channel.
    """
    spec = pipeline.normalize
    limited = bool(spec.get("low") or spec.get("high")) and spec["name"] == "fixed"
    return pipeline.task.units == "image" or spec["name"] == "nnunet" or limited


def describe_zoo_model(
    pipeline: Pipeline,
    *,
    name: str,
    authors: Sequence[str],
    license: str,
    halo: Sequence[int],
    files: Mapping[str, bytes],
) -> dict[str, Any]:
    """Returns the content of rdf.yaml.

    Args:
      pipeline: the prediction.
      name: of the run.
      authors: their names.
      license: the SPDX identifier; '' if it is not stated.
      halo: the pixels on each side of a tile whose output is not used.
      files: the other files of the folder, by name.
    """
    axes = ("z", "y", "x")[-pipeline.axes :]
    colours = [f"channel{i}" for i in range(pipeline.network_channels)]
    pairs = list(zip(axes, halo, strict=True))
    image: dict[str, Any] = {
        "id": "image",
        "description": "The image, as its file has it.",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": colours},
            *(_describe_space(a, {"min": 2 * h + 1, "step": 1}) for a, h in pairs),
        ],
        "data": {"type": "float32"},
        "test_tensor": _name_file(TEST_INPUT, files),
        "preprocessing": _describe_normalization(pipeline, axes),
    }
    result = {
        "id": name_output(pipeline),
        "description": f"The {name_output(pipeline)} of each pixel.",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": name_channels(pipeline)},
            *(
                _describe_space(a, {"tensor_id": "image", "axis_id": a})
                | ({"halo": h} if h else {})
                for a, h in pairs
            ),
        ],
        "data": {"type": "float32"},
        "test_tensor": _name_file(TEST_OUTPUT, files),
    }
    return {
        "format_version": FORMAT_VERSION,
        "type": "model",
        "name": _choose_name(name),
        "description": f"A U-Net trained with unet_jax: {name}.",
        "version": "0.1.0",
        "authors": [{"name": author} for author in authors],
        **({"license": license} if license else {}),
        "cite": [PAPER],
        "tags": ["unet", "segmentation", "jax"],
        "documentation": _name_file(README, files),
        **({"covers": [_name_file(COVER, files)]} if COVER in files else {}),
        "inputs": [image],
        "outputs": [result],
        "weights": {
            "onnx": {**_name_file(WEIGHTS, files), "opset_version": OPSET},
        },
    }


def _choose_name(name: str) -> str:
    """Returns a name of the letters that the format allows, five or more."""
    allowed = re.sub(r"[^A-Za-z0-9 _+()-]", "_", name)
    return allowed if len(allowed) >= 5 else f"{allowed} U-Net"


def _describe_space(axis: str, size: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "space", "id": axis, "size": dict(size)}


def _describe_normalization(
    pipeline: Pipeline, axes: Sequence[str]
) -> list[dict[str, Any]]:
    """Returns the steps before the network, as the format names them."""
    steps: list[dict[str, Any]] = [
        {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}
    ]
    if takes_raw_images(pipeline):
        return steps
    spec = pipeline.normalize
    if spec["name"] == "standard":
        kwargs = {"axes": list(axes), "eps": EPSILON}
        return [*steps, {"id": "zero_mean_unit_variance", "kwargs": kwargs}]
    if spec["name"] == "percentile":
        kwargs = {
            "axes": list(axes),
            "min_percentile": spec["low"],
            "max_percentile": spec["high"],
            "eps": EPSILON,
        }
        clip = {"id": "clip", "kwargs": {"min": 0.0, "max": 1.0}}
        return [*steps, {"id": "scale_range", "kwargs": kwargs}, clip]
    mean, std = spec["mean"], spec["std"]  # fixed
    if len(mean) == len(std) == 1:
        kwargs = {"mean": mean[0], "std": std[0]}
    else:
        count = pipeline.network_channels
        mean, std = (np.broadcast_to(x, count).tolist() for x in (mean, std))
        kwargs = {"mean": mean, "std": std, "axis": "channel"}
    return [*steps, {"id": "fixed_zero_mean_unit_variance", "kwargs": kwargs}]


def _name_file(name: str, files: Mapping[str, bytes]) -> dict[str, str]:
    return {"source": name, "sha256": hashlib.sha256(files[name]).hexdigest()}
