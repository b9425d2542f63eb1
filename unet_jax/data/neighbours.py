"""Content of consecutive images: a series, or unrelated pictures that are numbered.

In a series (slices of a stack, frames of a video) an image looks more like the next one
than like other images of the set, and more than like the one after the next. The second
condition excludes independent pictures that are sorted by kind.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import bdtrc

MIN_PAIRS = 5  # of neighbours, to decide anything
MAX_PAIRS = 4000
RARE = 0.1  # share of other pairs that look more alike than the typical neighbours
STEADY = 0.5  # correlation of details if the scene hardly changes
# Largest probabilities that independent pictures pass the two conditions.
CHANCES = 1e-3, 1e-2


class NeighbourStats(NamedTuple):
    """The similarity of neighbours in series of images.

    Attributes:
      alike: True if neighbours look alike.
      neighbours: the median correlation of the thumbnails of neighbours.
      others: the same of other pairs.
    """

    alike: bool
    neighbours: float
    others: float


def compare_neighbours(
    whole: np.ndarray, details: np.ndarray, series: Sequence[Sequence[int]]
) -> NeighbourStats:
    """Compares neighbours in series of images with other pairs of these images.

    Args:
      whole: thumbnails, from `correlate_thumbnails`.
      details: their details.
      series: the indices of the images of each series, in order.
    """
    pairs = _pairs_apart(series, 1)
    others = _random_pairs(series)
    if len(pairs) < MIN_PAIRS or not len(others):
        return NeighbourStats(alike=False, neighbours=0.0, others=0.0)
    near, far = _correlations(whole, pairs), _correlations(whole, others)
    closer = near > np.quantile(far, 1 - RARE)
    alike = _exceeds(closer, share=0.5, by_chance=RARE, limit=CHANCES[0])
    steady = np.median(_correlations(details, pairs)) > STEADY
    if alike and not steady:
        following = [one[:-1] for one in series]  # those with a second next one
        first = _correlations(whole, _pairs_apart(following, 1))
        closer = first > _correlations(whole, _pairs_apart(series, 2))
        few = len(closer) < MIN_PAIRS  # series of two images
        alike = few or _exceeds(closer, share=0.7, by_chance=0.5, limit=CHANCES[1])
    return NeighbourStats(bool(alike), float(np.median(near)), float(np.median(far)))


def _exceeds(
    passed: np.ndarray, *, share: float, by_chance: float, limit: float
) -> bool:
    """True if at least a share passed, which is improbable if each does by chance."""
    count = int(passed.sum())
    tail = bdtrc(count - 1, len(passed), by_chance) if count else 1.0
    return count >= share * len(passed) and tail < limit


def _pairs_apart(series: Sequence[Sequence[int]], distance: int) -> np.ndarray:
    """Returns pairs that are some places apart in a series, `int[N, 2]`."""
    pairs = [
        np.stack([one[:-distance], one[distance:]], 1)
        for one in map(np.asarray, series)
        if len(one) > distance
    ]
    every = np.concatenate(pairs) if pairs else np.zeros((0, 2), int)
    return every[:: -(-len(every) // MAX_PAIRS) or 1]


def _random_pairs(series: Sequence[Sequence[int]]) -> np.ndarray:
    """Returns pairs of images that are in different series or some places apart."""
    index = np.concatenate([np.asarray(one) for one in series])
    which = np.repeat(np.arange(len(series)), [len(one) for one in series])
    place = np.concatenate([np.arange(len(one)) for one in series])
    drawn = np.random.default_rng(0).integers(0, len(index), (MAX_PAIRS, 2))
    a, b = drawn.T
    apart = (which[a] != which[b]) | (abs(place[a] - place[b]) > 2)
    return index[np.unique(np.sort(drawn[apart], axis=1), axis=0)]


def _correlations(rows: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    return (rows[pairs[:, 0]] * rows[pairs[:, 1]]).sum(1)
