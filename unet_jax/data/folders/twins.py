"""Images that are the same, or nearly: what a model has seen must not test it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from unet_jax.data.account import Fact

# Products of two thumbnails above which images are near-duplicates: of the whole, and
# of the detail alone, as all images of one microscope share their light.
ALIKE, ALIKE_IN_DETAIL = 0.99, 0.9


class Twins(NamedTuple):
    """Two records, and whether their pixels are the same."""

    a: int
    b: int
    same: bool


def find(facts: Sequence[Fact]) -> list[Twins]:
    """Pairs of images whose pixels or thumbnails agree, by their places.

    Of many that are alike there are only as many pairs as join them all, those of the
    same pixels first. Flat images are nobody's twins.
    """
    if not facts:
        return []
    group = np.arange(len(facts))  # the first of those that are known to be alike
    whole = np.stack([fact.thumbnail for fact in facts])
    detail = _rows(whole - ndimage.uniform_filter(whole, (0, *[3] * (whole.ndim - 1))))
    whole = _rows(whole)
    seen = whole.any(axis=1)
    found, last = [], {}
    for i in np.flatnonzero(seen):
        if (a := last.get(facts[i].digest)) is not None:
            found.append(Twins(a, int(i), same=True))
            group[i] = group[a]
        last[facts[i].digest] = int(i)
    for i in np.unique(group[seen]):
        near = (whole[i:] @ whole[i] > ALIKE) & (
            detail[i:] @ detail[i] > ALIKE_IN_DETAIL
        )
        for j in i + np.flatnonzero(near):
            if group[j] != group[i]:
                found.append(Twins(int(i), int(j), same=False))
                group[group == group[j]] = group[i]
    return found


def groups(names: Sequence[str], twins: Sequence[Twins]) -> list[str]:
    """The group of each record, after those of twins have become one."""
    parent = {name: name for name in names}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = name = parent[parent[name]]
        return name

    for a, b, _ in twins:
        first, second = sorted((root(names[a]), root(names[b])))
        parent[second] = first
    return [root(name) for name in names]


def _rows(pictures: np.ndarray) -> np.ndarray:
    """Each as a row of length 1, or 0 if there is nothing to see."""
    rows = pictures.reshape(len(pictures), -1)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 1e-6, length, np.inf)
