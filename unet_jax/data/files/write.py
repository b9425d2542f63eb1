"""Writes labels and probabilities next to each other, in the form of what was read.

Blocks come in order: for each image in turn, consecutive pieces along its first axis.
A file of many pages is written as they come; a PNG and a NIfTI are held in memory until
they are whole. A file has its name only when it is complete: until then it is called
`.part`, and an exception removes it.
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

from unet_jax.data.files import nifti
from unet_jax.data.files.grid import Grid
from unet_jax.errors import UserError

PNG_PIXELS = 2**26  # of the largest image that is written as a PNG
IMAGEJ_BYTES = 2**32 - 2**25  # what a TIFF with offsets of 32 bits can hold, and more
IMAGEJ = (np.uint8, np.uint16, np.float32)

Put = Callable[[np.ndarray], None]


class Canvas(NamedTuple):
    """A file to be.

    Attributes:
      path: what it is called once it is whole.
      put: takes the next `[n, *rest]` labels, or `[n, *rest, K]` probabilities. Raises
        UserError where the disk is full.
    """

    path: Path
    put: Put


@contextlib.contextmanager
def canvas(
    folder: Path, stem: str, grid: Grid, dtype: DTypeLike, *, samples: int = 0
) -> Iterator[Canvas]:
    """Opens a file for what a network says of every image of a grid.

    Labels of one flat image become a PNG where that can hold them, those of NIfTI a
    NIfTI in the same place of the scanner. All else, and probabilities always, become a
    TIFF with a page per image, slice or class, which Fiji reads with their axes.

    Args:
      folder: where to; made if it is not there.
      stem: the name without its ending.
      grid: what was read.
      dtype: of the labels or the probabilities.
      samples: K, the length of a last axis of the blocks, or 0 if there is none.

    Raises:
      UserError: the folder or the file cannot be written.
      AssertionError: the blocks were not those of the whole grid.
    """
    dtype = np.dtype(dtype)
    ending, writer = _form(grid, dtype, samples)
    path = folder / f"{stem}{ending}"
    part = path.with_name(f"{path.name}.part")
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with writer(part, grid, dtype, samples) as put:
            yield Canvas(path, put)
        with _writing(folder):
            os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def _form(grid: Grid, dtype: np.dtype, samples: int) -> tuple[str, Callable]:
    if grid.kind == "nifti" and dtype.kind != "f":
        return ".nii.gz", _nifti
    flat = grid.count == 1 and len(grid.shape) == 2 and grid.kind in ("image", "tiff")
    small = math.prod(grid.shape) <= PNG_PIXELS and dtype in (np.uint8, np.uint16)
    return (".png", _png) if flat and small and not samples else (".tif", _tiff)


@contextlib.contextmanager
def _png(part: Path, grid: Grid, dtype: np.dtype, samples: int) -> Iterator[Put]:
    with _whole(grid, dtype, samples) as (array, put):
        yield put
    with _writing(part.parent):
        Image.fromarray(array[0]).save(part, format="PNG")


@contextlib.contextmanager
def _nifti(part: Path, grid: Grid, dtype: np.dtype, samples: int) -> Iterator[Put]:
    with _whole(grid, dtype, samples) as (array, put):
        yield put
    file = nifti.like(array[0], grid)
    with (
        _writing(part.parent),
        open(part, "wb") as stream,
        # No name and no time: the same labels are the same bytes.
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=stream, mtime=0) as packed,
    ):
        file.to_stream(packed)


@contextlib.contextmanager
def _whole(
    grid: Grid, dtype: np.dtype, samples: int
) -> Iterator[tuple[np.ndarray, Put]]:
    """An array `[count, *S]` or `[count, *S, K]` to be filled."""
    shape = (grid.count, *grid.shape, *([samples] if samples else []))
    array = np.empty(shape, dtype)
    rows = array.reshape(-1, *shape[2:])
    done = 0

    def put(block: np.ndarray) -> None:
        nonlocal done
        rows[done : done + len(block)] = block
        done += len(block)

    yield array, put
    assert done == len(rows), f"{done} of {len(rows)} rows were put"


@contextlib.contextmanager
def _tiff(part: Path, grid: Grid, dtype: np.dtype, samples: int) -> Iterator[Put]:
    """A file of planes `[Y, X]`, the classes of an image or slice one after another."""
    *_, height, width = grid.shape
    classes = samples or 1
    total = grid.count * math.prod(grid.shape[:-1])  # rows of pixels, of one class
    done = 0
    with _writing(part.parent):
        start = _blank(part, grid, dtype, samples)
        stream = open(part, "r+b")  # noqa: SIM115, closed below

    def put(block: np.ndarray) -> None:
        nonlocal done
        rows = np.asarray(block, dtype).reshape(-1, width, classes)
        while len(rows):
            page, row = divmod(done, height)
            piece, rows = np.split(rows, [height - row])
            for k in range(classes):
                plane = (page * classes + k) * height + row
                with _writing(part.parent):
                    stream.seek(start + plane * width * dtype.itemsize)
                    stream.write(np.ascontiguousarray(piece[..., k]).data)
            done += len(piece)

    try:
        yield put
    finally:
        with _writing(part.parent):
            stream.close()
    assert done == total, f"{done} of {total} rows were put"


def _blank(part: Path, grid: Grid, dtype: np.dtype, samples: int) -> int:
    """Writes a TIFF of empty, uncompressed planes; returns where the first begins."""
    volume = len(grid.shape) == 3
    images = [] if grid.count == 1 else [("T" if volume else "Z", grid.count)]
    depth = [("Z", grid.shape[0])] if volume else []
    channel = [("C", samples)] if samples else []
    plane = list(zip("YX", grid.shape[-2:], strict=True))
    axes, shape = zip(*images, *depth, *channel, *plane, strict=True)
    nbytes = math.prod(shape) * dtype.itemsize
    imagej = dtype in IMAGEJ and nbytes < IMAGEJ_BYTES
    offset, _ = tifffile.imwrite(
        part,
        shape=shape,
        dtype=dtype,
        imagej=imagej,
        ome=not imagej,
        bigtiff=nbytes >= IMAGEJ_BYTES,
        photometric="minisblack",
        metadata={"axes": "".join(axes)},
        returnoffset=True,
    )
    return offset


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        words = error.strerror or error
        raise UserError(
            f"--output: {folder} cannot be written ({words}); give another folder"
        ) from error
