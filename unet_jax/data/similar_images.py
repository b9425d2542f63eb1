"""Pairs of nearly equal images, found by their thumbnails in near-linear time.

Two images are nearly equal if the correlation of their thumbnails is above `SIMILAR`,
and that of the details, the differences from the means of 3 x 3 blocks, is above
`SIMILAR_DETAILS`: images of one microscope share their illumination, but not their
details.

Up to `EXHAUSTIVE` images, all pairs are compared. Of more images, pairs are compared
that share a hash: the signs of random projections (Charikar 2002, Similarity estimation
techniques from rounding algorithms). There are `TABLES` hashes of each image. Of a
million images, a pair just above both thresholds shares one of them with a probability
of 0.99; of fewer images, or a more similar pair, nearly always. Where more than
`WINDOW` images share a hash, each is compared with its neighbours only: if a million
images share their illumination, the probability is about 0.94.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import ndimage

from unet_jax.progress import iterate_with_progress

SIMILAR, SIMILAR_DETAILS = 0.99, 0.9
BLOCK = 256  # thumbnails that are compared with all others at a time
EXHAUSTIVE = 4096  # images of which all pairs are compared
TABLES = 40
WINDOW = 32  # images of one hash that each of them is compared with
DIMENSIONS = 32  # of the projections that reject most pairs
PAIRS = 2**15  # that are compared at a time


class Groups:
    """Disjoint sets of images, which are joined pair by pair."""

    def __init__(self, count: int) -> None:
        self.of = np.arange(count)  # the group of each image: the index of a member
        self._members = {i: [i] for i in range(count)}

    def join(self, a: int, b: int) -> bool:
        """Joins the groups of two images; returns False if they are the same."""
        first, second = int(self.of[a]), int(self.of[b])
        if first == second:
            return False
        if len(self._members[first]) < len(self._members[second]):
            first, second = second, first
        moved = self._members.pop(second)
        self._members[first] += moved
        self.of[moved] = first
        return True


def correlate_thumbnails(
    thumbnails: Sequence[np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Returns thumbnails and their details as rows whose products are correlations.

    Args:
      thumbnails: from `measure_image`, all of one shape.

    Returns:
      Two arrays `f32[N, pixels]`; rows have length 1, or 0 if they are constant.
    """
    whole = np.stack(thumbnails).astype(np.float32)
    rows = _unit_rows(whole)
    whole = rows.reshape(whole.shape)
    smooth = ndimage.uniform_filter(whole, (0, *[3] * (whole.ndim - 1)))
    return rows, _unit_rows(whole - smooth)


def find_similar_pairs(
    whole: np.ndarray, details: np.ndarray, groups: Groups
) -> Iterator[tuple[int, int]]:
    """Joins the groups of nearly equal images; yields the pairs that joined two groups.

    Args:
      whole: thumbnails, from `correlate_thumbnails`. Constant ones are similar to none.
      details: their details.
      groups: groups of equal images; one image of each is compared.
    """
    chosen = np.unique(groups.of[whole.any(axis=1)])
    search = _compare_all if len(chosen) <= EXHAUSTIVE else _compare_hashed
    yield from search(whole, details, chosen, groups)


def _compare_all(
    whole: np.ndarray, details: np.ndarray, chosen: np.ndarray, groups: Groups
) -> Iterator[tuple[int, int]]:
    for start in range(0, len(chosen), BLOCK):
        rows = chosen[start : start + BLOCK]
        first = rows[0]
        similar = whole[rows] @ whole[first:].T > SIMILAR
        similar[np.arange(len(rows)), rows - first] = False  # each equals itself
        if not similar.any():
            continue
        similar &= details[rows] @ details[first:].T > SIMILAR_DETAILS
        for i, of_row in zip(rows.tolist(), similar, strict=True):
            others = first + np.flatnonzero(of_row)
            others = others[(others > i) & (groups.of[others] != groups.of[i])]
            yield from ((i, j) for j in others.tolist() if groups.join(i, j))


def _compare_hashed(
    whole: np.ndarray, details: np.ndarray, chosen: np.ndarray, groups: Groups
) -> Iterator[tuple[int, int]]:
    whole, details = whole[chosen], details[chosen]
    rng = np.random.default_rng(0)
    bits = int(np.log2(len(chosen))) + 3
    projected = details @ _principal_axes(details)
    title = f"comparing {len(chosen):,} images"
    for _ in iterate_with_progress(range(TABLES), TABLES, title):
        drawn = rng.standard_normal((whole.shape[1], bits + 1), np.float32)
        of_whole, of_details = np.split(drawn, [bits // 2], axis=1)
        signs = np.concatenate(
            [whole @ of_whole > 0, details @ of_details[:, 1:] > 0], axis=1
        )
        codes = signs @ (1 << np.arange(bits))
        # in a large bucket, neighbours along one more projection are compared
        order = np.lexsort((details @ of_details[:, 0], codes))
        for distance in range(1, WINDOW + 1):
            equal = codes[order[:-distance]] == codes[order[distance:]]
            if not equal.any():
                break
            first, second = order[:-distance][equal], order[distance:][equal]
            of = groups.of[chosen]
            apart = of[first] != of[second]
            first, second = first[apart], second[apart]
            for start in range(0, len(first), PAIRS):
                a, b = first[start : start + PAIRS], second[start : start + PAIRS]
                similar = _are_similar(whole, details, projected, a, b)
                pairs = np.sort(chosen[np.stack([a[similar], b[similar]], 1)], axis=1)
                yield from ((i, j) for i, j in pairs.tolist() if groups.join(i, j))


def _are_similar(
    whole: np.ndarray,
    details: np.ndarray,
    projected: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
) -> np.ndarray:
    """Compares rows `a` with rows `b`; returns `bool[pairs]`."""
    # a projection never increases a distance, so most pairs need no more than it
    gap = np.square(projected[a] - projected[b]).sum(1)
    similar = gap < 2 - 2 * SIMILAR_DETAILS
    for rows, threshold in ((details, SIMILAR_DETAILS), (whole, SIMILAR)):
        i, j = a[similar], b[similar]
        similar[similar] = (rows[i] * rows[j]).sum(1) > threshold
    return similar


def _principal_axes(rows: np.ndarray) -> np.ndarray:
    """Returns the directions of the largest variances, `f32[pixels, DIMENSIONS]`."""
    _, vectors = np.linalg.eigh(np.cov(rows.T))
    return vectors[:, -DIMENSIONS:].astype(np.float32)


def _unit_rows(thumbnails: np.ndarray) -> np.ndarray:
    """Returns each thumbnail as a row of length 1, or 0 if it is constant."""
    rows = thumbnails.reshape(len(thumbnails), -1)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 1e-6, length, np.inf)
