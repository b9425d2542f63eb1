"""The record in which a network describes its sizes to the rest of the package.

Tiling, cropping, the checks of a config and the planner read the `Geometry` of a
network and nothing else.
"""

from collections.abc import Callable
from typing import NamedTuple

Shape = tuple[int, ...]  # one number per spatial axis


class Geometry(NamedTuple):
    """The input and output sizes of a network, for images with a given number of axes.

    Attributes:
      strides: for each level and axis, the image pixels per pixel of that level. Level
        0 has strides of 1. The strides of the last level are multiples of all others.
      margin: the pixels on each side by which the output is smaller than the input; 0
        with SAME padding.
      halo: the largest distance, in pixels, between an output pixel and an input pixel
        that it depends on; None if an output pixel depends on the whole image.
      valid_shape: returns the smallest legal input shape that is not below a given
        shape. The axes are independent of each other.
      strict: True if a training crop must have a legal shape; False if the network pads
        it.
    """

    strides: tuple[Shape, ...]
    margin: Shape
    halo: Shape | None
    valid_shape: Callable[[Shape], Shape]
    strict: bool

    @property
    def multiple(self) -> Shape:
        """The strides of the coarsest level. A shift by them shifts the output too."""
        return self.strides[-1]

    @property
    def context(self) -> Shape:
        """The pixels on each side of a tile where its output is missing or inexact."""
        halo = self.halo or (0,) * len(self.margin)
        return tuple(m or h for m, h in zip(self.margin, halo, strict=True))

    def valid_size(self, size: int, axis: int) -> int:
        """Returns the smallest legal size along one axis that is not below `size`."""
        return self.valid_shape((size,) * len(self.margin))[axis]

    def valid_size_below(self, size: int, axis: int) -> int | None:
        """Returns the largest legal size along one axis not above `size`, or None."""
        sizes = range(size, 0, -1)
        return next((n for n in sizes if self.valid_size(n, axis) == n), None)
