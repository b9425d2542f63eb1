"""The record by which a network describes its size arithmetic to the rest of the code.

Tiling, cropping, the checks of a config and the planner read a `Geometry` and nothing
else of a network.
"""

from collections.abc import Callable
from typing import NamedTuple

Shape = tuple[int, ...]  # one number for each spatial axis


class Geometry(NamedTuple):
    """The size arithmetic of a network for images with a given number of axes.

    Attributes:
      strides: for each level and axis, the pixels of the image along one pixel of that
        level. Those of level 0 are 1, and those of the last level are multiples of all
        others.
      margin: the pixels that the output lacks on each side; 0 with SAME padding.
      halo: how far from an output pixel an input pixel can lie that it depends on;
        None if that is anywhere in the image.
      valid_shape: returns the smallest shape, not below the given one, that the network
        takes as it is. Axes are independent of each other.
      strict: True if a training crop must have such a shape. Other networks pad it.
    """

    strides: tuple[Shape, ...]
    margin: Shape
    halo: Shape | None
    valid_shape: Callable[[Shape], Shape]
    strict: bool

    @property
    def multiple(self) -> Shape:
        """The strides of the coarsest level. A shift by them shifts the output."""
        return self.strides[-1]

    @property
    def context(self) -> Shape:
        """The pixels on each side of a tile that its output cannot be used for."""
        halo = self.halo or (0,) * len(self.margin)
        return tuple(m or h for m, h in zip(self.margin, halo, strict=True))

    def valid_size(self, size: int, axis: int) -> int:
        """Returns the smallest legal size along one axis that is not below `size`."""
        return self.valid_shape((size,) * len(self.margin))[axis]

    def valid_size_below(self, size: int, axis: int) -> int | None:
        """Returns the largest legal size along one axis that is not above `size`."""
        sizes = range(size, 0, -1)
        return next((n for n in sizes if self.valid_size(n, axis) == n), None)
