"""The data set of a folder: found, read through, mapped and split."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from unet_jax.arrays import IGNORE
from unet_jax.data.account import Account, Fact, Record, merged, together
from unet_jax.data.folders import (
    kept,
    meaning,
    pairs,
    reading,
    soundness,
    splits,
)
from unet_jax.data.folders.dividing import divided
from unet_jax.data.folders.meaning import Meaning, Wish
from unet_jax.data.folders.pairs import Found, Patterns
from unet_jax.data.folders.reading import Way
from unet_jax.data.folders.splits import Plan
from unet_jax.data.folders.survey import Page, survey
from unet_jax.data.source import Source, Splits, subset
from unet_jax.errors import UserError, naming
from unet_jax.specs import Positive, Whole, Within

_Share = Annotated[float, Within("above 0 and below 1", lambda x: 0 < x < 1)]


def folder(
    *,
    root: str = "",
    images: str = "images",
    masks: str = "masks",
    instances: str = "instances",
    axes: Literal[2, 3] = 2,
    channels: Whole = 0,
    classes: tuple[str, ...] = (),
    colours: tuple = (),
    label_map: tuple = (),
    ignore_label: int = -1,
    multilabel: bool = False,
    spacing: tuple[Positive, ...] = (),
    val: _Share = 0.15,
    test: _Share = 0.15,
    folds: Whole = 0,
    fold: Whole = 0,
    group: str = "",
    seed: Whole = 0,
    split: str = "",
    leaks: Literal["refuse", "allow"] = "refuse",
    links: bool = False,
    records: str = "",
) -> Splits:
    """A person's own images and masks.

    All files are read through first, so that every mistake is told before training.
    Nothing is raised for these: they are in the account, and who trains looks there.

    Args:
      root: the folder; it holds `images/` and `masks/` (or `instances/`, or both), or
        `train/`, `val/` and `test/` that do. Files of one stem belong together.
      images: another folder in it, or a glob; what wildcards stand for makes the pair:
        'raw/*_img.tif' with 'drawn/*_mask.png'.
      masks: the same of masks.
      instances: the same of object ids, whole numbers, 0 = background; without masks
        they are the one class.
      axes: 2: images, and stacks of them; 3: volumes.
      channels: 1 or 3 makes grey or RGB of either; 0 takes what most of a file needs.
      classes: names by id, the background first; () takes what the masks hold.
      colours: red, green and blue of each, for pictures, and for coloured masks.
      label_map: pairs of a mask value or colour and a class id or name; -1 ignores.
      ignore_label: the mask value where nobody annotated; -1: none but a negative one.
      multilabel: classes may overlap: each channel of a mask is one, or each folder in
        `masks/`. It needs config.head=sigmoid.
      spacing: the size of a pixel along each axis, of files that do not say theirs.
      val: the share of the records to validate with, unless their folder is given.
      test: the share to test on, likewise.
      folds: to cross-validate with, instead of shares; 0: shares.
      fold: the one to test on; the next one validates.
      group: a regular expression found in the names of files; those where it finds the
        same stay in one split. Without one, the pages of a file do, and duplicates.
      seed: of the split.
      split: a split.json of an earlier run, to be used again.
      leaks: whether to go on if the same image is in two given splits.
      links: whether links may lead out of the root.
      records: where to keep the records of a large folder, which are then read from
        there and not from the files, until one of these changes; '' keeps none.

    Raises:
      UserError: there is no such folder, no image in it, or an argument is wrong.
    """
    home = _home(root, images)
    classes = tuple(name.strip() for part in classes for name in part.split(","))
    ignore = "" if ignore_label == IGNORE else str(ignore_label)
    wish = Wish(classes or meaning.named(label_map), colours, label_map, ignore)
    patterns = Patterns(images, masks, instances)
    found = pairs.find(home, patterns, classes=classes, links=links)
    way = _way(found, wish, axes, multilabel=multilabel, spacing=spacing)
    place = kept.place(records, found.pairs, way, wish, channels) if records else None
    surveyed = kept.survey(place, found.pairs) if place else None
    surveyed = surveyed or survey(found.pairs, home, way)

    plan = Plan(val, test, folds, fold, seed)
    pages, torn = divided(surveyed[0], plan, group, split, leaks)
    meant = _meaning(pages, found.classes, wish, way)
    pages = [page._replace(fact=_counted(page.fact, meant.ids)) for page in pages]
    facts = tuple(page.fact for page in pages)
    count, unlike = soundness.channels(pages, channels)
    account = Account(
        root=str(home),
        classes=meant.classes,
        mapping=tuple(meant.ids.items()),
        facts=facts,
        faults=together(
            *found.faults,
            *surveyed[1],
            *meant.faults,
            *unlike,
            *torn,
            *soundness.depth(pages),
            *soundness.pointing(pages),
            *(soundness.multilabel(pages, len(classes)) if way.multilabel else ()),
            *(() if meant.faults else soundness.classes(facts, meant)),
        ),
        said=meant.said,
    )
    way = way._replace(channels=count, ids=meant.ids)
    usable = [page for page in pages if _usable(page, way, len(meant.classes))]
    load = functools.partial(_record, way=way)
    if place and not account.errors:
        load = kept.loader(place, usable, way, surveyed)
    whole = Source(
        name=home.resolve().name,
        classes=meant.classes,
        colours=meaning.colours(wish, len(meant.classes)) if meant.classes else (),
        channels=count,
        length=len(usable),
        load=lambda i: load(usable[i]),
        spacing=spacing,
        convert=any(page.fact.channels != count for page in pages),
        independent=way.multilabel,
    )
    sources = {name: _part(whole, usable, name) for name in pairs.SPLITS}
    return Splits(**sources, account=account, notes=_notes(account))


def _home(root: str, images: str) -> Path:
    if not root and not Path(images).expanduser().is_absolute():
        raise UserError("root: name the folder of your images, --config.data.root=PATH")
    return Path(root).expanduser()


def _way(
    found: Found,
    wish: Wish,
    axes: int,
    *,
    multilabel: bool,
    spacing: tuple[float, ...],
) -> Way:
    masks = any(pair.masks for pair in found.pairs)
    if multilabel and found.pairs and not masks:
        raise UserError("multilabel=True needs masks, not instances alone")
    if len(spacing) not in (0, axes):
        raise UserError(f"spacing={spacing} must have {axes} sizes, one for each axis")
    return Way(
        axes=axes,
        multilabel=masks and (multilabel or bool(found.classes)),
        coloured=any("," in value for value in meaning.given(wish)),
        ignore=wish.ignore,
        spacing=spacing,
    )


def _meaning(
    pages: Sequence[Page], folders: tuple[str, ...], wish: Wish, way: Way
) -> Meaning:
    """What the masks mean; without masks, or with one for each class, it is said."""
    values = [(page.fact.mask, page.fact.values) for page in pages if page.fact.values]
    if values:
        return meaning.find(values, wish)
    most = max((page.classes for page in pages), default=1) if way.multilabel else 1
    named = wish.classes or (("background", *folders) if folders else ())
    return Meaning({}, meaning.names(named, 1 + most))


def _counted(fact: Fact, ids: dict[str, int]) -> Fact:
    """A fact with the pixels of classes for those of mask values."""
    if not fact.values:
        return fact
    pixels: dict[int, int] = {}
    for value, count in fact.values.items():
        if (k := ids.get(value)) is not None:
            pixels[k] = pixels.get(k, 0) + count
    return fact._replace(pixels=dict(sorted(pixels.items())))


def _record(page: Page, way: Way) -> Record:
    with naming(page.fact.mask):
        return reading.record(page.pair, page.number, page.fact.id, way)


def _part(whole: Source, pages: Sequence[Page], name: str) -> Source:
    """The records of one split."""
    chosen = [i for i, page in enumerate(pages) if page.fact.split == name]
    part = subset(whole, chosen, f"{whole.name}/{name}")
    return part._replace(pixels=merged(pages[i].fact for i in chosen))


def _notes(account: Account) -> dict[str, Any]:
    """What a run keeps: its split, and what it was told when it began."""
    told = {
        "root": account.root,
        "classes": account.classes,
        "label_map": account.mapping,
        "said": account.said,
        "warnings": [f.text for f in account.faults if f.level == "warning"],
    }
    split = splits.listed({fact.id: fact.split for fact in account.facts})
    return {splits.FILE: split, "data.json": told}


def _usable(page: Page, way: Way, classes: int) -> bool:
    """Whether a page can be a record; where it cannot, there is an error about it."""
    count = page.fact.channels
    alike = count == way.channels or {count, way.channels} == {1, 3}
    whole = not way.multilabel or page.classes == classes - 1
    return page.finite and alike and whole and page.fact.values.keys() <= way.ids.keys()
