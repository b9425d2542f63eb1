"""Sampling of training crops: the probability that a crop contains a given class.

Each function takes the class ids of an image, `i64[n]` in rising order, and returns a
probability for each class, `f64[n]`. With this probability, the crop must contain a
random pixel of the class. With the remaining probability, it can be anywhere.
Independent classes are numbered from 1, and 0 stands for pixels without a class.
"""

from collections.abc import Callable

import numpy as np

from unet_jax.specs import Proportion

__all__ = ["balanced", "foreground", "uniform"]

MAX_PIXELS = 4096  # of a class that are stored for each image

ClassChances = Callable[[np.ndarray], np.ndarray]
CropPlaces = tuple[np.ndarray, np.ndarray]  # pixels, and cumulative chances


def uniform(classes: np.ndarray) -> np.ndarray:
    """Takes every crop from anywhere: `f64[n]` of 0."""
    return np.zeros(len(classes))


def foreground(classes: np.ndarray, *, probability: Proportion = 1 / 3) -> np.ndarray:
    """Takes a class above 0 with this probability, each class with the same chance.

    Each crop has this probability independently. The oversampling of nnU-Net (Isensee
    et al. 2021, online methods) takes the last third of every batch: probability=1 and
    `config.sampling_share=0.33`.
    """
    foreground_classes = classes > 0
    return probability * foreground_classes / max(foreground_classes.sum(), 1)


def balanced(classes: np.ndarray) -> np.ndarray:
    """Takes one of the classes of the image, with equal chances for all."""
    return np.full(len(classes), 1 / max(len(classes), 1))


def count_free_rows(share: float, size: int) -> int:
    """Returns the number of rows of a batch, the first ones, that are not sampled.

    Args:
      share: of the rows whose crops a function of this module places.
      size: the number of rows.
    """
    return round(size * (1 - share))


def find_places(
    label: np.ndarray, axes: int, chances: ClassChances
) -> CropPlaces | None:
    """Finds the pixels that crops of one image may have to contain.

    Args:
      label: `i32[*S]` or `i32[*S, K]`; ignored pixels are never chosen.
      axes: the number of spatial axes.
      chances: a function of this module.

    Returns:
      The pixels `i32[n, axes]`, at most `MAX_PIXELS` of each class in even steps, and
      their cumulative chances `f64[n]`; None if all chances are 0.
    """
    classes = _present_classes(label, axes)
    found, chance_of = [], []
    for k, chance in zip(classes, chances(np.array(classes, int)), strict=True):
        if chance > 0:
            mask = _class_mask(label, axes, k)
            pixels = np.flatnonzero(mask)
            if len(pixels) > MAX_PIXELS:
                even = np.linspace(0, len(pixels) - 1, MAX_PIXELS)
                pixels = pixels[even.round().astype(int)]
            found.append(np.stack(np.unravel_index(pixels, mask.shape), axis=1))
            chance_of.append(np.full(len(pixels), chance / len(pixels)))
    if not found:
        return None
    return np.concatenate(found).astype(np.int32), np.concatenate(chance_of).cumsum()


def draw_place(
    places: CropPlaces | None, rng: np.random.Generator
) -> np.ndarray | None:
    """Draws the pixel `i32[axes]` that a crop must contain; None for no condition."""
    if places is None:
        return None
    pixels, chances = places
    # the sum of all chances may differ from 1 by rounding
    whole = 1.0 if chances[-1] < 1 - 1e-9 else chances[-1]
    index = int(np.searchsorted(chances, whole * rng.random(), side="right"))
    return pixels[index] if index < len(chances) else None


def _present_classes(label: np.ndarray, axes: int) -> list[int]:
    if label.ndim > axes:
        every = range(label.shape[-1] + 1)
        return [k for k in every if _class_mask(label, axes, k).any()]
    counts = np.bincount(np.maximum(label, -1).ravel() + 1)
    return np.flatnonzero(counts[1:]).tolist()


def _class_mask(label: np.ndarray, axes: int, k: int) -> np.ndarray:
    if label.ndim == axes:
        return label == k
    if k > 0:
        return label[..., k - 1] > 0
    return (label <= 0).all(-1) & (label == 0).any(-1)
