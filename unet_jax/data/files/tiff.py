"""TIFF, through tifffile: what the axes of a file are, and windows of its pages.

Numbers are as they are stored, with three exceptions, each told by the file: where 0
stands for white, numbers without a sign are turned round, a palette becomes the colours
it stands for, and black and white become 0 and 255. ImageJ's files are left alone, as
there a palette is a way to look at numbers. An alpha channel is dropped.
"""

import contextlib
import functools
import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
from PIL import Image

from unet_jax.data.files import pillow
from unet_jax.data.files.axes import Layout, layout
from unet_jax.data.files.grid import Box, Grid, size
from unet_jax.data.files.segments import CUT_SHORT, Planes, planes
from unet_jax.errors import UserError

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6  # Photometric
JPEG = (6, 7, 34892, 33007)  # compressions whose decoder turns YCbCr into RGB


class _Pixels(NamedTuple):
    """Where the planes come from, and what becomes of their numbers."""

    planes: Planes
    channels: int
    dtype: np.dtype
    change: Callable[[np.ndarray], np.ndarray]  # [..., stored channels] -> [..., C]


@contextlib.contextmanager
def opened(path: Path, axes: int) -> Iterator[Grid]:
    """Opens the images, or the volumes, of the one series of pages in a file.

    See `axes.py` for what counts as what. A strip or tile is decoded at a time, except
    where tifffile would need imagecodecs: there Pillow reads whole pages of 8 bits, or
    of 16 bits of grey.

    Raises:
      UserError: the pages differ in shape, their axes are of no use, the colours are
        neither grey nor red, green and blue, the file is cut short, or the compression
        needs imagecodecs.
    """
    with contextlib.ExitStack() as stack:
        with _strict():
            file = stack.enter_context(tifffile.TiffFile(path))
            if file.is_shaped and len(file.series) > 1:  # pages written one by one
                file = stack.enter_context(tifffile.TiffFile(path, is_shaped=False))
            series = _series(file)
            found = layout(series, axes)
            source = planes(file, series)
            lacking = _lacking(source)
        if lacking:
            image = stack.enter_context(pillow.unpacked(path, ("TIFF",)))
            pixels = _through_pillow(image, series.keyframe, found, lacking)
        else:
            pixels = _through_tifffile(file, series, found, source)
        yield _grid(path, found, pixels)._replace(palette=_palette(file, series))


def _grid(path: Path, found: Layout, pixels: _Pixels) -> Grid:
    def read(image: int, box: Box) -> np.ndarray:
        *slabs, rows, columns = box
        chosen = found.planes[image, slabs[0] if slabs else slice(None)]
        parts = [pixels.planes(int(n), rows, columns) for n in chosen.ravel()]
        stored = parts[0][None]
        if len(parts) > 1:
            stored = np.stack(parts).reshape(*chosen.shape, *parts[0].shape)
            stored = np.moveaxis(stored, 1, -2)  # [depth, rows, columns, C, samples]
        return pixels.change(stored.reshape(*size(box), -1))

    return Grid(
        path,
        "tiff",
        len(found.planes),
        found.shape,
        pixels.channels,
        pixels.dtype,
        read,
    )


def _series(file: tifffile.TiffFile) -> tifffile.TiffPageSeries:
    """The one series of full-size pages."""
    len(file.pages)  # finds a circle in the chain of pages, which `series` would follow
    every = [s for s in file.series if not s.keyframe.is_reduced]
    if not every:
        raise UserError(f"holds no image; {CUT_SHORT}")
    if len(every) > 1:
        raise UserError(
            f"holds {len(every)} kinds of images; save each kind in a file of its own"
        )
    (series,) = every
    if series.is_multifile:
        raise UserError("is one of several files of a set; save the set as one file")
    page = series.keyframe
    if page.dtype is None or series.transform is not None:
        raise UserError("its pixels are of no supported type; save it as integers")
    decoded = page.photometric == YCBCR and page.compression in JPEG
    grey_or_rgb = (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE)
    if page.photometric not in grey_or_rgb and not decoded:
        colours = getattr(page.photometric, "name", page.photometric)
        raise UserError(f"has the colours {colours}; save it as RGB or as grey")
    if 0 in series.shape:
        raise UserError(f"has no pixels, its shape is {series.shape}; leave it out")
    if math.prod(series.shape) // math.prod(page.shape) > file.filehandle.size:
        raise UserError(CUT_SHORT)  # of so many pages that counting them takes memory
    return series


def _lacking(source: Planes) -> str:
    """Says what tifffile cannot decode without imagecodecs, if anything."""
    try:
        source(0, slice(0, 1), slice(0, 1))
    except (ValueError, NotImplementedError) as error:
        if "imagecodecs" not in str(error):
            raise
        return str(error)
    return ""


def _through_tifffile(
    file: tifffile.TiffFile,
    series: tifffile.TiffPageSeries,
    found: Layout,
    source: Planes,
) -> _Pixels:
    page = series.keyframe
    alpha = page.extrasamples[-1:] in ((1,), (2,))  # associated, unassociated
    kept, dtype = found.channels - alpha, series.dtype
    white_is_zero = page.photometric == WHITE_IS_ZERO and not file.is_imagej
    if page.bitspersample == 1:
        dtype = np.dtype(np.uint8)

    def change(block: np.ndarray) -> np.ndarray:
        block = block[..., :kept]
        if page.bitspersample == 1:
            block = np.where(block, 255, 0).astype(np.uint8)
        return ~block if white_is_zero and dtype.kind == "u" else block

    return _Pixels(source, kept, dtype, change)


def _through_pillow(
    image: Image.Image, page: tifffile.TiffPage, found: Layout, lacking: str
) -> _Pixels:
    """The pixels through Pillow, page by page, as far as it reads them rightly."""
    sixteen = page.bitspersample == 16 and page.photometric == BLACK_IS_ZERO
    right = page.bitspersample in (1, 8) or (sixteen and image.mode in pillow.GREY_16)
    one_plane = page.planarconfig == 1 and found.planes.shape[-1] == 1
    if not (right and one_plane and image.n_frames == found.planes.size):
        raise UserError(
            f"cannot be decoded: {lacking}; pip install imagecodecs, or save it "
            "uncompressed"
        )

    @functools.lru_cache(maxsize=1)
    def whole(number: int) -> np.ndarray:
        image.seek(number)
        return pillow.pixels(image)

    return _Pixels(
        lambda number, rows, columns: whole(number)[rows, columns],
        *pillow.held(image),
        lambda block: block,
    )


def _palette(
    file: tifffile.TiffFile, series: tifffile.TiffPageSeries
) -> np.ndarray | None:
    """`u8[N, 3]`; entries have 16 bits, though some programs fill only 8 of them."""
    page = series.keyframe
    if page.photometric != PALETTE or file.is_imagej:
        return None
    colours = np.asarray(page.colormap)
    return (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8).T


class _Complaints(logging.Handler):
    """Raises what tifffile only logs as an error, and shows nothing.

    Where the chain of pages breaks it goes on with the pages before, or for ever. A
    broken tag is no reason to stop: if the tag matters, another error follows.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Raises UserError at an error."""
        words = record.getMessage()
        if record.levelno >= logging.ERROR and "TiffTag" not in words:
            raise UserError(f"is damaged ({words[:200]!r}); save it again")


@contextlib.contextmanager
def _strict() -> Iterator[None]:
    logger, handler = logging.getLogger("tifffile"), _Complaints()
    shown, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = shown
