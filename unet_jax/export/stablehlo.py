"""Writes a prediction from raw pixels to the result as StableHLO, for JAX alone."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from unet_jax.export.pipeline import Pipeline, make_function

PLATFORMS = ("cpu", "cuda", "tpu")

LOADER = '''"""Predicts with model.stablehlo; needs jax and flatbuffers.

    python load.py image.npy prediction.npy

image.npy holds one image as its file has it, [*S, C], or [*S] with one channel.
"""

import pathlib
import sys

import jax.export
import numpy as np


def load(path="model.stablehlo"):
    """Returns the function [B, *S, C] -> [B, *S, K], and the input that it expects."""
    file = jax.export.deserialize(bytearray(pathlib.Path(path).read_bytes()))
    return file.call, file.in_avals[0]


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python load.py image.npy prediction.npy")
    predict, expected = load(pathlib.Path(__file__).parent / "model.stablehlo")
    image = np.load(sys.argv[1]).astype(expected.dtype)
    if image.ndim == len(expected.shape) - 2:
        image = image[..., None]
    np.save(sys.argv[2], np.asarray(predict(image[None])[0]))
'''


def write_stablehlo(pipeline: Pipeline) -> bytes:
    """Returns the file of a pipeline, for CPUs, CUDA GPUs and TPUs.

    It is the function `[B, *S, C] -> f32[B, *S, K]` of `pipeline.make_function`.
    """
    names = ",".join(["batch", *("depth", "height", "width")[-pipeline.axes :]])
    shape = export.symbolic_shape(f"{names},{pipeline.channels}")
    dtype = jnp.dtype(pipeline.dtype)
    image = jax.ShapeDtypeStruct(shape, dtype)
    function = jax.jit(make_function(pipeline))
    return bytes(export.export(function, platforms=PLATFORMS)(image).serialize())


def open_stablehlo(content: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the file as a function `[B, *S, C] -> f32[B, *S, K]`."""
    call = jax.jit(export.deserialize(bytearray(content)).call)
    return lambda image: np.asarray(call(image))
