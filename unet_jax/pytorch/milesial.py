"""The U-Net of github.com/milesial/Pytorch-UNet, of any width.

With `bilinear=False` the upsampling is a transposed convolution. With `bilinear=True`
it is an interpolation that aligns the corners; then the first convolution of a level of
the expanding path has as many channels as the skip, and the second one half as many.
Versions of before 2021 have a bias in the convolutions before the norm.
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
NAME = "milesial/Pytorch-UNet"
UNSCALED = (
    "images are not scaled; milesial's train.py and predict.py scale them by 0.5 by "
    "default, so halve them first if yours was trained so"
)


def describe(tensors: Mapping[str, Tensor]) -> Architecture:
    """Returns the description of a network with the sizes of these tensors."""
    width, channels, *_ = get_shape(tensors, "inc.double_conv.0.weight", 4)
    outputs = get_shape(tensors, "outc.conv.weight", 4)[0]
    bias = "inc.double_conv.0.bias" in tensors
    bilinear = "up1.up.weight" not in tensors
    widths = [width * 2**level for level in range(LEVELS)]
    if bilinear:
        widths[-1] //= 2
    inner = tuple(widths[:-1])
    ends = (width, *(w // 2 for w in widths[1:-1])) if bilinear else inner
    model = {
        "widths": tuple(widths),
        "padding": "SAME",
        "norm": "batch",
        "conv_bias": bias,
        "activation": "relu",
        "upsample": "aligned" if bilinear else "transpose",
        "upsample_conv": not bilinear,
        "decoder_widths": ends if bilinear else (),
        "decoder_hidden": inner if bilinear else (),
    }
    return Architecture(
        name=f"{NAME}, bilinear={bilinear}",
        model=model,
        layers=tuple(_list_layers(channels, widths, inner, ends, outputs, bias)),
        axes=2,
        channels=channels,
        outputs=outputs,
        assumed=(UNSCALED,),
    )


def _list_layers(
    channels: int,
    widths: list[int],
    inner: tuple[int, ...],
    ends: tuple[int, ...],
    outputs: int,
    bias: bool,
) -> Iterator[Layer]:
    bilinear = ends != inner
    before = channels
    for level, width in enumerate(widths):
        key = f"down{level}.maxpool_conv.1" if level else "inc"
        yield from _list_block(key, f"down{level}", (before, width, width), bias)
        before = width
    for level in reversed(range(LEVELS - 1)):
        key, skip = f"up{LEVELS - 1 - level}", widths[level]
        if not bilinear:
            shape = (before, skip, 2, 2)
            yield from make_up_conv(f"{key}.up", shape, f"upconv{level}", bias=True)
            before = skip
        sizes = (skip + before, inner[level], ends[level])
        yield from _list_block(f"{key}.conv", f"up{level}", sizes, bias)
        before = ends[level]
    shape = (outputs, before, 1, 1)
    yield from make_conv("outc.conv", shape, "head0", bias=True)


def _list_block(
    key: str, path: str, sizes: tuple[int, ...], bias: bool
) -> Iterator[Layer]:
    """Yields two convolutions with batch norm: `sizes` are their channels."""
    for i in range(2):
        conv, norm = f"{key}.double_conv.{3 * i}", f"{key}.double_conv.{3 * i + 1}"
        shape = (sizes[i + 1], sizes[i], 3, 3)
        yield from make_conv(conv, shape, f"{path}/Conv_{i}", bias=bias)
        yield from make_norm(norm, shape[0], f"{path}/Normalization_{i}", "batch")
