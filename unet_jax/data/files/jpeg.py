"""Finds JPEG files that end before their last row, which libjpeg would make grey.

libjpeg fills the rest of an image with grey if the end marker comes before the last
row, and Pillow does not pass its warning on. Without the marker libjpeg asks for more
bytes instead, which Pillow reports. Only baseline JPEGs of one scan are checked.
Progressive JPEGs, and JPEGs inside a TIFF, are not: if one of them is cut off and has
an end marker, its missing parts are grey or lack details.
"""

import contextlib
import re
from collections.abc import Iterator

from unet_jax.data.files.limits import CUT_OFF
from unet_jax.errors import UserError

MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")  # other than a restart
FRAMES, SCAN, END = (b"\xc0", b"\xc1"), b"\xda", b"\xd9"  # frames of Huffman codes
START_BYTES = 2
# Decoders prefetch up to 8 bytes, so the padding must be longer than that. It is 128
# one-bits, which are no valid Huffman code: libjpeg decodes at most 3 blocks from it
# before it asks for more bytes.
PADDING = b"\xff\x00" * 16


def pad_scan(content: bytes) -> bytes | None:
    """Returns a baseline JPEG of one scan with padding instead of its end marker.

    A decoder reads all rows that are stored, and then asks for more bytes.

    Returns:
      None if the JPEG is of another kind, or if `content` has no end marker.
    """
    place, frame_bands, scan_bands = START_BYTES, b"", b""
    while marker := MARKER.search(content, place):
        kind, start = marker[1], marker.end()
        if kind == END:
            return content[: marker.start()] + PADDING if scan_bands else None
        if kind in FRAMES:
            frame_bands = content[start + 7 : start + 8]
        elif kind == SCAN:
            if scan_bands or content[start + 2 : start + 3] != frame_bands:
                return None
            scan_bands = frame_bands
        place = start + int.from_bytes(content[start : start + 2], "big")
    return None


@contextlib.contextmanager
def report_missing_rows() -> Iterator[None]:
    """Turns the error of Pillow for an image that ends too early into a UserError."""
    try:
        yield
    except OSError as error:
        if "truncated" not in str(error):
            raise
        raise UserError(CUT_OFF) from error
