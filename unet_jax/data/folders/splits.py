"""The split of a folder: from split.json, from its subfolders, or made anew."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path

from unet_jax.data.dataset_report import Issue
from unet_jax.data.duplicates import (
    Duplicate,
    check_leaks,
    find_duplicates,
    join_groups,
)
from unet_jax.data.folders.survey import Page
from unet_jax.data.splitting import SPLITS, Item, SplitOptions, split_groups
from unet_jax.errors import UserError
from unet_jax.text import listing

SPLIT_FILE = "split.json"  # of a run folder


def assign_splits(
    pages: Sequence[Page], options: SplitOptions, group: str, file: str, leaks: str
) -> tuple[list[Page], list[Issue]]:
    """Assigns pages to splits, so that no image is in two of them.

    Args:
      pages: all pages; a file may leave some of them out.
      options: for a new split, if there is no file.
      group: a regular expression, for `find_groups`.
      file: a split.json; '' to make a new split.
      leaks: 'refuse' or 'allow'.

    Returns:
      The pages that are in a split, and the issues.
    """
    ids = [page.stats.id for page in pages]
    duplicates = find_duplicates([page.stats for page in pages])
    try:
        if file:
            split, issues = _read_split(Path(file).expanduser(), ids)
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
    if group and not any(issue.level == "error" for issue in issues):
        issues += _check_groups(pages, find_groups(pages, group), leaks)
    return pages, issues


def find_groups(pages: Sequence[Page], pattern: str) -> list[str]:
    """Returns the group of each page: its file, or what a pattern finds in its name.

    The pattern is a regular expression, or ''. It is searched in the name of the image
    file, then in the whole path. Its first group counts, or else the whole match.

    Raises:
      UserError: it is not a regular expression, or not found in a name.
    """
    paths = [page.pair.image for page in pages]
    if not pattern:
        return list(map(str, paths))
    try:
        search = re.compile(pattern).search
    except re.error as error:
        text = f"group={pattern!r} is not a regular expression: {error}"
        raise UserError(text) from None
    found = [search(path.name) or search(str(path)) for path in paths]
    pairs = zip(pages, found, strict=True)
    if missing := [page.stats.id for page, match in pairs if match is None]:
        raise UserError(
            f"group={pattern!r} is not found in {len(missing)} of {len(pages)} names, "
            f"such as {missing[0]}; correct the pattern"
        )
    return [m[1] if m.re.groups and m[1] is not None else m[0] for m in found if m]


def split_to_json(split: Mapping[str, str]) -> dict[str, list[str]]:
    """Returns the content of split.json: the ids of each split."""
    return {name: [i for i, s in split.items() if s == name] for name in SPLITS}


def _read_split(path: Path, ids: Sequence[str]) -> tuple[dict[str, str], list[Issue]]:
    """Returns the split of a split.json, and an issue of the ids that it lacks."""
    try:
        parts = json.loads(path.read_text())
        split = {str(i): name for name in SPLITS for i in parts[name]}
        count = sum(len(parts[name]) for name in SPLITS)
    except OSError as error:
        raise UserError(
            f"split={path}: {error.strerror}; name the split.json of a run folder"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} holds no split; it needs lists of ids: train, val and test"
        ) from error
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
            text += f"{goal:.0f}: there are large groups that stay together (pages of "
            text += "a file, images that are alike)"
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
