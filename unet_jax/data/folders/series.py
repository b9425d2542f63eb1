"""Series of files by their names: slices of a patient, frames of a video, both eyes.

A name is read from its end: 'patient_1_slice_03.png' is slice 3 of 'patient_1'. The
result is a pattern for `config.data.group`, which is tried before it is offered.
"""

import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from unet_jax.data import files

# Words whose number counts within a subject, and words that name the subject.
PLACES = (
    "s|sl|slice|z|t|tp|time|timepoint|f|fr|frame|img|image|im|tile|patch|crop|x|y|r|"
    "row|c|col|i|j|k|page|view|d|day|w|week|h|hour|visit|ses|session|layer|level|depth"
)
SUBJECTS = (
    "patient|pat|p|subject|subj|sub|case|child|animal|mouse|rat|donor|person|specimen|"
    "series|drive|video|clip|movie|seq|sequence|scene|plate|stack|volume|vol|exp|"
    "experiment|field|fov|pos|position|site|slide|well|eye"
)
SIDES = (("left", "right"), ("l", "r"), ("od", "os"), ("re", "le"))
FIELDS = 4  # of a name that may count within a subject
SHARE = 0.5  # of the files at least have a companion in their group

NUMBER = re.compile(r"(?s)^(?P<head>.*?)(?P<number>\d+)(?P<tail>\D*)$")
PLACE = re.compile(
    rf"(?is)^(?P<head>.*?)(?:(?:^|[-_. ]|(?<=\d))(?P<mark>{PLACES}))?[-_. ]*(?<!\d)"
    r"(?P<number>\d+)$"
)
LETTER = re.compile(
    rf"(?is)^(?P<head>.*?)(?:(?:^|[-_. ]|(?<=\d))(?P<mark>{PLACES})|(?<=\d))"
    r"[-_. ]+[a-z]$"
)
COUNTER = re.compile(r"(?s)^(?P<head>.*?)[-_. ]*(?<!\d)(?P<number>\d+)$")
SUBJECT = re.compile(rf"(?i)(?:^|[^a-z])(?:{SUBJECTS})[-_. ]*\d+$")


class NamedGroups(NamedTuple):
    """Files that seem to show the same subject, by their names.

    Attributes:
      groups: the group of each file.
      pattern: for `config.data.group`; '' if none finds these groups.
      certain: True if the names alone say so. A word and a number, as in 'cell_1' and
        'nerve_1', may also be the names of independent pictures.
    """

    groups: tuple[str, ...]
    pattern: str
    certain: bool


def find_series(paths: Sequence[Path], folders: Sequence[str]) -> list[list[int]]:
    """Returns the files of each series in the order of their numbers, by index.

    The names of a series differ in one number: the last one that is not the same in all
    names.

    Args:
      paths: the files.
      folders: of each file; a series is in one folder.
    """
    bodies, _ = _cut_suffix([files.stem(path) for path in paths])
    series: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    for i, (folder, body) in enumerate(zip(folders, bodies, strict=True)):
        if match := NUMBER.match(body):
            key = (folder, match["head"], match["tail"])
            series.setdefault(key, []).append((int(match["number"]), i))
    return [[i for _, i in sorted(one)] for one in series.values()]


def find_named_groups(
    paths: Sequence[Path], folders: Sequence[str]
) -> NamedGroups | None:
    """Finds files that seem to show the same subject.

    Args:
      paths: the files.
      folders: of each file; several folders are taken for several subjects.

    Returns:
      The groups; None if the names give no grouping.
    """
    bodies, suffix = _cut_suffix([files.stem(path) for path in paths])
    cut = _cut_places(bodies)
    end = _escape(suffix) + r"\."
    if len(set(folders)) > 1:
        # the name of a folder, and below it those that all paths share
        shared = os.path.commonprefix([f[::-1] for f in folders])[::-1]
        below = shared[shared.find("/") + 1 :] + "/" if "/" in shared else ""
        patterns = [f"([^/]+)/{_escape(below)}[^/]*$"]
        if cut:
            heads, middles, _ = cut
            groups = [f"{f}/{h}" for f, h in zip(folders, heads, strict=True)]
            deeper = [f"([^/]+/{_escape(below)}[^/]*){m}{end}" for m in middles]
            if len(set(groups)) > len(set(folders)):
                return _with_pattern(paths, groups, deeper, certain=True)
        return _with_pattern(paths, folders, patterns, certain=True)
    for sides in SIDES:
        side = "|".join(sides)
        leading = re.compile(rf"(?is)^(?:{side})[-_. ]+(.+)$")
        if rests := _both_sides(bodies, leading.match, sides):
            patterns = [f"^(?i:{side})[-_. ]+(.*){end}"]
            return _with_pattern(paths, rests, patterns, certain=True)
    if cut:
        heads, middles, certain = cut
        patterns = [f"^{head}{m}{end}" for m in middles for head in ("(.*)", "(.*?)")]
        return _with_pattern(paths, heads, patterns, certain=certain)
    return None


def search_groups(pattern: str, paths: Sequence[Path]) -> list[str | None]:
    """Returns what a pattern finds for each file; None if it finds nothing.

    The pattern is searched in the name of the file, then in the whole path. Its first
    group counts, or else the whole match.

    Raises:
      re.error: it is not a regular expression.
    """
    search = re.compile(pattern).search
    found = [search(path.name) or search(str(path)) for path in paths]
    return [m and (m[1] if m.re.groups and m[1] is not None else m[0]) for m in found]


def group_flag(pattern: str) -> str:
    """Returns the flag that sets the pattern, quoted for a shell."""
    return f"--config.data.group={shlex.quote(pattern)}"


def _with_pattern(
    paths: Sequence[Path],
    groups: Sequence[str],
    patterns: Sequence[str],
    *,
    certain: bool,
) -> NamedGroups | None:
    """Returns the groups with the first pattern that finds them; None if too small."""
    sizes = Counter(groups)
    if len(sizes) < 2 or sum(sizes[g] > 1 for g in groups) < SHARE * len(groups):
        return None
    for pattern in patterns:
        found = search_groups(pattern, paths)
        pairs = set(zip(found, groups, strict=True))
        if None not in found and len(pairs) == len(sizes) == len(set(found)):
            return NamedGroups(tuple(groups), pattern, certain)
    return NamedGroups(tuple(groups), "", certain)


def _cut_suffix(stems: Sequence[str]) -> tuple[list[str], str]:
    """Splits off the end that all names share, but no part of a number or a word."""
    suffix = os.path.commonprefix([stem[::-1] for stem in stems])[::-1]
    match = re.search(r"[-_. ]", suffix)
    suffix = suffix[match.start() :] if match else ""
    bodies = [stem[: len(stem) - len(suffix)] for stem in stems]
    return (bodies, suffix) if all(bodies) else (list(stems), "")


def _cut_places(bodies: Sequence[str]) -> tuple[list[str], list[str], bool] | None:
    """Splits names into subjects and what counts within a subject.

    Returns:
      The subjects; patterns for the rest of the names; and True if the names are
      certain. None if there is one subject, or none.
    """
    heads, certain, plain, letters = list(bodies), False, 0, False
    for _ in range(FIELDS):
        cut = _cut_sides(heads)
        marked = cut is not None
        if cut is None:
            matches = _match_all(PLACE, heads)
            lettered = not matches
            matches = matches or _match_all(LETTER, heads)
            if not matches:
                break
            letters = letters or lettered
            marked = all(match["mark"] for match in matches)
            if not marked and not lettered:
                # in 'c_0' beside 'a_0' and 'b_0', c is no column
                matches = _match_all(COUNTER, heads)
            if lettered and not marked:
                plain, marked = 2, True  # the number before the letter is the subject
            if plain and not marked and not (plain == 1 and _is_grid(bodies)):
                break  # in 'city_000123_000019' only the last number counts
            plain += not marked
            cut = [match["head"].rstrip("-_. ") for match in matches]
        if len(set(cut)) < 2 or not all(cut):
            break
        heads, certain = cut, certain or marked
        if all(map(SUBJECT.search, heads)):
            break
    if heads == list(bodies):
        return None
    certain = certain or all(head[-1].isdigit() for head in heads) or plain > 1
    ends = [body[len(head) :] for body, head in zip(bodies, heads, strict=True)]
    return heads, _describe_ends(ends, letters=letters), certain


def _match_all(pattern: re.Pattern[str], names: Sequence[str]) -> list[re.Match[str]]:
    """Returns the match of each name; [] if one does not match."""
    matches = [match for match in map(pattern.match, names) if match]
    return matches if len(matches) == len(names) else []


def _is_grid(names: Sequence[str]) -> bool:
    """True if the last two numbers of the names are rows and columns of tiles."""
    cells: dict[str, set[tuple[str, str]]] = {}
    for name in names:
        match = re.match(r"(?s)(.*?)[-_. ]*(?<!\d)(\d+)\D+(\d+)\D*$", name)
        if not match:
            return False
        cells.setdefault(match[1], set()).add((match[2], match[3]))
    full = [
        len(found) == len({y for y, _ in found}) * len({x for _, x in found}) > 3
        for found in cells.values()
    ]
    return sum(full) >= SHARE * len(full)


def _cut_sides(names: Sequence[str]) -> list[str] | None:
    """Returns the names without a left or right at the end; None if they have none."""
    for sides in SIDES:
        side = "|".join(sides)
        before = r"(?:[-_. ]+|(?<=\d))"
        if sides == ("l", "r"):  # 'eyeL'
            before = r"(?:[-_. ]+|(?<=\d)|(?<=[a-z])(?-i:(?=[LR])))"
        trailing = re.compile(rf"(?is)^(.+?){before}(?:{side})$")
        if rests := _both_sides(names, trailing.match, sides):
            return rests
    return None


def _both_sides(
    names: Sequence[str],
    match: Callable[[str], re.Match[str] | None],
    sides: tuple[str, str],
) -> list[str] | None:
    """Returns the first group of the matches if most of them occur with both sides."""
    found = [m for m in map(match, names) if m]
    if len(found) < len(names):
        return None
    rests = [m[1] for m in found]
    marks = [m[0].replace(m[1], "", 1).strip("-_. ").lower() for m in found]
    both: dict[str, set[str]] = {}
    for rest, mark in zip(rests, marks, strict=True):
        both.setdefault(rest, set()).add(mark)
    paired = sum(both[rest] == set(sides) for rest in rests)
    return rests if paired >= SHARE * len(rests) else None


def _describe_ends(ends: Sequence[str], *, letters: bool) -> list[str]:
    """Returns patterns that describe the ends of names, the most exact one first.

    If `letters`, one letter after a separator stands for any.
    """
    words = [re.sub(r"\d+", "0", end) for end in ends]
    if letters:
        words = [re.sub(r"(?<=[-_. ])[a-z](?![a-z0])", "1", word) for word in words]
        words = [re.sub(r"(?<=[-_. ])[A-Z](?![A-Z0])", "2", word) for word in words]
    each = [_escape(word) for word in dict.fromkeys(words)]
    for digit, stands_for in (("0", r"\d+"), ("1", "[a-z]"), ("2", "[A-Z]")):
        each = [word.replace(digit, stands_for) for word in each]
    if len(each) == 1:
        return each
    if len(each) <= FIELDS:
        return [f"(?:{'|'.join(each)})"]
    return [r"\D*\d+", r"\D+"]


def _escape(text: str) -> str:
    return re.escape(text).replace(r"\-", "-")  # which is special in brackets alone
