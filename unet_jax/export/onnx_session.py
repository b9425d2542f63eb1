"""Runs an ONNX file, to check it."""

from collections.abc import Callable

import numpy as np

from unet_jax.errors import UserError
from unet_jax.text import one_line


def open_onnx(content: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the file as a function `[B, *S, C] -> f32[B, *S, K]`, on the CPU.

    Raises:
      ImportError: onnxruntime is not installed.
      UserError: it cannot compute the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    providers = ["CPUExecutionProvider"]
    try:
        session = onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:  # of types that onnxruntime does not publish
        raise UserError(
            f"onnxruntime cannot compute this network ({one_line(error)}); leave the "
            "formats with ONNX files out of --config.export.formats"
        ) from error
    (name,) = (value.name for value in session.get_inputs())

    def run(image: np.ndarray) -> np.ndarray:
        inputs = {name: np.ascontiguousarray(np.moveaxis(image, -1, 1))}
        (output,) = session.run(None, inputs)
        return np.moveaxis(np.asarray(output), 1, -1)

    return run
