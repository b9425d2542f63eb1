"""The formats of `config.export.formats`: each function writes and checks its files."""

from collections.abc import Callable, Mapping

import numpy as np

from unet_jax.export.description import make_metadata, name_output
from unet_jax.export.onnx_pipeline import write_onnx
from unet_jax.export.onnx_session import open_onnx
from unet_jax.export.stablehlo import LOADER, open_stablehlo, write_stablehlo
from unet_jax.export.weights import write_weights
from unet_jax.run.exporting.job import Files, Job
from unet_jax.run.exporting.samples import compare
from unet_jax.run.exporting.web import web
from unet_jax.run.exporting.zoo import bioimageio


def onnx(job: Job) -> Files:
    """Writes model.onnx."""
    name, half = "model.onnx", job.options.precision == "float16"
    content = write_onnx(
        job.pipeline,
        name_output(job.pipeline),
        make_metadata(job.description),
        precision=np.float16 if half else np.float32,
    )
    pairs = job.samples, job.expected
    difference = compare(name, open_onnx(content), *pairs, exact=not half)
    return Files({name: content}, difference, "onnxruntime")


def stablehlo(job: Job) -> Files:
    """Writes model.stablehlo, and the program that loads it."""
    name = "model.stablehlo"
    content = write_stablehlo(job.pipeline)
    difference = compare(name, open_stablehlo(content), job.samples, job.expected)
    return Files({name: content, "load.py": LOADER.encode()}, difference, "jax.export")


def safetensors(job: Job) -> Files:
    """Writes weights.safetensors, or one file for each member of an ensemble."""
    members, about = job.pipeline.members, {"name": job.name}
    names = [f"weights{i}" for i in range(len(members))]
    if len(names) == 1:
        names = ["weights"]
    contents = {
        f"{name}.safetensors": write_weights(member, about)
        for name, member in zip(names, members, strict=True)
    }
    return Files(contents, None, "")


FORMATS: Mapping[str, Callable[[Job], Files]] = {
    "onnx": onnx,
    "stablehlo": stablehlo,
    "safetensors": safetensors,
    "bioimageio": bioimageio,
    "web": web,
}
# The packages of each format, which the extra `export` installs.
PACKAGES = {
    "onnx": ("onnx", "onnxruntime"),
    "stablehlo": ("flatbuffers",),
    "safetensors": (),
    "bioimageio": ("onnx", "onnxruntime", "yaml"),
    "web": ("onnx", "onnxruntime"),
}
