"""Images that are the same, or nearly: what a model has seen must not test it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from unet_jax.data.account import Fact

# Products of two thumbnails above which images are near-duplicates: of the whole, and
# of the detail alone, as all images of one microscope share their light.
ALIKE, ALIKE_IN_DETAIL = 0.99, 0.9
BLOCK = 2048  # images that are compared with all others at a time


class Twins(NamedTuple):
    """Two records, `a` before `b`, and whether their pixels are the same."""

    a: int
    b: int
    same: bool


def find(facts: Sequence[Fact]) -> list[Twins]:
    """All pairs of images whose pixels or thumbnails agree, by their places."""
    if not facts:
        return []
    digests = np.unique([fact.digest for fact in facts], return_inverse=True)[1]
    whole = np.stack([fact.thumbnail for fact in facts])
    detail = whole - ndimage.uniform_filter(whole, (0, *[3] * (whole.ndim - 1)))
    whole, detail = _rows(whole), _rows(detail)
    found = []
    for start in range(0, len(facts), BLOCK):
        rows = slice(start, start + BLOCK)
        near = whole[rows] @ whole.T > ALIKE
        near &= detail[rows] @ detail.T > ALIKE_IN_DETAIL
        near |= digests[rows, None] == digests
        near &= np.arange(len(facts)) > np.arange(len(facts))[rows, None]
        found += [
            Twins(int(a) + start, int(b), bool(digests[a + start] == digests[b]))
            for a, b in zip(*near.nonzero(), strict=True)
        ]
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
