"""Rules that choose config fields from the measurements of a data set.

Like the dataset fingerprint of nnU-Net (Isensee et al. 2021, Nature Methods 18:203),
the rules look at the median shape and spacing, the intensities and the number of
images.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from unet_jax.data.dataset_report import total_pixels
from unet_jax.data.record import RecordStats
from unet_jax.text import dimensions

BATCH_SHARE = 0.05  # largest share of the training pixels in a batch
MAX_BATCH = 32  # examples
SAME_SPACING = 1.01  # ratio up to which spacings count as equal
HOT_DISTANCE = 5.0  # distance of a hot pixel, in ranges of nearly all other pixels
FLAT_RANGE = 0.02  # range of a flat image, as a share of the range of all images
MANY_IMAGES = 0.1  # share of hot or flat images that changes the normalisation
RARE_CLASS = 0.01  # share of the pixels below which a class gets a larger weight
SPARSE_FOREGROUND = 0.1  # share of the pixels below which crops aim at the foreground


class PlannedField(NamedTuple):
    """The value that a plan gives to one config field, with its reason."""

    field: str  # 'model.widths'
    value: Any
    reason: str


def choose_spacing(records: Sequence[RecordStats]) -> PlannedField:
    """Chooses the spacing: the median along each axis if the spacings differ.

    If all images have the same spacing, volumes keep it, so that files with another one
    are resampled later; for images the field stays empty.
    """
    known = [record.spacing for record in records if record.spacing]
    if not known:
        return PlannedField("spacing", (), "the size of a pixel is not known")
    if len(known) < len(records):
        unknown = len(records) - len(known)
        reason = (
            f"the size of a pixel is not known for {unknown} of {len(records)} images"
        )
        return PlannedField("spacing", (), reason)
    least, most = np.min(known, axis=0), np.max(known, axis=0)
    if (most <= SAME_SPACING * least).all():
        same, volumes = f"all pixels are {dimensions(known[0])}", len(known[0]) > 2
        if not volumes:
            return PlannedField("spacing", (), f"{same}; nothing is resampled")
        reason = f"{same}; files with another size are resampled to it"
        return PlannedField("spacing", known[0], reason)
    median = tuple(float(f"{x:.4g}") for x in np.median(known, axis=0))
    smallest, largest = dimensions(least.tolist()), dimensions(most.tolist())
    reason = f"the median; pixels are from {smallest} to {largest}"
    return PlannedField("spacing", median, reason)


def compute_median_shape(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Returns the median along each axis, rounded up."""
    return tuple(math.ceil(size) for size in np.median(shapes, axis=0))


def choose_batch_size(
    pixels: int, output: int, *, least: int, replicas: int, most: int = MAX_BATCH
) -> int:
    """Chooses the batch size whose outputs cover 5 % of the training pixels.

    Args:
      pixels: number of pixels of the training set.
      output: number of pixels that the network outputs for one example.
      least: smallest number of examples.
      replicas: number of devices that share the batch; each gets at least one example.
      most: largest number of examples.
    """
    share = max(min(int(BATCH_SHARE * pixels / output), most), least)
    return max(share // replicas, 1) * replicas


def choose_normalization(
    records: Sequence[RecordStats], *, background: bool = True
) -> PlannedField:
    """Chooses mean and variance, unless many images have hot pixels or are flat.

    Hot pixels are not clipped if the foreground is so rare that they may be the
    foreground.

    Args:
      records: measurements of the training images.
      background: False if class 0 is a class like the others.
    """
    hot = sum(any(map(_is_hot, record.intensity)) for record in records)
    low, high = _range(records)
    flat = sum(_contrast(record) < FLAT_RANGE * (high - low) for record in records)
    integer = [np.iinfo(r.dtype).max for r in records if np.dtype(r.dtype).kind in "iu"]
    fills = len(integer) == len(records) and high > max(integer) / 4
    shares = compute_class_shares(records)
    foreground = _foreground_share(shares, background=background)
    if hot > MANY_IMAGES * len(records) and foreground > RARE_CLASS:
        value = {"name": "percentile", "low": 0.5, "high": 99.5}
        reason = (
            f"in {hot} of {len(records)} images a few pixels differ from the others by "
            f"more than {HOT_DISTANCE:g} times the range of the others"
        )
        return PlannedField("normalize", value, reason)
    if flat > MANY_IMAGES * len(records) and fills:
        reason = (
            f"{flat} of {len(records)} images are nearly constant; 'standard' would "
            "amplify their noise to the contrast of the others"
        )
        return PlannedField("normalize", {"name": "unit"}, reason)
    reason = "each image to mean 0 and variance 1; no hot pixels distort the range"
    return PlannedField("normalize", {"name": "standard"}, reason)


def compute_class_shares(records: Sequence[RecordStats]) -> dict[int, float]:
    """Returns the share of each class among the annotated pixels.

    Args:
      records: measured records, of one split or of several together.

    Returns:
      From 0 to 1, by class id; the sum is 1. A class without a pixel is left out, and
      without annotated pixels the result is empty. If classes are independent, a pixel
      counts once for each of its classes.
    """
    total = {k: pixels for k, pixels in total_pixels(records).items() if k >= 0}
    return {k: pixels / sum(total.values()) for k, pixels in total.items()}


def find_rarest_class(
    shares: Mapping[int, float], classes: Sequence[str]
) -> tuple[bool, str]:
    """Finds the rarest class among those that occur.

    Returns:
      True if the class is so rare that it should get a larger weight; and a sentence
      that names it.
    """
    if not shares:
        return False, "nothing is annotated"
    k = min(shares, key=shares.__getitem__)
    reason = f"{classes[k]}, the rarest class, is {shares[k]:.2%} of the pixels"
    return shares[k] < RARE_CLASS, reason


def describe_sparse_foreground(
    shares: Mapping[int, float],
    output: tuple[int, ...],
    shape: tuple[int, ...],
    *,
    background: bool = True,
) -> str:
    """Returns a sentence about the foreground if many crops would miss it, else ''.

    Args:
      shares: from `compute_class_shares`.
      output: the spatial shape of the network's output for a crop.
      shape: that of the median image.
      background: False if class 0 is a class like the others.
    """
    foreground = _foreground_share(shares, background=background)
    smaller = any(w < n for w, n in zip(output, shape, strict=True))
    if not smaller or foreground >= SPARSE_FOREGROUND:
        return ""
    return f"{foreground:.2%} of the pixels are foreground, which many crops would miss"


def _foreground_share(shares: Mapping[int, float], *, background: bool) -> float:
    return 1 - shares.get(0, 0) if background else 1.0


def _is_hot(percentiles: tuple[float, ...]) -> bool:
    lowest, low, _, high, highest = percentiles
    return max(highest - high, low - lowest) > HOT_DISTANCE * (high - low) > 0


def _contrast(record: RecordStats) -> float:
    return max(high - low for _, low, _, high, _ in record.intensity)


def _range(records: Sequence[RecordStats]) -> tuple[float, float]:
    ends = [(c[0], c[-1]) for record in records for c in record.intensity]
    return min(low for low, _ in ends), max(high for _, high in ends)
