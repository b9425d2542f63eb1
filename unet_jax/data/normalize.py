"""Raw grey values to what the network sees, measured once on the whole image.

Each function takes the pieces of one image and returns its `Scale`, which then maps any
part of it: an image that does not fit into memory is normalised tile by tile, to the
same bits. Pieces are arrays `[*S, C]` of any real dtype; channels never mix.
"""

from collections.abc import Callable, Iterator
from typing import Annotated, NamedTuple

import numpy as np

from unet_jax.errors import UserError
from unet_jax.specs import Domain

_Percent = Annotated[float, Domain("from 0 to 100", lambda x: 0 <= x <= 100)]
Pieces = Callable[[], Iterator[np.ndarray]]  # called once for each pass over the image

PIECE = 2**22  # pixels; fixed, as the rounding of a mean depends on it

__all__ = ["percentile", "standard", "unit"]


class Scale(NamedTuple):
    """`(value - offset) / width` for each channel, 0 where the width is 0.

    Attributes:
      offset: `f64[C]`.
      width: `f64[C]`.
      clip: whether what leaves 0 to 1 is cut off there.
    """

    offset: np.ndarray
    width: np.ndarray
    clip: bool = False

    def __call__(self, part: np.ndarray) -> np.ndarray:
        """Raw `[..., C]` to `f32[..., C]`."""
        flat = self.width == 0
        scaled = (part - self.offset) / np.where(flat, 1, self.width)
        scaled = np.where(flat, 0, scaled)
        return (np.clip(scaled, 0, 1) if self.clip else scaled).astype(np.float32)

    def back(self, scaled: np.ndarray) -> np.ndarray:
        """`f32[..., C]` of this scale to values of the units that it was made for."""
        return (scaled * self.width + self.offset).astype(np.float32)


def standard(pieces: Pieces) -> Scale:
    """Zero mean and unit variance in each channel of the image; 0 if it is constant.

    Means of pieces are joined in float64 (Chan et al. 1979, equation 2.1), so that
    large values stay exact.
    """
    count, mean, squares = 0, 0.0, 0.0
    low, high = np.inf, -np.inf
    for piece in pieces():
        space = tuple(range(piece.ndim - 1))
        more = piece[..., 0].size
        its_mean = piece.mean(space, dtype=np.float64)
        apart = its_mean - mean
        squares += ((piece - its_mean) ** 2).sum(space)
        squares += apart**2 * count * more / (count + more)
        mean = mean + apart * more / (count + more)
        count += more
        low, high = (
            np.minimum(low, piece.min(space)),
            np.maximum(high, piece.max(space)),
        )
    return Scale(mean, np.where(high > low, np.sqrt(squares / count), 0))


def unit(pieces: Pieces) -> Scale:
    """Divides integers by the largest that their dtype holds; floats stay as they are.

    Raw images keep their brightness relative to each other: 8 bits by 255, 16 by 65535.
    """
    first = next(pieces())
    integer = np.issubdtype(first.dtype, np.integer)
    largest = np.iinfo(first.dtype).max if integer else 1
    channels = first.shape[-1]
    return Scale(np.zeros(channels), np.full(channels, float(largest)))


def percentile(pieces: Pieces, *, low: _Percent = 1.0, high: _Percent = 99.0) -> Scale:
    """Maps each channel's `low` and `high` percentiles to 0 and 1, and clips there.

    Clipped, because a few hot pixels should set neither the scale nor the range.
    A channel whose two percentiles are equal becomes 0. They are exact for integers of
    up to 16 bits and for 32-bit floats, to which all else is rounded.

    Raises:
      UserError: not low < high.
    """
    if not low < high:
        raise UserError(f"needs low < high, not low={low}, high={high}")
    bottom, top = _percentiles(pieces, (low, high))
    return Scale(bottom, top - bottom, clip=True)


def in_memory(
    measure: Callable[[Pieces], Scale],
) -> Callable[[np.ndarray], Scale]:
    """Returns the function that measures a whole image `[*S, C]`."""
    return lambda image: measure(lambda: (image[r] for r in cuts(image.shape[:-1])))


def cuts(shape: tuple[int, ...]) -> Iterator[slice]:
    """The pieces of an image, the same wherever it is: runs of its first axis."""
    step = max(PIECE // max(int(np.prod(shape[1:])), 1), 1)
    return (slice(i, min(i + step, shape[0])) for i in range(0, shape[0], step))


def _percentiles(pieces: Pieces, percents: tuple[float, ...]) -> np.ndarray:
    """`f64[len(percents), C]`, between neighbours as `np.percentile` has them.

    Two passes: a histogram of the upper half of each value's 32 bits finds the bin that
    a rank falls into, one of the lower half finds the value in it.
    """
    upper = 0
    for piece in pieces():
        upper = upper + _histograms(_ordered(piece) >> 16)
    count = int(upper[0].sum())
    place = np.asarray(percents) / 100 * (count - 1)
    ranks = np.stack([np.floor(place), np.ceil(place)]).astype(np.int64).ravel()
    bins = [np.searchsorted(h.cumsum(), ranks, side="right") for h in upper]
    lower = [dict.fromkeys(np.unique(chosen), 0) for chosen in bins]
    for piece in pieces():
        for key, of_bin in zip(np.moveaxis(_ordered(piece), -1, 0), lower, strict=True):
            for b in of_bin:
                inside = key[key >> 16 == b] & 0xFFFF
                of_bin[b] = of_bin[b] + np.bincount(inside.ravel(), minlength=2**16)
    values = np.empty((len(ranks), len(upper)))
    for channel, (histogram, of_bin) in enumerate(zip(upper, lower, strict=True)):
        for i, (rank, b) in enumerate(zip(ranks, bins[channel], strict=True)):
            before = histogram[:b].sum()
            rest = np.searchsorted(of_bin[b].cumsum(), rank - before, side="right")
            values[i, channel] = _value((int(b) << 16) + int(rest))
    floor, ceiling = values.reshape(2, len(percents), -1)
    return floor + (place - np.floor(place))[:, None] * (ceiling - floor)


def _histograms(keys: np.ndarray) -> np.ndarray:
    channels = np.moveaxis(keys, -1, 0)
    return np.stack([np.bincount(key.ravel(), minlength=2**16) for key in channels])


def _ordered(piece: np.ndarray) -> np.ndarray:
    """`u32` that sort as the values do: a float's bits, all flipped if negative."""
    bits = piece.astype(np.float32).view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(2**31))


def _value(key: int) -> float:
    bits = key ^ 2**31 if key >> 31 else ~key & 0xFFFFFFFF
    return float(np.array(bits, np.uint32).view(np.float32))
