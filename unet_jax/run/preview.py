"""The overlay picture of a file: its plane, subsampled if it is large, and results."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from unet_jax import pictures
from unet_jax.build.prediction import PredictionParts
from unet_jax.data.files import ImageFile
from unet_jax.tiling import ReadBox

MAX_EDGE = 2048  # pixels along the longer side of the picture


class PreviewPlane(NamedTuple):
    """Every `step`-th pixel of one plane of a file.

    Attributes:
      image: index of the image in a stack.
      slice: index of the slice in a volume, or None.
      step: distance in pixels between the pixels that are shown.
    """

    image: int
    slice: int | None
    step: int


def choose_plane(grid: ImageFile) -> PreviewPlane:
    """Chooses the middle image of a stack and the middle slice of a volume."""
    volume = len(grid.shape) > 2
    step = -(-max(grid.shape[-2:]) // MAX_EDGE)
    return PreviewPlane(grid.count // 2, grid.shape[0] // 2 if volume else None, step)


def select_rows(
    block: np.ndarray, done: int, grid: ImageFile, plane: PreviewPlane
) -> np.ndarray:
    """Selects those rows of a block that the preview shows.

    The block has consecutive rows of a result, `[rows, ...]`; `done` rows of the file
    came before it.
    """
    rows = np.arange(done, done + len(block)) - plane.image * grid.shape[0]
    if plane.slice is not None:
        return block[rows == plane.slice]
    inside = (rows >= 0) & (rows < grid.shape[0])
    return block[inside & (rows % plane.step == 0)]


def join_plane(rows: list[np.ndarray], plane: PreviewPlane) -> np.ndarray:
    """Joins the rows from `select_rows`, and subsamples the other axes."""
    shown = np.concatenate(rows)
    if plane.slice is not None:
        shown = shown[0][:: plane.step]
    return shown[:, :: plane.step]


def read_plane(read: ReadBox, grid: ImageFile, plane: PreviewPlane) -> np.ndarray:
    """Reads the pixels of the plane, `[h, w, C]`; row by row if it is subsampled."""
    across = slice(0, grid.shape[-1])
    if plane.slice is not None:
        depth = slice(plane.slice, plane.slice + 1)
        pixels = read([depth, slice(0, grid.shape[1]), across])
        return pixels[0, :: plane.step, :: plane.step]
    rows = range(0, grid.shape[0], plane.step)
    if plane.step == 1:
        return read([slice(0, grid.shape[0]), across])
    return np.concatenate(
        [read([slice(row, row + 1), across])[:, :: plane.step] for row in rows]
    )


def draw_overlay(
    setup: PredictionParts, pixels: np.ndarray, planes: Mapping[str, np.ndarray]
) -> pictures.Picture:
    """Draws the classes and objects on the image, or the values beside it.

    Args:
      setup: the parts of the run that predicts.
      pixels: the image, `[H, W, C]`.
      planes: the results by name: `label` and, if there are any, `objects`; or
        `values`.
    """
    if "values" in planes:
        both = map(pictures.draw_image, (pixels, planes["values"]))
        return pictures.make_contact_sheet(list(both), columns=2)
    return pictures.draw_overlay(
        pixels,
        planes["label"],
        setup.preprocessing["colours"],
        planes.get("objects"),
        background=setup.preprocessing.get("background", True),
    )
