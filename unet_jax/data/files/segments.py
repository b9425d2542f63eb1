"""Windows of the planes of a TIFF, of which only the bytes they need are read.

A plane is `[Y, X, samples]`; planes are numbered as they follow each other in the file.
Pages that lie there as they are, are read row by row. Of others the strips and tiles
that a window meets are decoded, and kept for a while: the next window meets them too.
"""

import collections
import functools
import itertools
import lzma
import math
import zlib
from collections.abc import Callable

import numpy as np
import tifffile

from unet_jax.errors import UserError

LIMIT = 2**30  # bytes of one strip or tile, decoded
KEPT = 2**26  # bytes of decoded strips and tiles that are kept
INFLATE = {  # decoders that would follow a few bytes to any size
    8: zlib.decompressobj,
    32946: zlib.decompressobj,
    34925: lzma.LZMADecompressor,
}
CUT_SHORT = "it is cut short; copy or save it again"

Planes = Callable[[int, slice, slice], np.ndarray]


def planes(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Planes:
    """Returns the function `(number, rows, columns) -> [rows, columns, samples]`.

    The rows and columns lie within the plane; the bytes are in this machine's order.
    The file must stay open, and is read by one thread at a time.

    Raises:
      UserError: the file is too short for its pages, or a strip or tile too large.
    """
    one_piece = series.keyframe.is_final and len(series.keyframe.dataoffsets) == 1
    if series.dataoffset is not None or one_piece:
        return _stored(file, series)
    return _decoded(file, series)


def _stored(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Planes:
    """Planes whose pixels lie in the file as they are."""
    page, handle = series.keyframe, file.filehandle
    separate, depth, _, width, samples = page.shaped
    dtype = page.dtype.newbyteorder(file.byteorder)
    pixel = samples * dtype.itemsize
    plane = math.prod(page.shaped[2:4]) * pixel
    whole = math.prod(series.shape) * dtype.itemsize
    if series.dataoffset is not None and series.dataoffset + whole > handle.size:
        raise UserError(CUT_SHORT)

    def start(number: int) -> int:
        if series.dataoffset is not None:
            return series.dataoffset + number * plane
        index, inner = divmod(number, separate * depth)
        return _page(series, index).dataoffsets[0] + inner * plane

    def read(number: int, rows: slice, columns: slice) -> np.ndarray:
        length, across = rows.stop - rows.start, columns.stop - columns.start
        block = np.empty((length, across, samples), dtype)
        parts = [block] if across == width else block
        first = start(number) + (rows.start * width + columns.start) * pixel
        for row, part in enumerate(parts):
            handle.seek(first + row * width * pixel)
            if handle.readinto(memoryview(part).cast("B")) < part.nbytes:
                raise UserError(CUT_SHORT)
        return block.astype(dtype.newbyteorder("="), copy=False)

    return read


def _decoded(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Planes:
    """Planes whose pixels are in strips and tiles that need decoding."""
    page = series.keyframe
    separate, depth, height, width, samples = page.shaped
    shape = _segment_shape(page)
    claimed = math.prod(shape) * samples * page.dtype.itemsize
    if claimed > LIMIT:
        raise UserError(
            f"a strip or tile of it takes {claimed} bytes of at most {LIMIT}; save it "
            "in smaller tiles"
        )
    counts = [-(-n // s) for n, s in zip((depth, height, width), shape, strict=True)]
    segments = _Kept(functools.partial(_segment, file, series, claimed))

    def read(number: int, rows: slice, columns: slice) -> np.ndarray:
        index, inner = divmod(number, separate * depth)
        sample, z = divmod(inner, depth)
        block = np.empty(
            (rows.stop - rows.start, columns.stop - columns.start, samples), page.dtype
        )
        for tile in itertools.product(
            [z // shape[0]], _met(rows, shape[1]), _met(columns, shape[2])
        ):
            segment = np.ravel_multi_index((sample, *tile), (separate, *counts))
            pixels = segments.get(index, int(segment))
            y, x = tile[1] * shape[1], tile[2] * shape[2]
            target, source = _overlap(rows, y, shape[1]), _overlap(columns, x, shape[2])
            block[target[0], source[0]] = pixels[z % shape[0], target[1], source[1]]
        return block

    return read


def _segment(
    file: tifffile.TiffFile,
    series: tifffile.TiffPageSeries,
    claimed: int,
    index: int,
    segment: int,
) -> np.ndarray:
    """Decodes one strip or tile of one page: `[z, y, x, samples]`."""
    page, key, handle = _page(series, index), series.keyframe, file.filehandle
    offset, count = page.dataoffsets[segment], page.databytecounts[segment]
    if offset + count > handle.size:
        raise UserError(CUT_SHORT)
    if count > LIMIT:
        raise UserError(f"a strip or tile of it has {count} bytes, above {LIMIT}")
    if count == 0:  # a sparse file's way to say that nothing is there
        shape = key.decode(None, segment)[2]
        return np.full(shape, key.nodata, key.dtype)
    handle.seek(offset)
    data = handle.read(count)
    if key.compression in INFLATE:
        inflated = INFLATE[key.compression]().decompress(data, claimed + 1)
        if len(inflated) > claimed:
            raise UserError(
                f"a strip or tile of it inflates to more than the {claimed} bytes that "
                "it is to hold; it is damaged, save it again"
            )
    return key.decode(data, segment, jpegtables=page.jpegtables)[0]


class _Kept:
    """What was decoded last, up to `KEPT` bytes, or one segment if it is larger."""

    def __init__(self, decode: Callable[[int, int], np.ndarray]) -> None:
        self._decode = decode
        self._arrays: collections.OrderedDict = collections.OrderedDict()
        self._bytes = 0

    def get(self, index: int, segment: int) -> np.ndarray:
        key = (index, segment)
        if key not in self._arrays:
            array = self._decode(index, segment)
            self._bytes += array.nbytes
            while self._arrays and self._bytes > KEPT:
                self._bytes -= self._arrays.popitem(last=False)[1].nbytes
            self._arrays[key] = array
        self._arrays.move_to_end(key)
        return self._arrays[key]


def _segment_shape(page: tifffile.TiffPage) -> tuple[int, int, int]:
    """Slices, rows and columns of a strip or tile."""
    if page.is_tiled:
        return page.tiledepth, page.tilelength, page.tilewidth
    _, _, height, width, _ = page.shaped
    return 1, min(page.rowsperstrip, height), width


def _page(
    series: tifffile.TiffPageSeries, index: int
) -> tifffile.TiffPage | tifffile.TiffFrame:
    page = series[index]
    if page is None:
        raise UserError(f"page {index} is missing; save all pages in one file")
    return page


def _met(part: slice, size: int) -> range:
    """The segments of a size that a slice meets along one axis."""
    return range(part.start // size, -(-part.stop // size))


def _overlap(part: slice, start: int, size: int) -> tuple[slice, slice]:
    """Where a segment that starts at `start` meets a slice: in the slice, in itself."""
    first, last = max(part.start, start), min(part.stop, start + size)
    return (
        slice(first - part.start, last - part.start),
        slice(first - start, last - start),
    )
