"""The pages of a folder, each in its split, and what is wrong with that."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from unet_jax.data.account import Fault, listed
from unet_jax.data.folders import soundness, splits, twins
from unet_jax.data.folders.splits import Item, Plan, Split
from unet_jax.data.folders.survey import Page
from unet_jax.data.folders.twins import Twins
from unet_jax.errors import UserError


class Divided(NamedTuple):
    """The pages that are in a split, and what is wrong with that."""

    pages: list[Page]
    faults: tuple[Fault, ...]


def divided(
    pages: Sequence[Page], plan: Plan, group: str, file: str, leaks: str
) -> Divided:
    """Splits the pages, as a file says or anew; no image is to be in two splits.

    Args:
      pages: all that there are; a file may leave some out.
      plan: how, if there is no file.
      group: a regular expression, as `splits.grouped` has it.
      file: a split.json; '' for none.
      leaks: 'refuse' or 'allow'.
    """
    ids = [page.fact.id for page in pages]
    alike = twins.find([page.fact for page in pages])
    try:
        if file:
            parts, faults = _read(Path(file).expanduser(), ids)
        else:
            parts, faults = _split(pages, alike, plan, group)
    except UserError as error:
        parts = {page.fact.id: page.pair.split for page in pages}
        faults = [Fault("error", "split", str(error))] if ids else []
    facts = [page.fact._replace(split=parts.get(page.fact.id, "")) for page in pages]
    faults += soundness.leaks(facts, alike, leaks)
    pages = [p._replace(fact=f) for p, f in zip(pages, facts, strict=True)]
    pages = [page for page in pages if page.fact.id in parts]
    if group and not any(fault.level == "error" for fault in faults):
        names = _groups(pages, group)
        faults += soundness.groups([page.fact for page in pages], names, leaks)
    return Divided(pages, tuple(faults))


def _read(path: Path, ids: Sequence[str]) -> tuple[Split, list[Fault]]:
    """The split of a file, and what it does not know."""
    parts, news = splits.read(path, ids)
    if not news:
        return parts, []
    text = f"{listed(news)}: not in {path}, and so left out"
    return parts, [Fault("warning", "split", text)]


def _split(
    pages: Sequence[Page], alike: Sequence[Twins], plan: Plan, group: str
) -> tuple[Split, list[Fault]]:
    """The split of each id, and what of it is not as was wished."""
    ids = [page.fact.id for page in pages]
    given = [page.pair.split for page in pages]
    free = [name not in ("val", "test") for name in given]
    groups = _groups(pages, group)
    wanted = plan.folds or 3 - len({"val", "test"} & set(given))
    ours = [twin for twin in alike if free[twin.a] and free[twin.b]]
    # a camera that stands still makes twins of all: then only copies stay together
    for joining in (ours, [twin for twin in ours if twin.same], []):
        joined = twins.groups(groups, joining)
        count = len({g for g, f in zip(joined, free, strict=True) if f})
        if count >= wanted:
            break
    parts = splits.divide(list(map(Item, ids, joined, given)), plan)
    if count >= wanted:
        return parts, list(soundness.shares(parts, plan, set(given)))
    if group:
        raise UserError(
            f"group={group!r} finds {count} groups, fewer than there are splits; "
            "mend the pattern, or give the splits as folders train/, val/ and test/"
        )
    text = f"there are too few files for splits of their own ({count}), so pages of "
    text += "one file are in several, in runs; neighbours may be alike"
    return parts, [Fault("warning", "split", text)]


def _groups(pages: Sequence[Page], group: str) -> list[str]:
    ids = [page.fact.id for page in pages]
    return splits.grouped(ids, [page.pair.image for page in pages], group)
