"""PNG, JPEG and BMP, through Pillow.

Pixels are as they are stored: a camera's note on how to turn a JPEG is not followed,
as tools for annotation do not follow it either. An alpha channel is dropped, a palette
becomes the colours it stands for, and black and white become 0 and 255.
"""

import contextlib
import functools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from unet_jax.data.files.grid import Box, Grid, volume_expected
from unet_jax.errors import UserError

FORMATS = ("PNG", "JPEG", "BMP")
JPEG_PIXELS = 512  # to a byte, at the very most: a bit for each block of 8 x 8
GREY, GREY_16, COLOUR = ("1", "L", "LA", "P"), ("I;16",), ("PA", "RGB", "RGBA", "RGBX")


@contextlib.contextmanager
def opened(path: Path, axes: int) -> Iterator[Grid]:
    """Opens an image; its pixels are read at the first window, all at once.

    Raises:
      UserError: it is animated, has colours that are neither grey nor red, green and
        blue, more bits than Pillow reads or too many pixels; or the network takes
        volumes.
    """
    if axes != 2:
        raise volume_expected(axes)
    with unpacked(path, FORMATS) as image:
        if image.format == "PNG" and image.n_frames > 1:
            raise UserError("is an animation; save its images as the pages of a TIFF")
        if image.format == "PNG" and _halved(image):
            raise UserError(
                "has 16 bits a channel, of which Pillow keeps 8; save it as a TIFF"
            )
        if image.format == "JPEG" and not _filled(path, image):
            raise UserError(
                f"says that it is {image.size[::-1]}, for which it is too short; "
                "copy or save it again"
            )
        whole = functools.cache(lambda: pixels(image))

        def read(_: int, box: Box) -> np.ndarray:
            return whole()[tuple(box)]

        grid = Grid(path, "image", 1, image.size[::-1], *held(image), read)
        alpha = functools.partial(_alpha_varies, image)
        yield grid._replace(palette=_palette(image), alpha_varies=alpha)


@contextlib.contextmanager
def unpacked(path: Path, formats: tuple[str, ...]) -> Iterator[Image.Image]:
    """Opens an image with Pillow, or raises UserError if that is above its limit."""
    try:
        image = Image.open(path, formats=formats)
    except Image.DecompressionBombError as error:
        raise UserError(
            f"has more than {2 * Image.MAX_IMAGE_PIXELS} pixels; save it as a tiled "
            "TIFF, which is read piece by piece"
        ) from error
    with image:
        yield image


def held(image: Image.Image) -> tuple[int, np.dtype]:
    """How many channels the pixels of an image have, and their dtype.

    Raises:
      UserError: its colours are neither grey nor red, green and blue.
    """
    if image.mode in GREY:
        return 1, np.dtype(np.uint8)
    if image.mode in GREY_16:
        return 1, np.dtype(np.uint16)
    if image.mode in COLOUR:
        return 3, np.dtype(np.uint8)
    raise UserError(f"has the colours {image.mode}; save it as RGB or as grey")


def pixels(image: Image.Image) -> np.ndarray:
    """All pixels of an image, `[H, W, C]`; errors are those of `held`."""
    channels, dtype = held(image)
    plain = "RGB" if channels == 3 else "L"
    if dtype == np.uint8 and image.mode not in (plain, "P"):
        image = image.convert(plain)
    array = np.asarray(image).astype(dtype, copy=False)
    return array.reshape(*array.shape[:2], channels)


def _alpha_varies(image: Image.Image) -> bool:
    if "A" not in image.getbands():
        return False
    low, high = image.getchannel("A").getextrema()
    return low < high


def _palette(image: Image.Image) -> np.ndarray | None:
    if image.mode != "P":
        return None
    return np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)


def _filled(path: Path, image: Image.Image) -> bool:
    """Whether there can be as many pixels; what is missing, libjpeg makes up."""
    return math.prod(image.size) <= JPEG_PIXELS * path.stat().st_size


def _halved(image: Image.Image) -> bool:
    """Whether Pillow would keep the upper half of the bits only, and not say so."""
    sixteen = any("16" in str(tile.args) for tile in image.tile)
    return sixteen and image.mode not in GREY_16
