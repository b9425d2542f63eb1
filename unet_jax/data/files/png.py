"""The chunks of a PNG: checks that Pillow leaves out.

Pillow reads a PNG whose compressed data end early, and returns 0 for the missing rows.
"""

import io
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

from unet_jax.data.files.limits import CUT_OFF, make_too_short_error
from unet_jax.errors import UserError

SIGNATURE = 8  # bytes
INFLATED = 1032  # the most bytes that a byte of zlib can inflate to
PIECE = 2**20  # bytes that are inflated at once
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, by the type of colours
ADAM7 = (  # rows and columns of each pass: start and step
    ((0, 8), (0, 8)),
    ((0, 8), (4, 8)),
    ((4, 8), (0, 4)),
    ((0, 4), (2, 4)),
    ((2, 4), (0, 2)),
    ((0, 2), (1, 2)),
    ((1, 2), (0, 1)),
)


class PngChunks(NamedTuple):
    """The chunks of a PNG.

    Attributes:
      expected: the bytes that the pixels inflate to.
      interlaced: True if the rows are in seven passes.
      places: offset and length of every chunk, with its name and checksum.
      data: the numbers of the chunks with pixels.
      exif: the content of the EXIF chunk, which may follow the pixels.
    """

    expected: int
    interlaced: bool
    places: tuple[tuple[int, int], ...]
    data: tuple[int, ...]
    exif: bytes


def find_chunks(source: Path | io.BytesIO) -> PngChunks:
    """Finds the chunks of a PNG; only their headers are read.

    Raises:
      UserError: the file ends before its last chunk, or cannot hold its pixels.
    """
    with _opened(source) as file:
        end = file.seek(0, io.SEEK_END)
        place, places, data, exif = SIGNATURE, [], [], b""
        header = name = b""
        while name != b"IEND":
            file.seek(place)
            head = file.read(8)
            length, name = int.from_bytes(head[:4], "big"), head[4:]
            if len(head) < 8 or place + length + 12 > end:
                raise UserError(CUT_OFF)
            if not name.isalpha():
                raise UserError("is damaged, a chunk has no name; save it again")
            if name == b"IDAT":
                data.append(len(places))
            elif name == b"IHDR":
                header = file.read(13)
            elif name == b"eXIf":
                exif = file.read(length)
            places.append((place, length + 12))
            place += length + 12
    width, height, bits, colours, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    depth = bits * SAMPLES.get(colours, 1)
    expected = _raw_size(width, height, depth, interlaced=bool(interlaced))
    if expected > INFLATED * sum(places[i][1] for i in data):
        raise make_too_short_error(f"{height} x {width} pixels")
    return PngChunks(expected, bool(interlaced), tuple(places), tuple(data), exif)


def check_chunks(source: Path | io.BytesIO, chunks: PngChunks, *, count: bool) -> None:
    """Checks the content of a PNG, which is read once.

    Args:
      source: the file.
      chunks: from `find_chunks`.
      count: True inflates the pixels to count them.

    Raises:
      UserError: a checksum is wrong, or pixels are missing.
    """
    inflater, inflated = zlib.decompressobj(), 0
    with _opened(source) as file:
        for number, (place, length) in enumerate(chunks.places):
            file.seek(place + 4)
            content = file.read(length - 4)
            if zlib.crc32(content[:-4]) != int.from_bytes(content[-4:], "big"):
                name = content[:4].decode("latin-1")
                raise UserError(
                    f"is damaged, the checksum of its chunk {name} is wrong; copy or "
                    "save it again"
                )
            if not count or number not in chunks.data:
                continue
            rest = content[4:-4]
            while rest and inflated < chunks.expected:
                inflated += len(inflater.decompress(rest, PIECE))
                rest = inflater.unconsumed_tail
    if count and inflated < chunks.expected:
        raise UserError(
            f"{CUT_OFF} (it has {inflated} of {chunks.expected} bytes of pixels)"
        )


def _opened(source: Path | io.BytesIO) -> BinaryIO:
    if isinstance(source, Path):
        return source.open("rb")
    return io.BytesIO(source.getbuffer())


def _raw_size(width: int, height: int, depth: int, *, interlaced: bool) -> int:
    """Returns the bytes of all rows; each begins with the number of its filter."""
    passes = ADAM7 if interlaced else (((0, 1), (0, 1)),)
    total = 0
    for (top, row_step), (left, column_step) in passes:
        rows = max(-(-(height - top) // row_step), 0)
        columns = max(-(-(width - left) // column_step), 0)
        total += rows * (1 + -(-columns * depth // 8)) if columns else 0
    return total
