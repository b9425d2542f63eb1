"""Opens the images of a file of any format, or names the problem in one line."""

import contextlib
import io
import math
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from unet_jax.data.files import names
from unet_jax.data.files.image_file import (
    Box,
    ImageFile,
    apply_palette,
    box_shape,
    byte_count,
    check_pixels,
)
from unet_jax.data.files.limits import check_regular
from unet_jax.data.files.nifti import open_nifti
from unet_jax.data.files.pillow import open_pillow
from unet_jax.data.files.tiff import open_tiff
from unet_jax.data.files.upright import turn_upright
from unet_jax.data.files.zarr import open_zarr
from unet_jax.errors import UserError, prefix_errors
from unet_jax.text import one_line, printable

OPENERS: dict[str, Callable] = {
    **dict.fromkeys(names.IMAGES, open_pillow),
    **dict.fromkeys(names.TIFFS, open_tiff),
    **dict.fromkeys(names.VOLUMES, open_nifti),
    **dict.fromkeys(names.FOLDERS, open_zarr),
}
LIMIT = 2**34  # bytes that one call of `read` may return
DECODED_PIXELS = 2**26  # of an image in memory, over all pages


@contextlib.contextmanager
def open_images(
    path: Path, *, axes: int, indices: bool = False, tiff_axes: str = ""
) -> Iterator[ImageFile]:
    """Opens the images of a file, upright.

    Args:
      path: the file.
      axes: 2 for images, 3 for volumes.
      indices: True reads the indices of a palette, which are the values of a mask, and
        not its colours. A palette of greys only, such as black and white, is applied.
      tiff_axes: the order of the axes of TIFF files with as many axes, see
        `tiff_axes.py`; '' takes the order that a file states.

    Raises:
      UserError: there is no such file, its extension is unknown, it is damaged, its
        content does not match its extension, or it has the wrong number of axes. `read`
        of the file raises it if the damage is found later.
    """
    with contextlib.ExitStack() as stack:
        with _naming(str(path)):
            opener = _opener(path)
            order = [tiff_axes] if opener is open_tiff else []
            file = stack.enter_context(opener(path, axes, *order))
            file = turn_upright(_prepared(file, indices=indices))

        def read(image: int, box: Box) -> np.ndarray:
            with _naming(str(path)):
                size = byte_count((*box_shape(box), file.channels), file.dtype)
                if size > LIMIT:  # an OME-Zarr without chunks can claim any size
                    raise UserError(
                        f"reading {size} bytes at once exceeds the limit of {LIMIT}; "
                        "cut it into smaller images"
                    )
                return file.read(image, box)

        yield file._replace(read=read)


def decode_image(content: bytes, name: str, *, indices: bool = False) -> np.ndarray:
    """Decodes a PNG, JPEG, BMP, GIF or WebP in memory to `[H, W, C]`, C = 1 or 3.

    The EXIF orientation is not applied: published data sets, from which these images
    come, have masks for the pixels as stored, and TFDS does not apply it either.

    Args:
      content: the bytes of the file.
      name: the name of the image in messages.
      indices: as in `open_images`.

    Raises:
      UserError: it is damaged, too large, or its colours are neither grey nor RGB.
    """
    return _decode(content, name, open_pillow, indices=indices)[0]


def decode_tiff(content: bytes, name: str) -> np.ndarray:
    """Decodes all pages of a TIFF in memory to `[N, H, W, C]`; see `decode_image`."""
    return _decode(content, name, open_tiff)


def _decode(
    content: bytes, name: str, opener: Callable, *, indices: bool = False
) -> np.ndarray:
    with _naming(name), opener(io.BytesIO(content), 2) as file:
        file = _prepared(file, indices=indices)
        pixels = file.count * file.channels * math.prod(file.shape)
        if pixels > DECODED_PIXELS:
            raise UserError(f"has {pixels} pixels, at most {DECODED_PIXELS} are read")
        box = [slice(0, size) for size in file.shape]
        return np.stack([file.read(i, box) for i in range(file.count)])


def _prepared(file: ImageFile, *, indices: bool) -> ImageFile:
    """Applies the palette, unless its indices are asked for, and checks the pixels."""
    palette = file.palette
    grey = palette is not None and bool((palette == palette[:, :1]).all())
    file = file if indices and not grey else apply_palette(file)
    check_pixels(file)
    return file


def _opener(path: Path) -> Callable[..., contextlib.AbstractContextManager[ImageFile]]:
    check_regular(path)  # raises if there is no such path
    if path.is_file() and not path.stat().st_size:
        raise UserError("is empty; copy or save it again")
    if opener := OPENERS.get(names.ending(path)):
        return opener
    what = "has an unknown extension"
    if path.is_dir():
        what = "is a folder, but not an OME-Zarr image"
    raise UserError(f"{what}; known extensions are {', '.join(names.ENDINGS)}")


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    """Turns any exception of a library into a UserError that names the file."""
    shown = printable(name)
    try:
        with prefix_errors(shown), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(
            f"{shown}: takes more memory than there is; save it in smaller pieces"
        ) from error
    except Exception as error:  # damaged files make libraries raise almost anything
        reason = one_line(error, without=rf" ('{re.escape(name)}'|<_io.BytesIO[^>]*>)")
        raise UserError(
            f"{shown}: cannot be read ({reason}); check the file, or save it again"
        ) from error
