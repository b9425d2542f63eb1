"""What the overlay of a file shows: one plane of it, thinned out if it is large."""

from typing import NamedTuple

import numpy as np

from unet_jax.data.files import ImageFile
from unet_jax.tiling import Read

SHOWN = 2048  # pixels along the longer side, at most


class Sight(NamedTuple):
    """Every `step`-th pixel of one plane.

    Attributes:
      image: which one of a stack; the middle one.
      slice: which slice of a volume, or None.
      step: pixels from one that is shown to the next.
    """

    image: int
    slice: int | None
    step: int


def sight_of(grid: ImageFile) -> Sight:
    """The middle image of a stack, the middle slice of a volume."""
    volume = len(grid.shape) > 2
    step = -(-max(grid.shape[-2:]) // SHOWN)
    return Sight(grid.count // 2, grid.shape[0] // 2 if volume else None, step)


def rows_of(answer: np.ndarray, done: int, grid: ImageFile, sight: Sight) -> np.ndarray:
    """The rows that are shown of some, which come after `done` others."""
    rows = np.arange(done, done + len(answer)) - sight.image * grid.shape[0]
    if sight.slice is not None:
        return answer[rows == sight.slice]
    inside = (rows >= 0) & (rows < grid.shape[0])
    return answer[inside & (rows % sight.step == 0)]


def plane(rows: list[np.ndarray], sight: Sight) -> np.ndarray:
    """The rows that `rows_of` chose as one plane, every `step`-th pixel of it."""
    shown = np.concatenate(rows)
    if sight.slice is not None:
        shown = shown[0][:: sight.step]
    return shown[:, :: sight.step]


def pixels(read: Read, grid: ImageFile, sight: Sight) -> np.ndarray:
    """The pixels under the overlay, `[h, w, C]`, read by rows if thinned out."""
    across = slice(0, grid.shape[-1])
    if sight.slice is not None:
        plane = [slice(sight.slice, sight.slice + 1), slice(0, grid.shape[1]), across]
        return read(plane)[0, :: sight.step, :: sight.step]
    rows = range(0, grid.shape[0], sight.step)
    if sight.step == 1:
        return read([slice(0, grid.shape[0]), across])
    return np.concatenate(
        [read([slice(row, row + 1), across])[:, :: sight.step] for row in rows]
    )
