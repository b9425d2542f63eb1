"""Writes TIFF files plane by plane, with the axes and the calibration of the source."""

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tifffile

from unet_jax.data.files.calibration import imagej_options, ome_options
from unet_jax.data.files.image_file import ImageFile, report_write_errors

IMAGEJ_BYTES = 2**32 - 2**25  # pixels and metadata must fit into offsets of 32 bits
IMAGEJ = (np.uint8, np.uint16, np.float32)


@contextlib.contextmanager
def create_tiff(
    part: Path, like: ImageFile, dtype: np.dtype, channels: int
) -> Iterator[Callable[[np.ndarray], None]]:
    """Writes planes `[Y, X]`, the classes of an image or slice one after another.

    An OME-TIFF becomes an OME-TIFF. Other files become a TIFF for ImageJ, unless it
    cannot hold the type or the size.
    """
    *_, height, width = like.shape
    classes = channels or 1
    total = like.count * math.prod(like.shape[:-1])  # rows of pixels, of one class
    done = 0
    with report_write_errors(part.parent):
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
                with report_write_errors(part.parent):
                    stream.seek(start + plane * width * dtype.itemsize)
                    stream.write(np.ascontiguousarray(piece[..., k]).data)
            done += len(piece)

    try:
        yield write
    finally:
        with report_write_errors(part.parent):
            stream.close()
    assert done == total, f"{done} of {total} rows were written"


def _create_empty_tiff(
    part: Path, like: ImageFile, dtype: np.dtype, channels: int
) -> int:
    """Writes a TIFF of empty, uncompressed planes; returns the offset of the first."""
    volume = len(like.shape) == 3
    depth = [("Z", like.shape[0])] if volume else []
    channel = [("C", channels)] if channels else []
    plane = list(zip("YX", like.shape[-2:], strict=True))
    named = [*_stack_axes(like), *depth, *channel, *plane]
    axes, shape = "".join(name for name, _ in named), [size for _, size in named]
    size = math.prod(shape) * dtype.itemsize
    imagej = dtype in IMAGEJ and size < IMAGEJ_BYTES and not like.ome
    options = imagej_options if imagej else ome_options
    place = tifffile.imwrite(
        part,
        shape=shape,
        dtype=dtype,
        imagej=imagej,
        ome=not imagej,
        bigtiff=size >= IMAGEJ_BYTES,
        photometric="minisblack",
        returnoffset=True,
        **options(like.calibration, axes),
    )
    assert place is not None
    return place[0]


def _stack_axes(like: ImageFile) -> list[tuple[str, int]]:
    """Returns the axes that count images, in their order: T, Z, TZ or none.

    Z is last in a stack that has it, and the axes before it become T. Without Z, axes
    without a meaning are slices of flat images if no time follows them; else they are
    times.
    """
    names = "".join(name or "?" for name, _ in like.stack)
    sizes = dict(like.stack)
    if "Z" in names:
        slices = sizes["Z"]
    elif len(like.shape) == 3 or names.endswith("T"):
        slices = 1
    else:
        slices = like.count // (sizes["T"] if names.startswith("T") else 1)
    stack = [("T", like.count // slices), ("Z", slices)]
    return [(name, size) for name, size in stack if size > 1]
