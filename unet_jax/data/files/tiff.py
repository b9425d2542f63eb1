"""TIFF files, through tifffile: the meaning of the axes, and windows of the pages.

Numbers are returned as they are stored, but for what `tiff_colours` finds in the
header. Black-and-white pages become 0 and 255, and an alpha channel is dropped.
"""

import contextlib
import functools
import io
import logging
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
from PIL import Image

from unet_jax.data.files import pillow
from unet_jax.data.files.calibration import read_tiff_calibration
from unet_jax.data.files.image_file import Box, ImageFile, box_shape, not_a_volume
from unet_jax.data.files.limits import CUT_OFF, check_size
from unet_jax.data.files.tiff_colours import (
    BLACK_IS_ZERO,
    PALETTE,
    WHITE_IS_ZERO,
    check_colours,
    find_orientation,
    find_palette,
    white_is_zero,
)
from unet_jax.data.files.tiff_planes import (
    ReadPlane,
    check_jpeg_ends,
    plane_reader,
)
from unet_jax.data.files.upright import INVERSE, turn_pixels
from unet_jax.errors import UserError
from unet_jax.text import dimensions

CHANNEL = ("C", "S")  # axes: separate channels, samples of a pixel
UNNAMED = ("I", "Q")  # axes: pages, axes of an array that the file does not name
NARROW = 4  # a last axis up to this length is rather channels than columns


class PageLayout(NamedTuple):
    """The planes of a file, `[Y, X, samples]` each, that make up images or volumes.

    Attributes:
      planes: the numbers of the planes, `int[count, depth, C / samples]`; the depth of
        an image is 1.
      shape: of an image or volume, *S.
      channels: C, an alpha channel included.
      stack: names and lengths of the axes that count images, T before Z.
      depth: the name of the first axis of a volume.
      by_rows: True if each plane is a row `[X, C, 1]` of an image; planes are then
        `int[count, depth, Y]`.
      named: True if the caller named the axes, so that no channel is alpha.
    """

    planes: np.ndarray
    shape: tuple[int, ...]
    channels: int
    stack: tuple[tuple[str, int], ...] = ()
    depth: str = "Z"
    by_rows: bool = False
    named: bool = False


class _Pixels(NamedTuple):
    """The function that reads planes, and the channels to keep, without alpha."""

    read_plane: ReadPlane
    channels: int
    dtype: np.dtype
    note: str = ""


@contextlib.contextmanager
def open_tiff(
    source: Path | io.BytesIO, axes: int, order: str = ""
) -> Iterator[ImageFile]:
    """Opens the images or volumes in the pages of a TIFF; see `find_layout`.

    Strips and tiles are decoded one at a time. If a compression needs imagecodecs,
    Pillow decodes whole pages of 8 bits, or of 16 bits of grey.

    Args:
      source: a file, or its content in memory.
      axes: 2 for images, 3 for volumes.
      order: the names of the axes, if the file has as many; '' for its own.

    Raises:
      UserError: pages differ in shape, the axes are unclear, the colours are neither
        grey nor RGB, the file is cut off, or neither tifffile nor Pillow can decode it.
    """
    with contextlib.ExitStack() as stack:
        with _logged_errors_raised():
            file = stack.enter_context(tifffile.TiffFile(source))
            if file.is_shaped and len(file.series) > 1:  # pages written one by one
                file = stack.enter_context(tifffile.TiffFile(source, is_shaped=False))
            series = _only_series(file)
            layout = find_layout(series, axes, order)
            check_size(
                (*layout.shape, layout.channels),
                series.dtype,
                file.filehandle.size,
                count=len(layout.planes),
            )
            read_plane = plane_reader(file, series)
            problem = ""
            try:
                read_plane(0, slice(0, 1), slice(0, 1))
            except (ValueError, NotImplementedError) as error:
                problem = str(error)
                if "imagecodecs" not in problem:
                    raise
        if problem:
            image = stack.enter_context(pillow.open_with_pillow(source, ("TIFF",)))
            pixels = _through_pillow(image, file, series, layout, problem)
        else:
            pixels = _through_tifffile(file, series, layout, read_plane)
        read = _read_rows if layout.by_rows else _read_window
        yield ImageFile(
            source,
            "tiff",
            len(layout.planes),
            layout.shape,
            pixels.channels,
            pixels.dtype,
            functools.partial(read, layout, pixels),
            palette=find_palette(file, series),
            stack=layout.stack,
            depth=layout.depth,
            calibration=read_tiff_calibration(file, series.keyframe),
            ome=file.is_ome,
            orientation=find_orientation(series.keyframe),
            notes=(pixels.note,) if pixels.note else (),
        )


def find_layout(
    series: tifffile.TiffPageSeries, axes: int, order: str = ""
) -> PageLayout:
    """Finds images of 2 axes, or volumes of 3, among the axes of a series.

    For 2 axes, every plane is an image. For 3 axes, Z is the depth, or else the only
    axis (I or Q, pages of unknown meaning) besides Y, X and channels; if Z is one of
    several, the others count volumes. T is never the depth. C, or the samples of a
    pixel, are the channels. Axes of length 1 are ignored.

    Raises:
      UserError: an axis has no meaning, or there is no depth; or the axes have no names
        and the last one is as short as channels.
    """
    unclear = UserError(
        f"its axes {series.axes} {series.shape} are not those of images of {axes} "
        "axes; save it as pages YX, ZYX, ZCYX or TZCYX, or name them: "
        "--config.data.tiff_axes=TZYX"
    )
    pairs = zip(series.axes, series.shape, strict=True)
    axis_sizes = [(name, n) for name, n in pairs if n != 1 or name in "YX"]
    letters = "".join(name for name, _ in axis_sizes)
    # samples of a pixel that lie together are channels, whatever the order
    named = len(order) == len(letters) and not letters.endswith("S")
    letters = order if named else letters
    sizes = [n for _, n in axis_sizes]
    outer, _, inner = letters.partition("YX")
    _, _, height, width, samples = series.keyframe.shaped
    plane = [height, width, samples][: 2 + len(inner)]
    channel = [i for i, name in enumerate(outer) if name in CHANNEL]
    by_rows = inner == "C" and samples == 1 and sizes[-2:] == [height, width]
    known = "YX" in letters and (by_rows or sizes[len(outer) :] == plane)
    if not known or len(channel) + len(inner) > 1:
        raise unclear
    if not order:
        _check_width(outer, sizes, samples)
    others = [i for i in range(len(outer)) if i not in channel]
    depth = []
    if axes == 3:
        depth = [i for i in others if outer[i] == "Z"] or others
        if not depth:
            raise not_a_volume(axes)
        if [outer[i] for i in depth] == ["T"]:
            raise UserError(
                f"is a time series of flat images ({letters}), the network takes "
                "volumes; if T is the depth, set --config.data.tiff_axes=ZYX"
            )
        if len(depth) > 1:
            raise unclear
    images = [i for i in others if i not in depth]
    images.sort(key=lambda i: outer[i] == "Z")  # times before slices
    count, slices, separate = (
        math.prod(sizes[i] for i in part) for part in (images, depth, channel)
    )
    numbers = np.arange(count * slices * separate).reshape(sizes[: len(outer)])
    numbers = numbers.transpose(*images, *depth, *channel)
    stack = tuple((outer[i], sizes[i]) for i in images)
    shape = [sizes[i] for i in depth]
    name = "".join(outer[i] for i in depth) or "Z"
    if by_rows:
        rows, width, channels = sizes[-3:]
        planes = numbers.reshape(count, slices, 1) * rows + np.arange(rows)
        return PageLayout(
            planes, (*shape, rows, width), channels, stack, name, by_rows, named
        )
    planes = numbers.reshape(count, slices, separate)
    channels = separate * samples
    shape += [height, width]
    return PageLayout(planes, tuple(shape), channels, stack, name, named=named)


def _check_width(outer: str, sizes: Sequence[int], samples: int) -> None:
    """Raises UserError if the columns of pages without names may be channels.

    Args:
      outer: the names of all axes before the last two.
      sizes: of all axes.
      samples: of a pixel.
    """
    *others, rows, columns = sizes
    unnamed = outer.endswith(UNNAMED) and samples == 1
    if not unnamed or columns > NARROW or min(others[-1], rows) <= NARROW:
        return
    more = "T" * (len(outer) - 1)
    raise UserError(
        f"is stored as {dimensions(sizes)} without names of its axes, so it may be "
        f"{rows} x {columns} pixels on each page, or {columns} channels; if channels "
        f"are last, set --config.data.tiff_axes={more}YXC, else "
        f"--config.data.tiff_axes={more}ZYX"
    )


def _read_window(
    layout: PageLayout, pixels: _Pixels, image: int, box: Box
) -> np.ndarray:
    *slices, rows, columns = box
    chosen = layout.planes[image, slices[0] if slices else slice(None)]
    parts = [pixels.read_plane(int(n), rows, columns) for n in chosen.ravel()]
    stored = parts[0][None]
    if len(parts) > 1:
        stored = np.stack(parts).reshape(*chosen.shape, *parts[0].shape)
        stored = np.moveaxis(stored, 1, -2)  # [depth, rows, columns, C, samples]
    return stored.reshape(*box_shape(box), -1)[..., : pixels.channels]


def _read_rows(layout: PageLayout, pixels: _Pixels, image: int, box: Box) -> np.ndarray:
    *slices, rows, columns = box
    chosen = layout.planes[image, slices[0] if slices else slice(None), rows]
    every = slice(0, layout.channels)
    parts = [pixels.read_plane(int(n), columns, every) for n in chosen.ravel()]
    return np.stack(parts).reshape(*box_shape(box), layout.channels)


def _only_series(file: tifffile.TiffFile) -> tifffile.TiffPageSeries:
    """Returns the one series of full-size pages, after checks of its pixels."""
    if _names_other_files(file.ome_metadata or ""):  # which `series` would open
        raise UserError("is one of several files of a set; save the set as one file")
    len(file.pages)  # finds a loop in the chain of pages, which `series` would follow
    every = [s for s in file.series if not s.keyframe.is_reduced]
    if not every:
        raise UserError(f"holds no image and {CUT_OFF}")
    if len(every) > 1:
        raise UserError(
            f"holds {len(every)} kinds of images; save each kind in a file of its own"
        )
    (series,) = every
    if series.is_multifile:
        raise UserError("is one of several files of a set; save the set as one file")
    page = series.keyframe
    if page.dtype is None or series.transform is not None:
        raise UserError("the type of its pixels is not supported; save it as integers")
    check_colours(page)
    if 0 in series.shape:
        raise UserError(f"has no pixels, its shape is {series.shape}; remove it")
    if math.prod(series.shape) // math.prod(page.shape) > file.filehandle.size:
        raise UserError(CUT_OFF)  # more pages than bytes; to count them takes memory
    return series


def _through_tifffile(
    file: tifffile.TiffFile,
    series: tifffile.TiffPageSeries,
    layout: PageLayout,
    read_plane: ReadPlane,
) -> _Pixels:
    page = series.keyframe
    alpha = page.extrasamples[-1:] in ((1,), (2,))  # associated, unassociated
    alpha = alpha and not layout.named
    two_values = page.bitspersample == 1
    one = 1 if page.photometric == PALETTE else 255
    dtype = np.dtype(np.uint8) if two_values else series.dtype
    invert, note = white_is_zero(file, page)

    def read(number: int, rows: slice, columns: slice) -> np.ndarray:
        block = read_plane(number, rows, columns)
        if two_values:
            block = np.where(block, one, 0).astype(np.uint8)
        return ~block if invert else block

    return _Pixels(read, layout.channels - alpha, dtype, note)


def _through_pillow(
    image: Image.Image,
    file: tifffile.TiffFile,
    series: tifffile.TiffPageSeries,
    layout: PageLayout,
    problem: str,
) -> _Pixels:
    """Reads pages with Pillow, if Pillow reads this kind of page correctly."""
    page = series.keyframe
    sixteen = page.bitspersample == 16 and page.photometric == BLACK_IS_ZERO
    correct = page.bitspersample in (1, 8) or (sixteen and image.mode in pillow.GREY_16)
    one_plane = page.planarconfig == 1 and layout.planes.shape[-1] == 1
    pages = getattr(image, "n_frames", 1)
    if not (correct and one_plane and pages == layout.planes.size):
        raise UserError(
            f"cannot be decoded: {problem}; pip install imagecodecs, or save it "
            "uncompressed"
        )

    turned = find_orientation(page)
    invert, note = white_is_zero(file, page)
    inverted = page.photometric == WHITE_IS_ZERO  # by Pillow, always

    @functools.lru_cache(maxsize=1)
    def whole(number: int) -> np.ndarray:
        check_jpeg_ends(file, series, number)
        image.seek(number)
        pixels = pillow.read_pixels(image)  # upright: Pillow has applied the tag
        pixels = turn_pixels(pixels, INVERSE.get(turned, turned))
        return ~pixels if inverted and not invert else pixels

    return _Pixels(
        lambda number, rows, columns: whole(number)[rows, columns],
        *pillow.channels_and_dtype(image),
        note,
    )


def _names_other_files(ome: str) -> bool:
    """Returns True if the metadata of an OME-TIFF have pages in other files."""
    ids = set(re.findall(r"<(?:\w+:)?UUID\b[^>]*>\s*([^<\s]+)", ome))
    own = re.search(r"<(?:\w+:)?OME\b[^>]*\bUUID=\"([^\"]+)\"", ome)
    return len(ids | ({own[1]} if own else set())) > 1


@contextlib.contextmanager
def _logged_errors_raised() -> Iterator[None]:
    """Raises errors that tifffile only logs, and drops its other messages.

    If the chain of pages is broken, tifffile would continue with the pages before it,
    or never end. Broken tags are ignored: if the tag matters, another error follows.
    """

    def raise_error(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if record.levelno >= logging.ERROR and "TiffTag" not in message:
            raise UserError(f"is damaged ({message[:200]!r}); save it again")
        return False

    logger = logging.getLogger("tifffile")
    logger.addFilter(raise_error)
    try:
        yield
    finally:
        logger.removeFilter(raise_error)
