"""Which records to learn from, which to choose by, and which to report."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from unet_jax.errors import UserError

FILE, SURVEY_FILE = "split.json", "survey.json"  # of a run folder
NAMES = ("train", "val", "test")

TOO_MANY = 1.5  # times its share: records of a group that goes elsewhere

Split = dict[str, str]  # 'train', 'val' or 'test' of each id


class Plan(NamedTuple):
    """How to split what is not split yet.

    Attributes:
      val, test: the share of each.
      folds: how many to cross-validate with; 0 takes the shares.
      fold: the one to test on; the next one validates.
      seed: another seed is another split.
    """

    val: float = 0.15
    test: float = 0.15
    folds: int = 0
    fold: int = 0
    seed: int = 0


class Item(NamedTuple):
    """A record: its id, the group that it stays with, and its split if it is given."""

    id: str
    group: str
    given: str = ""


def divide(items: Sequence[Item], plan: Plan) -> Split:
    """Splits records so that those of one group stay together.

    A test or validation split that is given stays; what is missing is taken from the
    training records. Groups come in the order of a hash of the seed and their name, so
    that most stay where they were when others come in. Of fewer groups than parts,
    which cannot stay whole, each is cut into runs of neighbours.

    Raises:
      UserError: there are too few records, or the folds are out of range.
    """
    if not plan.folds and plan.val + plan.test >= 1:
        raise UserError(
            f"val={plan.val:g} and test={plan.test:g} leave nothing to train on; "
            "together they must be below 1"
        )
    split = {item.id: item.given for item in items if item.given}
    there = set(split.values())
    rest = [item for item in items if item.given in ("", "train")]
    wanted = [name for name in ("test", "val") if name not in there]
    if plan.folds:
        parts = _folds(rest, plan, wanted)
    else:
        shares = {"test": plan.test, "val": plan.val}
        parts = _shares(rest, {name: shares[name] for name in wanted}, plan.seed)
    return split | parts


def grouped(ids: Sequence[str], files: Sequence[Path], pattern: str) -> list[str]:
    """The group of each record: its file, or what a pattern finds in the file's name.

    Args:
      ids: of the records.
      files: their files; records of one file are a group. A pattern is looked for in
        the name, and in the folders before it only if it is not there.
      pattern: a regular expression, of which the first group counts, or else all of
        it; '' for none.

    Raises:
      UserError: it is no regular expression, or not found in a name.
    """
    if not pattern:
        return list(map(str, files))
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(
            f"group={pattern!r} is no regular expression: {error}"
        ) from None
    found = [
        expression.search(path.name) or expression.search(str(path)) for path in files
    ]
    if None in found:
        lost = [i for i, match in zip(ids, found, strict=True) if match is None]
        raise UserError(
            f"group={pattern!r} is not found in {len(lost)} of {len(ids)} names, such "
            f"as {lost[0]}; mend the pattern"
        )
    return [m[1] if m.re.groups and m[1] is not None else m[0] for m in found]


def read(path: Path, ids: Sequence[str]) -> tuple[Split, list[str]]:
    """The split that a file holds, and the ids that it does not know.

    Raises:
      UserError: it cannot be read, is no split, or names a record that is not there.
    """
    try:
        parts = json.loads(path.read_text())
        split = {str(i): name for name in NAMES for i in parts[name]}
        count = sum(len(parts[name]) for name in NAMES)
    except OSError as error:
        raise UserError(
            f"split={path}: {error.strerror}; name the split.json of a run folder"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no split; it needs lists of ids: train, val and test"
        ) from error
    if count != len(split):
        raise UserError(f"{path} has a record in two splits; leave one out")
    there = set(ids)
    if lost := [i for i in split if i not in there]:
        raise UserError(
            f"{path} names {lost[0]}{_more(lost)}, which the data do not have; bring "
            "it back, or remove it from the file"
        )
    return split, [i for i in ids if i not in split]


def listed(split: Split) -> dict[str, list[str]]:
    """What the file holds: the ids of each split."""
    return {name: [i for i, s in split.items() if s == name] for name in NAMES}


def _shares(items: Sequence[Item], shares: Mapping[str, float], seed: int) -> Split:
    order = _order(items, seed)
    if len(order) <= len(shares):
        return _runs(items, shares)
    split = {item.id: "train" for item in items}
    for i, (name, share) in enumerate(shares.items()):
        later = len(shares) - i  # groups that must be left
        chosen = _about(order, share * len(items))[: len(order) - later]
        for group in chosen or [min(order, key=len)]:
            order.remove(group)
            split |= dict.fromkeys(group, name)
    return split


def _about(order: Sequence[list[str]], goal: float) -> list[list[str]]:
    """The first groups that have about so many records; none that is much too large."""
    chosen, taken = [], 0
    for group in order:
        if taken < goal - 0.5 and taken + len(group) <= max(TOO_MANY * goal, 1):
            chosen.append(group)
            taken += len(group)
    return chosen


def _folds(items: Sequence[Item], plan: Plan, wanted: Sequence[str]) -> Split:
    order = _order(items, plan.seed)
    if not 3 <= plan.folds <= len(order):
        there = f"there are {len(order)} groups (files, or what `group` finds)"
        raise UserError(f"folds={plan.folds} must be 3 or more, and {there}")
    if plan.fold >= plan.folds:
        raise UserError(f"fold must be 0 to {plan.folds - 1}, not {plan.fold}")
    names = {(plan.fold + i) % plan.folds: name for i, name in enumerate(wanted)}
    return {
        record: names.get(place % plan.folds, "train")
        for place, group in enumerate(order)
        for record in group
    }


def _order(items: Sequence[Item], seed: int) -> list[list[str]]:
    """The records of each group, in the order of the hashes."""
    groups: dict[str, list[str]] = {}
    for item in items:
        groups.setdefault(item.group, []).append(item.id)
    hashed = {g: hashlib.sha1(f"{seed}/{g}".encode()).hexdigest() for g in groups}
    return [groups[g] for g in sorted(groups, key=hashed.__getitem__)]


def _runs(items: Sequence[Item], shares: Mapping[str, float]) -> Split:
    """Neighbours stay together where there are too few groups: the last are tested."""
    names = [*shares, "train"]
    if len(items) < len(names):
        raise UserError(
            f"{len(items)} images cannot be split into {', '.join(names[::-1])}; add "
            "some, or give the splits as folders train/, val/ and test/"
        )
    split = {item.id: "train" for item in items}
    end = len(items)
    for i, (name, share) in enumerate(shares.items()):
        size = max(1, min(round(share * len(items)), end - (len(shares) - i)))
        for item in items[end - size : end]:
            split[item.id] = name
        end -= size
    return split


def _more(lost: Sequence[str]) -> str:
    return f" and {len(lost) - 1} more" if len(lost) > 1 else ""
