"""Writes TIFF files plane by plane, with the axes and the calibration of the source."""

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tifffile

from unet_jax.data.files.calibration import (
    imagej_options,
    ome_options,
    tifffile_options,
)
from unet_jax.data.files.image_file import ImageFile, report_write_errors

IMAGEJ_BYTES = 2**32 - 2**25  # pixels and metadata must fit into offsets of 32 bits
IMAGEJ = (np.uint8, np.uint16, np.float32)
OME_AXES = "AEHPRQ"  # OME names one of these besides T, Z and C


@contextlib.contextmanager
def create_tiff(
    part: Path, like: ImageFile, dtype: np.dtype, channels: int
) -> Iterator[Callable[[int, np.ndarray], None]]:
    """Writes planes `[Y, X]`, the classes of an image or slice one after another.

    The axes are those that the source states. An OME-TIFF becomes an OME-TIFF. Other
    files become a TIFF for ImageJ, or else an OME-TIFF if ImageJ cannot hold the type
    or the size. Axes that neither can name, such as pages of unknown meaning, are
    named as tifffile does.
    """
    *_, height, width = like.shape
    classes = channels or 1
    with report_write_errors(part.parent):
        offset = _create_empty_tiff(part, like, dtype, channels)
        stream = open(part, "r+b")  # noqa: SIM115, closed below

    def write(start: int, block: np.ndarray) -> None:
        done = start * math.prod(like.shape[1:-1])  # rows of pixels
        rows = np.asarray(block, dtype).reshape(-1, width, classes)
        while len(rows):
            page, row = divmod(done, height)
            piece, rows = np.split(rows, [height - row])
            for k in range(classes):
                plane = (page * classes + k) * height + row
                with report_write_errors(part.parent):
                    stream.seek(offset + plane * width * dtype.itemsize)
                    stream.write(np.ascontiguousarray(piece[..., k]).data)
            done += len(piece)

    try:
        yield write
    finally:
        with report_write_errors(part.parent):
            stream.close()


def _create_empty_tiff(
    part: Path, like: ImageFile, dtype: np.dtype, channels: int
) -> int:
    """Writes a TIFF of empty, uncompressed planes; returns the offset of the first."""
    depth = [(like.depth, like.shape[0])] if len(like.shape) == 3 else []
    channel = [("C", channels)] if channels else []
    plane = list(zip("YX", like.shape[-2:], strict=True))
    named = [*like.stack, *depth, *channel, *plane]
    axes, shape = "".join(name for name, _ in named), [size for _, size in named]
    size = math.prod(shape) * dtype.itemsize
    others = [name for name in axes if name not in "TZCYX"]
    imagej = dtype in IMAGEJ and size < IMAGEJ_BYTES and not like.ome and not others
    ome = not imagej and (like.ome or not others)
    ome = ome and len(others) < 2 and set(others) <= set(OME_AXES)
    options = imagej_options if imagej else ome_options if ome else tifffile_options
    place = tifffile.imwrite(
        part,
        shape=shape,
        dtype=dtype,
        imagej=imagej,
        ome=ome,
        bigtiff=size >= IMAGEJ_BYTES,
        photometric="minisblack",
        returnoffset=True,
        **options(like.calibration, axes),
    )
    assert place is not None
    return place[0]
