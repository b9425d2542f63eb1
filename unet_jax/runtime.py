"""The programs that compute a network in inference: XLA, or onnxruntime.

A runtime is a record of functions. Inference calls them and does not know which one it
uses. onnxruntime computes convolutions on the CPU faster than XLA does. Its first
result for the variables of a run is compared with that of XLA.
"""

import functools
import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from unet_jax.errors import UserError
from unet_jax.logs import say, write_file
from unet_jax.text import one_line

FIELD = "config.predict.runtime"
REMEDY = "set it to 'xla'"
GRAPH = "network.onnx"  # in the run folder
TOLERANCE = 1e-4  # of the largest output of a tile, or of 1 if it is smaller

WriteGraph = Callable[[Any, Mapping[str, str]], bytes]


class Program(NamedTuple):
    """A network for batches of one shape.

    Attributes:
      run: `(member, image f32[B, *S, C]) -> f32[B, *S', K]`.
      memory: the bytes that it needs on one device; 0 if they are not known.
    """

    run: Callable[[Any, jax.Array], jax.Array]
    memory: int


class Runtime(NamedTuple):
    """The functions that compute a network.

    Attributes:
      place: `(variables, folder) -> member`. A member is what a program takes; one that
        is placed again is returned as it is. The folder is that of the run, or None.
      compile: `(member, shape of a batch) -> Program`, which serves all members.
    """

    place: Callable[..., Any]
    compile: Callable[[Any, tuple[int, ...]], Program]


def xla(
    model: nn.Module, put_state: Callable[[Any], Any], batch_sharding: NamedSharding
) -> Runtime:
    """Returns the runtime of JAX, for any device.

    Args:
      model: the network.
      put_state: copies a tree to every device.
      batch_sharding: the sharding of a batch.
    """
    forward = jax.jit(
        functools.partial(model.apply, train=False), out_shardings=batch_sharding
    )

    def place(variables: Any, folder: Path | None = None) -> Any:
        return put_state(variables)

    def compile(variables: Any, shape: tuple[int, ...]) -> Program:
        batch = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=batch_sharding)
        program = forward.lower(variables, batch).compile()
        memory = program.memory_analysis()
        if memory is None:  # some backends do not know
            return Program(program, 0)
        return Program(program, memory.temp_size_in_bytes + memory.output_size_in_bytes)

    return Runtime(place, compile)


def onnxruntime(
    model: nn.Module, write_graph: WriteGraph, batch_sharding: NamedSharding
) -> Runtime:
    """Returns the runtime that computes a network with onnxruntime, on the CPU.

    Args:
      model: the network, of float32.
      write_graph: `(variables, metadata) -> bytes` of an ONNX file with channels first.
      batch_sharding: the sharding of a batch, on CPU devices.

    Raises:
      UserError: onnxruntime cannot be used here.
    """
    check_usable()
    network = functools.partial(OnnxNetwork, model, write_graph, batch_sharding)

    def place(variables: Any, folder: Path | None = None) -> OnnxNetwork:
        if isinstance(variables, OnnxNetwork):
            return variables
        return network(variables, folder)

    def compile(member: OnnxNetwork, shape: tuple[int, ...]) -> Program:
        memory = _estimate_memory(model, member.variables, shape)
        share = memory // batch_sharding.num_devices
        return Program(lambda member, image: member.run(image), share)

    return Runtime(place, compile)


class OnnxNetwork:
    """A network in onnxruntime with the variables of one run.

    The graph is always made from the variables: a file that it finds in the run folder
    is only compared with it. Equal bytes mean that these variables were checked before,
    with the same versions. Other files are replaced after the check.

    Attributes:
      variables: of the network.
    """

    def __init__(
        self,
        model: nn.Module,
        write_graph: WriteGraph,
        batch_sharding: NamedSharding,
        variables: Any,
        folder: Path | None,
    ) -> None:
        self.variables = variables
        self._model = model
        self._batch_sharding = batch_sharding
        self._path = folder / GRAPH if folder else None
        self._graph = write_graph(variables, _describe_versions())
        self._session = _open_session(self._graph)
        self._checked = _is_file_of(self._path, self._graph)

    def run(self, image: jax.Array) -> jax.Array:
        """Computes the network, and checks the first image.

        Raises:
          JaxRuntimeError: memory is short.
          UserError: the output differs from that of XLA.
        """
        host = np.asarray(image)
        output = self._compute(host)
        if not self._checked:
            output = self._check(host, output)
        return jax.device_put(output, self._batch_sharding)

    def _compute(self, image: np.ndarray) -> np.ndarray:
        axes = image.ndim - 2
        geometry = self._model.geometry(axes)
        shape = image.shape[1:-1]
        ends = [
            (0, valid - size)
            for valid, size in zip(geometry.valid_shape(shape), shape, strict=True)
        ]
        if any(end for _, end in ends):
            image = np.pad(image, [(0, 0), *ends, (0, 0)], mode="reflect")
        inputs = {"image": np.ascontiguousarray(np.moveaxis(image, -1, 1))}
        try:
            (output,) = self._session.run(None, inputs)
        except Exception as error:  # of types that onnxruntime does not publish
            if not _is_about_memory(error):
                raise UserError(
                    f"{FIELD}='onnxruntime' failed ({one_line(error)}); {REMEDY}"
                ) from error
            raise jax.errors.JaxRuntimeError(
                f"RESOURCE_EXHAUSTED: {one_line(error)}"
            ) from error
        output = np.moveaxis(output, 1, -1)
        sides = zip(shape, geometry.margin, strict=True)
        inner = tuple(slice(size - 2 * margin) for size, margin in sides)
        return np.ascontiguousarray(output[(slice(None), *inner)])

    def _check(self, image: np.ndarray, output: np.ndarray) -> np.ndarray:
        """Compares the output for the first image with XLA; raises UserError.

        Returns:
          The output. If that of XLA is not finite, its first image is that of XLA,
          whose error the caller raises.
        """
        reference = np.asarray(_apply(self._model, self.variables, image[:1]))
        if not np.isfinite(reference).all():
            return np.concatenate([reference, output[1:]])
        difference = float(np.abs(output[:1] - reference).max())
        limit = TOLERANCE * max(float(np.abs(reference).max()), 1.0)
        if not difference <= limit:
            raise UserError(
                f"{FIELD}='onnxruntime': the output for the first image differs from "
                f"that of XLA by {difference:.2g}, more than the {limit:.2g} of "
                f"rounding; {REMEDY}"
            )
        self._checked = True
        _write_graph(self._path, self._graph)
        self._graph = b""
        return output


def check_usable() -> None:
    """Raises UserError if onnxruntime cannot be used here."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"{FIELD}='onnxruntime' needs a package that is not installed "
            f"({one_line(error)}); run pip install 'unet_jax[cpu]', or {REMEDY}"
        ) from error
    backend = jax.default_backend()
    if backend != "cpu":
        raise UserError(
            f"{FIELD}='onnxruntime' computes on the CPU, and JAX uses the {backend}; "
            f"{REMEDY}, or set the environment variable JAX_PLATFORMS=cpu"
        )


@functools.partial(jax.jit, static_argnums=0)
def _apply(model: nn.Module, variables: Any, image: np.ndarray) -> Any:
    return model.apply(variables, image, train=False)


def _open_session(graph: bytes) -> Any:
    """Returns a session on all CPUs of this process."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = _count_cpus()
    # Threads that wait must leave the cores to JAX, which blends and activates tiles.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # of types that onnxruntime does not publish
        raise UserError(
            f"{FIELD}='onnxruntime' cannot compute this network ({one_line(error)}); "
            f"{REMEDY}"
        ) from error


def _count_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _describe_versions() -> dict[str, str]:
    """Returns the versions and the machine for which a check is valid."""
    import onnxruntime

    return {
        "jax": jax.__version__,
        "machine": platform.machine(),
        "onnxruntime": onnxruntime.__version__,
    }


def _estimate_memory(model: nn.Module, variables: Any, shape: tuple[int, ...]) -> int:
    """Returns an upper bound of the bytes that a session needs.

    It is half the size of the outputs of all layers: the output of a convolution is
    also that of its block or of its norm, and a session computes these in place.
    """
    image = jax.ShapeDtypeStruct(shape, jnp.float32)
    observe = functools.partial(
        model.apply, capture_intermediates=True, mutable=["intermediates"], train=False
    )
    shapes = jax.eval_shape(observe, variables, image)
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(shapes)) // 2


def _is_about_memory(error: Exception) -> bool:
    text = str(error).lower()
    return "allocat" in text or "bad_alloc" in text or isinstance(error, MemoryError)


def _is_file_of(path: Path | None, graph: bytes) -> bool:
    """Returns True if a file has these bytes."""
    try:
        if not path or not path.is_file() or path.stat().st_size != len(graph):
            return False
        return path.read_bytes() == graph
    except OSError:
        return False


def _write_graph(path: Path | None, graph: bytes) -> None:
    """Writes the graph to the run folder; prints a line if that fails."""
    if not path or jax.process_index() != 0:
        return
    try:
        write_file(path, graph)
    except OSError as error:
        say(
            f"{path} cannot be written ({error.strerror}); the graph is made again "
            "and checked in the next prediction"
        )
