"""Normalisation: from raw pixels to the numbers that the network sees.

Each function takes the chunks of one image and returns its `Scale`, which then maps any
part of the image. So an image that does not fit into memory is normalised tile by tile,
with bitwise equal results. Chunks are arrays `[*S, C]` of any real dtype; each
channel is normalised separately.
"""

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np

from unet_jax.arrays import chunk_slices
from unet_jax.errors import UserError
from unet_jax.specs import Domain, Positive

_Percent = Annotated[float, Domain("from 0 to 100", lambda x: 0 <= x <= 100)]
Chunks = Callable[[], Iterator[np.ndarray]]  # called for each pass over the image


__all__ = ["fixed", "nnunet", "percentile", "standard", "unit"]

_Scheme = Literal["zscore", "ct", "rescale", "rgb", "none"]


class Scale(NamedTuple):
    """The map `(value - offset) / width` of each channel; 0 if the width is 0.

    Attributes:
      offset: `f64[C]`.
      width: `f64[C]`.
      clip: True clips the result to 0 and 1.
      low: raw values below it, `f64[C]` or a number, become this value first.
      high: raw values above it become this value first.
    """

    offset: np.ndarray
    width: np.ndarray
    clip: bool = False
    low: Any = -np.inf
    high: Any = np.inf

    def __call__(self, part: np.ndarray) -> np.ndarray:
        """Maps raw `[..., C]` to `f32[..., C]`."""
        flat = self.width == 0
        if np.isfinite(self.low).any() or np.isfinite(self.high).any():
            part = np.clip(part, self.low, self.high)
        scaled = (part - self.offset) / np.where(flat, 1, self.width)
        scaled = np.where(flat, 0, scaled)
        return (np.clip(scaled, 0, 1) if self.clip else scaled).astype(np.float32)

    def invert(self, scaled: np.ndarray) -> np.ndarray:
        """Maps normalised `f32[..., C]` back to raw values, `f32[..., C]`."""
        return (scaled * self.width + self.offset).astype(np.float32)


def standard(chunks: Chunks) -> Scale:
    """Gives each channel zero mean and unit variance; a constant channel becomes 0.

    The means of chunks are merged in float64 (Chan et al. 1979, equation 2.1), so that
    large values stay exact.
    """
    count, mean, squares = 0, 0.0, 0.0
    low, high = np.inf, -np.inf
    for chunk in chunks():
        space = tuple(range(chunk.ndim - 1))
        more = chunk[..., 0].size
        its_mean = chunk.mean(space, dtype=np.float64)
        apart = its_mean - mean
        squares += ((chunk - its_mean) ** 2).sum(space)
        squares += apart**2 * count * more / (count + more)
        mean = mean + apart * more / (count + more)
        count += more
        low = np.minimum(low, chunk.min(space))
        high = np.maximum(high, chunk.max(space))
    return Scale(np.asarray(mean), np.where(high > low, np.sqrt(squares / count), 0))


def unit(chunks: Chunks) -> Scale:
    """Divides integers by the largest value of their dtype; floats do not change.

    Images keep their brightness relative to each other: 8 bits are divided by 255, 16
    bits by 65535.
    """
    first = next(chunks())
    integer = np.issubdtype(first.dtype, np.integer)
    largest = np.iinfo(first.dtype).max if integer else 1
    channels = first.shape[-1]
    return Scale(np.zeros(channels), np.full(channels, float(largest)))


def percentile(chunks: Chunks, *, low: _Percent = 1.0, high: _Percent = 99.0) -> Scale:
    """Maps the `low` and `high` percentiles of each channel to 0 and 1, and clips.

    So a few very bright pixels affect neither the scale nor the range. A channel whose
    two percentiles are equal becomes 0. Percentiles are exact for integers of up to 16
    bits and for 32-bit floats; other types are rounded to these.

    Raises:
      UserError: low is not below high.
    """
    if not low < high:
        raise UserError(f"needs low < high, not low={low}, high={high}")
    bottom, top = _percentiles(chunks, (low, high))
    return Scale(bottom, top - bottom, clip=True)


def fixed(
    chunks: Chunks,
    *,
    mean: tuple[float, ...],
    std: tuple[Positive, ...],
    low: tuple[float, ...] = (),
    high: tuple[float, ...] = (),
) -> Scale:
    """Subtracts the same mean from every image, and divides by the same deviation.

    The numbers are in the units of the raw pixels, for each channel or one for all.
    Networks that were trained on ImageNet expect mean=(123.675,116.28,103.53) and
    std=(58.395,57.12,57.375) for RGB images of 8 bits. Values outside `low` and `high`
    are clipped first; () does not clip.

    Raises:
      UserError: a keyword has neither one number nor one for each channel.
    """
    channels = next(chunks()).shape[-1]

    def expand(name: str, given: tuple[float, ...], default: float) -> np.ndarray:
        given = given or (default,)
        if len(given) not in (1, channels):
            raise UserError(
                f"{name} has {len(given)} numbers, and the images have {channels} "
                "channels; give one for each, or one for all"
            )
        return np.broadcast_to(np.asarray(given, np.float64), (channels,)).copy()

    return Scale(
        expand("mean", mean, 0.0),
        expand("std", std, 1.0),
        low=expand("low", low, -np.inf),
        high=expand("high", high, np.inf),
    )


def nnunet(
    chunks: Chunks,
    *,
    schemes: tuple[_Scheme, ...],
    mean: tuple[float, ...] = (),
    std: tuple[Positive, ...] = (),
    low: tuple[float, ...] = (),
    high: tuple[float, ...] = (),
) -> Scale:
    """Normalises each channel by its own scheme, as nnU-Net does.

    zscore: zero mean and unit variance; rescale: from 0 to 1; both inside the smallest
    box that holds all pixels that are not 0. ct: clipped to `low` and `high`, then
    `mean` and `std`, which have a number for each channel; rgb: divided by 255; none:
    unchanged.

    Raises:
      UserError: there is not one scheme for each channel, or a number is missing.
    """
    channels = next(chunks()).shape[-1]
    numbers = {"mean": mean, "std": std, "low": low, "high": high}
    wrong = [name for name, each in numbers.items() if len(each) != channels]
    if len(schemes) != channels or ("ct" in schemes and wrong):
        name = wrong[0] if len(schemes) == channels else "schemes"
        raise UserError(
            f"{name} needs one entry for each of the {channels} channels; set "
            "schemes, mean, std, low and high"
        )
    scale = fixed(chunks, mean=(0.0,), std=(1.0,))
    if {"zscore", "rescale"} & set(schemes):
        cropped = _crop_to_nonzero(chunks)
        zscore = standard(cropped)
        least = np.min([c.min(tuple(range(c.ndim - 1))) for c in cropped()], axis=0)
        most = np.max([c.max(tuple(range(c.ndim - 1))) for c in cropped()], axis=0)
    for i, scheme in enumerate(schemes):
        if scheme == "zscore":
            scale.offset[i], scale.width[i] = zscore.offset[i], zscore.width[i]
        elif scheme == "rescale":
            scale.offset[i], scale.width[i] = least[i], float(most[i]) - float(least[i])
        elif scheme == "ct":
            scale.offset[i], scale.width[i] = mean[i], std[i]
            scale.low[i], scale.high[i] = low[i], high[i]
        elif scheme == "rgb":
            scale.width[i] = 255
    return scale


def _crop_to_nonzero(chunks: Chunks) -> Chunks:
    """Returns the chunks inside the smallest box that holds all pixels but zeros."""
    first, last, start = None, None, 0
    for chunk in chunks():
        inside = np.argwhere((chunk != 0).any(-1))
        if len(inside):
            inside[:, 0] += start
            low, high = inside.min(0), inside.max(0) + 1
            first = low if first is None else np.minimum(first, low)
            last = high if last is None else np.maximum(last, high)
        start += len(chunk)
    if first is None or last is None:
        return chunks
    rows, *rest = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))

    def crop() -> Iterator[np.ndarray]:
        start = 0
        for chunk in chunks():
            own = slice(max(rows.start - start, 0), max(rows.stop - start, 0))
            part = chunk[(own, *rest)]
            if part.size:
                yield part
            start += len(chunk)

    return crop


def in_memory(measure: Callable[[Chunks], Scale]) -> Callable[[np.ndarray], Scale]:
    """Returns the function from a whole image `[*S, C]` to its scale."""
    return lambda image: measure(
        lambda: (image[rows] for rows in chunk_slices(image.shape[:-1]))
    )


def _percentiles(chunks: Chunks, percents: tuple[float, ...]) -> np.ndarray:
    """Computes percentiles `f64[len(percents), C]` as `np.percentile` does.

    In two passes over the image: a histogram of the upper 16 bits of all values finds
    the bin of a rank, and a histogram of the lower 16 bits the value in that bin.
    """
    histograms = (_histograms(_ordered(chunk) >> 16) for chunk in chunks())
    upper = np.asarray(sum(histograms))
    count = int(upper[0].sum())
    place = np.asarray(percents) / 100 * (count - 1)
    ranks = np.stack([np.floor(place), np.ceil(place)]).astype(np.int64).ravel()
    bins = [np.searchsorted(h.cumsum(), ranks, side="right") for h in upper]
    lower: list[dict[Any, Any]] = [dict.fromkeys(np.unique(b), 0) for b in bins]
    for chunk in chunks():
        for key, of_bin in zip(np.moveaxis(_ordered(chunk), -1, 0), lower, strict=True):
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


def _ordered(chunk: np.ndarray) -> np.ndarray:
    """Returns `u32` in the order of the values: a float's bits, flipped if negative."""
    bits = chunk.astype(np.float32).view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(2**31))


def _value(key: int) -> float:
    bits = key ^ 2**31 if key >> 31 else ~key & 0xFFFFFFFF
    return float(np.array(bits, np.uint32).view(np.float32))
