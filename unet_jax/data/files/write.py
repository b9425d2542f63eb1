"""Writes labels and probabilities in the format of the images that were read.

Blocks come in order: for each image in turn, consecutive parts along its first axis. A
TIFF and an OME-Zarr are written block by block; a PNG and a NIfTI are held in memory
until they are complete. Until then a file has the ending `.part`; an exception removes
it.
"""

import contextlib
import gzip
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike
from PIL import Image

from unet_jax.data.files.calibration import dots_per_inch
from unet_jax.data.files.image_file import ImageFile, report_write_errors
from unet_jax.data.files.nifti import make_nifti
from unet_jax.data.files.write_tiff import create_tiff
from unet_jax.data.files.write_zarr import create_zarr

PNG_PIXELS = 2**26  # of the largest image that is written as a PNG


class ImageWriter(NamedTuple):
    """A file that is being written.

    Attributes:
      path: its name once it is complete.
      write: takes the next `[n, *rest]` labels, or `[n, *rest, K]` probabilities.
        Raises UserError if the disk is full.
    """

    path: Path
    write: Callable[[np.ndarray], None]


@contextlib.contextmanager
def write_images(
    folder: Path, stem: str, like: ImageFile, dtype: DTypeLike, *, channels: int = 0
) -> Iterator[ImageWriter]:
    """Creates a file for the results of all images of a file.

    Labels of one flat image become a PNG, if a PNG can hold them and the size of their
    pixels. Labels of a NIfTI become a NIfTI with the same affine map. All results of an
    OME-Zarr become an OME-Zarr. Everything else, probabilities included, becomes a TIFF
    with a page for each image, slice or class. Axes, the size of a pixel, the interval
    of frames and their units are those of the file that was read.

    Args:
      folder: the folder to write to; created if it does not exist.
      stem: the name without its ending.
      like: the file that was read.
      dtype: of the results.
      channels: K, the length of a last axis of the blocks; 0 if there is none.

    Raises:
      UserError: the folder or the file cannot be written.
      AssertionError: the blocks do not fill the file.
    """
    dtype = np.dtype(dtype)
    ending, create = _format(like, dtype, channels)
    path = folder / f"{stem}{ending}"
    part = path.with_name(f"{path.name}.part")
    with report_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)  # it could be a link to another file
    try:
        with create(part, like, dtype, channels) as write_rows:
            done, total = 0, like.count * like.shape[0]

            def write(block: np.ndarray) -> None:
                nonlocal done
                write_rows(done, block)
                done += len(block)

            yield ImageWriter(path, write)
            assert done == total, f"{done} of {total} rows were written"
        with report_write_errors(folder):
            if part.is_dir():
                _remove(path)  # a folder cannot be replaced
            os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            _remove(part)
        raise


def _format(like: ImageFile, dtype: np.dtype, channels: int) -> tuple[str, Callable]:
    """Returns the ending of a file, and the function that creates it.

    That yields `write(start, rows)`; rows are counted over all images.
    """
    if like.kind == "zarr":
        return ".ome.zarr", create_zarr
    if like.kind == "nifti" and dtype.kind != "f":
        return ".nii.gz", _create_in_memory
    flat = like.count == 1 and len(like.shape) == 2 and like.kind in ("image", "tiff")
    small = math.prod(like.shape) <= PNG_PIXELS and dtype in (np.uint8, np.uint16)
    measured = like.calibration is not None and not like.calibration.printed
    if flat and small and not channels and not measured:
        return ".png", _create_in_memory
    return (".ome.tif" if like.ome else ".tif"), create_tiff


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _create_in_memory(
    part: Path, like: ImageFile, dtype: np.dtype, channels: int
) -> Iterator[Callable[[int, np.ndarray], None]]:
    """Fills an array `[count, *S]` or `[count, *S, K]`, and saves the first image."""
    shape = (like.count, *like.shape, *([channels] if channels else []))
    array = np.empty(shape, dtype)
    rows = array.reshape(-1, *shape[2:])

    def write(start: int, block: np.ndarray) -> None:
        rows[start : start + len(block)] = block

    yield write
    with report_write_errors(part.parent), open(part, "wb") as stream:
        if like.kind != "nifti":
            dpi = dots_per_inch(like.calibration)
            Image.fromarray(array[0]).save(stream, format="PNG", **dpi)
            return
        # without a name and a time, equal labels give equal bytes
        with gzip.GzipFile("", "wb", 1, stream, mtime=0) as packed:
            make_nifti(array[0], like).to_stream(packed)
