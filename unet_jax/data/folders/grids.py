"""Comparison of the places in the world that an image and its mask cover."""

from collections.abc import Sequence

import numpy as np

from unet_jax.data.account import Fault
from unet_jax.data.files import Grid
from unet_jax.data.folders.reading import Opened, by

CLOSE = 1e-2  # of a pixel, that two affine maps may differ by and mean the same


def apart(found: Opened) -> Fault | None:
    """Returns a fault if the files disagree about the size or the place of pixels."""
    image = found.image
    for grid in (*found.masks, found.target):
        if grid is None:
            continue
        if image.affine is not None and grid.affine is not None:
            if pointing(image) != pointing(grid):
                said = f"{grid.path}: its axes point to {pointing(grid)}, those of its "
                said += f"image to {pointing(image)}; resave it on the image's grid"
                return Fault("error", "orientation", said)
            off = np.abs(grid.affine - image.affine).max()
            if off > CLOSE * min(image.spacing):
                said = f"{grid.path}: lies elsewhere than its image, by their affine "
                said += "maps; pixel is taken for pixel"
                return Fault("warning", "place", said)
        elif image.spacing and grid.spacing and not _same(image.spacing, grid.spacing):
            said = f"{grid.path}: its pixels measure {by(grid.spacing)}, those of "
            said += f"its image {by(image.spacing)}, which count"
            return Fault("warning", "spacing", said)
    return None


def pointing(grid: Grid) -> str:
    """Returns the directions of a NIfTI file's axes: 'RAS' is right, front and top."""
    if grid.affine is None:
        return ""
    letters = []
    for column in np.asarray(grid.affine)[:3, :3].T:
        axis = int(np.argmax(np.abs(column)))
        letters.append(("LR", "PA", "IS")[axis][int(column[axis] > 0)])
    return "".join(letters)


def _same(one: Sequence[float], other: Sequence[float]) -> bool:
    return bool(np.allclose(one, other, rtol=1e-3))
