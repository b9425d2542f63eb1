"""The images of one file: described when it is opened, read in windows."""

import contextlib
import functools
import io
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from unet_jax.data.files.calibration import Calibration
from unet_jax.errors import UserError, prefix_errors

LUMA = (299, 587, 114)  # thousandths of red, green and blue: ITU-R BT.601
BAND_BYTES = 2**26  # of a band of rows
BAND_ROWS = 256  # a band has a multiple of these, as the tiles of a TIFF have

Box = Sequence[slice]  # a slice with start and stop for each spatial axis, step 1
ReadWindow = Callable[[int, Box], np.ndarray]


class ImageFile(NamedTuple):
    """The images of an open file; the pixels stay on disk until they are read.

    Attributes:
      path: the file, the folder of an OME-Zarr, or the content of a file in memory.
      kind: the reader.
      count: the number of images, all of one shape: the pages of a stack, else 1.
      shape: the spatial shape *S of each image.
      channels: C.
      dtype: of the pixels, in the byte order of this machine.
      read: `(image, box) -> [*box, C]`; the box lies within the image. Raises
        UserError if the file is damaged.
      palette: `u8[N, 3]`, if the pixels are indices of these colours.
      alpha_varies: returns True if an alpha channel was dropped that is not constant.
      orientation: the EXIF orientation of the stored pixels, 1 to 8; 1 is upright.
      notes: decisions about the meaning of the pixels, such as "turned upright".
      spacing: the size of a pixel along each axis, if NIfTI or OME-Zarr states it.
      affine: NIfTI's `f64[4, 4]` from voxels X, Y, Z to the scanner's coordinates.
      header: NIfTI's, with the units; of an OME-Zarr a `ZarrHeader`.
      stack: names and lengths of the axes that count images, such as ("T", 5); of
        other axes the names are letters of tifffile, such as Q for an unknown axis.
      depth: the name of the first axis of a volume.
      calibration: physical sizes in the header of a TIFF, which are only passed on.
      ome: True for an OME-TIFF.
    """

    path: Path | io.BytesIO
    kind: Literal["image", "tiff", "nifti", "zarr"]
    count: int
    shape: tuple[int, ...]
    channels: int
    dtype: np.dtype
    read: ReadWindow
    palette: np.ndarray | None = None
    alpha_varies: Callable[[], bool] = lambda: False
    orientation: int = 1
    notes: tuple[str, ...] = ()
    spacing: tuple[float, ...] | None = None
    affine: np.ndarray | None = None
    header: Any = None
    stack: tuple[tuple[str, int], ...] = ()
    depth: str = "Z"
    calibration: Calibration | None = None
    ome: bool = False


def read_bands(
    file: ImageFile, image: int, band_bytes: int = BAND_BYTES
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields an image of any size in bands, for statistics in little memory.

    Args:
      file: an open file.
      image: the number of the image.
      band_bytes: the size of a band, unless a single row is larger.

    Yields:
      The rows, or the slices of a volume, and their pixels `[rows, ..., C]`.

    Raises:
      UserError: the file is damaged.
    """
    length, *rest = file.shape
    rows = band_bytes // byte_count((*rest, file.channels), file.dtype)
    rows = max(rows - rows % BAND_ROWS, min(rows, BAND_ROWS), 1)
    for start in range(0, length, rows):
        band = slice(start, min(start + rows, length))
        yield band, file.read(image, [band, *(slice(0, size) for size in rest)])


def convert_channels(file: ImageFile, channels: int, *, convert: bool) -> ImageFile:
    """Returns a file that reads images of `channels` channels.

    Args:
      file: an open file.
      channels: the number of channels to read.
      convert: False refuses a file with another number of channels.

    Raises:
      UserError: as `channel_converter` does; the message names the file.
    """
    if file.channels == channels:
        return file
    with prefix_errors(str(file.path)):
        change = channel_converter(file.channels, channels, convert=convert)
    return file._replace(
        channels=channels, read=lambda image, box: change(file.read(image, box))
    )


def channel_converter(
    stored: int, channels: int, *, convert: bool
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function `[..., stored] -> [..., channels]`.

    Grey is repeated as red, green and blue; these become grey by their luma, which is
    rounded for integers. There are no other conversions.

    Raises:
      UserError: the numbers differ, and there is no conversion or `convert` is False.
    """
    if stored == channels:
        return lambda block: block
    repeat_grey = functools.partial(np.repeat, repeats=3, axis=-1)
    change = {(1, 3): repeat_grey, (3, 1): _luma}.get((stored, channels))
    differ = f"has {_channels(stored)}, the network takes {channels}"
    if change is None:
        raise UserError(f"{differ}; save the image with {_channels(channels)}")
    if not convert:
        raise UserError(f"{differ}; --config.predict.channels=convert converts images")
    return change


def apply_palette(file: ImageFile) -> ImageFile:
    """Returns a file that reads colours instead of indices of its palette, if any."""
    if (palette := file.palette) is None:
        return file

    def read(image: int, box: Box) -> np.ndarray:
        return np.take(palette, file.read(image, box)[..., 0], axis=0, mode="clip")

    return file._replace(channels=3, dtype=palette.dtype, read=read, palette=None)


def check_pixels(file: ImageFile) -> None:
    """Raises UserError unless a file has pixels, and they are real numbers."""
    if 0 in (file.count, file.channels, *file.shape):
        raise UserError(f"has no pixels, its shape is {file.shape}; remove it")
    if file.dtype.kind not in "uif" or file.dtype.itemsize > 8:
        raise UserError(
            f"its pixels are {file.dtype}; save them as integers or floats of at most "
            "64 bits"
        )


def not_a_volume(axes: int) -> UserError:
    """Returns the error for a flat image where the network takes volumes."""
    return UserError(
        f"is an image of 2 axes, the network takes volumes of {axes}; "
        "give a volume: a TIFF stack, NIfTI or OME-Zarr"
    )


@contextlib.contextmanager
def report_write_errors(folder: Path) -> Iterator[None]:
    """Turns an OSError into a UserError that names the flag of the output folder."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"--output: {folder} cannot be written ({reason}); give another folder"
        ) from error


def box_shape(box: Box) -> tuple[int, ...]:
    """Returns the shape of a box."""
    return tuple(s.stop - s.start for s in box)


def byte_count(shape: Sequence[int], dtype: np.dtype) -> int:
    """Returns the size of an array in bytes."""
    return math.prod(shape) * np.dtype(dtype).itemsize


def _luma(block: np.ndarray) -> np.ndarray:
    luma = np.asarray(block, np.float64) @ np.asarray(LUMA)[:, None] / 1000
    if block.dtype.kind != "f":
        luma = np.rint(luma)
    return luma.astype(block.dtype)


def _channels(count: int) -> str:
    return f"{count} channel{'s' if count > 1 else ''}"
