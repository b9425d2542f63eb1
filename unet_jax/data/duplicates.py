"""Equal and nearly equal images, which must not be in training and in the test set."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from unet_jax.data.dataset_report import Issue
from unet_jax.data.record import RecordStats
from unet_jax.data.similar_images import (
    Groups,
    correlate_thumbnails,
    find_similar_pairs,
)


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
    groups = Groups(len(records))
    whole, details = correlate_thumbnails([r.thumbnail for r in records])
    found, last = [], {}
    for i in np.flatnonzero(whole.any(axis=1)).tolist():
        if (a := last.get(records[i].digest)) is not None:
            found.append(Duplicate(a, i, identical=True))
            groups.join(a, i)
        last[records[i].digest] = i
    for a, b in find_similar_pairs(whole, details, groups):
        found.append(Duplicate(a, b, identical=False))
    return found


def name_duplicates(
    records: Sequence[RecordStats], duplicates: Sequence[Duplicate]
) -> tuple[tuple[str, str, bool], ...]:
    """Returns duplicates with the ids of the records instead of their indices."""
    return tuple((records[a].id, records[b].id, same) for a, b, same in duplicates)


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
