"""Pages that may show the same subject, by the names of files and by their content."""

import itertools
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import NamedTuple

from unet_jax.data import files
from unet_jax.data.dataset_report import Issue
from unet_jax.data.folders.series import (
    NamedGroups,
    find_named_groups,
    find_series,
    group_flag,
)
from unet_jax.data.folders.survey import Page
from unet_jax.data.neighbours import NeighbourStats, compare_neighbours
from unet_jax.data.similar_images import correlate_thumbnails
from unet_jax.text import listing

APART = "--config.data.series=apart"
LEAKED = 1 / 3  # share of held-out images with a neighbour in training that is reported


class PageGroups(NamedTuple):
    """Files that may show the same subject.

    Attributes:
      paths: the image files, in order: those outside a series, then series by series.
      group: of each file; a file that belongs to no other is a group of its own.
      named: the groups of names; None if the names give no grouping.
      neighbours: the similarity of consecutive files.
      consecutive: pairs of files that follow each other in a series.
    """

    paths: tuple[Path, ...]
    group: Mapping[Path, str]
    named: NamedGroups | None
    neighbours: NeighbourStats
    consecutive: tuple[tuple[Path, Path], ...]

    @property
    def found(self) -> bool:
        """True if files should not be split at random."""
        return self.neighbours.alike or bool(self.named and self.named.certain)


def find_page_groups(pages: Sequence[Page]) -> PageGroups:
    """Finds files that may show the same subject; pages of one file are one image."""
    of_file: dict[Path, list[int]] = {}
    for i, page in enumerate(pages):
        of_file.setdefault(page.pair.image, []).append(i)
    paths = list(of_file)
    folders = [_folder(pages[of_file[path][0]]) for path in paths]
    named = find_named_groups(paths, folders)
    series = [one for one in find_series(paths, folders) if len(one) > 1]
    middle = [of_file[path][len(of_file[path]) // 2] for path in paths]
    stats = NeighbourStats(alike=False, neighbours=0.0, others=0.0)
    if 2 * sum(map(len, series)) > len(paths):
        thumbnails = [pages[i].stats.thumbnail for i in middle]
        stats = compare_neighbours(*correlate_thumbnails(thumbnails), series)
    inside = {i for one in series for i in one}
    order = [i for i in range(len(paths)) if i not in inside]
    order += [i for one in sorted(series) for i in one]
    group = {path: str(path) for path in paths}
    for one in series if stats.alike else []:
        group |= {paths[i]: str(paths[one[0]]) for i in one}
    if named:
        group |= dict(zip(paths, named.groups, strict=True))
    return PageGroups(
        tuple(paths[i] for i in order),
        group,
        named,
        stats,
        tuple(
            (paths[a], paths[b]) for one in series for a, b in itertools.pairwise(one)
        ),
    )


def _folder(page: Page) -> str:
    """Returns the folder of the image, without 'train', 'val' or 'test' in it."""
    *parts, _ = page.pair.image.parts
    if page.pair.split:
        home, _, _ = page.pair.id.partition("/")
        parts = [part for part in parts if part != home]
    return "/".join(parts)


def describe_kept(
    found: PageGroups, split: Mapping[Path, str], *, whole: bool
) -> Issue:
    """Returns the warning that consecutive images were kept together.

    Args:
      found: groups whose neighbours are alike.
      split: of each file.
      whole: True if no group was divided.
    """
    near, far = found.neighbours.neighbours, found.neighbours.others
    text = f"consecutive images look alike (correlation {near:.2f}, of other pairs "
    text += f"{far:.2f}), so "
    if whole:
        text += "whole series are in one split"
    else:
        text += "the splits are blocks of consecutive images: "
        parts = []
        for name in dict.fromkeys(split.values()):
            of_split = [path for path in found.paths if split[path] == name]
            first, last = files.stem(of_split[0]), files.stem(of_split[-1])
            parts.append(f"{name} {first}" + (f" to {last}" if last != first else ""))
        text += ", ".join(parts)
    if flag := _usable_flag(found, needed=3):
        text += f"; {flag} keeps the groups of names together"
    return Issue("warning", "series", f"{text}; {APART} splits at random")


def check_page_groups(
    found: PageGroups,
    split: Mapping[Path, str],
    given: Mapping[Path, str],
    *,
    needed: int,
    from_file: bool,
) -> Iterator[Issue]:
    """Yields a warning if images that may show the same subject are in two splits.

    Args:
      found: the groups of all files.
      split: of each file.
      given: the split of the folder that each file is in; '' for a new one.
      needed: the number of groups that a new split needs.
      from_file: True if the splits are those of a file.
    """
    fixed = {path for path in found.paths if given[path] in ("val", "test")}
    checked = set(found.paths)
    if found.neighbours.alike and not from_file:
        checked = fixed  # new splits are blocks, which always meet
    divided = _divided_groups(found, split, fixed)
    divided = [pair for pair in divided if not checked.isdisjoint(pair)]
    if found.named and found.found and divided:
        a, b = divided[0]
        text = f"{a.name} ({split[a]}) and {b.name} ({split[b]}) may show the same "
        text += "subject, as their names say"
        more = len(divided) - 1
        noun = "group is" if more == 1 else "groups are"
        text += f", and {more:,} more {noun} divided" if more else ""
        flag = _usable_flag(found, needed)
        remedy = f"if so, set {flag}" if flag else "if so, give the splits as folders"
        if from_file:
            remedy = "if so, start a new run" + (f" with {flag}" if flag else "")
        elif a in fixed:
            remedy = "if so, move the files of each subject into one split"
        yield Issue("warning", "series", f"{text}; {remedy}, else {APART}")
        return
    held_out = {path for path in checked if split[path] in ("val", "test")}
    leaked = {
        path
        for pair in found.consecutive
        for path in pair
        if path in held_out and {split[p] for p in pair} != {split[path]}
    }
    if found.neighbours.alike and len(leaked) > max(LEAKED * len(held_out), 1):
        names = listing(sorted(path.name for path in leaked), 3)
        text = (
            f"{names}: consecutive images look alike, and these are next to an image "
        )
        text += "of another split, so the scores may be too high"
        remedy = "give blocks of consecutive images to each split"
        yield Issue("warning", "series", f"{text}; {remedy}, or set {APART}")


def _usable_flag(found: PageGroups, needed: int) -> str:
    """Returns the flag for the groups of the names; '' if it would be refused."""
    named = found.named
    if not named or not named.pattern or len(set(named.groups)) < needed:
        return ""
    return group_flag(named.pattern) if named.pattern.isprintable() else ""


def _divided_groups(
    found: PageGroups, split: Mapping[Path, str], fixed: Set[Path]
) -> list[tuple[Path, Path]]:
    """Returns two files in different splits of each group that has such.

    The first one is in `fixed` if a file of the group is, and these pairs come first.
    """
    first: dict[str, Path] = {}
    divided: dict[str, tuple[Path, Path]] = {}
    for path in sorted(found.paths, key=lambda path: (path not in fixed, path)):
        other = first.setdefault(found.group[path], path)
        if split[other] != split[path]:
            divided.setdefault(found.group[path], (other, path))
    return sorted(divided.values(), key=lambda pair: pair[0] not in fixed)
