"""The split of a folder: from split.json, from its subfolders, or made anew."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import NamedTuple

import msgspec

from unet_jax.data.dataset_report import NAMED, Issue
from unet_jax.data.duplicates import (
    Duplicate,
    check_leaks,
    find_duplicates,
    join_groups,
    name_duplicates,
)
from unet_jax.data.folders.page_groups import (
    APART,
    PageGroups,
    check_page_groups,
    describe_kept,
    find_page_groups,
)
from unet_jax.data.folders.series import search_groups
from unet_jax.data.folders.survey import Page
from unet_jax.data.splitting import SPLITS, Item, SplitOptions, split_groups
from unet_jax.errors import UserError, prefix_errors
from unet_jax.json_file import read_json
from unet_jax.text import listing

SPLIT_FILE = "split.json"  # of a run folder


class _SplitFile(msgspec.Struct):
    """The ids of the records of each split."""

    train: list[str]
    val: list[str]
    test: list[str]


class AssignedPages(NamedTuple):
    """Pages with their splits.

    Attributes:
      pages: those that are in a split.
      issues: problems of the split.
      duplicates: equal and nearly equal pages, for `DatasetReport`.
      remedy: how to get another split, in words; '' after an error.
      decisions: images of `train/` that were taken for another split, in words.
    """

    pages: list[Page]
    issues: list[Issue]
    duplicates: tuple[tuple[str, str, bool], ...]
    remedy: str = ""
    decisions: tuple[str, ...] = ()


def assign_splits(
    pages: Sequence[Page],
    options: SplitOptions,
    *,
    group: str,
    series: str,
    file: str,
    leaks: str,
) -> AssignedPages:
    """Assigns pages to splits, so that no image is in two of them.

    Args:
      pages: all pages; a file may leave some of them out.
      options: for a new split, if there is no file.
      group: a regular expression, for `find_groups`.
      series: 'together' or 'apart', for consecutive images that look alike.
      file: a split.json; '' to make a new split.
      leaks: 'refuse' or 'allow'.
    """
    ids = [page.stats.id for page in pages]
    duplicates = find_duplicates([page.stats for page in pages])
    found = None
    if not group and series == "together":
        found = find_page_groups(pages)
    try:
        if file:
            split, issues = _read_split(Path(file).expanduser(), ids)
        elif found and found.neighbours.alike:
            split, issues = _split_series(pages, duplicates, options, found)
        else:
            split, issues = _make_split(pages, duplicates, options, group)
    except UserError as error:
        split = {page.stats.id: page.pair.split for page in pages}
        issues = [Issue("error", "split", str(error))] if ids else []
    records = [
        page.stats._replace(split=split.get(page.stats.id, "")) for page in pages
    ]
    issues += check_leaks(records, duplicates, leaks)
    pages = [
        page._replace(stats=record)
        for page, record in zip(pages, records, strict=True)
        if record.id in split
    ]
    failed = any(issue.level == "error" for issue in issues)
    if group and not failed:
        issues += _check_groups(pages, find_groups(pages, group), leaks)
    if found and found.found and not failed:
        of_file = {page.pair.image: page.stats.split for page in pages}
        given = {page.pair.image: page.pair.split for page in pages}
        found = found._replace(paths=tuple(p for p in found.paths if p in of_file))
        needed, from_file = options.folds or 3, bool(file)
        issues += check_page_groups(
            found, of_file, given, needed=needed, from_file=from_file
        )
    kept = found.group if found and found.neighbours.alike else {}
    remedy = "" if failed else _describe_remedy(pages, options, kept, file)
    return AssignedPages(
        pages,
        issues,
        name_duplicates(records, duplicates),
        remedy,
        () if failed else tuple(_describe_taken(pages)),
    )


def _describe_taken(pages: Sequence[Page]) -> Iterator[str]:
    """Yields a line for each split without a folder that has images of `train/`."""
    training = [page.stats for page in pages if page.pair.split == "train"]
    given = {page.pair.split for page in pages}
    for split in ("val", "test"):
        taken = [record.id for record in training if record.split == split]
        if taken and split not in given:
            names = listing((name.removeprefix("train/") for name in taken), NAMED)
            verb = "is" if len(taken) == 1 else "are"
            yield (
                f"there is no {split}/ folder: {len(taken)} of the {len(training)} "
                f"images of train/ ({names}) {verb} the {split} split"
            )


def _describe_remedy(
    pages: Sequence[Page], options: SplitOptions, series: Mapping[Path, str], file: str
) -> str:
    """Returns in words how to get images with a class into every split.

    Args:
      pages: with their splits.
      options: of the split.
      series: the series of each file, if series are kept together; else empty.
      file: the split.json that was read; '' for none.
    """
    if file:
        return f"move the ids of images from train to val or test in {file}"
    if any(page.pair.split in ("val", "test") for page in pages):
        return "move images from training to the other splits"
    if options.folds:
        other = (options.fold + 1) % options.folds
        return f"choose another fold, such as --config.data.fold={other}"
    splits_of: dict[str, set[str]] = {}
    for page in pages:
        path = page.pair.image
        splits_of.setdefault(series.get(path, str(path)), set()).add(page.stats.split)
    if all(len(splits) == 1 for splits in splits_of.values()):
        return f"choose another split, such as --config.data.seed={options.seed + 1}"
    # blocks of consecutive images do not depend on the seed
    folders = "give the splits as folders train/, val/ and test/"
    return f"set {APART}, or {folders}" if series else folders


def find_groups(pages: Sequence[Page], pattern: str) -> list[str]:
    """Returns the group of each page: its file, or what a pattern finds in its name.

    The pattern is for `search_groups`, or ''.

    Raises:
      UserError: it is not a regular expression, or not found in a name.
    """
    paths = [page.pair.image for page in pages]
    if not pattern:
        return list(map(str, paths))
    try:
        found = search_groups(pattern, paths)
    except re.error as error:
        text = f"group={pattern!r} is not a regular expression: {error}"
        raise UserError(text) from None
    pairs = zip(pages, found, strict=True)
    if missing := [page.stats.id for page, text in pairs if text is None]:
        raise UserError(
            f"group={pattern!r} is not found in {len(missing)} of {len(pages)} names, "
            f"such as {missing[0]}; correct the pattern"
        )
    return [text for text in found if text is not None]


def split_to_json(split: Mapping[str, str]) -> dict[str, list[str]]:
    """Returns the content of split.json: the ids of each split."""
    return {name: [i for i, s in split.items() if s == name] for name in SPLITS}


def _read_split(path: Path, ids: Sequence[str]) -> tuple[dict[str, str], list[Issue]]:
    """Returns the split of a split.json, and an issue of the ids that it lacks."""
    remedy = "name the split.json of a run folder: lists of ids, train, val and test"
    with prefix_errors("split"):
        parts = msgspec.structs.asdict(read_json(path, _SplitFile, remedy))
    split = {i: name for name, names in parts.items() for i in names}
    count = sum(map(len, parts.values()))
    if count != len(split):
        raise UserError(f"{path} has a record in two splits; leave one out")
    known = set(ids)
    if missing := [i for i in split if i not in known]:
        raise UserError(
            f"{path} names {listing(missing, 1)}, missing in the "
            "data; restore the files, or remove the names from the split"
        )
    new = [i for i in ids if i not in split]
    text = f"{listing(new)}: not in {path}, and therefore left out"
    return split, [Issue("warning", "split", text)] if new else []


def _make_split(
    pages: Sequence[Page],
    duplicates: Sequence[Duplicate],
    options: SplitOptions,
    group: str,
) -> tuple[dict[str, str], list[Issue]]:
    """Splits pages so that groups and duplicates stay together, as far as possible."""
    ids = [page.stats.id for page in pages]
    given = [page.pair.split for page in pages]
    free = [name not in ("val", "test") for name in given]
    groups = find_groups(pages, group)
    needed = options.folds or 3 - len({"val", "test"} & set(given))
    similar = [d for d in duplicates if free[d.a] and free[d.b]]
    # A camera that does not move makes all images similar; then only equal images stay
    # together, or none if there are still too few groups.
    for joining in (similar, [d for d in similar if d.identical], []):
        joined = join_groups(groups, joining)
        count = len({g for g, f in zip(joined, free, strict=True) if f})
        if count >= needed:
            break
    split = split_groups(list(map(Item, ids, joined, given)), options)
    if count >= needed:
        return split, list(_check_shares(split, options, set(given)))
    if group:
        raise UserError(
            f"group={group!r} finds {count} groups, fewer than there are splits; "
            "correct the pattern, or give the splits as folders train/, val/ and test/"
        )
    text = f"there are too few files ({count}) for three splits, so pages of one file "
    text += "are in several splits, as blocks of consecutive pages, which may be alike"
    return split, [Issue("warning", "split", text)]


def _split_series(
    pages: Sequence[Page],
    duplicates: Sequence[Duplicate],
    options: SplitOptions,
    found: PageGroups,
) -> tuple[dict[str, str], list[Issue]]:
    """Splits whole series or, if these are few or large, blocks of their files."""
    given = {page.pair.image: page.pair.split for page in pages}
    held_out = {"val", "test"} & set(given.values())
    needed = options.folds or 3 - len(held_out)
    free = [path for path in found.paths if given[path] not in ("val", "test")]
    equal = [d for d in duplicates if d.identical]
    paths = [page.pair.image for page in pages]
    whole = False
    for joining in (duplicates, equal):
        groups = join_groups([found.group[path] for path in paths], joining)
        joined = dict(zip(paths, groups, strict=True))
        if len({joined[path] for path in free}) >= needed:
            items = [Item(str(path), joined[path], given[path]) for path in found.paths]
            split = split_groups(items, options)
            each = {page.stats.id: split[str(page.pair.image)] for page in pages}
            whole = not list(_check_shares(each, options, held_out))
            break
    if not whole:
        # one group is cut into blocks of consecutive files, and so are the folds
        block = {p: str(i * options.folds // len(free)) for i, p in enumerate(free)}
        items = [Item(str(p), block.get(p, ""), given[p]) for p in found.paths]
        split = split_groups(items, options)
        same = dict(zip(paths, join_groups(list(map(str, paths)), equal), strict=True))
        first = {same[path]: path for path in reversed(free)}
        split |= {str(path): split[str(first[same[path]])] for path in free}
        each = {page.stats.id: split[str(page.pair.image)] for page in pages}
    issues = []
    if free and len(held_out) < 2:
        of_file = {path: split[str(path)] for path in found.paths}
        issues.append(describe_kept(found, of_file, whole=whole))
    return each, issues


def _check_shares(
    split: Mapping[str, str], options: SplitOptions, given: Set[str]
) -> Iterator[Issue]:
    """Yields a warning for each split that is far from the share it should have."""
    if options.folds or given & {"val", "test"}:
        return
    counts = Counter(split.values())
    shares = {"val": options.val, "test": options.test}
    shares["train"] = 1 - options.val - options.test
    for name, share in shares.items():
        goal = share * len(split)
        if abs(counts[name] - goal) > max(0.5 * goal, 2):
            text = f"{counts[name]} of {len(split)} images are in {name} instead of "
            text += f"{goal:.0f}: there are large groups that stay together (by "
            text += "data.group, pages of a file, images that are alike)"
            yield Issue("warning", "split", text)


def _check_groups(
    pages: Sequence[Page], groups: Sequence[str], leaks: str
) -> Iterator[Issue]:
    """Yields issues of groups whose images are in several splits."""
    splits_of: dict[str, set[str]] = {}
    for page, group in zip(pages, groups, strict=True):
        splits_of.setdefault(group, set()).add(page.stats.split)
    level = "warning" if leaks == "allow" else "error"
    for group, splits in splits_of.items():
        if len(splits) > 1:
            text = f"group {group!r} is in {' and '.join(sorted(splits))}; move its "
            text += "files into one of them, or set --config.data.leaks=allow"
            yield Issue(level, "leak", text)
