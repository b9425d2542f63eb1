"""The input and output sizes of a U-Net along one axis.

Sizes, margins and halos are in pixels of the image. The axes are independent of each
other. Level 0 is the finest one. A U-Net with d strides has d + 1 levels.
"""

import itertools
import operator
from typing import Literal, NamedTuple

Padding = Literal["VALID", "SAME"]
Upsample = Literal["transpose", "nearest", "linear", "aligned"]
Downsample = Literal["pool", "conv"]


class UNetAxis(NamedTuple):
    """The architecture of a U-Net along one axis.

    Attributes:
      strides: from each level to the next coarser one, d numbers.
      kernels: the kernel size of each level; odd.
      down: the number of convolutions of each level in the contracting path.
      up: the number of convolutions of each level in the expanding path, d numbers.
      padding: of all convolutions.
      upsample: the operation that leads to the next finer level.
      downsample: the operation that leads to the next coarser level. "conv" is the
        first convolution of that level and needs SAME padding.
      down_kernels: the kernel size of each level in the contracting path; (): that of
        `kernels`.
      up_convolved: True if a convolution follows an interpolation.
      head: the kernel size of the last layer; above 1 it needs SAME padding.
    """

    strides: tuple[int, ...]
    kernels: tuple[int, ...]
    down: tuple[int, ...]
    up: tuple[int, ...]
    padding: Padding = "VALID"
    upsample: Upsample = "transpose"
    downsample: Downsample = "pool"
    down_kernels: tuple[int, ...] = ()
    up_convolved: bool = True
    head: int = 1

    @property
    def scales(self) -> tuple[int, ...]:
        """The image pixels per pixel of each level."""
        return tuple(itertools.accumulate(self.strides, operator.mul, initial=1))


def compute_margin(axis: UNetAxis) -> int:
    """Returns the number of pixels on each side by which the output is smaller.

    For the paper's network it is 92. Two 3x3 convolutions remove 2 pixels on each side,
    once at the bottom and twice at every level above it, and a pixel of level i is 2^i
    image pixels: 6 * 2^d - 4 for depth d (Ronneberger et al. 2015, figure 1).
    """
    if axis.padding == "SAME":
        return 0
    scales, reaches = axis.scales, _get_reaches(axis)
    down = sum(map(_multiply, scales, _get_down_reaches(axis), axis.down))
    up = sum(map(_multiply, scales, reaches, axis.up))
    between = (_get_upsampling_reach(axis, level) for level in range(len(axis.strides)))
    return down + up + sum(map(operator.mul, scales, between))


def compute_halo(axis: UNetAxis) -> int:
    """Returns how far an output pixel can be from an input pixel that it depends on.

    For SAME padding: the first pixel that an output pixel depends on is traced along
    the longest path, down to the bottom of the U and back up. The distance depends on
    the position of the output pixel among the pixels that are pooled into one. This is
    the largest distance, 107 for the paper's depth. (The VALID margin of 92 is the size
    by which the output is smaller.)

    The last pixel is not farther away: interpolation and pooling are symmetric, and a
    strided convolution extends farther to the left of its pixels than to the right.
    """
    pixels = range(axis.scales[-1])
    return max(pixel - _find_first_input(pixel, axis) for pixel in pixels)


def find_valid_size(size: int, axis: UNetAxis) -> int:
    """Returns the smallest legal input size that is not below `size`.

    A size is legal if every stride divides it at its level and an output is left.
    With SAME padding the legal sizes are the multiples of the coarsest stride. For the
    paper's VALID network they are 16 k + 60, from 188 on ("select the input tile size
    such that all 2x2 max-pooling operations are applied to a layer with an even x- and
    y-size", section 2).
    """
    size = max(size, 2 * compute_margin(axis) + 1)
    return size + (_count_lost(axis) - size) % axis.scales[-1]


def count_border_pixels(stride: int) -> int:
    """Returns the number of pixels on each side that linear interpolation extrapolates.

    With half-pixel centres, stride // 2 fine pixels lie outside the centre of the
    outermost coarse pixel.
    """
    return stride // 2


def _count_lost(axis: UNetAxis) -> int:
    """Returns the pixels that the contracting path removes before its last stride.

    The remaining size must be a multiple of the coarsest stride.
    """
    if axis.padding == "SAME":
        return 0
    above = slice(len(axis.strides))
    scales, reaches = axis.scales[above], _get_down_reaches(axis)[above]
    return 2 * sum(map(_multiply, scales, reaches, axis.down[above]))


def _find_first_input(pixel: int, axis: UNetAxis) -> int:
    """Returns the first input pixel that an output pixel depends on.

    The skips need no extra term: a pixel of level i lies inside the coarser pixel that
    covers it, and the path through that pixel reaches at least as far.
    """
    reaches = _get_reaches(axis)
    pixel -= axis.head // 2
    for level, stride in enumerate(axis.strides):  # from the output to the bottom
        reach = reaches[level] * axis.up[level] + _get_upsampling_reach(axis, level)
        pixel = (pixel - reach) // stride
    reaches = _get_down_reaches(axis)
    for level in reversed(range(len(axis.kernels))):  # from the bottom to the input
        strided = axis.downsample == "conv" and level > 0
        pixel -= reaches[level] * (axis.down[level] - strided)
        if level > 0:
            pixel = pixel * axis.strides[level - 1] - strided * reaches[level]
    return pixel


def _get_upsampling_reach(axis: UNetAxis, level: int) -> int:
    """Returns the reach of the upsampling to a level, in pixels of that level."""
    reach = axis.kernels[level] // 2 if axis.up_convolved else 0
    return {
        "transpose": 0,
        "nearest": reach,
        "linear": reach + count_border_pixels(axis.strides[level]),
    }[axis.upsample]


def _get_reaches(axis: UNetAxis) -> tuple[int, ...]:
    return tuple(kernel // 2 for kernel in axis.kernels)


def _get_down_reaches(axis: UNetAxis) -> tuple[int, ...]:
    return tuple(kernel // 2 for kernel in axis.down_kernels or axis.kernels)


def _multiply(scale: int, reach: int, count: int) -> int:
    return scale * reach * count
