"""NIfTI volumes, through nibabel, with reversed axes.

A file holds [X, Y, Z]; an `ImageFile`, like a TIFF stack, is [Z, Y, X].
"""

import contextlib
import functools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unet_jax.data.files.calibration import Calibration, make_calibration
from unet_jax.data.files.image_file import Box, ImageFile, byte_count, not_a_volume
from unet_jax.data.files.limits import check_size, format_size, make_too_short_error
from unet_jax.errors import UserError

LIMIT = 2**32  # bytes of a compressed volume, which is held in memory
GZIP_RATIO = 1032  # the most bytes that a byte of gzip can inflate to
UNITS = {"mm": "mm", "meter": "m", "micron": "micron"}
LARGEST_OFFSET = 2**24  # bytes before the voxels, for extensions of the header


@contextlib.contextmanager
def open_nifti(path: Path, axes: int) -> Iterator[ImageFile]:
    """Opens a volume `[X, Y, Z]` or `[X, Y, Z, C]`, or an image, for which Z is 1.

    A fourth axis longer than 1 holds the channels, as in the Medical Segmentation
    Decathlon. Pixels with a scale and an offset become float32.

    Raises:
      UserError: nibabel is not installed, the file is not a NIfTI, is cut off, has the
        wrong number of axes, or is compressed and too large.
    """
    nibabel = import_nibabel()
    with _silenced(nibabel.imageglobals.logger):
        _check_offset(path)
        file = nibabel.load(path, mmap=False)
    if not isinstance(file, nibabel.Nifti1Image):  # of which Nifti2Image is a subclass
        raise UserError(f"is {type(file).__name__}; save it as NIfTI")
    stored = file.dataobj
    shape, channels = _shape_and_channels(stored.shape, axes)
    compressed = path.suffix == ".gz"
    size = byte_count(stored.shape, stored.dtype)
    if stored.offset + size > path.stat().st_size * (GZIP_RATIO if compressed else 1):
        raise make_too_short_error(f"{stored.shape} pixels of {stored.dtype}")
    check_size(stored.shape, stored.dtype, path.stat().st_size)
    if compressed and size > LIMIT:
        raise UserError(
            f"has {stored.shape} pixels of {stored.dtype}, more than "
            f"{format_size(LIMIT)}; "
            "save it as .nii, which is read piece by piece"
        )
    scaled = (stored.slope, stored.inter) != (1, 0)
    dtype = np.dtype(np.float32) if scaled else stored.dtype.newbyteorder("=")

    @functools.cache
    def whole() -> np.ndarray:
        # gzip can only be read from the start, so it is read once
        return np.asarray(stored[...]).astype(dtype, copy=False)

    def read(_: int, box: Box) -> np.ndarray:
        window = (*box[::-1], *[slice(None)] * (len(stored.shape) - len(box)))
        block = whole()[window] if compressed else np.asarray(stored[window])
        block = block.reshape(*block.shape[:axes], channels)
        reversed_axes = block.transpose(*range(axes)[::-1], axes)
        return np.ascontiguousarray(reversed_axes, dtype)

    yield ImageFile(
        path,
        "nifti",
        1,
        shape,
        channels,
        dtype,
        read,
        spacing=tuple(float(zoom) for zoom in file.header.get_zooms()[:axes][::-1]),
        affine=file.affine,
        header=file.header,
        calibration=_calibration(file.header, axes),
    )


def import_nibabel() -> Any:
    """Returns nibabel; raises UserError with the command that installs it."""
    try:
        import nibabel
    except ImportError as error:
        raise UserError("NIfTI needs nibabel; python -m pip install nibabel") from error
    return nibabel


def make_nifti(array: np.ndarray, like: ImageFile) -> Any:
    """Returns a NIfTI image of labels with the shape and the affine map of a volume.

    Args:
      array: `[Z, Y, X]`, or `[Y, X]` if there is one Z; or one more axis of classes,
        the last, which becomes the fourth axis of the file.
      like: the volume that was read, for its affine map, units and version of NIfTI.
    """
    nibabel = import_nibabel()
    header = like.header.copy()
    header.set_data_dtype(array.dtype)
    header["cal_min"] = header["cal_max"] = 0  # the brightness at which to display
    kind = nibabel.Nifti2Image if header["sizeof_hdr"] == 540 else nibabel.Nifti1Image
    axes = len(like.shape)
    reversed_axes = array.transpose(*range(axes)[::-1], *range(axes, array.ndim))
    space = like.header.get_data_shape()[:3]
    if array.ndim > axes:  # classes are the fourth axis
        space = (*space, 1)[:3]
    shape = (*space, *array.shape[axes:])
    return kind(reversed_axes.reshape(shape), like.affine, header)


def _calibration(header: Any, axes: int) -> Calibration:
    """Returns the size of a voxel, for results that are no NIfTI."""
    names = "XYZ"[:axes]
    unit = header.get_xyzt_units()[0]
    sizes = dict(zip(names, map(float, header.get_zooms()), strict=False))
    return make_calibration(sizes, {k: UNITS.get(unit) for k in names})


def _check_offset(path: Path) -> None:
    """Refuses a header with extensions that would fill the memory."""
    nibabel = import_nibabel()
    kinds = (nibabel.Nifti2Header, nibabel.Nifti1Header)
    with nibabel.openers.Opener(path) as file:
        start = file.read(max(kind.template_dtype.itemsize for kind in kinds))
    for kind in kinds:
        if kind.may_contain_header(start):
            header = kind(start[: kind.template_dtype.itemsize], check=False)
            offset = float(header["vox_offset"])
            if not 0 <= offset <= LARGEST_OFFSET:
                raise UserError(
                    f"its voxels begin at byte {offset:.0f} of at most "
                    f"{LARGEST_OFFSET}; it is damaged, save it again"
                )


def _shape_and_channels(
    stored: tuple[int, ...], axes: int
) -> tuple[tuple[int, ...], int]:
    """Returns the spatial shape, reversed, and the number of channels."""
    rest = [n for n in stored[3:] if n != 1]
    if len(rest) > 1:
        raise UserError(
            f"has the shape {stored}; save each volume in a file of its own, "
            "with at most one more axis, of channels"
        )
    flat = all(n == 1 for n in stored[2:3])
    if axes == 2 and not flat:
        raise UserError("is a volume, the network takes images of 2 axes; save slices")
    if len(stored) < axes:
        raise not_a_volume(axes)
    return tuple(stored[:axes][::-1]), rest[0] if rest else 1


@contextlib.contextmanager
def _silenced(logger: logging.Logger) -> Iterator[None]:
    """Hides nibabel's messages about headers that it corrects."""
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
