"""Writes labels and probabilities in the format of the images that were read.

Blocks come in order: for each image in turn, consecutive parts along its first axis. A
TIFF of many pages is written block by block; a PNG and a NIfTI are held in memory until
they are complete. Until then a file has the ending `.part`; an exception removes it.
"""

import contextlib
import gzip
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
from numpy.typing import DTypeLike
from PIL import Image

from unet_jax.data.files.image_file import ImageFile
from unet_jax.data.files.nifti import make_nifti
from unet_jax.errors import UserError

PNG_PIXELS = 2**26  # of the largest image that is written as a PNG
IMAGEJ_BYTES = 2**32 - 2**25  # pixels and metadata must fit into offsets of 32 bits
IMAGEJ = (np.uint8, np.uint16, np.float32)

Write = Callable[[np.ndarray], None]


class ImageWriter(NamedTuple):
    """A file that is being written.

    Attributes:
      path: its name once it is complete.
      write: takes the next `[n, *rest]` labels, or `[n, *rest, K]` probabilities.
        Raises UserError if the disk is full.
    """

    path: Path
    write: Write


@contextlib.contextmanager
def write_images(
    folder: Path, stem: str, like: ImageFile, dtype: DTypeLike, *, channels: int = 0
) -> Iterator[ImageWriter]:
    """Creates a file for the results of all images of a file.

    Labels of one flat image become a PNG, if a PNG can hold them. Labels of a NIfTI
    become a NIfTI with the same affine map. Everything else, probabilities included,
    becomes a TIFF with a page for each image, slice or class, and with names of the
    axes that Fiji reads.

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
    with _naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with create(part, like, dtype, channels) as write:
            yield ImageWriter(path, write)
        with _naming(folder):
            os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def _format(like: ImageFile, dtype: np.dtype, channels: int) -> tuple[str, Callable]:
    if like.kind == "nifti" and dtype.kind != "f":
        return ".nii.gz", _create_in_memory
    flat = like.count == 1 and len(like.shape) == 2 and like.kind in ("image", "tiff")
    small = math.prod(like.shape) <= PNG_PIXELS and dtype in (np.uint8, np.uint16)
    png = flat and small and not channels
    return (".png", _create_in_memory) if png else (".tif", _create_tiff)


@contextlib.contextmanager
def _create_in_memory(
    part: Path, like: ImageFile, dtype: np.dtype, channels: int
) -> Iterator[Write]:
    """Fills an array `[count, *S]` or `[count, *S, K]`, and saves the first image."""
    shape = (like.count, *like.shape, *([channels] if channels else []))
    array = np.empty(shape, dtype)
    rows = array.reshape(-1, *shape[2:])
    done = 0

    def write(block: np.ndarray) -> None:
        nonlocal done
        rows[done : done + len(block)] = block
        done += len(block)

    yield write
    assert done == len(rows), f"{done} of {len(rows)} rows were written"
    with _naming(part.parent), open(part, "wb") as stream:
        if like.kind != "nifti":
            Image.fromarray(array[0]).save(stream, format="PNG")
            return
        # without a name and a time, equal labels give equal bytes
        with gzip.GzipFile("", "wb", 1, stream, mtime=0) as packed:
            make_nifti(array[0], like).to_stream(packed)


@contextlib.contextmanager
def _create_tiff(
    part: Path, like: ImageFile, dtype: np.dtype, channels: int
) -> Iterator[Write]:
    """Writes planes `[Y, X]`, the classes of an image or slice one after another."""
    *_, height, width = like.shape
    classes = channels or 1
    total = like.count * math.prod(like.shape[:-1])  # rows of pixels, of one class
    done = 0
    with _naming(part.parent):
        start = _create_empty_tiff(part, like, dtype, channels)
        stream = open(part, "r+b")  # noqa: SIM115, closed below

    def write(block: np.ndarray) -> None:
        nonlocal done
        rows = np.asarray(block, dtype).reshape(-1, width, classes)
        while len(rows):
            page, row = divmod(done, height)
            piece, rows = np.split(rows, [height - row])
            for k in range(classes):
                plane = (page * classes + k) * height + row
                with _naming(part.parent):
                    stream.seek(start + plane * width * dtype.itemsize)
                    stream.write(np.ascontiguousarray(piece[..., k]).data)
            done += len(piece)

    try:
        yield write
    finally:
        with _naming(part.parent):
            stream.close()
    assert done == total, f"{done} of {total} rows were written"


def _create_empty_tiff(
    part: Path, like: ImageFile, dtype: np.dtype, channels: int
) -> int:
    """Writes a TIFF of empty, uncompressed planes; returns the offset of the first."""
    volume = len(like.shape) == 3
    images = [] if like.count == 1 else [("T" if volume else "Z", like.count)]
    depth = [("Z", like.shape[0])] if volume else []
    channel = [("C", channels)] if channels else []
    plane = list(zip("YX", like.shape[-2:], strict=True))
    axes, shape = zip(*images, *depth, *channel, *plane, strict=True)
    size = math.prod(shape) * dtype.itemsize
    imagej = dtype in IMAGEJ and size < IMAGEJ_BYTES
    place = tifffile.imwrite(
        part,
        shape=shape,
        dtype=dtype,
        imagej=imagej,
        ome=not imagej,
        bigtiff=size >= IMAGEJ_BYTES,
        photometric="minisblack",
        metadata={"axes": "".join(axes)},
        returnoffset=True,
    )
    assert place is not None
    return place[0]


@contextlib.contextmanager
def _naming(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"--output: {folder} cannot be written ({reason}); give another folder"
        ) from error
