"""Limits on what a file may ask for, checked before anything is allocated.

A few bytes can claim any number of pixels, and compression can keep that promise: zlib
packs 1000 equal bytes into one. An image of at most `IMAGE_BYTES` is always read, which
includes an empty mask of 16,384 x 16,384. A larger one must be stored in a file that is
not much smaller; photographs and micrographs are.
"""

import errno
import math
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unet_jax.errors import UserError
from unet_jax.text import dimensions, printable

IMAGE_BYTES = 2**29  # of an image in memory, however small its file is
FILE_BYTES = 2**34  # of all images of a file, however small it is
RATIO = 200  # bytes in memory for each byte of the file, above these sizes
SEGMENT_BYTES = 2**28  # of a strip, tile or chunk, which is decoded at once
CUT_OFF = "is cut off; copy or save it again"  # error of a file without its end

NO_TARGET = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # of a link
KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_size(
    shape: Sequence[int], dtype: np.dtype, stored: int, *, count: int = 1
) -> None:
    """Raises UserError if an image is too large for the bytes that its file has.

    Args:
      shape: of an image, with its channels.
      dtype: of its pixels.
      stored: the size of the file in bytes.
      count: the number of images.
    """
    size = math.prod(map(int, shape)) * np.dtype(dtype).itemsize
    for needed, limit in ((size, IMAGE_BYTES), (count * size, FILE_BYTES)):
        if needed > limit and needed > RATIO * stored:
            images = f"{count} images of " if needed > size else ""
            raise UserError(
                f"asks for {format_size(needed)} of pixels ({images}"
                f"{dimensions(shape)}, {dtype}) and has {format_size(stored)}; more "
                f"than {format_size(limit)} is read only from a file of at least "
                f"1/{RATIO} of that size: cut it into smaller images, or save it "
                "without compression"
            )


def check_segment(size: int, noun: str) -> None:
    """Raises UserError if a strip, tile or chunk is too large to be decoded at once."""
    if size > SEGMENT_BYTES:
        raise UserError(
            f"a {noun} of it asks for {format_size(size)}, and at most "
            f"{format_size(SEGMENT_BYTES)} are decoded at once; save it in smaller "
            f"{noun}s"
        )


def make_too_short_error(pixels: str) -> UserError:
    """Returns the error of a file that is smaller than its pixels, given in words."""
    return UserError(f"is too short for its {pixels}; copy or save it again")


def check_regular(path: Path) -> None:
    """Raises UserError if a path must not be opened.

    That is a pipe, a socket or a device, which may hang, and a link without a target.
    Raises OSError if the path does not exist or cannot be reached.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if error.errno not in NO_TARGET or not path.is_symlink():
            raise
        text = "is a link that leads back to itself; replace it"
        if error.errno != errno.ELOOP:
            target = printable(os.path.realpath(path))
            text = f"is a link that leads nowhere: {target} does not exist; restore it"
        raise UserError(f"{text}, or remove the link") from error
    for is_kind, noun in KINDS:
        if is_kind(mode):
            raise UserError(f"is {noun}, not an image file; remove it")


def stored_bytes(folder: Path, enough: int) -> int:
    """Returns the size of the files in a folder, or some number above `enough`.

    Raises:
      UserError: as `check_regular` does, for any file in the folder.
    """
    total, folders = 0, [folder]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                elif not entry.is_file():
                    if os.path.exists(entry.path):
                        check_regular(Path(entry.path))
                elif total <= enough:
                    total += entry.stat().st_size
    return total


def format_size(size: int) -> str:
    """Returns a number of bytes with its unit: `'2.7 GiB'`."""
    value, unit = float(size), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.3g} {unit}" if unit != "bytes" else f"{size} bytes"
