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

from unet_jax.models.blocks import Block, TimeEmbedding
from unet_jax.models.onnx_graph import Graph
from unet_jax.models.onnx_layers import (
    add_activation,
    add_attention_gate,
    add_conv,
    add_crop,
    add_head,
    add_overlapping_pool,
    add_pool,
    add_slice,
    add_up_conv,
)
from unet_jax.models.onnx_nodes import Nodes, Value, check_size, serialize
from unet_jax.models.resnet import RESNETS, ResNetBlock
from unet_jax.models.unet import UNet


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
    check_size(sum(x.size for x in jax.tree.leaves(variables)))
    nodes = Nodes()
    graph = Graph(nodes, prepare(model), variables, axes=axes, channels=channels)
    nodes.name_result(add_unet(graph, "image"), "logits")
    space = ("depth", "height", "width")[-axes:]
    smaller = any(model.geometry(axes).margin)
    inner = [f"output_{size}" for size in space] if smaller else space
    image = Value("image", np.float32, ["batch", channels, *space])
    logits = Value("logits", np.float32, ["batch", model.outputs, *inner])
    return serialize(nodes, [image], [logits], metadata)


def prepare(model: UNet) -> UNet:
    """Returns the network as `add_unet` needs it: float32, on one device."""
    return model.clone(remat=False, dtype=jnp.float32, axis_name=None)


def add_unet(graph: Graph, x: str) -> str:
    """Adds the U of figure 1: `UNet._contract`, then `UNet._expand`.

    Args:
      graph: of the network from `prepare`.
      x: the name of images `f32[B, C, *S]` of a legal shape.

    Returns:
      The name of the logits, `f32[B, K, *(S - 2 margin)]`.
    """
    model: UNet = graph.layers[""]
    contract = _add_resnet if model.encoder in RESNETS else _add_encoder
    *skips, (x, _) = contract(graph, model, x)
    for level in reversed(range(len(skips))):
        x = add_up_conv(graph, f"upconv{level}", x)
        inner, inputs, channels = graph.shapes[f"upconv{level}"], [x], []
        skip, path = skips[level]
        if skip:
            skip = add_crop(graph, f"up{level}", skip, graph.shapes[path], inner)
            channels = [graph.channels[path], graph.channels[f"upconv{level}"]]
            if model.attention:
                gate = f"gate{level}"
                skip = add_attention_gate(graph, gate, skip, x, channels)
            inputs = [skip, x]
        x = _add_block(graph, f"up{level}", inputs, channels)
    return add_head(graph, "head0", x)


def _add_encoder(graph: Graph, model: UNet, x: str) -> list[tuple[str, str]]:
    """Adds the contracting path; returns the features of each level, and the layer."""
    features = []
    if model.encoder == "residual":
        x = _add_block(graph, "stem", [x])
    for level in range(model.levels):
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
        features.append((x, paths[-1]))
    return features


def _add_resnet(graph: Graph, model: UNet, x: str) -> list[tuple[str, str]]:
    """Adds a ResNet as the contracting path; the finest level has no features."""
    x = _add_block(graph, "stem", [x])
    features = [("", ""), (x, "stem")]
    x = add_overlapping_pool(graph, "down2", x)
    for level, depth in enumerate(RESNETS[model.encoder].depths, start=2):
        paths = [f"down{level}_{i}" for i in range(depth)]
        for path in paths:
            x = _add_resnet_block(graph, path, x)
        features.append((x, paths[-1]))
    return features


def _add_resnet_block(graph: Graph, path: str, x: str) -> str:
    """Adds a block of a ResNet, with its shortcut: `ResNetBlock`."""
    block: ResNetBlock = graph.layers[path]
    count, y = 3 if block.bottleneck else 2, x
    for i in range(count):
        y = add_conv(graph, f"{path}/Conv_{i}", [y], f"{path}/Normalization_{i}")
        y = add_activation(graph, path, y) if i < count - 1 else y
    if f"{path}/shortcut" in graph.layers:
        x = add_conv(graph, f"{path}/shortcut", [x], f"{path}/shortcut_norm")
    return add_activation(graph, path, graph.add(path, "Add", y, x))


def _add_block(
    graph: Graph, path: str, inputs: Sequence[str], channels: Sequence[int] = ()
) -> str:
    """Adds convolutions with norm and activation, and the shortcut: `Block`.

    `channels` are the numbers of channels of the inputs, if they are several.
    """
    block: Block = graph.layers[path]
    arrays = inputs
    for i in range(block.convolutions):
        norm = f"{path}/Normalization_{i}"
        sizes = channels if i == 0 else ()
        x = add_conv(graph, f"{path}/Conv_{i}", arrays, norm, channels=sizes)
        if i == 0 and f"{path}/time" in graph.layers:
            shift = graph.constant(f"{path}/time", "shift", _compute_shift(graph, path))
            x = graph.add(path, "Add", x, shift)
        if i == block.convolutions - 1 and block.residual != "none":
            shortcut = _add_shortcut(graph, path, inputs, channels)
            x = graph.add(path, "Add", x, shortcut)
        arrays = [add_activation(graph, path, x)]
    return arrays[0]


def _add_shortcut(
    graph: Graph, path: str, inputs: Sequence[str], channels: Sequence[int]
) -> str:
    """Adds the shortcut of a block, cropped to its output: `Block._apply_shortcut`."""
    block: Block = graph.layers[path]
    pooled = [add_pool(graph, path, "AveragePool", x, block.strides) for x in inputs]
    x = pooled[0]
    if f"{path}/shortcut" in graph.layers:
        norm = f"{path}/shortcut_norm"
        x = add_conv(graph, f"{path}/shortcut", pooled, norm, channels=channels)
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
