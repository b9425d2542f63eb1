"""The normalisations of `data/normalize.py` as ONNX nodes; see `scales.py`.

Arrays are given by their names. Images are `[B, C, *S]`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from unet_jax.export.scales import choose_numbers, split_percent
from unet_jax.models.onnx_nodes import Nodes
from unet_jax.specs import Spec

SCOPE = "scale"


class ScaleNodes(NamedTuple):
    """The map `(value - offset) / width` of each channel; 0 if the width is 0.

    Attributes:
      offset: `f32[B, C, 1, ...]`, or of a shape that broadcasts to it.
      width: of the same shape.
      clip: True clips the result to 0 and 1.
      low, high: raw values outside of them become the nearer one first; '' for none.
    """

    offset: str
    width: str
    clip: bool = False
    low: str = ""
    high: str = ""


def add_measure(nodes: Nodes, image: str, axes: int, spec: Spec) -> ScaleNodes:
    """Adds the measurement of the scale of images `f32[B, C, *S]`.

    Args:
      nodes: the nodes.
      image: the images.
      axes: the number of spatial axes.
      spec: a key of `MEASURES`, with all keywords.
    """
    keywords = {name: value for name, value in spec.items() if name != "name"}
    return MEASURES[spec["name"]](nodes, image, axes, **keywords)


def add_scale(nodes: Nodes, image: str, scale: ScaleNodes) -> str:
    """Adds the map of raw images to what the network sees."""
    zero, one = (nodes.constant(SCOPE, "number", np.float32(n)) for n in (0, 1))
    if scale.low:
        image = nodes.add(SCOPE, "Max", image, scale.low)
    if scale.high:
        image = nodes.add(SCOPE, "Min", image, scale.high)
    flat = nodes.add(SCOPE, "Equal", scale.width, zero)
    divisor = nodes.add(SCOPE, "Where", flat, one, scale.width)
    difference = nodes.add(SCOPE, "Sub", image, scale.offset)
    scaled = nodes.add(SCOPE, "Div", difference, divisor)
    scaled = nodes.add(SCOPE, "Where", flat, zero, scaled)
    return nodes.add(SCOPE, "Clip", scaled, zero, one) if scale.clip else scaled


def add_inverse(nodes: Nodes, scaled: str, scale: ScaleNodes) -> str:
    """Adds the map of normalised values back to raw ones."""
    product = nodes.add(SCOPE, "Mul", scaled, scale.width)
    return nodes.add(SCOPE, "Add", product, scale.offset)


def add_standard(nodes: Nodes, image: str, axes: int) -> ScaleNodes:
    """Adds the mean and the deviation, in float64, as `normalize.standard`."""
    space = nodes.constant(SCOPE, "space", np.arange(2, 2 + axes))
    low, high = (nodes.add(SCOPE, f"Reduce{m}", image, space) for m in ("Min", "Max"))

    def average(values: str) -> str:
        return nodes.add(SCOPE, "ReduceMean", values, space)

    return _add_deviation(nodes, image, average, low, high)


def _add_deviation(
    nodes: Nodes, image: str, average: Callable[[str], str], low: str, high: str
) -> ScaleNodes:
    """Adds the mean and the deviation; 0 where the lowest is the highest value."""
    exact = _cast(nodes, image, np.float64)
    mean = average(exact)
    difference = nodes.add(SCOPE, "Sub", exact, mean)
    variance = average(nodes.add(SCOPE, "Mul", difference, difference))
    deviation = _cast(nodes, nodes.add(SCOPE, "Sqrt", variance), np.float32)
    flat = nodes.add(SCOPE, "Equal", low, high)
    zero = nodes.constant(SCOPE, "number", np.float32(0))
    width = nodes.add(SCOPE, "Where", flat, zero, deviation)
    return ScaleNodes(_cast(nodes, mean, np.float32), width)


def add_percentile(
    nodes: Nodes, image: str, axes: int, *, low: float, high: float
) -> ScaleNodes:
    """Adds two percentiles, as `normalize.percentile`."""
    rows = nodes.constant(SCOPE, "rows", np.array([0, 0, -1]))
    flat = nodes.add(SCOPE, "Reshape", image, rows)
    count = nodes.add(SCOPE, "Shape", flat, start=2, end=3)
    ordered = nodes.add(
        SCOPE, "TopK", flat, count, axis=2, largest=0, sorted=1, outputs=2
    )
    bottom, top = (_add_rank(nodes, ordered, count, p) for p in (low, high))
    shape = nodes.constant(SCOPE, "channels", np.array([0, 0, *(1,) * axes]))
    bottom, top = (nodes.add(SCOPE, "Reshape", x, shape) for x in (bottom, top))
    return ScaleNodes(bottom, nodes.add(SCOPE, "Sub", top, bottom), clip=True)


def add_fixed(
    nodes: Nodes,
    image: str,
    axes: int,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    low: Sequence[float] = (),
    high: Sequence[float] = (),
) -> ScaleNodes:
    """Adds the numbers of the run, as `normalize.fixed`."""
    del image
    names = []
    for numbers in (mean, std, low, high):
        each = np.asarray(numbers, np.float32).reshape((-1, *(1,) * axes))
        names.append(nodes.constant(SCOPE, "number", each) if len(each) else "")
    offset, width, bottom, top = names
    return ScaleNodes(offset, width, low=bottom, high=top)


def add_nnunet(
    nodes: Nodes,
    image: str,
    axes: int,
    *,
    schemes: Sequence[str],
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    low: Sequence[float] = (),
    high: Sequence[float] = (),
) -> ScaleNodes:
    """Adds the scheme of each channel, as `normalize.nnunet`."""
    numbers = choose_numbers(schemes, mean, std, low, high)
    scale = add_fixed(nodes, image, axes, **numbers)
    if not {"zscore", "rescale"} & set(schemes):
        return scale
    space = nodes.constant(SCOPE, "space", np.arange(2, 2 + axes))
    inside = _add_box(nodes, image, axes)
    weight = _cast(nodes, inside, np.float64)
    count = nodes.add(SCOPE, "ReduceSum", weight, space)
    least, most = (
        nodes.add(
            SCOPE,
            f"Reduce{kind}",
            nodes.add(
                SCOPE,
                "Where",
                inside,
                image,
                nodes.constant(SCOPE, "number", np.float32(outside)),
            ),
            space,
        )
        for kind, outside in (("Min", np.inf), ("Max", -np.inf))
    )

    def average(values: str) -> str:
        product = nodes.add(SCOPE, "Mul", values, weight)
        return nodes.add(
            SCOPE, "Div", nodes.add(SCOPE, "ReduceSum", product, space), count
        )

    zscore = _add_deviation(nodes, image, average, least, most)
    rescale = ScaleNodes(least, nodes.add(SCOPE, "Sub", most, least))
    for scheme, measured in (("zscore", zscore), ("rescale", rescale)):
        each = np.array([name == scheme for name in schemes])
        chosen = nodes.constant(SCOPE, "chosen", each.reshape((-1, *(1,) * axes)))
        scale = scale._replace(
            offset=nodes.add(SCOPE, "Where", chosen, measured.offset, scale.offset),
            width=nodes.add(SCOPE, "Where", chosen, measured.width, scale.width),
        )
    return scale


def _add_box(nodes: Nodes, image: str, axes: int) -> str:
    """Adds `bool[B, 1, *S]`, the smallest box around all pixels: `scales._find_box`."""

    def reduce(x: str, over: Sequence[int]) -> str:
        return nodes.add(
            SCOPE, "ReduceMax", x, nodes.constant(SCOPE, "space", np.array(over))
        )

    def is_positive(x: str) -> str:
        return nodes.add(SCOPE, "Greater", x, zero)

    zero = nodes.constant(SCOPE, "number", np.float32(0))
    space = list(range(2, 2 + axes))
    filled = reduce(nodes.add(SCOPE, "Abs", image), [1])
    filled = _cast(nodes, is_positive(filled), np.float32)
    inside = ""
    for axis in space:
        others = [other for other in space if other != axis]
        profile = reduce(filled, others)
        position = nodes.constant(SCOPE, "axis", np.array(axis))
        for reverse in (0, 1):
            total = nodes.add(SCOPE, "CumSum", profile, position, reverse=reverse)
            part = is_positive(total)
            inside = nodes.add(SCOPE, "And", inside, part) if inside else part
    empty = nodes.add(SCOPE, "Not", is_positive(reduce(filled, space)))
    return nodes.add(SCOPE, "Or", inside, empty)


MEASURES: Mapping[str, Callable[..., ScaleNodes]] = {
    "fixed": add_fixed,
    "nnunet": add_nnunet,
    "percentile": add_percentile,
    "standard": add_standard,
}


def _add_rank(nodes: Nodes, ordered: str, count: str, percent: float) -> str:
    """Adds a percentile of sorted `f32[B, C, N]`, as `np.percentile`; `[B, C, 1]`."""

    def number(value: Any) -> str:
        return nodes.constant(SCOPE, "integer", np.array([value]))

    def add(operator: str, *inputs: str, **attributes: Any) -> str:
        return nodes.add(SCOPE, operator, *inputs, **attributes)

    numerator, denominator = map(number, split_percent(percent))
    last = add("Sub", count, number(1))
    product = add("Mul", last, numerator)  # of 64 bits
    rank = add("Div", product, denominator)
    rest = _cast(nodes, add("Mod", product, denominator), np.float32)
    fraction = add("Div", rest, _cast(nodes, denominator, np.float32))
    following = add("Min", add("Add", rank, number(1)), last)
    low, high = (add("Gather", ordered, i, axis=2) for i in (rank, following))
    return add("Add", low, add("Mul", fraction, add("Sub", high, low)))


def _cast(nodes: Nodes, x: str, dtype: Any) -> str:
    from onnx import helper

    return nodes.add(
        SCOPE, "Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    )
