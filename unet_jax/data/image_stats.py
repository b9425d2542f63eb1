"""Measurements of the pixels of one image, which may be larger than the memory."""

import hashlib
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from unet_jax.arrays import cut_chunks

PERCENTS = (0.0, 0.5, 50.0, 99.5, 100.0)
PERCENTILE_PIXELS = 2**16  # pixels of an image that percentiles are computed from
THUMBNAIL_SIZE = {2: 24, 3: 8}  # of each axis, by the number of axes
THUMBNAIL_MAX = 127


class ImageStats(NamedTuple):
    """Measurements of the pixels of an image.

    Attributes:
      intensity: the `PERCENTS` of every channel. The minimum and the maximum are exact.
        The others are those of `PERCENTILE_PIXELS` random pixels if there are more.
      digest: a hash of the shape, the type and the pixels.
      thumbnail: `i8[n, n]` or `i8[n, n, n]`, the means of blocks over all channels. The
        mean of the image is subtracted and the largest difference becomes 127, so that
        thumbnails do not depend on brightness and contrast. 0 for a constant image.
      grey: True if all channels are equal.
      not_finite: the number of NaN and infinite values, which count as 0 above.
      constant: True if there are several pixels, and all are equal.
    """

    intensity: tuple[tuple[float, ...], ...]
    digest: str
    thumbnail: np.ndarray
    grey: bool
    not_finite: int
    constant: bool


def measure_image(
    bands: Iterable[np.ndarray], shape: tuple[int, ...], dtype: np.dtype
) -> ImageStats:
    """Measures an image in one pass, in the memory of a few chunks of it.

    Args:
      bands: the image in parts along its first axis, in order: `[rows, ..., C]`.
      shape: of the whole image, `(*S, C)`.
      dtype: of its pixels.
    """
    count = math.prod(shape[:-1])
    row_pixels = math.prod(shape[1:-1])
    sampled = _sample_pixels(count)
    samples, lows, highs = [], [], []
    digest = hashlib.sha1(f"{shape} {dtype}".encode())
    thumbnail = _ThumbnailSum(shape)
    grey, not_finite, row = True, 0, 0
    for original in _chunks(bands):
        chunk, bad = _replace_not_finite(original)
        not_finite += bad
        buffer: Any = np.ascontiguousarray(chunk)
        digest.update(buffer)
        thumbnail.add(row, chunk)
        grey = grey and bool((chunk == chunk[..., :1]).all())
        # NumPy does not subtract booleans
        numbers = chunk.view(np.uint8) if chunk.dtype == bool else chunk
        flat = numbers.reshape(-1, shape[-1])
        lows.append(flat.min(0))
        highs.append(flat.max(0))
        first, row = row * row_pixels, row + len(chunk)
        inside = slice(*np.searchsorted(sampled, (first, row * row_pixels)))
        samples.append(flat[sampled[inside] - first])
    lowest, highest = np.min(lows, axis=0), np.max(highs, axis=0)
    percentiles = np.percentile(np.concatenate(samples), PERCENTS, axis=0)
    percentiles[0], percentiles[-1] = lowest, highest
    same = not not_finite and count * shape[-1] > 1
    return ImageStats(
        intensity=tuple(map(tuple, percentiles.T.tolist())),
        digest=digest.hexdigest(),
        thumbnail=thumbnail.finish(),
        grey=grey,
        not_finite=not_finite,
        constant=bool(same and lowest.min() == highest.max()),
    )


def _chunks(bands: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    for band in bands:
        yield from cut_chunks(band)


def _sample_pixels(count: int) -> np.ndarray:
    """Returns the indices of the pixels for percentiles, in rising order."""
    if count <= PERCENTILE_PIXELS:
        return np.arange(count)
    drawn = np.random.default_rng(0).integers(0, count, PERCENTILE_PIXELS)
    return np.sort(drawn)


def _replace_not_finite(chunk: np.ndarray) -> tuple[np.ndarray, int]:
    """Returns the chunk with 0 for NaN and infinite values, and their number."""
    if chunk.dtype.kind in "iub" or (finite := np.isfinite(chunk)).all():
        return chunk, 0
    return np.where(finite, chunk, 0).astype(chunk.dtype), int((~finite).sum())


class _ThumbnailSum:
    """The sums of the blocks of a thumbnail, over the parts of an image."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        *self._sizes, channels = shape
        self._blocks = THUMBNAIL_SIZE.get(len(self._sizes), 4)
        inner = [self._blocks] * (len(self._sizes) - 1)
        self._sums = np.zeros((self._blocks, *inner, channels))
        # if the axis has fewer pixels than blocks, several blocks share a pixel
        self._starts = np.arange(self._blocks) * self._sizes[0] // self._blocks
        widths = np.diff(self._starts, append=self._sizes[0])
        self._ends = self._starts + np.maximum(widths, 1)

    def add(self, row: int, chunk: np.ndarray) -> None:
        """Adds the rows from `row` on."""
        last = row + len(chunk)
        if len(chunk) == self._sizes[0]:  # the whole image, at once
            rows = np.add.reduceat(chunk, self._starts, 0, dtype=np.float64)
            self._sums += self._mean_inner(rows, first=1)
            return
        first_block = np.searchsorted(self._ends, row, "right")
        end_block = np.searchsorted(self._starts, last, "left")
        for block in range(first_block, end_block):
            start = max(self._starts[block], row) - row
            end = min(self._ends[block], last) - row
            rows = chunk[start:end].sum(0, dtype=np.float64)
            self._sums[block] += self._mean_inner(rows, first=0)

    def finish(self) -> np.ndarray:
        """Returns the thumbnail."""
        heights = (self._ends - self._starts).reshape(-1, *[1] * len(self._sizes))
        grey = (self._sums / heights).mean(-1)
        grey -= grey.mean()
        if np.linalg.norm(grey) <= 1e-6 * math.sqrt(grey.size):
            return np.zeros(grey.shape, np.int8)
        return np.rint(THUMBNAIL_MAX * (grey / np.abs(grey).max())).astype(np.int8)

    def _mean_inner(self, means: np.ndarray, first: int) -> np.ndarray:
        """Averages the blocks of the inner axes, which begin at axis `first`."""
        for axis, size in enumerate(self._sizes[1:], first):
            starts = np.arange(self._blocks) * size // self._blocks
            widths = np.maximum(np.diff(starts, append=size), 1)
            sums = np.add.reduceat(means, starts, axis)
            means = sums / widths.reshape(-1, *[1] * (means.ndim - axis - 1))
        return means
