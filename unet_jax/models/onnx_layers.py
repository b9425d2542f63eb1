"""The layers of a U-Net as nodes of an ONNX graph; to be read beside `blocks.py`.

A function adds the nodes of the Flax module or function that its docstring names, and
returns the name of their output. Arrays are given by their names.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from unet_jax.errors import UserError
from unet_jax.models.blocks import (
    EPSILON,
    AttentionGate,
    Conv,
    Normalization,
    UpConv,
)
from unet_jax.models.onnx_graph import Graph
from unet_jax.models.resizing import Sizes
from unet_jax.models.sizes import count_border_pixels
from unet_jax.models.unet import UNet

# The operator of a function of jax.nn, and its attributes.
ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "celu": ("Celu", {}),
    "elu": ("Elu", {}),
    "gelu": ("Gelu", {"approximate": "tanh"}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "hard_silu": ("HardSwish", {}),
    "hard_swish": ("HardSwish", {}),
    "identity": ("Identity", {}),
    "leaky_relu": ("LeakyRelu", {}),
    "log_softmax": ("LogSoftmax", {"axis": 1}),
    "mish": ("Mish", {}),
    "relu": ("Relu", {}),
    "selu": ("Selu", {}),
    "sigmoid": ("Sigmoid", {}),
    "soft_sign": ("Softsign", {}),
    "softmax": ("Softmax", {"axis": 1}),
    "softplus": ("Softplus", {}),
    "tanh": ("Tanh", {}),
}
CLIPPED = {"relu6": (0, 6), "hard_tanh": (-1, 1)}
GATED = {"silu": "Sigmoid", "swish": "Sigmoid"}  # x times a function of x


def add_head(graph: Graph, path: str, x: str) -> str:
    """Adds the convolution that returns the logits: `Head`."""
    params = graph.params(path)
    arrays = [graph.constant(path, "kernel", _put_channels_first(params["kernel"]))]
    arrays.append(graph.constant(path, "bias", params["bias"]))
    size = graph.layers[path].kernel_size
    options: dict[str, Any] = {"kernel_shape": [size] * graph.axes}
    if size > 1:
        options["pads"] = [size // 2] * (2 * graph.axes)
    return graph.add(path, "Conv", x, *arrays, **options)


def add_conv(
    graph: Graph,
    path: str,
    inputs: Sequence[str],
    norm_path: str = "-",
    *,
    channels: Sequence[int] = (),
) -> str:
    """Adds a convolution of the concatenation of the inputs, `Conv`, and its norm.

    Args:
      graph: the graph.
      path: the layer.
      inputs: the names of the inputs.
      norm_path: the norm, if there is one.
      channels: the number of channels of each input; (): all have the same number.
    """
    conv: Conv = graph.layers[path]
    params = graph.params(path)
    kernel = _put_channels_first(params["kernel"])
    bias = params.get("bias", np.zeros(conv.features, np.float32))
    norm: Normalization | None = graph.layers.get(norm_path)
    if norm and norm.kind == "batch":
        kernel, bias = _fold_batch_norm(graph, norm_path, kernel, bias)
    sizes = graph.expand(conv.kernel_size)
    zeros = [size // 2 if conv.padding == "SAME" else 0 for size in sizes]
    options = {
        "kernel_shape": sizes,
        "strides": graph.expand(conv.strides),
        "pads": zeros * 2,
    }
    x = ""
    ends = np.cumsum(channels)[:-1] if channels else len(inputs)
    # the last input adds the bias
    for i, part in enumerate(np.split(kernel, ends, axis=1)):
        arrays = [graph.constant(path, "kernel", part)]
        if i == len(inputs) - 1:
            arrays.append(graph.constant(path, "bias", bias))
        y = graph.add(path, "Conv", inputs[i], *arrays, **options)
        x = graph.add(path, "Add", x, y) if x else y
    if norm and norm.kind in ("group", "instance"):
        x = _add_group_norm(graph, norm_path, x, norm)
    return x


def _put_channels_first(kernel: np.ndarray) -> np.ndarray:
    """Converts `[*K, C, F]` to `[F, C, *K]`."""
    return np.moveaxis(kernel, (-1, -2), (0, 1))


def _fold_batch_norm(
    graph: Graph, path: str, kernel: np.ndarray, bias: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the kernel and the bias of a convolution with its batch norm."""
    path = f"{path}/BatchNorm_0"
    params, stats = graph.params(path), graph.params(path, "batch_stats")
    scale = params["scale"] / np.sqrt(stats["var"] + EPSILON)
    bias = (bias - stats["mean"]) * scale + params["bias"]
    return kernel * scale.reshape(-1, *(1,) * (kernel.ndim - 1)), bias


def _add_group_norm(graph: Graph, path: str, x: str, norm: Normalization) -> str:
    """Adds a group norm, the instance norm of groups: `Normalization`."""
    params = graph.params(f"{path}/GroupNorm_0")
    scale, bias = params["scale"], params["bias"]
    if norm.kind == "instance":
        arrays = [graph.constant(path, "scale", scale)]
        arrays.append(graph.constant(path, "bias", bias))
        return graph.add(path, "InstanceNormalization", x, *arrays, epsilon=EPSILON)
    groups = math.gcd(len(scale), 8)
    shape = graph.constant(path, "groups", np.array([0, groups, -1]))
    arrays = [graph.constant(path, "one", np.ones(groups, np.float32))]
    arrays.append(graph.constant(path, "zero", np.zeros(groups, np.float32)))
    grouped = graph.add(path, "Reshape", x, shape)
    y = graph.add(path, "InstanceNormalization", grouped, *arrays, epsilon=EPSILON)
    y = graph.add(path, "Reshape", y, graph.add(path, "Shape", x))
    each = (-1, *(1,) * graph.axes)
    y = graph.add(path, "Mul", y, graph.constant(path, "scale", scale.reshape(each)))
    return graph.add(path, "Add", y, graph.constant(path, "bias", bias.reshape(each)))


def add_activation(graph: Graph, path: str, x: str) -> str:
    """Adds the activation of the network, a function of jax.nn by its name."""
    model: UNet = graph.layers[""]
    name = model.activation
    if name in GATED:
        return graph.add(path, "Mul", x, graph.add(path, GATED[name], x))
    if name in CLIPPED:
        ends = (graph.constant(path, "end", np.float32(n)) for n in CLIPPED[name])
        return graph.add(path, "Clip", x, *ends)
    if name not in ACTIVATIONS:
        raise UserError(
            f"the layer {path} has the activation {name!r}, which ONNX cannot express"
        )
    operator, attributes = ACTIVATIONS[name]
    if name == "leaky_relu":
        attributes = {"alpha": float(model.negative_slope)}
    return graph.add(path, operator, x, **attributes)


def add_up_conv(graph: Graph, path: str, x: str) -> str:
    """Adds an up-convolution, or an interpolation and a convolution: `UpConv`."""
    layer: UpConv = graph.layers[path]
    strides = graph.expand(layer.strides)
    if layer.upsample == "transpose":
        params = graph.params(path)
        kernel = params["kernel"]  # [C, prod(strides), F]
        kernel = kernel.reshape(len(kernel), *strides, layer.features)
        arrays = [graph.constant(path, "kernel", np.moveaxis(kernel, -1, 1))]
        arrays.append(graph.constant(path, "bias", params["bias"]))
        sizes = {"kernel_shape": strides, "strides": strides}
        return graph.add(path, "ConvTranspose", x, *arrays, **sizes)
    scales = graph.constant(path, "scales", np.array([1, 1, *strides], np.float64))
    how = {
        "nearest": {
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        },
        "linear": {"coordinate_transformation_mode": "half_pixel"},
        "aligned": {"coordinate_transformation_mode": "align_corners"},
    }[layer.upsample]
    mode = "nearest" if layer.upsample == "nearest" else "linear"
    x = graph.add(path, "Resize", x, "", scales, mode=mode, **how)
    if layer.upsample == "linear" and layer.padding == "VALID":
        borders = [count_border_pixels(s) for s in strides]
        x = add_slice(graph, path, x, borders, borders)
    return add_conv(graph, f"{path}/Conv_0", [x]) if layer.convolved else x


def add_attention_gate(
    graph: Graph, path: str, skip: str, gate: str, channels: Sequence[int]
) -> str:
    """Adds the product of a skip and of its attention: `AttentionGate`."""
    assert isinstance(graph.layers[path], AttentionGate)
    q = add_conv(graph, f"{path}/project", [skip, gate], channels=channels)
    q = graph.add(path, "Relu", q)
    score = graph.add(path, "Sigmoid", add_conv(graph, f"{path}/score", [q]))
    return graph.add(path, "Mul", skip, score)


def add_pool(graph: Graph, path: str, operator: str, x: str, stride: Sizes) -> str:
    """Adds the maximum or the mean of blocks: `max_pool`, `average_pool`."""
    strides = graph.expand(stride)
    if set(strides) == {1}:
        return x
    return graph.add(path, operator, x, kernel_shape=strides, strides=strides)


def add_overlapping_pool(graph: Graph, path: str, x: str) -> str:
    """Adds the maximum of 3 pixels around every second one: `max_pool_overlapping`."""
    sizes = {"kernel_shape": [3] * graph.axes, "strides": [2] * graph.axes}
    return graph.add(path, "MaxPool", x, **sizes, pads=[1] * (2 * graph.axes))


def add_crop(graph: Graph, path: str, x: str, shape: Sizes, inner: Sizes) -> str:
    """Adds the crop to the middle of an array: `crop_centre`.

    Args:
      graph: the graph.
      path: the layer that the nodes are named after.
      x: the name of the array.
      shape: its spatial shape, for one image.
      inner: the shape of the middle, for the same image.
    """
    removed = [a - b for a, b in zip(shape, inner, strict=True)]
    before = [n // 2 for n in removed]
    after = [n - b for n, b in zip(removed, before, strict=True)]
    return add_slice(graph, path, x, before, after)


def add_slice(
    graph: Graph, path: str, x: str, before: Sequence[int], after: Sequence[int]
) -> str:
    """Adds the removal of pixels at both ends of each axis."""
    if not any((*before, *after)):
        return x
    ends = [-n if n else np.iinfo(np.int64).max for n in after]
    axes = list(range(2, 2 + graph.axes))
    parts = (
        graph.constant(path, name, np.array(values, np.int64))
        for name, values in (("starts", before), ("ends", ends), ("axes", axes))
    )
    return graph.add(path, "Slice", x, *parts)
