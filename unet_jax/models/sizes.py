"""The size arithmetic of a U-Net: what goes in, what comes out.

Every size and margin is in pixels along one axis; axes are independent. `depth` counts
the poolings, so the paper's network has depth 4.
"""

from typing import Literal

Padding = Literal["VALID", "SAME"]
Upsample = Literal["transpose", "nearest", "linear"]

# What one upsampling loses at either end, in pixels of the finer grid, in a VALID
# network: the 3x3 convolution after an interpolation needs one pixel, and so does
# linear interpolation itself. The 2x2 up-convolution needs none.
UPSAMPLING_LOSS = {"transpose": 0, "nearest": 1, "linear": 2}


def margin(depth: int, padding: Padding, upsample: Upsample = "transpose") -> int:
    """The border that the output lacks on each side: 92 for the paper's network.

    Two 3x3 convolutions take 2 pixels a side, once at the bottom and twice at every
    level above it, and a pixel of level i is 2^i pixels of the image:
    2 * 2^d + 2 * 2 * (2^d - 1) = 6 * 2^d - 4 (Ronneberger et al. 2015, figure 1).
    """
    if padding == "SAME":
        return 0
    scale = 2**depth
    return 6 * scale - 4 + UPSAMPLING_LOSS[upsample] * (scale - 1)


def halo(depth: int, upsample: Upsample = "transpose") -> int:
    """How far from an output pixel an input pixel can lie that it depends on.

    For SAME padding: the ends of the interval that one output pixel sees are followed
    along the longest path, down to the bottom of the U and back. It differs with the
    place of a pixel among the 2^d that are pooled into one; this is the largest, 107
    for the paper's depth. (The VALID margin, 92, is what the output lacks.)
    """
    return max(
        max(pixel - first, last - pixel)
        for pixel in range(2**depth)
        for first, last in [_field(pixel, depth, upsample)]
    )


def _field(pixel: int, depth: int, upsample: Upsample) -> tuple[int, int]:
    """The first and the last input pixel that an output pixel depends on."""
    first = last = pixel
    reach = {"transpose": 0, "nearest": 1, "linear": 2}[upsample]
    for _ in range(depth):  # up the expanding path, against the data's direction
        first, last = (first - 2 - reach) // 2, (last + 2 + reach) // 2
    first, last = first - 2, last + 2
    for _ in range(depth):  # and down the contracting one
        first, last = 2 * first - 2, 2 * last + 1 + 2
    return first, last


def is_valid(
    size: int, depth: int, padding: Padding, upsample: Upsample = "transpose"
) -> bool:
    """Whether every pooling sees an even size and something is left at the end."""
    before_first_pooling = 0 if padding == "SAME" else 4 * (2**depth - 1)
    divisible = (size - before_first_pooling) % 2**depth == 0
    return divisible and size > 2 * margin(depth, padding, upsample)


def valid_size(
    size: int, depth: int, padding: Padding, upsample: Upsample = "transpose"
) -> int:
    """The smallest legal input size that is not below `size`.

    Legal are the multiples of 2^depth with SAME padding, and 16 k + 60 from 188 up for
    the paper's VALID network ("select the input tile size such that all 2x2 max-pooling
    operations are applied to a layer with an even x- and y-size", section 2).
    """
    size = max(size, 2 * margin(depth, padding, upsample) + 1)
    while not is_valid(size, depth, padding, upsample):
        size += 1
    return size
