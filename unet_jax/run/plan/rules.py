"""The rules of a plan: what suits a data set, from what was found in it.

In what they look at they follow the fingerprint of nnU-Net (Isensee et al. 2021, Nature
Methods 18:203): median shape and spacing, intensities, and how much there is of all.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from unet_jax.data.dataset_report import total_pixels
from unet_jax.data.record import RecordStats
from unet_jax.report.words import shape as times

COVERED = 0.05  # of the training pixels that a batch may show
MOST = 32  # examples in a batch
ALIKE = 1.01  # spacings that differ by less are the same
HOT = 5.0  # times the range of nearly all pixels that hot ones are away from it
FLAT = 0.02  # of the range of all images, that a flat one's pixels are within
SOME = 0.1  # of the images, from which on they decide the normalisation
RARE = 0.01  # of the pixels: a class that should weigh more
SPARSE = 0.1  # of the pixels: a foreground that crops should be drawn to


class Choice(NamedTuple):
    """A field of the config, its value and why."""

    field: str  # 'model.widths'
    value: Any
    reason: str


def spacing(facts: Sequence[RecordStats]) -> Choice:
    """The median size of a pixel along each axis, where images differ in theirs.

    Of volumes that do not, it is theirs: nothing changes but for others, later.
    """
    known = [fact.spacing for fact in facts if fact.spacing]
    if not known:
        return Choice("spacing", (), "the size of a pixel is not known")
    if len(known) < len(facts):
        unknown = f"the size of a pixel is not known of {len(facts) - len(known)} of"
        return Choice("spacing", (), f"{unknown} {len(facts)} images")
    least, most = np.min(known, axis=0), np.max(known, axis=0)
    if (most <= ALIKE * least).all():
        same, volumes = f"all pixels are {times(known[0])}", len(known[0]) > 2
        if not volumes:
            return Choice("spacing", (), f"{same}; nothing is resampled")
        return Choice("spacing", known[0], f"{same}; other files are brought to that")
    median = tuple(float(f"{x:.4g}") for x in np.median(known, axis=0))
    differ = f"pixels are from {times(least)} to {times(most)}"
    return Choice("spacing", median, f"{differ}; these are the medians")


def median(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The median along each axis, rounded up."""
    return tuple(math.ceil(size) for size in np.median(shapes, axis=0))


def batch_size(
    pixels: int, answered: int, *, least: int, replicas: int, most: int = MOST
) -> int:
    """As many examples as answer for 5 % of the training set, which devices can share.

    Args:
      pixels: of the training set.
      answered: pixels that one example answers for.
      least: examples, whatever they cover.
      replicas: devices to share them; they get one each at least.
      most: examples.
    """
    share = max(min(int(COVERED * pixels / answered), most), least)
    return max(share // replicas, 1) * replicas


def normalize(facts: Sequence[RecordStats]) -> Choice:
    """By mean and variance, unless hot pixels or flat images speak against it.

    Hot pixels are not clipped where the foreground is so rare that it may be them.
    """
    hot = sum(any(map(_is_hot, fact.intensity)) for fact in facts)
    low, high = _range(facts)
    flat = sum(_spread(fact) < FLAT * (high - low) for fact in facts)
    integer = [np.iinfo(f.dtype).max for f in facts if np.dtype(f.dtype).kind in "iu"]
    fills = len(integer) == len(facts) and high > max(integer) / 4
    parts = shares(facts)
    if hot > SOME * len(facts) and 1 - parts.get(0, 0) > RARE:
        value = {"name": "percentile", "low": 0.5, "high": 99.5}
        away = f"a few pixels are more than {HOT:g} times the range of all others away"
        return Choice("normalize", value, f"{away}, in {hot} of {len(facts)} images")
    if flat > SOME * len(facts) and fills:
        alike = f"{flat} of {len(facts)} images are nearly flat"
        reason = f"{alike}, whose noise would be made as large as the others' contrast"
        return Choice("normalize", {"name": "unit"}, reason)
    reason = "every image to mean 0 and variance 1; no hot pixels stretch the range"
    return Choice("normalize", {"name": "standard"}, reason)


def shares(facts: Sequence[RecordStats]) -> dict[int, float]:
    """The share of each class id in the annotated pixels, whether it is there or not.

    Of independent classes a pixel may have several; then they sum to more than 1.
    """
    total = {k: pixels for k, pixels in total_pixels(facts).items() if k >= 0}
    return {k: pixels / sum(total.values()) for k, pixels in total.items()}


def rarest(parts: Mapping[int, float], classes: Sequence[str]) -> tuple[bool, str]:
    """Whether the rarest class that is there should weigh more, and what it is."""
    if not parts:
        return False, "nothing is annotated"
    k = min(parts, key=parts.__getitem__)
    why = f"{classes[k]}, the rarest class, is {parts[k]:.2%} of the pixels"
    return parts[k] < RARE, why


def sparse(
    parts: Mapping[int, float], window: tuple[int, ...], shape: tuple[int, ...]
) -> str:
    """The foreground, in words, if many windows into an image would miss it."""
    foreground = 1 - parts.get(0, 0)
    part = any(w < n for w, n in zip(window, shape, strict=True))
    if not part or foreground >= SPARSE:
        return ""
    return f"{foreground:.2%} of the pixels are foreground, which many crops would miss"


def _is_hot(percentiles: tuple[float, ...]) -> bool:
    lowest, low, _, high, highest = percentiles
    return max(highest - high, low - lowest) > HOT * (high - low) > 0


def _spread(fact: RecordStats) -> float:
    return max(high - low for _, low, _, high, _ in fact.intensity)


def _range(facts: Sequence[RecordStats]) -> tuple[float, float]:
    ends = [(c[0], c[-1]) for fact in facts for c in fact.intensity]
    return min(low for low, _ in ends), max(high for _, high in ends)
