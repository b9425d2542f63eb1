"""Windows of the planes of a TIFF; only the bytes that a window needs are read.

A plane is `[Y, X, samples]`; planes are numbered in the order of the file. Uncompressed
pages are read row by row. Otherwise the strips and tiles that a window overlaps are
decoded, and cached for the next window.
"""

import functools
import itertools
import lzma
import math
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tifffile

from unet_jax.data.files.limits import CUT_OFF, check_segment
from unet_jax.errors import UserError

CACHE_BYTES = 2**26  # of decoded strips and tiles
INFLATE = {  # decoders that would inflate a few bytes to any size
    8: zlib.decompressobj,
    32946: zlib.decompressobj,
    34925: lzma.LZMADecompressor,
}
JPEG, JPEG_END = 7, b"\xff\xd9"
JPEG_TAIL = 16  # bytes, in which a JPEG ends; some writers pad it

ReadPlane = Callable[[int, slice, slice], np.ndarray]


def plane_reader(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> ReadPlane:
    """Returns the function `(number, rows, columns) -> [rows, columns, samples]`.

    The rows and columns lie within the plane. The result has this machine's byte order.
    The file must stay open, and be read by one thread at a time.

    Raises:
      UserError: the file is too short for its pages, or a strip or tile is too large.
    """
    one_segment = series.keyframe.is_final and len(series.keyframe.dataoffsets) == 1
    if series.dataoffset is not None or one_segment:
        return _uncompressed_reader(file, series)
    return _segment_reader(file, series)


def _uncompressed_reader(
    file: tifffile.TiffFile, series: tifffile.TiffPageSeries
) -> ReadPlane:
    page, handle = series.keyframe, file.filehandle
    separate, depth, _, width, samples = page.shaped
    assert page.dtype is not None
    dtype = page.dtype.newbyteorder(file.byteorder)
    pixel = samples * dtype.itemsize
    plane = math.prod(page.shaped[2:4]) * pixel
    whole = math.prod(series.shape) * dtype.itemsize
    if series.dataoffset is not None and series.dataoffset + whole > handle.size:
        raise UserError(CUT_OFF)

    def start(number: int) -> int:
        if series.dataoffset is not None:
            return series.dataoffset + number * plane
        index, inner = divmod(number, separate * depth)
        return _page(series, index).dataoffsets[0] + inner * plane

    def read(number: int, rows: slice, columns: slice) -> np.ndarray:
        height, length = rows.stop - rows.start, columns.stop - columns.start
        block = np.empty((height, length, samples), dtype)
        parts = [block] if length == width else block
        first = start(number) + (rows.start * width + columns.start) * pixel
        for row, part in enumerate(parts):
            handle.seek(first + row * width * pixel)
            buffer: Any = part.data.cast("B")
            if handle.readinto(buffer) < part.nbytes:
                raise UserError(CUT_OFF)
        return block.astype(dtype.newbyteorder("="), copy=False)

    return read


def _segment_reader(
    file: tifffile.TiffFile, series: tifffile.TiffPageSeries
) -> ReadPlane:
    """Reads planes of which each strip or tile has to be decoded."""
    page = series.keyframe
    separate, depth, height, width, samples = page.shaped
    shape = 1, min(page.rowsperstrip, height), width  # slices, rows and columns
    if page.is_tiled:
        shape = page.tiledepth, page.tilelength, page.tilewidth
    assert page.dtype is not None
    size = math.prod(shape) * samples * page.dtype.itemsize
    check_segment(size, "tile" if page.is_tiled else "strip")
    counts = [-(-n // s) for n, s in zip((depth, height, width), shape, strict=True)]

    @functools.lru_cache(maxsize=max(CACHE_BYTES // size, 1))
    def decode(index: int, segment: int) -> np.ndarray:
        return decode_segment(file, series, size, index, segment)

    def read(number: int, rows: slice, columns: slice) -> np.ndarray:
        index, inner = divmod(number, separate * depth)
        sample, z = divmod(inner, depth)
        block = np.empty(
            (rows.stop - rows.start, columns.stop - columns.start, samples), page.dtype
        )
        for tile in itertools.product(
            [z // shape[0]],
            _overlapped_segments(rows, shape[1]),
            _overlapped_segments(columns, shape[2]),
        ):
            segment = np.ravel_multi_index((sample, *tile), (separate, *counts))
            pixels = decode(index, int(segment))
            y, x = tile[1] * shape[1], tile[2] * shape[2]
            to_y, from_y = _overlap(rows, y, shape[1])
            to_x, from_x = _overlap(columns, x, shape[2])
            block[to_y, to_x] = pixels[z % shape[0], from_y, from_x]
        return block

    return read


def decode_segment(
    file: tifffile.TiffFile,
    series: tifffile.TiffPageSeries,
    size: int,
    index: int,
    segment: int,
) -> np.ndarray:
    """Decodes one strip or tile of page `index`: `[z, y, x, samples]`.

    It may inflate to at most `size` bytes.
    """
    page, key, handle = _page(series, index), series.keyframe, file.filehandle
    offset, count = page.dataoffsets[segment], page.databytecounts[segment]
    if offset + count > handle.size:
        raise UserError(CUT_OFF)
    check_segment(count, "tile" if key.is_tiled else "strip")
    if count == 0:  # in sparse files, a segment without data
        shape = key.decode(None, segment)[2]
        return np.full(shape, key.nodata, key.dtype)
    handle.seek(offset)
    data = handle.read(count)
    if key.compression == JPEG and JPEG_END not in data[-JPEG_TAIL:]:
        raise UserError(CUT_OFF)  # imagecodecs would make its rest grey
    if key.compression in INFLATE:
        inflated = INFLATE[key.compression]().decompress(data, size + 1)
        if len(inflated) > size:
            raise UserError(
                f"a strip or tile of it inflates to more than its {size} bytes; the "
                "file is damaged, save it again"
            )
    decoded = key.decode(data, segment, jpegtables=page.jpegtables)[0]
    assert decoded is not None
    return decoded


def check_jpeg_ends(
    file: tifffile.TiffFile, series: tifffile.TiffPageSeries, index: int
) -> None:
    """Raises UserError if a JPEG in page `index` is cut off; its rest would be grey."""
    if series.keyframe.compression != JPEG:
        return
    page, handle = _page(series, index), file.filehandle
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        handle.seek(offset + max(count - JPEG_TAIL, 0))
        if count and JPEG_END not in handle.read(min(count, JPEG_TAIL)):
            raise UserError(CUT_OFF)


def _page(
    series: tifffile.TiffPageSeries, index: int
) -> tifffile.TiffPage | tifffile.TiffFrame:
    page = series[index]
    if page is None:
        raise UserError(f"page {index} is missing; save all pages in one file")
    return page


def _overlapped_segments(part: slice, size: int) -> range:
    """Returns the segments of a size that a slice overlaps along one axis."""
    return range(part.start // size, -(-part.stop // size))


def _overlap(part: slice, start: int, size: int) -> tuple[slice, slice]:
    """Returns the overlap of a slice and a segment, counted in each of them."""
    first, last = max(part.start, start), min(part.stop, start + size)
    return (
        slice(first - part.start, last - part.start),
        slice(first - start, last - start),
    )
