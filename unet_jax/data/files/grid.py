"""What the room hands out: the images of one file, opened and not yet read."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from unet_jax.errors import UserError, prefix_errors

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601

Box = Sequence[slice]  # one slice with start and stop per spatial axis, step 1
Read = Callable[[int, Box], np.ndarray]


class Grid(NamedTuple):
    """The images of one file: what they are is known, the pixels stay on disk.

    Attributes:
      path: the file, or the folder of an OME-Zarr.
      kind: what reads it.
      count: images in it, all of one shape: the pages of a stack, else 1.
      shape: the spatial shape *S of each.
      channels: C.
      dtype: of the pixels, in the byte order of this machine.
      read: `(image, box) -> [*box, C]`; the box lies within the image. Raises
        UserError where the file is damaged.
      palette: `u8[N, 3]`, the colours that the pixels are numbers of, if they are.
      alpha_varies: whether an alpha channel that says something was dropped.
      spacing: the size of a pixel along each axis, where NIfTI or OME-Zarr says.
      affine: NIfTI's `f64[4, 4]` from voxels X, Y, Z to the scanner's coordinates.
      header: NIfTI's, with the units.
    """

    path: Path
    kind: Literal["image", "tiff", "nifti", "zarr"]
    count: int
    shape: tuple[int, ...]
    channels: int
    dtype: np.dtype
    read: Read
    palette: np.ndarray | None = None
    alpha_varies: Callable[[], bool] = lambda: False
    spacing: tuple[float, ...] | None = None
    affine: np.ndarray | None = None
    header: Any = None


def to_channels(grid: Grid, wanted: int, *, convert: bool) -> Grid:
    """Returns the grid as it is, or one that reads as many channels as wanted.

    Grey becomes red, green and blue by repeating; these become grey by their luma,
    rounded where the pixels are integers. No other numbers can be converted.

    Raises:
      UserError: the file has another number of channels, and `convert` is False or
        would not help.
    """
    if grid.channels == wanted:
        return grid
    with prefix_errors(str(grid.path)):
        change = conversion(grid.channels, wanted, convert=convert)
    return grid._replace(
        channels=wanted, read=lambda image, box: change(grid.read(image, box))
    )


def coloured(grid: Grid) -> Grid:
    """Returns the grid with the colours of its palette for their numbers, if any."""
    if (palette := grid.palette) is None:
        return grid

    def read(image: int, box: Box) -> np.ndarray:
        return np.take(palette, grid.read(image, box)[..., 0], axis=0, mode="clip")

    return grid._replace(channels=3, dtype=palette.dtype, read=read, palette=None)


def conversion(
    channels: int, wanted: int, *, convert: bool
) -> Callable[[np.ndarray], np.ndarray]:
    """The same for arrays `[..., channels]` -> `[..., wanted]`."""
    if channels == wanted:
        return lambda block: block
    change = {(1, 3): _colour, (3, 1): _grey}.get((channels, wanted))
    differ = f"has {_channels(channels)}, the network takes {wanted}"
    if change is None:
        raise UserError(f"{differ}; save the image with {_channels(wanted)}")
    if not convert:
        raise UserError(
            f"{differ}; --config.predict.channels=convert makes one of them"
        )
    return change


def check(grid: Grid) -> None:
    """Raises UserError unless there are pixels, and they are real numbers."""
    if 0 in (grid.count, grid.channels, *grid.shape):
        raise UserError(f"has no pixels, its shape is {grid.shape}; leave it out")
    if grid.dtype.kind not in "uif" or grid.dtype.itemsize > 8:
        raise UserError(
            f"its pixels are {grid.dtype}, which is neither an integer nor a float of "
            "at most 64 bits; save it as one"
        )


def volume_expected(axes: int) -> UserError:
    """The error of a file that holds images of 2 axes, for a network of 3."""
    return UserError(
        f"is an image of 2 axes, the network takes volumes of {axes}; "
        "give a volume: a TIFF stack, NIfTI or OME-Zarr"
    )


def size(box: Box) -> tuple[int, ...]:
    """The shape of a box."""
    return tuple(s.stop - s.start for s in box)


def volume(shape: Sequence[int], dtype: np.dtype) -> int:
    """Bytes of an array."""
    return math.prod(shape) * np.dtype(dtype).itemsize


def _colour(block: np.ndarray) -> np.ndarray:
    return np.repeat(block, 3, axis=-1)


def _grey(block: np.ndarray) -> np.ndarray:
    luma = np.asarray(block, np.float64) @ np.asarray(LUMA)[:, None]
    if block.dtype.kind != "f":
        luma = np.rint(luma)
    return luma.astype(block.dtype)


def _channels(count: int) -> str:
    return f"{count} channel{'s' if count > 1 else ''}"
