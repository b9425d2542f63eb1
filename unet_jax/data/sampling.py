"""Where crops are taken: how often a crop is made to hold a pixel of some class.

Each function takes the ids of the classes that an image has, `i64[n]` in rising order,
and returns the chance of each, `f64[n]`, to have one of its pixels, any of them alike,
in the crop. What is left of 1 is the chance of a crop from anywhere. Of independent
classes the channels count from 1, and 0 is a pixel where none is.
"""

from collections.abc import Callable

import numpy as np

from unet_jax.specs import Proportion

__all__ = ["balanced", "foreground", "uniform"]

MOST = 4096  # pixels of a class that are kept for each image

Sample = Callable[[np.ndarray], np.ndarray]
Places = tuple[np.ndarray, np.ndarray]  # pixels, and the sums of their chances


def uniform(classes: np.ndarray) -> np.ndarray:
    """Every crop from anywhere: `f64[n]` of 0."""
    return np.zeros(len(classes))


def foreground(classes: np.ndarray, *, probability: Proportion = 1 / 3) -> np.ndarray:
    """A class above 0 with this probability, shared equally among those there are.

    nnU-Net's oversampling (Isensee et al. 2021, online methods), which takes a third of
    every batch; here it is a third of all crops, and each is drawn by itself.
    """
    there = classes > 0
    return probability * there / max(there.sum(), 1)


def balanced(classes: np.ndarray) -> np.ndarray:
    """Always some class, all that there are alike, the background among them."""
    return np.full(len(classes), 1 / max(len(classes), 1))


def places(label: np.ndarray, axes: int, sample: Sample) -> Places | None:
    """The pixels that the crops of one image are drawn by, found once.

    Args:
      label: `i32[*S]` or `i32[*S, K]`; what is negative is never chosen.
      axes: how many of its axes are spatial.
      sample: a function of this module.

    Returns:
      The pixels `i32[n, axes]`, of each class at most `MOST` in even steps, and the
      sums `f64[n]` of their chances up to each; None where all chances are 0.
    """
    classes = _ids(label, axes)
    found, chances = [], []
    for k, chance in zip(classes, sample(np.array(classes, int)), strict=True):
        if chance > 0:
            mask = _mask(label, axes, k)
            pixels = np.flatnonzero(mask)
            if len(pixels) > MOST:
                even = np.linspace(0, len(pixels) - 1, MOST)
                pixels = pixels[even.round().astype(int)]
            found.append(np.stack(np.unravel_index(pixels, mask.shape), axis=1))
            chances.append(np.full(len(pixels), chance / len(pixels)))
    if not found:
        return None
    return np.concatenate(found).astype(np.int32), np.concatenate(chances).cumsum()


def draw(places: Places | None, rng: np.random.Generator) -> np.ndarray | None:
    """Draws the pixel `i32[axes]` that a crop must hold; None if it is free."""
    if places is None:
        return None
    pixels, chances = places
    # a sum of chances may miss 1 by its rounding, which must not mean "from anywhere"
    whole = 1.0 if chances[-1] < 1 - 1e-9 else chances[-1]
    index = int(np.searchsorted(chances, whole * rng.random(), side="right"))
    return pixels[index] if index < len(chances) else None


def _ids(label: np.ndarray, axes: int) -> list[int]:
    """The classes that there are."""
    if label.ndim > axes:
        every = range(label.shape[-1] + 1)
        return [k for k in every if _mask(label, axes, k).any()]
    counts = np.bincount(np.maximum(label, -1).ravel() + 1)
    return np.flatnonzero(counts[1:]).tolist()


def _mask(label: np.ndarray, axes: int, k: int) -> np.ndarray:
    """Where a class is."""
    if label.ndim == axes:
        return label == k
    if k > 0:
        return label[..., k - 1] > 0
    return (label <= 0).all(-1) & (label == 0).any(-1)
