"""The BasicUNet of MONAI, for images and volumes, with transposed convolutions.

The names of the tensors are those of `monai.networks.nets.BasicUNet`. The slope of its
LeakyReLU is not among the tensors; the default of MONAI, 0.1, is assumed. The tensors
do not show whether the norm is instance or group norm; instance norm, the default, is
assumed.
"""

from collections.abc import Iterator, Mapping

from unet_jax.pytorch.architecture import (
    Architecture,
    Layer,
    get_shape,
    make_conv,
    make_norm,
    make_up_conv,
)
from unet_jax.pytorch.tensor import Tensor

LEVELS = 5
NAME = "MONAI BasicUNet"


def describe(tensors: Mapping[str, Tensor]) -> Architecture:
    """Returns the description of a network with the sizes of these tensors."""
    first = get_shape(tensors, "conv_0.conv_0.conv.weight", 4)
    axes, channels = min(len(first) - 2, 3), first[1]
    keys = ["conv_0", *(f"down_{i}.convs" for i in range(1, LEVELS))]
    widths = [get_shape(tensors, f"{k}.conv_0.conv.weight", 4)[0] for k in keys]
    end = get_shape(tensors, "upcat_1.convs.conv_0.conv.weight", 4)[0]
    outputs = get_shape(tensors, "final_conv.weight", 4)[0]
    bias = "conv_0.conv_0.conv.bias" in tensors
    norm = "none"
    if "conv_0.conv_0.adn.N.weight" in tensors:
        batch = "conv_0.conv_0.adn.N.running_mean" in tensors
        norm = "batch" if batch else "instance"
    # the transposed convolutions halve the channels, but for the finest one
    ends = (end, *widths[1:-1])
    inner = tuple(widths[:-1])
    ups = (widths[1], *(width // 2 for width in widths[2:]))
    model = {
        "widths": tuple(widths),
        "padding": "SAME",
        "norm": norm,
        "conv_bias": bias,
        "activation": "leaky_relu",
        "negative_slope": 0.1,
        "decoder_widths": () if ends == inner else ends,
        "up_widths": () if ups == inner else ups,
    }
    assumed = ["LeakyReLU with a slope of 0.1"]
    if norm == "instance":
        assumed.append("instance norm, not group norm")
    return Architecture(
        name=NAME,
        model=model,
        layers=tuple(
            _list_layers(axes, channels, widths, ends, ups, outputs, norm, bias)
        ),
        axes=axes,
        channels=channels,
        outputs=outputs,
        assumed=tuple(assumed),
    )


def _list_layers(
    axes: int,
    channels: int,
    widths: list[int],
    ends: tuple[int, ...],
    ups: tuple[int, ...],
    outputs: int,
    norm: str,
    bias: bool,
) -> Iterator[Layer]:
    before = channels
    for level, width in enumerate(widths):
        key = f"down_{level}.convs" if level else "conv_0"
        sizes = (before, width, width)
        yield from _list_block(key, f"down{level}", sizes, axes, norm, bias)
        before = width
    for level in reversed(range(LEVELS - 1)):
        key = f"upcat_{level + 1}"
        shape = (before, ups[level], *(2,) * axes)
        path = f"upconv{level}"
        yield from make_up_conv(f"{key}.upsample.deconv", shape, path, bias=True)
        sizes = (widths[level] + ups[level], ends[level], ends[level])
        yield from _list_block(f"{key}.convs", f"up{level}", sizes, axes, norm, bias)
        before = ends[level]
    shape = (outputs, before, *(1,) * axes)
    yield from make_conv("final_conv", shape, "head0", bias=True)


def _list_block(
    key: str, path: str, sizes: tuple[int, ...], axes: int, norm: str, bias: bool
) -> Iterator[Layer]:
    """Yields two convolutions with their norms: `sizes` are their channels."""
    for i in range(2):
        shape = (sizes[i + 1], sizes[i], *(3,) * axes)
        inner = f"{key}.conv_{i}"
        conv_bias = bias or norm == "none"
        yield from make_conv(f"{inner}.conv", shape, f"{path}/Conv_{i}", bias=conv_bias)
        target = f"{path}/Normalization_{i}"
        yield from make_norm(f"{inner}.adn.N", shape[0], target, norm)
