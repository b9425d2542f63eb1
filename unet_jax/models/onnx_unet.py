"""Writes a trained U-Net as an ONNX graph, for inference by other programs.

To be read beside `unet.py` and `blocks.py`. The fields of the blocks and the sizes of
their outputs are recorded from a call of the network itself.

Inside the graph channels are first: the input is `f32[B, C, *S]`, the output
`f32[B, K, *(S - 2 margin)]`. B and S are dynamic, and S must be a legal shape of the
network (`Geometry.valid_shape`). Numbers are float32 whatever the `dtype` of the
network. Batch norm is part of the convolution before it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unet_jax.errors import UserError
from unet_jax.models.blocks import Block, TimeEmbedding
from unet_jax.models.onnx_graph import Graph
from unet_jax.models.onnx_layers import (
    add_activation,
    add_attention_gate,
    add_conv,
    add_crop,
    add_head,
    add_pool,
    add_slice,
    add_up_conv,
)
from unet_jax.models.unet import UNet

OPSET, IR_VERSION = 20, 9  # of onnx 1.15 and onnxruntime 1.17, or newer
MAX_BYTES = 2**31 - 2**20  # of a file in the format of protobuf; 1 MiB for the nodes


def write_unet(
    model: UNet,
    variables: Any,
    metadata: Mapping[str, str],
    *,
    axes: int,
    channels: int,
) -> bytes:
    """Returns the ONNX file of a U-Net in inference; equal variables give equal bytes.

    Args:
      model: the network.
      variables: its variables.
      metadata: written to the file as they are.
      axes: the number of spatial axes of the images.
      channels: the number of channels of the images.

    Raises:
      ImportError: onnx is not installed.
      UserError: ONNX has no operator for a layer, or the file would exceed 2 GiB.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    size = sum(x.size * 4 for x in jax.tree.leaves(variables))
    if size > MAX_BYTES:
        raise UserError(
            f"the network has {size / 2**30:.3g} GiB of parameters, and an ONNX file "
            "holds at most 2 GiB"
        )
    model = model.clone(remat=False, dtype=jnp.float32, axis_name=None)
    graph = Graph(model, variables, axes, channels)
    logits = _add_unet(graph, model, "image")
    graph.nodes[-1].output[0] = "logits"
    assert graph.nodes[-1].name == logits

    def describe(name: str, count: int) -> Any:
        shape = ["batch", count, *("depth", "height", "width")[-axes:]]
        if name == "logits" and any(model.geometry(axes).margin):
            shape[2:] = [f"output_{size}" for size in shape[2:]]
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    arrays = [numpy_helper.from_array(a, n) for n, a in graph.constants.items()]
    content = helper.make_graph(
        graph.nodes,
        "unet",
        [describe("image", channels)],
        [describe("logits", model.outputs)],
        arrays,
    )
    file = helper.make_model(
        content,
        producer_name="unet_jax",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    helper.set_model_props(file, dict(metadata))
    onnx.checker.check_model(file)
    return file.SerializeToString(deterministic=True)


def _add_unet(graph: Graph, model: UNet, x: str) -> str:
    """Adds the U of figure 1: `UNet._contract`, then `UNet._expand`."""
    levels, skips = range(len(model.widths)), []
    if model.encoder == "residual":
        x = _add_block(graph, "stem", [x])
    for level in levels:
        paths = [f"down{level}"]
        if model.encoder == "residual":
            depths = model.encoder_depths
            depth = depths[level if len(depths) > 1 else 0]
            paths = [f"down{level}_{i}" for i in range(depth)]
        if level > 0 and model.downsample == "pool":
            strides = graph.layers[f"upconv{level - 1}"].strides
            x = add_pool(graph, f"down{level}", "MaxPool", x, strides)
        for path in paths:
            x = _add_block(graph, path, [x])
        skips.append((x, graph.shapes[paths[-1]]))
    for level in reversed(levels[:-1]):
        x = add_up_conv(graph, f"upconv{level}", x)
        skip, shape = skips[level]
        inner = graph.shapes[f"upconv{level}"]
        skip = add_crop(graph, f"up{level}", skip, shape, inner)
        if model.attention:
            skip = add_attention_gate(graph, f"gate{level}", skip, x)
        x = _add_block(graph, f"up{level}", [skip, x])
    return add_head(graph, "head0", x)


def _add_block(graph: Graph, path: str, inputs: Sequence[str]) -> str:
    """Adds convolutions with norm and activation, and the shortcut: `Block`."""
    block: Block = graph.layers[path]
    arrays = inputs
    for i in range(block.convolutions):
        x = add_conv(graph, f"{path}/Conv_{i}", arrays, f"{path}/Normalization_{i}")
        if i == 0 and f"{path}/time" in graph.layers:
            shift = graph.constant(f"{path}/time", "shift", _compute_shift(graph, path))
            x = graph.add(path, "Add", x, shift)
        if i == block.convolutions - 1 and block.residual != "none":
            x = graph.add(path, "Add", x, _add_shortcut(graph, path, inputs))
        arrays = [add_activation(graph, path, x)]
    return arrays[0]


def _add_shortcut(graph: Graph, path: str, inputs: Sequence[str]) -> str:
    """Adds the shortcut of a block, cropped to its output: `Block._apply_shortcut`."""
    block: Block = graph.layers[path]
    pooled = [add_pool(graph, path, "AveragePool", x, block.strides) for x in inputs]
    x = pooled[0]
    if f"{path}/shortcut" in graph.layers:
        x = add_conv(graph, f"{path}/shortcut", pooled, f"{path}/shortcut_norm")
    if block.options.padding == "SAME":
        return x
    removed = [block.convolutions * (k // 2) for k in graph.expand(block.kernel_size)]
    return add_slice(graph, path, x, removed, removed)


def _compute_shift(graph: Graph, path: str) -> np.ndarray:
    """Returns what `Block._project_time` adds at time 0, that of every prediction."""
    layer: TimeEmbedding = graph.layers["time"]
    embedding = TimeEmbedding(layer.features).apply(
        {"params": graph.params("time")}, jnp.zeros(1)
    )
    dense = graph.params(f"{path}/time")
    shift = np.asarray(embedding) @ dense["kernel"] + dense["bias"]
    return shift.reshape(1, -1, *(1,) * graph.axes)
