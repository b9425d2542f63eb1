"""Images that are the same, or nearly: none may be in training and in the test."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from unet_jax.data.account import Fact

# Products of two thumbnails above which images are near-duplicates: of the whole, and
# of the detail alone, as all images of one microscope share their light.
ALIKE, ALIKE_IN_DETAIL = 0.99, 0.9
BLOCK = 256  # thumbnails that are compared with all others at once


class Twins(NamedTuple):
    """Two records, and whether their pixels are the same."""

    a: int
    b: int
    same: bool


def find(facts: Sequence[Fact]) -> list[Twins]:
    """Returns pairs of images whose pixels or thumbnails agree, by their places.

    Of many that are alike there are only as many pairs as join them all, those of the
    same pixels first. Constant images are never reported.
    """
    if not facts:
        return []
    group = np.arange(len(facts))  # the first of those that are known to be alike
    pictures = np.stack([fact.thumbnail for fact in facts]).astype(np.float32)
    whole = _rows(pictures)
    pictures = whole.reshape(pictures.shape)
    smooth = ndimage.uniform_filter(pictures, (0, *[3] * (pictures.ndim - 1)))
    detail = _rows(pictures - smooth)
    seen = whole.any(axis=1)
    found, last = [], {}
    for i in np.flatnonzero(seen):
        if (a := last.get(facts[i].digest)) is not None:
            found.append(Twins(a, int(i), same=True))
            group[i] = group[a]
        last[facts[i].digest] = int(i)
    for i, near in _near(whole, detail, np.unique(group[seen])):
        for j in near[group[near] != group[i]]:
            if group[j] != group[i]:
                found.append(Twins(int(i), int(j), same=False))
                group[group == group[j]] = group[i]
    return found


def groups(names: Sequence[str], twins: Sequence[Twins]) -> list[str]:
    """Returns the group of each record, after those of twins have become one."""
    parent = {name: name for name in names}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = name = parent[parent[name]]
        return name

    for a, b, _ in twins:
        first, second = sorted((root(names[a]), root(names[b])))
        parent[second] = first
    return [root(name) for name in names]


def _near(
    whole: np.ndarray, detail: np.ndarray, chosen: np.ndarray
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields each chosen row, and the rows from it on that are nearly the same."""
    for start in range(0, len(chosen), BLOCK):
        rows = chosen[start : start + BLOCK]
        first = rows[0]
        alike = whole[rows] @ whole[first:].T > ALIKE
        alike[np.arange(len(rows)), rows - first] = False  # each is like itself
        if not alike.any():
            continue
        alike &= detail[rows] @ detail[first:].T > ALIKE_IN_DETAIL
        for i, near in zip(rows, alike, strict=True):
            others = first + np.flatnonzero(near)
            yield i, others[others > i]


def _rows(pictures: np.ndarray) -> np.ndarray:
    """Returns each as a row of length 1, or 0 if there is nothing to see."""
    rows = pictures.reshape(len(pictures), -1)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 1e-6, length, np.inf)
