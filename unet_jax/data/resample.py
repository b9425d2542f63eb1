"""From the grid of a file to one where a pixel has another size, and back.

The two grids cover the same space, so pixel i of n lies around (i + 1/2) / n of it. As
in nnU-Net (Isensee et al. 2021, online methods) images are interpolated by cubic
splines, what a network says of them linearly, and a label becomes the class with the
largest linearly interpolated share. Where the pixels of one grid are more than three
times as long along one axis as along another, a spline along that axis would bend
through slices that have little in common: there the nearest is taken.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage, sparse

from unet_jax.arrays import IGNORE
from unet_jax.errors import UserError

ANISOTROPY = 3.0  # nnU-Net's threshold
LARGEST = 2**30  # pixels of a resampled image: more is a mistake of units


class Resampling(NamedTuple):
    """How one image is resampled; where the shapes agree nothing changes, to the bit.

    Attributes:
      own: the spatial shape in the file.
      shape: the spatial shape in the network.
      coarse: the axes along which the nearest is taken.
    """

    own: tuple[int, ...]
    shape: tuple[int, ...]
    coarse: tuple[bool, ...]

    @property
    def changes(self) -> bool:
        """Whether there is anything to do."""
        return self.own != self.shape

    def image(self, image: np.ndarray) -> np.ndarray:
        """`f32[*own, C]` -> `f32[*shape, C]`, by cubic splines."""
        return self._interpolated(image, self.shape, 3)

    def label(self, label: np.ndarray) -> np.ndarray:
        """`i32[*own]` or `i32[*own, K]` -> the same of `shape`: the largest share.

        Of equal shares the lowest class has it. Ignored pixels have none; a pixel is
        ignored where the nearest one was.
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
        """`[*own, ...]` -> `[*shape, ...]`, each pixel one that was there."""
        return self._interpolated(array, self.shape, 0)

    def back(self, array: np.ndarray) -> np.ndarray:
        """`f32[*shape, ...]` -> `f32[*own, ...]`, linearly."""
        return self._interpolated(array, self.own, 1)

    def results(
        self, results: dict[str, np.ndarray], decide: Callable | None
    ) -> dict[str, np.ndarray]:
        """Brings the results of inference to the grid of the file.

        Args:
          results: arrays of `shape` by name, with the `prediction` and, where there are
            classes, the `label` that `inference.Inference` gives.
          decide: prediction -> label, which is decided on the new grid; None where
            there are no classes.
        """
        if not self.changes:
            return results
        own = {k: self.back(array) for k, array in results.items() if k != "label"}
        return own | ({"label": decide(own["prediction"])} if decide else {})

    def _interpolated(
        self, array: np.ndarray, shape: tuple[int, ...], order: int
    ) -> np.ndarray:
        for axis, (size, coarse) in enumerate(zip(shape, self.coarse, strict=True)):
            if array.shape[axis] != size:
                array = _along(array, axis, size, 0 if coarse else order)
        return array


def between(
    own: tuple[int, ...],
    spacing: Sequence[float] | None,
    target: tuple[float, ...],
) -> Resampling:
    """The resampling of an image to pixels of the size `target`, as nearly as it goes.

    The new shape is `own * spacing / target`, rounded, and at least 1.

    Args:
      own: the spatial shape in the file.
      spacing: the size of a pixel there along each axis; None where it is not known.
      target: the size that is wanted; () leaves the image as it is.

    Raises:
      UserError: the spacing is not known or not possible, or the image would become
        too large.
    """
    if not target:
        return Resampling(own, own, (False,) * len(own))
    _check(own, spacing, target)
    sizes = np.multiply(own, spacing) / target
    shape = tuple(max(round(size), 1) for size in sizes.tolist())
    if math.prod(shape) > LARGEST:
        raise UserError(
            f"an image of {_listed(own)} pixels of {_listed(spacing)} would become one "
            f"of {_listed(shape)}; is config.spacing={_listed(target)} in its units?"
        )
    return Resampling(own, shape, _coarse(spacing) or _coarse(target) or _none(own))


def _check(
    own: tuple[int, ...], spacing: Sequence[float] | None, target: tuple[float, ...]
) -> None:
    if spacing is None or len(spacing) == 0:
        raise UserError(
            f"the size of its pixels is not known, and config.spacing={_listed(target)}"
            " needs it: NIfTI and OME-Zarr files hold it, a Predictor takes it as "
            '`spacing`, and a run with --config.spacing="()" does without'
        )
    if len(spacing) != len(own) or len(target) != len(own):
        raise UserError(
            f"has {len(own)} spatial axes, a spacing of {_listed(spacing)} and "
            f"config.spacing={_listed(target)}; give one number for each axis"
        )
    if not all(math.isfinite(size) and size > 0 for size in spacing):
        raise UserError(
            f"its spacing is {_listed(spacing)}, which must be above 0; mend the file"
        )


def _coarse(spacing: Sequence[float]) -> tuple[bool, ...] | None:
    """The one axis with pixels more than `ANISOTROPY` times as long as the shortest.

    Two such axes are no slices, and interpolated as any other (as in nnU-Net).
    """
    longest = [size == max(spacing) for size in spacing]
    if max(spacing) > ANISOTROPY * min(spacing) and sum(longest) == 1:
        return tuple(longest)
    return None


def _none(own: tuple[int, ...]) -> tuple[bool, ...]:
    return (False,) * len(own)


def _along(array: np.ndarray, axis: int, size: int, order: int) -> np.ndarray:
    """Resamples one axis to `size` by splines of order 0, 1 or 3."""
    length = array.shape[axis]
    if order == 0:
        nearest = np.floor((np.arange(size) + 0.5) * length / size).astype(int)
        return np.take(array, nearest, axis)
    if order == 3:  # to coefficients of splines through the pixels
        array = ndimage.spline_filter1d(array, 3, axis, np.float32, mode="reflect")
    first = np.moveaxis(array, axis, 0)
    mixed = _matrix(length, size, order) @ first.reshape(length, -1)
    mixed = mixed.reshape(size, *first.shape[1:])
    return np.ascontiguousarray(np.moveaxis(mixed, 0, axis))


@functools.lru_cache(maxsize=64)
def _matrix(length: int, size: int, order: int) -> sparse.csr_array:
    """`f32[size, length]`: the B-splines of each pixel, mirrored at the edges."""
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


def _listed(sizes: Sequence[float]) -> str:
    return ",".join(f"{size:g}" for size in sizes)
