"""The size arithmetic of a U-Net along one axis.

Sizes, margins and halos are in pixels of the image. Axes are independent of each other.
Level 0 is the finest one, and a U-Net of d strides has d + 1 levels.
"""

import itertools
import operator
from typing import Literal, NamedTuple

Padding = Literal["VALID", "SAME"]
Upsample = Literal["transpose", "nearest", "linear"]
Downsample = Literal["pool", "conv"]


class UNetAxis(NamedTuple):
    """A U-Net along one axis.

    Attributes:
      strides: from each level to the next, d numbers.
      kernels: the size of the convolutions of each level; odd.
      down: the number of convolutions of each level on the contracting path.
      up: the number of convolutions of each level on the expanding path, d numbers.
      padding: of all convolutions.
      upsample: what leads to the next finer level.
      downsample: what leads to the next coarser level. With "conv" it is the first
        convolution of that level, and padding must be SAME.
    """

    strides: tuple[int, ...]
    kernels: tuple[int, ...]
    down: tuple[int, ...]
    up: tuple[int, ...]
    padding: Padding = "VALID"
    upsample: Upsample = "transpose"
    downsample: Downsample = "pool"

    @property
    def scales(self) -> tuple[int, ...]:
        """The pixels of the image along one pixel of each level."""
        return tuple(itertools.accumulate(self.strides, operator.mul, initial=1))


def compute_margin(axis: UNetAxis) -> int:
    """Returns the border that the output lacks on each side: 92 for the paper's net.

    There, two 3x3 convolutions take 2 pixels a side, once at the bottom and twice at
    every level above it, and a pixel of level i is 2^i pixels of the image: 6 * 2^d - 4
    for depth d (Ronneberger et al. 2015, figure 1).
    """
    if axis.padding == "SAME":
        return 0
    scales, reaches = axis.scales, _get_reaches(axis)
    down = sum(map(_multiply, scales, reaches, axis.down))
    up = sum(map(_multiply, scales, reaches, axis.up))
    between = (_get_upsampling_reach(axis, level) for level in range(len(axis.strides)))
    return down + up + sum(map(operator.mul, scales, between))


def compute_halo(axis: UNetAxis) -> int:
    """Returns how far an input pixel can lie from an output pixel that depends on it.

    For SAME padding: the first pixel that an output pixel depends on is followed along
    the longest path, down to the bottom of the U and back. The distance varies with the
    place of the output pixel among those that are pooled into one; this is the largest,
    107 for the paper's depth. (The VALID margin, 92, is what the output lacks.)

    The last pixel lies no farther away: interpolations and poolings are symmetric, and
    a strided convolution reaches farther to the left of its pixels than to the right.
    """
    pixels = range(axis.scales[-1])
    return max(pixel - _find_first_input(pixel, axis) for pixel in pixels)


def is_valid(size: int, axis: UNetAxis) -> bool:
    """True if every stride divides the size it meets, and an output is left."""
    return (
        size > 2 * compute_margin(axis)
        and (size - _count_lost(axis)) % axis.scales[-1] == 0
    )


def find_valid_size(size: int, axis: UNetAxis) -> int:
    """Returns the smallest legal input size that is not below `size`.

    With SAME padding the legal sizes are the multiples of the coarsest stride. For the
    paper's VALID network they are 16 k + 60 from 188 up ("select the input tile size
    such that all 2x2 max-pooling operations are applied to a layer with an even x- and
    y-size", section 2).
    """
    size = max(size, 2 * compute_margin(axis) + 1)
    return size + (_count_lost(axis) - size) % axis.scales[-1]


def count_border_pixels(stride: int) -> int:
    """Returns the outermost pixels of a linear interpolation that lack a neighbour.

    With half-pixel centres, stride // 2 of the finer pixels lie outside of the centre
    of the outermost coarse pixel, on each side.
    """
    return stride // 2


def _count_lost(axis: UNetAxis) -> int:
    """The pixels that the contracting path takes off an image before its last stride.

    What remains after them must be a multiple of the coarsest stride.
    """
    if axis.padding == "SAME":
        return 0
    above = slice(len(axis.strides))
    losses = map(
        _multiply, axis.scales[above], _get_reaches(axis)[above], axis.down[above]
    )
    return 2 * sum(losses)


def _find_first_input(pixel: int, axis: UNetAxis) -> int:
    """The first input pixel that an output pixel depends on.

    The skips add nothing: a pixel of level i lies within the coarser pixel that covers
    it, and the path through that one sees at least as much.
    """
    reaches = _get_reaches(axis)
    for level, stride in enumerate(axis.strides):  # from the output down to the bottom
        reach = reaches[level] * axis.up[level] + _get_upsampling_reach(axis, level)
        pixel = (pixel - reach) // stride
    for level in reversed(range(len(axis.kernels))):  # and up to the input
        strided = axis.downsample == "conv" and level > 0
        pixel -= reaches[level] * (axis.down[level] - strided)
        if level > 0:
            pixel = pixel * axis.strides[level - 1] - strided * reaches[level]
    return pixel


def _get_upsampling_reach(axis: UNetAxis, level: int) -> int:
    """The reach of the upsampling to a level, in pixels of that level."""
    kernel, stride = axis.kernels[level], axis.strides[level]
    return {
        "transpose": 0,
        "nearest": kernel // 2,
        "linear": kernel // 2 + count_border_pixels(stride),
    }[axis.upsample]


def _get_reaches(axis: UNetAxis) -> tuple[int, ...]:
    return tuple(kernel // 2 for kernel in axis.kernels)


def _multiply(scale: int, reach: int, count: int) -> int:
    return scale * reach * count
