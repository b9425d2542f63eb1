"""Rules that divide records into training, validation and test records.

Each rule is a pure function of names, counts and a seed; none looks at pixels.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple

import numpy as np

from unet_jax.errors import UserError
from unet_jax.specs import Domain

SPLITS = ("train", "val", "test")
TOO_LARGE = 1.5  # a group above this multiple of a split's size goes to training
TRIES = 1000  # random assignments that `split_kinds` chooses from

Share = Annotated[float, Domain("above 0 and below 1", lambda x: 0 < x < 1)]


class SplitOptions(NamedTuple):
    """Options for a new split.

    Attributes:
      val, test: the share of the records in each.
      folds: the number of folds for cross-validation; 0 uses the shares.
      fold: the fold to test on; the next one validates.
      seed: another seed gives another split.
    """

    val: float = 0.15
    test: float = 0.15
    folds: int = 0
    fold: int = 0
    seed: int = 0


class Item(NamedTuple):
    """A record to assign to a split.

    Attributes:
      id: of the record.
      group: records of one group stay together.
      given: the split, if it is given; else ''.
    """

    id: str
    group: str
    given: str = ""


def split_groups(items: Sequence[Item], options: SplitOptions) -> dict[str, str]:
    """Assigns records to splits so that each group stays together.

    A validation or test split that is given stays as it is; one that is missing is
    taken from the training records. Groups are ordered by a hash of the seed and their
    name, so that new groups move few of the others. If there are fewer groups than
    splits, the records are cut into blocks of consecutive records instead.

    Returns:
      The split of each id.

    Raises:
      UserError: there are too few records, or an option is out of range.
    """
    if not options.folds and options.val + options.test >= 1:
        raise UserError(
            f"val={options.val:g} and test={options.test:g} leave nothing to train on; "
            "together they must be below 1"
        )
    given = {item.id: item.given for item in items if item.given}
    missing = [name for name in ("test", "val") if name not in given.values()]
    free = [item for item in items if item.given in ("", "train")]
    groups = _ordered_groups(free, options.seed)
    if options.folds:
        noun = "groups (files, or what `group` finds)"
        of_group = split_folds(
            len(groups), options.folds, options.fold, held_out=missing, noun=noun
        )
        pairs = zip(groups, of_group, strict=True)
        return given | {i: name for group, name in pairs for i in group}
    shares = {name: getattr(options, name) for name in missing}
    ids = [item.id for item in free]
    if len(groups) <= len(shares):
        return given | _split_blocks(ids, shares)
    return given | dict.fromkeys(ids, "train") | _split_shares(groups, shares)


def split_folds(
    count: int,
    folds: int,
    fold: int,
    *,
    held_out: Sequence[str] = ("test", "val"),
    noun: str = "records",
) -> list[str]:
    """Returns the split of each of `count` records in k-fold cross-validation.

    Record i belongs to fold `i % folds`. Fold `fold` becomes the first split of
    `held_out` and the next fold the second; the other folds train.

    Args:
      count: the number of records.
      folds: the number of folds.
      fold: the fold to hold out.
      held_out: the splits that are not for training.
      noun: what is counted, for messages.

    Raises:
      UserError: there are fewer than 3 folds, more folds than records, or no such fold.
    """
    if not 3 <= folds <= count:
        raise UserError(
            f"folds must be at least 3 and at most {count}, the number of {noun}; it "
            f"is {folds}"
        )
    check_fold(fold, folds)
    names = {(fold + i) % folds: name for i, name in enumerate(held_out)}
    return [names.get(i % folds, "train") for i in range(count)]


def check_fold(fold: int, folds: int) -> None:
    """Raises UserError unless the fold is one of the folds."""
    if fold >= folds:
        raise UserError(f"fold must be 0 to {folds - 1}, not {fold}")


def split_random(
    count: int, sizes: Mapping[str, int], rng: np.random.Generator
) -> dict[str, list[int]]:
    """Draws as many of `count` records as `sizes` asks for; the others train.

    Returns:
      The indices of each split, in rising order.
    """
    order = rng.permutation(count).tolist()
    parts: dict[str, list[int]] = {}
    for name, size in sizes.items():
        parts[name], order = sorted(order[:size]), order[size:]
    return parts | {"train": sorted(order)}


def split_kinds(
    sizes: Mapping[str, int], *, val: float, test: float, seed: int
) -> dict[str, str]:
    """Assigns each kind of records as a whole to one split; none stays empty.

    The largest kind trains. Of `TRIES` random assignments the result is the one whose
    sizes are nearest to the shares.

    Args:
      sizes: the number of records of each kind.
      val: the share of the records to validate with.
      test: the share of the records to test on.
      seed: another seed gives another split.

    Returns:
      The split of each kind, the largest kind first.

    Raises:
      UserError: there are fewer than three kinds.
    """
    if len(sizes) < len(SPLITS):
        raise UserError(
            f"{len(sizes)} kinds of images do not make three splits; set grouped=False "
            "to divide each kind"
        )
    kinds = sorted(sizes, key=lambda kind: (-sizes[kind], kind))
    counts = np.array([sizes[kind] for kind in kinds])
    drawn = np.random.default_rng(seed).integers(len(SPLITS), size=(TRIES, len(kinds)))
    drawn[:, 0] = SPLITS.index("train")
    chosen = drawn[..., None] == np.arange(len(SPLITS))  # [try, kind, split]
    totals = (chosen * counts[:, None]).sum(1)
    goal = np.array([1 - val - test, val, test]) * counts.sum()
    distance = np.abs(totals - goal).max(-1)
    best = np.where((totals > 0).all(-1), distance, np.inf).argmin()
    return {kind: SPLITS[i] for kind, i in zip(kinds, drawn[best], strict=True)}


def _ordered_groups(items: Sequence[Item], seed: int) -> list[list[str]]:
    """Returns the ids of each group, in the order of the groups' hashes."""
    groups: dict[str, list[str]] = {}
    for item in items:
        groups.setdefault(item.group, []).append(item.id)
    hashes = {
        g: hashlib.sha1(f"{seed}/{g}".encode(errors="surrogateescape")).hexdigest()
        for g in groups
    }
    return [groups[g] for g in sorted(groups, key=hashes.__getitem__)]


def _split_shares(
    groups: Sequence[list[str]], shares: Mapping[str, float]
) -> dict[str, str]:
    """Takes whole groups for splits of about these shares; the rest trains."""
    left = list(groups)
    count = sum(map(len, groups))
    split: dict[str, str] = {}
    for done, (name, share) in enumerate(shares.items()):
        still_needed = len(shares) - done  # groups for the later splits and training
        chosen = _groups_of_size(left, share * count)[: len(left) - still_needed]
        for group in chosen or [min(left, key=len)]:
            left.remove(group)
            split |= dict.fromkeys(group, name)
    return split


def _groups_of_size(groups: Sequence[list[str]], goal: float) -> list[list[str]]:
    """Takes groups until they have about `goal` records; skips groups too large."""
    chosen, taken = [], 0
    for group in groups:
        if taken < goal - 0.5 and taken + len(group) <= max(TOO_LARGE * goal, 1):
            chosen.append(group)
            taken += len(group)
    return chosen


def _split_blocks(ids: Sequence[str], shares: Mapping[str, float]) -> dict[str, str]:
    """Cuts records into blocks of consecutive records, training first."""
    names = [*shares, "train"]
    if len(ids) < len(names):
        raise UserError(
            f"{len(ids)} images cannot be split into {', '.join(names[::-1])}; add "
            "some, or give the splits as folders train/, val/ and test/"
        )
    split = dict.fromkeys(ids, "train")
    end = len(ids)
    for done, (name, share) in enumerate(shares.items()):
        most = end - (len(shares) - done)
        size = max(1, min(round(share * len(ids)), most))
        split |= dict.fromkeys(ids[end - size : end], name)
        end -= size
    return split
