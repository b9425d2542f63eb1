"""Writes a prediction from raw pixels to the result as an ONNX file.

Channels are first: the input is `image [B, C, *S]` of the type of the raw pixels, the
output `f32[B, K, *S]`. B and S are dynamic, and S may be any size. See `pipeline.py`.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from unet_jax.data.files.image_file import LUMA
from unet_jax.errors import UserError
from unet_jax.export.onnx_scales import add_inverse, add_measure, add_scale
from unet_jax.export.pipeline import Border, Pipeline
from unet_jax.models.onnx_graph import Graph
from unet_jax.models.onnx_nodes import Nodes, Value, check_size, serialize
from unet_jax.models.onnx_unet import add_unet, prepare
from unet_jax.models.unet import UNet
from unet_jax.tasks.activation import Activation, Activations
from unet_jax.views import View, make_matrix

SPACE = "depth", "height", "width"
START, END = np.iinfo(np.int64).min, np.iinfo(np.int64).max


def write_onnx(
    pipeline: Pipeline,
    output: str,
    metadata: Mapping[str, str],
    *,
    raw: bool = True,
    precision: type = np.float32,
    input_name: str = "image",
) -> bytes:
    """Returns the ONNX file of a pipeline.

    Args:
      pipeline: the prediction.
      output: the name of the output.
      metadata: written to the file as they are.
      raw: False for a file that takes normalised images `f32[B, C, *S]` with the
        channels of the network, for programs that normalise whole images and predict
        them tile by tile. Values must not have the units of the image then.
      precision: float32, or float16 for the weights and the computation of the
        network; the rest is float32.
      input_name: the name of the input.

    Raises:
      ImportError: onnx is not installed.
      UserError: ONNX cannot express a part, or the file would exceed 2 GiB.
    """
    p = pipeline
    check_onnx(p, precision)
    nodes = Nodes()
    scale, image = None, input_name
    if raw:
        pixels = _add_channels(nodes, input_name, p)
        scale = add_measure(nodes, pixels, p.axes, p.normalize)
        image = add_scale(nodes, pixels, scale)
    x = _add_mean(nodes, _add_border(nodes, image, p.borders), p, precision)
    if p.task.finish:
        x = _add_activations(nodes, x, p.task.finish)
    x = _add_crop(nodes, x, input_name, p.axes)
    if p.task.units == "image":
        assert scale is not None
        x = add_inverse(nodes, x, scale)
    if p.task.units == "own":
        x = _add_units(nodes, x, p.target_scale, p.axes)
    nodes.name_result(x, output)
    space = SPACE[-p.axes :]
    channels, dtype = (p.channels, p.dtype) if raw else (p.network_channels, np.float32)
    return serialize(
        nodes,
        [Value(input_name, dtype, ["batch", channels, *space])],
        [Value(output, np.float32, ["batch", p.task.channels, *space])],
        metadata,
    )


def check_onnx(pipeline: Pipeline, precision: type = np.float32) -> None:
    """Raises UserError if ONNX cannot express a part of a pipeline.

    Args:
      pipeline: the prediction.
      precision: the number type of the weights.
    """
    p = pipeline
    if type(p.model) is not UNet:
        raise UserError(
            f"ONNX files hold the network UNet only, not {type(p.model).__name__} "
            "('stablehlo' holds any)"
        )
    for function in (p.task.activate, p.task.finish):
        if function is not None and not isinstance(function, Activations):
            raise UserError(
                "ONNX cannot express the activation of this task, which is no "
                "tasks.activation.Activations"
            )
    count = sum(x.size for x in jax.tree.leaves(p.members))
    check_size(count, np.dtype(precision).itemsize)


def _add_mean(nodes: Nodes, image: str, p: Pipeline, precision: type) -> str:
    """Adds the mean of the predictions of all members in all views."""
    assert isinstance(p.model, UNet)  # see check_onnx
    predictions = []
    for i, variables in enumerate(p.members):
        graph = Graph(
            nodes,
            prepare(p.model),
            variables,
            axes=p.axes,
            channels=p.network_channels,
            scope=f"member{i}/" if len(p.members) > 1 else "",
            dtype=precision,
        )
        for view in p.views:
            x = _add_view(nodes, image, view, p.axes)
            x = _cast(nodes, "precision", x, precision)
            x = _cast(nodes, "precision", add_unet(graph, x), np.float32)
            x = _add_activations(nodes, x, p.task.activate)
            x = _add_inverse_view(nodes, x, view, p)
            if p.member_scales:
                x = _add_units(nodes, x, p.member_scales[i], p.axes)
            predictions.append(x)
    x = functools.reduce(lambda a, b: nodes.add("mean", "Add", a, b), predictions)
    if len(predictions) == 1:
        return x
    factor = nodes.constant("mean", "factor", np.float32(1 / len(predictions)))
    return nodes.add("mean", "Mul", x, factor)


def _add_units(
    nodes: Nodes, x: str, scale: Sequence[Sequence[float]], axes: int
) -> str:
    """Adds the way back to the units of the targets, from the scale of each channel."""
    each = (-1, *(1,) * axes)
    offset, width = (np.asarray(row, np.float32).reshape(each) for row in scale)
    x = nodes.add("units", "Mul", x, nodes.constant("units", "width", width))
    return nodes.add("units", "Add", x, nodes.constant("units", "offset", offset))


def _add_channels(nodes: Nodes, image: str, p: Pipeline) -> str:
    """Adds the conversion to `f32[B, C, *S]` with the channels of the network."""
    scope = "channels"
    if p.channels == p.network_channels:
        return _cast(nodes, scope, image, np.float32)
    if p.network_channels == 3:
        repeats = np.array([1, 3, *(1,) * p.axes])
        image = _cast(nodes, scope, image, np.float32)
        return nodes.add(
            scope, "Tile", image, nodes.constant(scope, "repeats", repeats)
        )
    luma = np.asarray(LUMA, np.float64).reshape((1, 3, *(1,) * p.axes))
    exact = _cast(nodes, scope, image, np.float64)
    product = nodes.add(scope, "Mul", exact, nodes.constant(scope, "luma", luma))
    axis = nodes.constant(scope, "axis", np.array([1]))
    total = nodes.add(scope, "ReduceSum", product, axis)
    grey = nodes.add(
        scope, "Div", total, nodes.constant(scope, "thousand", np.float64(1000))
    )
    if np.issubdtype(p.dtype, np.integer):
        grey = nodes.add(scope, "Round", grey)  # halves to the even number
    return _cast(nodes, scope, grey, np.float32)


def _add_border(nodes: Nodes, image: str, borders: Sequence[Border]) -> str:
    """Adds the mirrored border: `pipeline._mirror`."""
    scope = "border"

    def number(value: int) -> str:
        return nodes.constant(scope, "integer", np.array(value))

    def add(operator: str, *inputs: str, **attributes: Any) -> str:
        return nodes.add(scope, operator, *inputs, **attributes)

    for axis, border in enumerate(borders, 2):
        zero, one = number(0), number(1)
        shape = add("Shape", image, start=axis, end=axis + 1)
        size = add("Squeeze", shape, nodes.constant(scope, "first", np.array([0])))
        missing = add("Add", size, number(2 * border.margin - border.least))
        above = add("Add", add("Max", missing, zero), number(border.multiple - 1))
        steps = add("Div", above, number(border.multiple))
        added = add("Mul", steps, number(border.multiple))
        length = add("Add", added, number(border.least))
        period = add("Max", add("Mul", add("Sub", size, one), number(2)), one)
        position = add("Range", zero, length, one)
        index = add("Sub", position, number(border.margin))
        index = add("Mod", index, period)  # of the sign of the period
        index = add("Min", index, add("Sub", period, index))
        last = add("Sub", size, one)
        image = add("Gather", image, add("Min", index, last), axis=axis)
    return image


def _add_crop(nodes: Nodes, x: str, image: str, axes: int) -> str:
    """Adds the removal of the pixels at the far ends, to the size of the image."""
    starts = nodes.constant("crop", "starts", np.zeros(axes, np.int64))
    ends = nodes.add("crop", "Shape", image, start=2)
    return nodes.add("crop", "Slice", x, starts, ends, _name_axes(nodes, range(axes)))


def _add_activations(nodes: Nodes, x: str, activations: Any) -> str:
    """Adds the activation of each group of channels."""
    assert isinstance(activations, Activations)  # see check_onnx
    results, start = [], 0
    for part in activations.parts:
        piece = x
        if len(activations.parts) > 1:
            numbers = {"start": start, "stop": start + part.channels, "axis": 1}
            ends = (
                nodes.constant("activation", kind, np.array([n]))
                for kind, n in numbers.items()
            )
            piece = nodes.add("activation", "Slice", x, *ends)
        results.append(_add_activation(nodes, piece, part))
        start += part.channels
    if len(results) == 1:
        return results[0]
    return nodes.add("activation", "Concat", *results, axis=1)


def _add_activation(nodes: Nodes, x: str, part: Activation) -> str:
    scope = "activation"
    if part.function == "softmax":
        x = nodes.add(scope, "Softmax", x, axis=1)
    elif part.function == "sigmoid":
        x = nodes.add(scope, "Sigmoid", x)
    else:
        x = nodes.add(scope, "Identity", x)
    if part.factor == 1:
        return x
    factor = nodes.constant(scope, "factor", np.float32(part.factor))
    return nodes.add(scope, "Mul", x, factor)


def _add_view(nodes: Nodes, image: str, view: View, axes: int) -> str:
    """Adds quarter turns, then mirrors: `views.apply_view`."""
    image = _add_turns(nodes, image, view.turns % 4, axes)
    return _add_flip(nodes, image, view.mirrored)


def _add_inverse_view(nodes: Nodes, x: str, view: View, p: Pipeline) -> str:
    """Adds the way back to the image: `views.invert_view`."""
    x = _add_flip(nodes, x, view.mirrored)
    x = _add_turns(nodes, x, -view.turns % 4, p.axes)
    if not p.task.vectors or view == View():
        return x
    # components are exchanged, and some change their sign
    matrix = make_matrix(view, p.task.vectors)
    order = np.arange(p.task.channels)
    order[: p.task.vectors] = np.abs(matrix).argmax(axis=0)
    signs = np.ones((p.task.channels, *(1,) * p.axes), np.float32)
    signs[: p.task.vectors, ...] = matrix.sum(axis=0).reshape(-1, *(1,) * p.axes)
    x = nodes.add("view", "Gather", x, nodes.constant("view", "order", order), axis=1)
    return nodes.add("view", "Mul", x, nodes.constant("view", "signs", signs))


def _add_turns(nodes: Nodes, x: str, turns: int, axes: int) -> str:
    """Adds counter-clockwise quarter turns in the plane of the last two axes."""
    order = [*range(axes), axes + 1, axes]
    if turns == 1:  # [i, j] = [j, last - i]
        return nodes.add(
            "view", "Transpose", _add_flip(nodes, x, (axes - 1,)), perm=order
        )
    if turns == 3:
        return _add_flip(
            nodes, nodes.add("view", "Transpose", x, perm=order), (axes - 1,)
        )
    return _add_flip(nodes, x, (axes - 2, axes - 1)) if turns else x


def _add_flip(nodes: Nodes, x: str, mirrored: Sequence[int]) -> str:
    if not mirrored:
        return x
    count = len(mirrored)
    ends = (
        nodes.constant("view", kind, np.full(count, n))
        for kind, n in (("last", END), ("first", START))
    )
    steps = nodes.constant("view", "back", np.full(count, -1))
    return nodes.add("view", "Slice", x, *ends, _name_axes(nodes, mirrored), steps)


def _name_axes(nodes: Nodes, axes: Sequence[int]) -> str:
    """Adds the spatial axes as those of an array with channels first."""
    return nodes.constant("view", "axes", np.array([2 + axis for axis in axes]))


def _cast(nodes: Nodes, scope: str, x: str, dtype: Any) -> str:
    """Adds a change of type; the runtime removes one that changes nothing."""
    from onnx import helper

    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return nodes.add(scope, "Cast", x, to=kind)
