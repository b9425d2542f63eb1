"""The formats of `config.export.formats`."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from unet_jax.export.description import make_metadata, name_output
from unet_jax.export.onnx_pipeline import check_onnx, write_onnx
from unet_jax.export.onnx_session import open_onnx
from unet_jax.export.stablehlo import LOADER, open_stablehlo, write_stablehlo
from unet_jax.export.weights import write_weights
from unet_jax.run.exporting.job import Files, Job
from unet_jax.run.exporting.samples import Samples, compare
from unet_jax.run.exporting.web import check_page, write_page
from unet_jax.run.exporting.zoo import check_zoo_model, write_zoo_model


class Format(NamedTuple):
    """A format.

    Attributes:
      check: raises UserError if the format cannot hold the prediction.
      write: writes the files, and compares them with `Predictor`.
      packages: that it needs, which the extra `export` installs.
    """

    check: Callable[[Job], None]
    write: Callable[[Job, Samples], Files]
    packages: tuple[str, ...]


def _check_nothing(job: Job) -> None:
    """Accepts any job."""


def _check_onnx(job: Job) -> None:
    check_onnx(job.pipeline, job.precision)


def _write_onnx(job: Job, samples: Samples) -> Files:
    """Writes model.onnx."""
    name = "model.onnx"
    content = write_onnx(
        job.pipeline,
        name_output(job.pipeline),
        make_metadata(job.description),
        precision=job.precision,
    )
    difference = compare(name, open_onnx(content), samples, job.precision)
    return Files({name: content}, difference, "onnxruntime")


def _write_stablehlo(job: Job, samples: Samples) -> Files:
    """Writes model.stablehlo, and the program that loads it."""
    name = "model.stablehlo"
    content = write_stablehlo(job.pipeline)
    difference = compare(name, open_stablehlo(content), samples)
    return Files({name: content, "load.py": LOADER.encode()}, difference, "jax.export")


def _write_safetensors(job: Job, samples: Samples) -> Files:
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


ONNX = "onnx", "onnxruntime"
FORMATS: Mapping[str, Format] = {
    "onnx": Format(_check_onnx, _write_onnx, ONNX),
    "stablehlo": Format(_check_nothing, _write_stablehlo, ("flatbuffers",)),
    "safetensors": Format(_check_nothing, _write_safetensors, ()),
    "bioimageio": Format(
        check_zoo_model,
        write_zoo_model,
        (*ONNX, "yaml", "packaging", "packaging.licenses"),  # older ones lack the last
    ),
    "web": Format(check_page, write_page, ONNX),
}
