"""The EXIF orientation: how stored pixels are turned so that the image is upright.

Cameras store what the sensor sees, and the orientation beside it; browsers and most
annotation programs show the upright image. PNG, JPEG, WebP and TIFF have it.
"""

from typing import NamedTuple

import numpy as np

from unet_jax.data.files.calibration import swap_calibration
from unet_jax.data.files.image_file import Box, ImageFile

ORIENTATION = 274  # the tag, of EXIF and of TIFF
NOTE = "turned upright by the EXIF orientation"


class _Turn(NamedTuple):
    """Reverse the stored rows, the stored columns, and then swap rows and columns."""

    rows: bool
    columns: bool
    swap: bool


TURNS = {  # TIFF 6.0, page 36: where the first row and the first column are
    2: _Turn(rows=False, columns=True, swap=False),  # top, right
    3: _Turn(rows=True, columns=True, swap=False),  # bottom, right
    4: _Turn(rows=True, columns=False, swap=False),  # bottom, left
    5: _Turn(rows=False, columns=False, swap=True),  # left, top
    6: _Turn(rows=True, columns=False, swap=True),  # right, top
    7: _Turn(rows=True, columns=True, swap=True),  # right, bottom
    8: _Turn(rows=False, columns=True, swap=True),  # left, bottom
}
INVERSE = {6: 8, 8: 6}  # the other turns are their own inverse


def turn_upright(file: ImageFile) -> ImageFile:
    """Returns a file whose images are upright, by its orientation.

    Windows stay windows: a window of the upright image is read from one of the stored.
    """
    if (orientation := file.orientation) not in TURNS:
        return file
    turn, shape, spacing = TURNS[orientation], file.shape, file.spacing
    calibration = file.calibration
    height, width = shape[-2:]
    if turn.swap:
        shape = (*shape[:-2], width, height)
        spacing = spacing and (*spacing[:-2], *spacing[:-3:-1])
        calibration = swap_calibration(calibration)

    def read(image: int, box: Box) -> np.ndarray:
        *slices, rows, columns = box
        if turn.swap:
            rows, columns = columns, rows
        rows = _reversed(rows, height) if turn.rows else rows
        columns = _reversed(columns, width) if turn.columns else columns
        return turn_pixels(file.read(image, [*slices, rows, columns]), orientation)

    return file._replace(
        shape=shape,
        spacing=spacing,
        calibration=calibration,
        read=read,
        notes=(*file.notes, NOTE),
    )


def valid_orientation(value: object) -> int:
    """Returns a stored orientation, 2 to 8, or 1 if it is missing or invalid."""
    return value if isinstance(value, int) and value in TURNS else 1


def turn_pixels(stored: np.ndarray, orientation: int) -> np.ndarray:
    """Returns pixels `[..., H, W, C]` upright."""
    if orientation not in TURNS:
        return stored
    turn = TURNS[orientation]
    step = -1 if turn.rows else 1, -1 if turn.columns else 1
    turned = stored[..., :: step[0], :: step[1], :]
    return np.ascontiguousarray(turned.swapaxes(-3, -2) if turn.swap else turned)


def _reversed(part: slice, size: int) -> slice:
    return slice(size - part.stop, size - part.start)
