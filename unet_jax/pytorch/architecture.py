"""The description of a network of another program, layer by layer.

A description says which tensors the other program writes, with their shapes, and which
variables of `unet_jax.models.UNet` have the same meaning. Each architecture is a
function that reads the sizes of a network from the shapes of its tensors and returns
the description of a network of these sizes. A checkpoint fits if its tensors are those
of the description.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from unet_jax.errors import UserError, prefix_errors
from unet_jax.pytorch.tensor import Tensor

Shape = tuple[int, ...]
UNUSED = ("num_batches_tracked",)  # ends of names that every architecture leaves out


class Layer(NamedTuple):
    """A tensor of the other program, and the variable that it becomes.

    Attributes:
      key: the name of the tensor.
      shape: its shape.
      path: the name of the variable, 'params/down0/Conv_0/kernel'.
      convert: from the tensor to the variable.
    """

    key: str
    shape: Shape
    path: str
    convert: Callable[[np.ndarray], np.ndarray] = lambda array: array


class Architecture(NamedTuple):
    """A network of another program.

    Attributes:
      name: of the program and of the network, for messages.
      model: the keys of `config.model` of the same network.
      layers: all of its tensors that are read.
      axes: the number of spatial axes; 0 if the tensors do not show it.
      channels: of the images.
      outputs: of the network; 0 for an encoder alone.
      ignored: beginnings of the names of tensors that are left out.
      constants: variables that the other network does not have.
      fields: further fields of the config, by name.
      assumed: properties that the tensors do not show, in words, for the user.
    """

    name: str
    model: Mapping[str, Any]
    layers: tuple[Layer, ...]
    axes: int
    channels: int
    outputs: int
    ignored: tuple[str, ...] = ()
    constants: Mapping[str, np.ndarray] = {}
    fields: Mapping[str, Any] = {}
    assumed: tuple[str, ...] = ()


Describe = Callable[[Mapping[str, Tensor]], Architecture]


def get_shape(tensors: Mapping[str, Tensor], key: str, axes: int = 1) -> Shape:
    """Returns the shape of a tensor; of ones if it is missing or has fewer axes."""
    shape = tensors[key].shape if key in tensors else ()
    return shape if len(shape) >= axes else (1,) * axes


def count_blocks(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """Returns the number of names that exist of a pattern such as 'layer1.{}.weight'.

    They are counted from 0 up to the first one that is missing; at least one.
    """
    count = 0
    while pattern.format(count) in tensors:
        count += 1
    return max(count, 1)


def make_conv(key: str, shape: Shape, path: str, *, bias: bool) -> Iterator[Layer]:
    """Yields the layers of a convolution; `shape` is that of its weight."""
    yield Layer(f"{key}.weight", shape, f"params/{path}/kernel", put_channels_last)
    if bias:
        yield Layer(f"{key}.bias", shape[:1], f"params/{path}/bias")


def make_up_conv(key: str, shape: Shape, path: str, *, bias: bool) -> Iterator[Layer]:
    """Yields the layers of a transposed convolution; `shape` is `[C, F, *K]`."""
    yield Layer(f"{key}.weight", shape, f"params/{path}/kernel", _flatten_kernel)
    if bias:
        yield Layer(f"{key}.bias", shape[1:2], f"params/{path}/bias")


def make_norm(key: str, features: int, path: str, kind: str) -> Iterator[Layer]:
    """Yields the layers of a batch or instance norm with scale and offset."""
    if kind == "none":
        return
    inner = f"{path}/{'BatchNorm' if kind == 'batch' else 'GroupNorm'}_0"
    names = {"weight": "params/{}/scale", "bias": "params/{}/bias"}
    if kind == "batch":
        names |= {"running_mean": "batch_stats/{}/mean"}
        names |= {"running_var": "batch_stats/{}/var"}
    for name, target in names.items():
        yield Layer(f"{key}.{name}", (features,), target.format(inner))


def put_channels_last(kernel: np.ndarray) -> np.ndarray:
    """Converts a kernel `[F, C, *K]` to `[*K, C, F]`."""
    return np.moveaxis(kernel, (0, 1), (-1, -2))


def _flatten_kernel(kernel: np.ndarray) -> np.ndarray:
    """Converts a kernel `[C, F, *K]` to `[C, prod(K), F]`."""
    return np.moveaxis(kernel, 1, -1).reshape(
        len(kernel), math.prod(kernel.shape[2:]), kernel.shape[1]
    )


def swap_inputs(first: int) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the conversion of a kernel `[F, C, *K]` whose inputs have another order.

    Ours are (skip, upsampled); in the other program, the `first` channels are the
    upsampled ones.
    """

    def convert(kernel: np.ndarray) -> np.ndarray:
        return put_channels_last(
            np.concatenate([kernel[:, first:], kernel[:, :first]], axis=1)
        )

    return convert


class Differences(NamedTuple):
    """The differences between a checkpoint and a description.

    Attributes:
      lines: one for each difference, in words.
      matched: the number of tensors with the same name and shape.
    """

    lines: tuple[str, ...]
    matched: int


def find_differences(
    tensors: Mapping[str, Tensor], expected: Architecture
) -> Differences:
    """Compares the names and shapes of tensors with those of a description."""
    lines, matched = [], 0
    for layer in expected.layers:
        if layer.key not in tensors:
            lines.append(f"{layer.key} {_format(layer.shape)} is missing")
        elif tensors[layer.key].shape != layer.shape:
            given = _format(tensors[layer.key].shape)
            lines.append(f"{layer.key} is {given}, not {_format(layer.shape)}")
        else:
            matched += 1
    known = {layer.key for layer in expected.layers}
    for key, tensor in tensors.items():
        unused = key.endswith(UNUSED) or key.startswith(expected.ignored or ("\0",))
        if key not in known and not unused:
            lines.append(f"{key} {_format(tensor.shape)} is not part of it")
    return Differences(tuple(lines), matched)


def _format(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "number"


def load_variables(
    tensors: Mapping[str, Tensor], architecture: Architecture
) -> dict[str, np.ndarray]:
    """Returns the variables of the network, float32, by name.

    Raises:
      UserError: a number is not finite, or the file is damaged.
    """
    variables = {
        path: array.astype(np.float32) for path, array in architecture.constants.items()
    }
    for layer in architecture.layers:
        with prefix_errors(layer.key):
            array = tensors[layer.key].load().astype(np.float32)
            if not np.isfinite(array).all():
                raise UserError("has numbers that are not finite; use other weights")
            variables[layer.path] = np.ascontiguousarray(layer.convert(array))
    return variables
