"""NIfTI volumes, through nibabel: the axes are turned round, slices come first.

A file holds [X, Y, Z]; a grid, as from a TIFF stack, is [Z, Y, X].
"""

import contextlib
import functools
import importlib
import logging
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from unet_jax.data.files.grid import Box, Grid, volume, volume_expected
from unet_jax.errors import UserError

LIMIT = 2**32  # bytes of a compressed volume, which is held whole in memory
GZIP = 1032  # bytes that a byte of gzip can stand for, at the most
BEFORE = 2**24  # bytes that may stand before the voxels, for notes of other programs


@contextlib.contextmanager
def opened(path: Path, axes: int) -> Iterator[Grid]:
    """Opens a volume `[X, Y, Z]` or `[X, Y, Z, C]`, or an image where Z is 1.

    A fourth axis longer than 1 holds the channels, as the Medical Segmentation
    Decathlon stores its modalities. Pixels with a scale and an offset become float32.

    Raises:
      UserError: nibabel is not installed, the file is no NIfTI, is cut short or has
        other axes than the network takes, or a compressed one says that it is too
        large.
    """
    nibabel = library()
    with _quiet(nibabel.imageglobals.logger):
        _check_offset(path)
        file = nibabel.load(path, mmap=False)
    if not isinstance(file, nibabel.Nifti1Image):  # Nifti2Image is one
        raise UserError(f"is {type(file).__name__}; save it as NIfTI")
    stored = file.dataobj
    shape, channels = _axes(stored.shape, axes)
    packed = path.suffix == ".gz"
    held = path.stat().st_size * (GZIP if packed else 1)
    if stored.offset + volume(stored.shape, stored.dtype) > held:
        raise UserError(
            f"says that it is {stored.shape} of {stored.dtype}, for which it is too "
            "short; copy or save it again"
        )
    if packed and volume(stored.shape, stored.dtype) > LIMIT:
        raise UserError(
            f"says that it is {stored.shape} of {stored.dtype}, more than {LIMIT} "
            "bytes; save it as .nii, which is read piece by piece"
        )
    scaled = (stored.slope, stored.inter) != (1, 0)
    dtype = np.dtype(np.float32) if scaled else stored.dtype.newbyteorder("=")

    @functools.cache
    def whole() -> np.ndarray:
        # A gzip file can only be read from its beginning: once is enough.
        return np.asarray(stored[...]).astype(dtype, copy=False)

    def read(_: int, box: Box) -> np.ndarray:
        window = (*box[::-1], *[slice(None)] * (len(stored.shape) - len(box)))
        block = whole()[window] if packed else np.asarray(stored[window])
        block = block.reshape(*block.shape[:axes], channels)
        turned = block.transpose(*range(axes)[::-1], axes)
        return np.ascontiguousarray(turned, dtype)

    yield Grid(
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
    )


def _check_offset(path: Path) -> None:
    """Refuses a header whose notes would fill the memory: nibabel reads them all."""
    nibabel = library()
    kinds = (nibabel.Nifti2Header, nibabel.Nifti1Header)
    with nibabel.openers.Opener(path) as file:
        start = file.read(max(kind.template_dtype.itemsize for kind in kinds))
    for kind in kinds:
        if kind.may_contain_header(start):
            header = kind(start[: kind.template_dtype.itemsize], check=False)
            offset = float(header["vox_offset"])
            if not 0 <= offset <= BEFORE:
                raise UserError(
                    f"says that its voxels begin at byte {offset:.0f} of at most "
                    f"{BEFORE}; it is damaged, save it again"
                )


def library() -> ModuleType:
    """Returns nibabel, or raises UserError that says how to install it."""
    try:
        return importlib.import_module("nibabel")
    except ImportError as error:
        raise UserError("NIfTI needs nibabel; python -m pip install nibabel") from error


@contextlib.contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Keeps what nibabel mends in a header off the screen."""
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _axes(stored: tuple[int, ...], axes: int) -> tuple[tuple[int, ...], int]:
    """The spatial shape, turned round, and the number of channels."""
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
        raise volume_expected(axes)
    return tuple(stored[:axes][::-1]), rest[0] if rest else 1


def like(array: np.ndarray, grid: Grid) -> Any:
    """A NIfTI image of labels, in the place and of the shape of the one that was read.

    Args:
      array: `[Z, Y, X]`, or `[Y, X]` where there is one Z; or with an axis of classes
        more, the last, which becomes the fourth of the file.
      grid: what was read, for its affine, its units and its version of NIfTI.
    """
    nibabel = library()
    header = grid.header.copy()
    header.set_data_dtype(array.dtype)
    header["cal_min"] = header["cal_max"] = 0  # the brightness of the input's display
    kind = nibabel.Nifti2Image if header["sizeof_hdr"] == 540 else nibabel.Nifti1Image
    axes = len(grid.shape)
    turned = array.transpose(*range(axes)[::-1], *range(axes, array.ndim))
    space = grid.header.get_data_shape()[:3]
    if array.ndim > axes:  # classes are a fourth axis
        space = (*space, 1)[:3]
    return kind(turned.reshape(*space, *array.shape[axes:]), grid.affine, header)
