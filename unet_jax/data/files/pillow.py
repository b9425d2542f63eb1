"""PNG, JPEG and BMP files, through Pillow.

Pixels are returned as they are stored; the EXIF orientation comes with them. An alpha
channel is dropped. Black-and-white images become 0 and 255.
"""

import contextlib
import functools
import io
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile as PillowFile

from unet_jax.data.files.image_file import Box, ImageFile, not_a_volume
from unet_jax.data.files.jpeg import pad_scan, report_missing_rows
from unet_jax.data.files.limits import (
    SEGMENT_BYTES,
    check_size,
    make_too_short_error,
)
from unet_jax.data.files.png import PngChunks, check_chunks, find_chunks
from unet_jax.data.files.upright import ORIENTATION, valid_orientation
from unet_jax.errors import UserError

FORMATS = ("PNG", "JPEG", "BMP")
FORMATS_IN_MEMORY = (*FORMATS, "GIF", "WEBP")
JPEGS = ("JPEG", "MPO")  # MPO: several JPEGs, of which the first is read
JPEG_PIXELS = 512  # the most that a byte can hold: a bit for each block of 8 x 8
GREY, GREY_16, COLOUR = ("1", "L", "LA", "P"), ("I;16",), ("PA", "RGB", "RGBA", "RGBX")
KINDS = ((GREY, 1, np.uint8), (GREY_16, 1, np.uint16), (COLOUR, 3, np.uint8))


@contextlib.contextmanager
def open_pillow(source: Path | io.BytesIO, axes: int) -> Iterator[ImageFile]:
    """Opens an image; the first `read` decodes all of its pixels.

    JPEGs in memory come from published data sets. Some are cut off; they are accepted,
    as in other programs, and Pillow fills the missing rows with grey.

    Args:
      source: a file, or its content in memory.
      axes: must be 2.

    Raises:
      UserError: the image is animated, its colours are neither grey nor RGB, it has
        more bits than Pillow reads or too many pixels; or `axes` is not 2.
    """
    if axes != 2:
        raise not_a_volume(axes)
    formats = FORMATS if isinstance(source, Path) else FORMATS_IN_MEMORY
    with open_with_pillow(source, formats) as image:
        if image.format == "PNG" and getattr(image, "n_frames", 1) > 1:
            raise UserError("is an animation; save its images as the pages of a TIFF")
        if image.format == "PNG" and _loses_bits(image):
            raise UserError(
                "has 16 bits a channel, of which Pillow keeps 8; save it as a TIFF"
            )
        if not _can_hold_pixels(source, image):
            raise make_too_short_error(f"{image.height} x {image.width} pixels")
        chunks = find_chunks(source) if image.format == "PNG" else None
        channels, dtype = channels_and_dtype(image)
        check_size((*image.size[::-1], channels), dtype, _file_size(source))

        @functools.cache
        def whole() -> np.ndarray:
            if chunks:
                _check_png(source, image, chunks)
            if image.format in JPEGS and isinstance(source, Path):
                return _read_whole_jpeg(source, image)
            return read_pixels(image)

        def read(_: int, box: Box) -> np.ndarray:
            return whole()[tuple(box)]

        yield ImageFile(
            source,
            "image",
            1,
            image.size[::-1],
            channels,
            dtype,
            read,
            palette=_palette(image),
            alpha_varies=functools.partial(_alpha_varies, image),
            orientation=_find_orientation(image, chunks),
        )


@contextlib.contextmanager
def open_with_pillow(
    source: Path | io.BytesIO, formats: tuple[str, ...]
) -> Iterator[PillowFile]:
    """Opens an image with Pillow; raises UserError if it is above Pillow's limit."""
    try:
        image = Image.open(source, formats=formats)
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        asked = re.search(r"\d+", str(error))
        raise UserError(
            f"asks for {asked[0] if asked else 'too many'} pixels, above the limit of "
            f"{limit}; save it as a tiled TIFF, which is read piece by piece"
        ) from error
    with image:
        yield image


def channels_and_dtype(image: Image.Image) -> tuple[int, np.dtype]:
    """Returns the number of channels that `read_pixels` gives, and their type.

    Raises:
      UserError: the colours are neither grey nor RGB.
    """
    for modes, channels, dtype in KINDS:
        if image.mode in modes:
            return channels, np.dtype(dtype)
    raise UserError(f"has the colours {image.mode}; save it as RGB or as grey")


def read_pixels(image: Image.Image) -> np.ndarray:
    """Returns all pixels `[H, W, C]`; raises as `channels_and_dtype` does."""
    channels, dtype = channels_and_dtype(image)
    plain = "RGB" if channels == 3 else "L"
    if dtype == np.uint8 and image.mode not in (plain, "P"):
        image = image.convert(plain)
    array = np.asarray(image).astype(dtype, copy=False)
    return array.reshape(*array.shape[:2], channels)


def _alpha_varies(image: Image.Image) -> bool:
    if "A" not in image.getbands():
        return False
    low, high = image.getchannel("A").getextrema()
    return low != high


def _palette(image: Image.Image) -> np.ndarray | None:
    if image.mode != "P":
        return None
    return np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)


def _can_hold_pixels(source: Path | io.BytesIO, image: PillowFile) -> bool:
    """Returns False for a cut-off JPEG, whose missing pixels libjpeg would invent.

    Also False for a BMP that is shorter than its pixels.
    """
    size = _file_size(source)
    if image.format in JPEGS:
        return math.prod(image.size) <= JPEG_PIXELS * size
    tile: Any = image.tile[0] if image.tile else None
    if image.format == "BMP" and tile and tile.codec_name == "raw":
        return tile.offset + tile.args[1] * image.height <= size  # bytes of a row
    return True


def _check_png(source: Path | io.BytesIO, image: PillowFile, chunks: PngChunks) -> None:
    """Checks a PNG; its pixels are counted only if rows may be missing.

    Missing rows are 0, so the last row is. A missing pass of an interlaced PNG may
    leave other pixels.
    """
    last = image.crop((0, image.height - 1, *image.size))
    check_chunks(source, chunks, count=chunks.interlaced or not np.asarray(last).any())


def _read_whole_jpeg(path: Path, image: PillowFile) -> np.ndarray:
    """Returns all pixels of a JPEG; raises UserError if rows are missing.

    A file above `SEGMENT_BYTES` is not checked: Pillow reads it piece by piece.
    """
    small = _file_size(path) <= SEGMENT_BYTES
    padded = pad_scan(path.read_bytes()) if small else None
    with report_missing_rows():
        if padded is None:
            return read_pixels(image)
        with open_with_pillow(io.BytesIO(padded), ("JPEG",)) as padded_image:
            return read_pixels(padded_image)


def _find_orientation(image: PillowFile, chunks: PngChunks | None) -> int:
    """Returns the EXIF orientation; 1 if there is none, or it is damaged."""
    if chunks and chunks.exif:
        image.info["exif"] = chunks.exif
    try:  # PngImageFile.getexif would decode the pixels, to look behind them
        return valid_orientation(Image.Image.getexif(image).get(ORIENTATION))
    except Exception:  # damaged EXIF does not harm the pixels
        return 1


def _file_size(source: Path | io.BytesIO) -> int:
    in_memory = isinstance(source, io.BytesIO)
    return source.getbuffer().nbytes if in_memory else source.stat().st_size


def _loses_bits(image: PillowFile) -> bool:
    """Returns True if Pillow would silently drop the lower half of the bits."""
    sixteen = any("16" in str(tile.args) for tile in image.tile)
    return sixteen and image.mode not in GREY_16
