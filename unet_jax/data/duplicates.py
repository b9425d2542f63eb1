"""Equal and nearly equal images, which must not be in training and in the test set."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from unet_jax.data.dataset_report import Issue
from unet_jax.data.record import RecordStats

# Images are nearly equal if the correlation of their thumbnails is above the first
# number, and that of the details above the second: images of one microscope share
# their illumination, but not their details.
SIMILAR, SIMILAR_DETAILS = 0.99, 0.9
BLOCK = 256  # thumbnails that are compared with all others at a time


class Duplicate(NamedTuple):
    """Two equal or nearly equal images.

    Attributes:
      a, b: the indices of the records.
      identical: True if all pixels are equal.
    """

    a: int
    b: int
    identical: bool


def find_duplicates(records: Sequence[RecordStats]) -> list[Duplicate]:
    """Finds pairs of images with equal pixels or nearly equal thumbnails.

    Of a group of similar images, only the pairs that are needed to connect the group
    are returned, pairs of equal pixels first. Constant images are never reported.
    """
    if not records:
        return []
    group = np.arange(len(records))  # the group of each image: the index of one member
    thumbnails = np.stack([r.thumbnail for r in records]).astype(np.float32)
    whole = _unit_rows(thumbnails)
    thumbnails = whole.reshape(thumbnails.shape)
    smooth = ndimage.uniform_filter(thumbnails, (0, *[3] * (thumbnails.ndim - 1)))
    details = _unit_rows(thumbnails - smooth)
    varies = whole.any(axis=1)
    found, last = [], {}
    for i in np.flatnonzero(varies).tolist():
        if (a := last.get(records[i].digest)) is not None:
            found.append(Duplicate(a, i, identical=True))
            group[i] = group[a]
        last[records[i].digest] = i
    for i, similar in _similar_rows(whole, details, np.unique(group[varies])):
        for j in similar[group[similar] != group[i]]:
            if group[j] != group[i]:
                found.append(Duplicate(int(i), int(j), identical=False))
                group[group == group[j]] = group[i]
    return found


def join_groups(names: Sequence[str], duplicates: Sequence[Duplicate]) -> list[str]:
    """Merges the groups that duplicates connect; returns the group of each record."""
    parent = {name: name for name in names}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = name = parent[parent[name]]
        return name

    for a, b, _ in duplicates:
        first, second = sorted((root(names[a]), root(names[b])))
        parent[second] = first
    return [root(name) for name in names]


def check_leaks(
    records: Sequence[RecordStats], duplicates: Sequence[Duplicate], leaks: str
) -> Iterator[Issue]:
    """Yields issues of images that are in two splits, or twice in one.

    The duplicates are from `find_duplicates`. If `leaks` is 'allow', equal images of
    two splits are a warning.
    """
    similar = []
    for a, b, identical in duplicates:
        one, other = records[a], records[b]
        if not (one.split and other.split):
            continue
        names = [r.image if one.image != other.image else r.id for r in (one, other)]
        pair = f"image as {names[0]} ({one.split})"
        if one.split == other.split and identical:
            text = f"{names[1]}: the same pixels as {names[0]}; remove one"
            yield Issue("warning", "duplicate", text)
        elif one.split != other.split and identical:
            text = f"{names[1]} ({other.split}): the same {pair}; remove one, because "
            text += "the scores would be too high"
            refused = leaks != "allow" and one.image != other.image
            yield _leak(text, refused=refused)
        elif one.split != other.split:
            similar.append(f"{names[1]} ({other.split}): nearly the same {pair}")
    if similar:
        text = f"{similar[0]}{_others(similar)}; the scores may be too high"
        yield Issue("warning", "leak", text)


def check_unlabelled_leaks(
    records: Sequence[RecordStats], unlabelled: Sequence[RecordStats], leaks: str
) -> Iterator[Issue]:
    """Yields an issue if unlabelled images are also in the validation or test split.

    If `leaks` is 'allow', it is a warning.
    """
    held_out = {r.digest: r for r in records if r.split in ("val", "test")}
    same = [(r, held_out[r.digest]) for r in unlabelled if r.digest in held_out]
    same = [(record, other) for record, other in same if record.thumbnail.any()]
    if same:
        record, other = same[0]
        text = f"{record.image}: the same image as {other.image} ({other.split})"
        text += f"{_others(same)}; remove the unlabelled image, because training must "
        yield _leak(text + "not see it", refused=leaks != "allow")


def _leak(text: str, *, refused: bool) -> Issue:
    if refused:
        return Issue("error", "leak", f"{text}, or set --config.data.leaks=allow")
    return Issue("warning", "leak", text)


def _others(pairs: Sequence[object]) -> str:
    more = len(pairs) - 1
    return f", and {more:,} more like this" if more else ""


def _similar_rows(
    whole: np.ndarray, details: np.ndarray, chosen: np.ndarray
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields each chosen row and the later rows that are nearly equal to it."""
    for start in range(0, len(chosen), BLOCK):
        rows = chosen[start : start + BLOCK]
        first = rows[0]
        similar = whole[rows] @ whole[first:].T > SIMILAR
        similar[np.arange(len(rows)), rows - first] = False  # each equals itself
        if not similar.any():
            continue
        similar &= details[rows] @ details[first:].T > SIMILAR_DETAILS
        for i, of_row in zip(rows, similar, strict=True):
            others = first + np.flatnonzero(of_row)
            yield i, others[others > i]


def _unit_rows(thumbnails: np.ndarray) -> np.ndarray:
    """Returns each thumbnail as a row of length 1, or 0 if it is constant."""
    rows = thumbnails.reshape(len(thumbnails), -1)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 1e-6, length, np.inf)
