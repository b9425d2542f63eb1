"""Resampling to pixels of another size, and back.

Both grids cover the same space; the centre of pixel i of n is at (i + 1/2) / n of it.
As in nnU-Net (Isensee et al. 2021, online methods), images are interpolated by cubic
splines, predictions linearly, and a label becomes the class with the largest linearly
interpolated share. If pixels are more than three times as long along one axis as along
another, neighbouring slices of that axis have little in common: there the nearest pixel
is taken.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage, sparse

from unet_jax.arrays import IGNORE
from unet_jax.errors import UserError
from unet_jax.text import dimensions

ANISOTROPY = 3.0  # nnU-Net's threshold
LARGEST = 2**30  # pixels of a resampled image; more would be a mistake of units


class Resampling(NamedTuple):
    """The resampling of one image; if the shapes are equal, arrays do not change.

    Attributes:
      file_shape: the spatial shape in the file, F below.
      shape: the spatial shape in the network, *S.
      nearest_axes: True for each axis along which the nearest pixel is taken.
    """

    file_shape: tuple[int, ...]
    shape: tuple[int, ...]
    nearest_axes: tuple[bool, ...]

    @property
    def changes(self) -> bool:
        """True if the shapes differ."""
        return self.file_shape != self.shape

    def image(self, image: np.ndarray) -> np.ndarray:
        """Resamples `f32[*F, C]` to `f32[*S, C]` by cubic splines."""
        return self._interpolated(image, self.shape, 3)

    def label(self, label: np.ndarray) -> np.ndarray:
        """Resamples `i32[*F]` or `i32[*F, K]` to the class with the largest share.

        If shares are equal, the lowest class wins. Ignored pixels have no share; a
        pixel is ignored if the nearest one was.
        """
        if not self.changes:
            return label
        best, most = self.nearest(label), 0.0
        ignored = best < 0
        for k in np.unique(label[label >= 0]):
            share = self._interpolated((label == k).astype("f4"), self.shape, 1)
            best = np.where(share > most, k, best)
            most = np.maximum(share, most)
        return np.where(ignored, IGNORE, best).astype(np.int32)

    def nearest(self, array: np.ndarray) -> np.ndarray:
        """Resamples `[*F, ...]` to `[*S, ...]` by taking the nearest pixel."""
        return self._interpolated(array, self.shape, 0)

    def invert(self, array: np.ndarray) -> np.ndarray:
        """Resamples `f32[*S, ...]` back to `f32[*F, ...]`, linearly."""
        return self._interpolated(array, self.file_shape, 1)

    def invert_results(
        self, results: dict[str, np.ndarray], decide: Callable | None, vectors: int = 0
    ) -> dict[str, np.ndarray]:
        """Resamples the results of inference to the shape of the file.

        Args:
          results: arrays `[*S, ...]` by name: the `prediction` and, if there are
            classes, the `label` of `inference.Inference`.
          decide: `prediction -> label`, applied after resampling; None if there are no
            classes.
          vectors: the number of leading channels of the prediction that are components
            of a vector in pixels. Their directions become those of the file's grid, and
            the length of the vector does not change.
        """
        if not self.changes:
            return results
        inverted = {k: self.invert(a) for k, a in results.items() if k != "label"}
        if vectors:
            inverted["prediction"] = self._redirect(inverted["prediction"], vectors)
        return inverted | ({"label": decide(inverted["prediction"])} if decide else {})

    def _redirect(self, prediction: np.ndarray, vectors: int) -> np.ndarray:
        """Gives vectors the directions of the file's grid, and their old lengths."""
        vector, rest = np.split(prediction, [vectors], axis=-1)
        scaled = vector * np.divide(self.file_shape, self.shape).astype(np.float32)
        before, after = (
            np.linalg.norm(x, axis=-1, keepdims=True) for x in (vector, scaled)
        )
        return np.concatenate([scaled * before / np.maximum(after, 1e-6), rest], -1)

    def _interpolated(
        self, array: np.ndarray, shape: tuple[int, ...], order: int
    ) -> np.ndarray:
        for axis, size in enumerate(shape):
            if array.shape[axis] != size:
                of_axis = 0 if self.nearest_axes[axis] else order
                array = _resample_axis(array, axis, size, of_axis)
        return array


def make_resampling(
    file_shape: tuple[int, ...],
    spacing: Sequence[float] | None,
    target: tuple[float, ...],
) -> Resampling:
    """Returns the resampling of an image to pixels of about the size `target`.

    The new shape is `file_shape * spacing / target`, rounded, and at least 1.

    Args:
      file_shape: the spatial shape in the file.
      spacing: the size of a pixel there along each axis; None if it is unknown.
      target: the size of a pixel after resampling; () does not resample.

    Raises:
      UserError: the spacing is unknown or invalid, or the image would become too large.
    """
    unchanged = (False,) * len(file_shape)
    if not target:
        return Resampling(file_shape, file_shape, unchanged)
    spacing = _check_spacing(file_shape, spacing, target)
    sizes = np.multiply(file_shape, spacing) / target
    shape = tuple(max(round(size), 1) for size in sizes.tolist())
    if math.prod(shape) > LARGEST:
        before, pixel, after = map(_as_flag, (file_shape, spacing, shape))
        raise UserError(
            f"an image of {before} pixels of {pixel} would become one of {after}; give "
            f"config.spacing={_as_flag(target)} in the units of the image file"
        )
    nearest_axes = _coarse_axis(spacing) or _coarse_axis(target) or unchanged
    return Resampling(file_shape, shape, nearest_axes)


def _check_spacing(
    file_shape: tuple[int, ...],
    spacing: Sequence[float] | None,
    target: tuple[float, ...],
) -> Sequence[float]:
    """Returns the spacing in the file; raises UserError if it is not valid."""
    if spacing is None or len(spacing) == 0:
        raise UserError(
            "the size of its pixels is not known, and "
            f"config.spacing={_as_flag(target)} needs it; use NIfTI or OME-Zarr files, "
            "pass `spacing` to a Predictor, set --config.data.spacing, or train with "
            '--config.spacing="()"'
        )
    axes = len(file_shape)
    if len(spacing) != axes or len(target) != axes:
        raise UserError(
            f"has {axes} spatial axes, a spacing of {_as_flag(spacing)} and "
            f"config.spacing={_as_flag(target)}; give one number for each axis"
        )
    if not all(math.isfinite(size) and size > 0 for size in spacing):
        raise UserError(
            f"its spacing is {_as_flag(spacing)}, but must be above 0; correct the file"
        )
    return spacing


def _coarse_axis(spacing: Sequence[float]) -> tuple[bool, ...] | None:
    """Returns the one axis with pixels over `ANISOTROPY` times as long as the shortest.

    If two axes are, they are interpolated like others (as in nnU-Net).
    """
    longest = [size == max(spacing) for size in spacing]
    if max(spacing) > ANISOTROPY * min(spacing) and sum(longest) == 1:
        return tuple(longest)
    return None


def _resample_axis(array: np.ndarray, axis: int, size: int, order: int) -> np.ndarray:
    """Resamples one axis to `size` by splines of order 0, 1 or 3."""
    length = array.shape[axis]
    if order == 0:
        nearest = np.floor((np.arange(size) + 0.5) * length / size).astype(int)
        return np.take(array, nearest, axis)
    if order == 3:  # pixels -> coefficients of the splines through them
        array = ndimage.spline_filter1d(array, 3, axis, np.float32, mode="reflect")
    first = np.moveaxis(array, axis, 0)
    resampled = _spline_matrix(length, size, order) @ first.reshape(length, -1)
    resampled = resampled.reshape(size, *first.shape[1:])
    return np.ascontiguousarray(np.moveaxis(resampled, 0, axis))


@functools.lru_cache(maxsize=64)
def _spline_matrix(length: int, size: int, order: int) -> sparse.csr_array:
    """Returns `f32[size, length]`: the B-splines of each pixel, mirrored at edges."""
    place = (np.arange(size) + 0.5) * length / size - 0.5
    left = np.floor(place)
    t = place - left
    if order == 1:
        parts = [1 - t, t]
    else:
        parts = [
            (1 - t) ** 3 / 6,
            (3 * t**3 - 6 * t**2 + 4) / 6,
            (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
            t**3 / 6,
        ]
    first = left.astype(int) - (len(parts) // 2 - 1)
    columns = (first[:, None] + np.arange(len(parts))) % (2 * length)
    columns = np.minimum(columns, 2 * length - 1 - columns)
    rows = np.repeat(np.arange(size), len(parts))
    values = np.stack(parts, axis=1).astype(np.float32).ravel()
    return sparse.csr_array((values, (rows, columns.ravel())), shape=(size, length))


def _as_flag(sizes: Sequence[float]) -> str:
    return dimensions(sizes, separator=",")
