"""The data set of a folder: found, read through, mapped and split."""

import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from unet_jax.arrays import IGNORE
from unet_jax.data.account import Account, Fact, Record, merged, together
from unet_jax.data.folders import (
    cache,
    meaning,
    pairs,
    reading,
    serialization,
    soundness,
    splits,
)
from unet_jax.data.folders.dividing import divided
from unet_jax.data.folders.meaning import Meaning, Wish
from unet_jax.data.folders.pairs import Found, Pair, Patterns
from unet_jax.data.folders.reading import ReadOptions
from unet_jax.data.folders.serialization import Stamp
from unet_jax.data.folders.splits import Plan
from unet_jax.data.folders.survey import Page, PairSurvey, survey_pairs
from unet_jax.data.source import Source, Splits, subset
from unet_jax.errors import UserError, prefix_errors
from unet_jax.specs import Domain, Positive, Whole

_Share = Annotated[float, Domain("above 0 and below 1", lambda x: 0 < x < 1)]


def folder(
    *,
    root: str = "",
    images: str = "images",
    masks: str = "masks",
    instances: str = "instances",
    targets: str = "targets",
    unlabelled: str = "unlabelled",
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
    survey: str = "",
) -> Splits:
    """Makes a data set of the user's own images, with masks, object ids or targets.

    All files are read once before training, so that all mistakes are reported together.
    They are collected in `Splits.account`; `build` raises them.

    Args:
      root: the folder. It holds `images/` and at least one of `masks/`, `instances/`
        and `targets/`, or else `train/`, `val/` and `test/` that do. Files of one stem
        belong together.
      images: another folder in it, or a glob; what its wildcards match makes the pair:
        'raw/*_img.tif' with 'drawn/*_mask.png'.
      masks: the same for masks. '' says that there are none: where there are no
        instances and targets either, the records are images alone.
      instances: the same for object ids, whole numbers, 0 = background; without masks
        they are the one class.
      targets: the same for images to be restored or predicted. They have the size of
        their image, and any channels and any type. With targets, masks and instances
        are optional; without these, there are no labels and no classes.
      unlabelled: the same for images without labels, for semi-supervised training;
        beside `images/`, in `root` and in `train/`.
      axes: 2: images, and stacks of them; 3: volumes.
      channels: 1 or 3 converts all images to grey or RGB; 0 takes what most files need.
      classes: names by id, the background first; () takes what the masks hold.
      colours: red, green and blue of each, for pictures, and for coloured masks.
      label_map: pairs of a mask value or colour and a class id or name; -1 ignores.
      ignore_label: the mask value of pixels that are not annotated; -1: none but
        negative values.
      multilabel: classes may overlap: each channel of a mask is one, or each folder in
        `masks/`. It needs config.task.name=multilabel.
      spacing: the size of a pixel along each axis, of files that do not state theirs.
      val: the share of the records to validate with, unless their folder is given.
      test: the share to test on, likewise.
      folds: to cross-validate with, instead of shares; 0: shares.
      fold: the one to test on; the next one validates.
      group: a regular expression found in the names of files; those where it finds the
        same stay in one split. Without one, the pages of a file do, and duplicates.
      seed: of the split.
      split: a split.json of an earlier run, to be used again.
      leaks: 'allow' goes on if the same image is in two given splits, or unlabelled and
        in val or test.
      links: True allows links to lead out of the root.
      records: where to keep the records of a large folder, which are then read from
        there and not from the files, until one of these changes; '' keeps none.
      survey: the survey.json of a run folder. Files that have not changed since it was
        written are not read again. One that is missing or broken is ignored.

    Raises:
      UserError: there is no such folder, no image in it, or an argument is wrong.
    """
    home = _home(root, images)
    classes = tuple(name.strip() for part in classes for name in part.split(","))
    ignore = "" if ignore_label == IGNORE else str(ignore_label)
    wish = Wish(classes or meaning.named(label_map), colours, label_map, ignore)
    patterns = Patterns(images, masks, instances, targets, unlabelled)
    found = pairs.find(home, patterns, classes=classes, links=links)
    options = _options(found, wish, axes, multilabel=multilabel, spacing=spacing)

    every = (*found.pairs, *found.unlabelled)
    stamps = cache.stamps(every, home)
    prefix = cache.place(records, stamps, options, wish, channels) if records else None
    surveys, surveyed = _surveys(every, stamps, home, options, survey, prefix)

    pages = [page for result in surveys for page in result.pages]
    spare = [page for page in pages if page.pair.split == pairs.UNLABELLED]
    pages = [page for page in pages if page.pair.split != pairs.UNLABELLED]
    plan = Plan(val, test, folds, fold, seed)
    pages, torn = divided(pages, plan, group, split, leaks)
    meant = _meaning(pages, found, wish, options)
    pages = [page._replace(fact=_counted(page.fact, meant.ids)) for page in pages]
    facts = tuple(page.fact for page in pages)
    others = tuple(page.fact for page in spare)
    count, unlike = soundness.channels(pages, channels)
    target_count, unlike_targets = soundness.target_channels(pages)
    multi = soundness.multilabel(pages, len(classes)) if options.multilabel else ()
    account = Account(
        root=str(home),
        classes=meant.classes,
        mapping=tuple(meant.ids.items()),
        facts=facts + others,
        faults=together(
            *found.faults,
            *(fault for result in surveys for fault in result.faults),
            *meant.faults,
            *unlike,
            *unlike_targets,
            *soundness.unlabelled_channels(spare, count),
            *torn,
            *soundness.unlabelled_leaks(facts, others, leaks),
            *soundness.depth([*pages, *spare]),
            *soundness.pointing([*pages, *spare]),
            *multi,
            *(() if meant.faults else soundness.classes(facts, meant)),
        ),
        said=meant.said,
    )
    options = options._replace(
        channels=count, target_channels=target_count, ids=meant.ids
    )
    pages = [page for page in pages if _usable(page, options, len(meant.classes))]
    spare = [page for page in spare if _usable(page, options, len(meant.classes))]
    load = functools.partial(_record, options=options)
    if prefix and not account.errors:
        load = cache.loader(prefix, [*pages, *spare], options, surveyed)
    whole = Source(
        name=home.resolve().name,
        classes=meant.classes,
        colours=meaning.colours(wish, len(meant.classes)) if meant.classes else (),
        channels=count,
        length=len(pages),
        load=lambda i: load(pages[i]),
        spacing=spacing,
        convert=any(page.fact.channels != count for page in (*pages, *spare)),
        independent=options.multilabel,
        target_channels=target_count,
    )
    return Splits(
        **{name: _part(whole, pages, name) for name in pairs.SPLITS},
        account=account,
        notes=_notes(account, facts) | {splits.SURVEY_FILE: surveyed},
        unlabelled=_unlabelled(whole, spare, load) if spare else None,
    )


def _surveys(
    every: Sequence[Pair],
    stamps: Sequence[tuple[Stamp, ...]],
    root: Path,
    options: ReadOptions,
    survey: str,
    prefix: Path | None,
) -> tuple[list[PairSurvey], dict[str, Any]]:
    """Surveys all pairs, but for those whose results are known.

    Args:
      every: the pairs.
      stamps: of the files of each.
      root: the folder that file names start from.
      options: how to read them.
      survey: a file with results; '' if there is none.
      prefix: of the cache of records, which has results, too; None if there is none.

    Returns:
      The result for each pair, and the same as JSON data.
    """
    known: Sequence[PairSurvey | None] = [None] * len(every)
    if survey:
        data = cache.read_survey(Path(survey).expanduser())
        known = serialization.load(data, every, stamps, root, options)
    if prefix and None in known:
        data = cache.stored_survey(prefix)
        stored = serialization.load(data, every, stamps, root, options)
        known = [one or other for one, other in zip(known, stored, strict=True)]
    surveys = survey_pairs(every, root, options, known)
    return surveys, serialization.dump(surveys, stamps, options)


def _home(root: str, images: str) -> Path:
    if not root and not Path(images).expanduser().is_absolute():
        raise UserError("root: name the folder of your images, --config.data.root=PATH")
    return Path(root).expanduser()


def _options(
    found: Found,
    wish: Wish,
    axes: int,
    *,
    multilabel: bool,
    spacing: tuple[float, ...],
) -> ReadOptions:
    masks = any(pair.masks for pair in found.pairs)
    if multilabel and found.pairs and not masks:
        raise UserError("multilabel=True needs masks, not instances or targets alone")
    if len(spacing) not in (0, axes):
        raise UserError(f"spacing={spacing} must have {axes} sizes, one for each axis")
    return ReadOptions(
        axes=axes,
        multilabel=masks and (multilabel or bool(found.classes)),
        coloured=any("," in value for value in meaning.given(wish)),
        ignore=wish.ignore,
        spacing=spacing,
    )


def _meaning(
    pages: Sequence[Page], found: Found, wish: Wish, options: ReadOptions
) -> Meaning:
    """Returns the meaning of the masks: of their values, or of their channels."""
    if found.pairs and not any(pair.labelled for pair in found.pairs):
        if wish.classes:
            raise UserError(
                f"classes={','.join(wish.classes)} need masks, and there are none; add "
                "masks, or leave classes and label_map out"
            )
        return Meaning({}, ())
    values = [(page.fact.mask, page.fact.values) for page in pages if page.fact.values]
    if values:
        return meaning.find(values, wish)
    multilabel = options.multilabel
    most = max((page.classes for page in pages), default=1) if multilabel else 1
    named = wish.classes or (("background", *found.classes) if found.classes else ())
    return Meaning({}, meaning.names(named, 1 + most))


def _counted(fact: Fact, ids: dict[str, int]) -> Fact:
    """Returns a fact with the pixels of classes for those of mask values."""
    if not fact.values:
        return fact
    pixels: dict[int, int] = {}
    for value, count in fact.values.items():
        if (k := ids.get(value)) is not None:
            pixels[k] = pixels.get(k, 0) + count
    return fact._replace(pixels=dict(sorted(pixels.items())))


def _record(page: Page, options: ReadOptions) -> Record:
    with prefix_errors(page.fact.mask or page.fact.image):
        return reading.record(page.pair, page.number, page.fact.id, options)


def _part(whole: Source, pages: Sequence[Page], name: str) -> Source:
    """Returns the records of one split."""
    chosen = [i for i, page in enumerate(pages) if page.fact.split == name]
    part = subset(whole, chosen, f"{whole.name}/{name}")
    return part._replace(pixels=merged(pages[i].fact for i in chosen) or None)


def _unlabelled(
    whole: Source, pages: Sequence[Page], load: Callable[[Page], Record]
) -> Source:
    """Returns the images without labels."""
    return whole._replace(
        name=f"{whole.name}/{pairs.UNLABELLED}",
        length=len(pages),
        load=lambda i: load(pages[i]),
        target_channels=0,
    )


def _notes(account: Account, facts: Iterable[Fact]) -> dict[str, Any]:
    """Returns what a run keeps: its split, and what it was told when it began."""
    told = {
        "root": account.root,
        "classes": account.classes,
        "label_map": account.mapping,
        "said": account.said,
        "warnings": [f.text for f in account.faults if f.level == "warning"],
    }
    split = splits.listed({fact.id: fact.split for fact in facts})
    return {splits.FILE: split, "data.json": told}


def _usable(page: Page, options: ReadOptions, classes: int) -> bool:
    """Returns True if a page can be a record; if not, there is an error about it."""
    fact = page.fact
    return (
        page.finite
        and _alike(fact.channels, options.channels)
        and (not fact.target or _alike(fact.target_channels, options.target_channels))
        and (not page.classes or page.classes == classes - 1)
        and fact.values.keys() <= options.ids.keys()
    )


def _alike(channels: int, wanted: int) -> bool:
    """Returns True if images of one number of channels can have the other."""
    return channels == wanted or {channels, wanted} == {1, 3}
