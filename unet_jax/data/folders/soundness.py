"""Checks of a whole set of records: each can be read, but together they are wrong."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import NamedTuple

from unet_jax.arrays import IGNORE
from unet_jax.data.account import Fact, Fault, listed, merged
from unet_jax.data.folders.meaning import Meaning
from unet_jax.data.folders.splits import Plan
from unet_jax.data.folders.survey import Page
from unet_jax.data.folders.twins import Twins


class _Channels(NamedTuple):
    """The channels of a file: their number, and whether all are the same."""

    name: str
    count: int
    grey: bool


def channels(pages: Sequence[Page], wanted: int) -> tuple[int, list[Fault]]:
    """Returns the number of channels for all images, and faults of unlike images.

    Args:
      pages: of the set.
      wanted: 1 for grey, 3 for RGB, or any other that all have; 0 takes RGB for grey
        and RGB files together, and else what most have. RGB files that are grey in
        every pixel count as grey.
    """
    images = _images(pages)
    count = wanted or _common(images) or 1
    where = f"--config.data.channels={wanted} asks for" if wanted else "most have"
    faults = [*_unlike(images, count, where)]
    if any(image.count == count for image in images):
        other = "grey" if count == 3 else "RGB"
        remedy = f"; --config.data.channels={4 - count} makes all of them {other}"
        faults += _converted(images, count, f"the others are{remedy}")
    return count, faults


def target_channels(pages: Sequence[Page]) -> tuple[int, list[Fault]]:
    """Returns the number of channels for all targets, and faults of unlike targets.

    It is the one that all files have. Where there are grey and RGB files, they are
    converted as images are.
    """
    targets = [
        _Channels(page.fact.target, page.fact.target_channels, page.target_grey)
        for page in pages
        if page.fact.target
    ]
    alike = {target.count for target in targets}
    count = alike.pop() if len(alike) == 1 else _common(targets)
    faults = [*_unlike(targets, count, "most targets have")]
    return count, [*faults, *_converted(targets, count, "the other targets are")]


def unlabelled_channels(pages: Sequence[Page], count: int) -> Iterator[Fault]:
    """Yields faults of unlabelled images that are unlike those to train on.

    Args:
      pages: the unlabelled ones.
      count: the channels of the images to train on.
    """
    yield from _unlike(_images(pages), count, "the images to train on have")
    yield from _converted(_images(pages), count, "the images to train on are")


def depth(pages: Sequence[Page]) -> Iterator[Fault]:
    """Yields a warning if images, or targets, differ in the type of their pixels."""
    images = [(page.fact.image, page.fact.dtype) for page in pages]
    targets = [(p.fact.target, p.fact.target_dtype) for p in pages if p.fact.target]
    for files, remedy in (
        (images, "normalize=unit would scale them differently"),
        (targets, "save all targets with one type"),
    ):
        found = Counter(dtype for _, dtype in files)
        if len(found) > 1:
            rare = found.most_common()[-1][0]
            names = [name for name, dtype in files if dtype == rare]
            others = ", ".join(dtype for dtype in found if dtype != rare)
            text = f"{listed(names)}: pixels are {rare}, elsewhere {others}; {remedy}"
            yield Fault("warning", "bit depth", text)


def pointing(pages: Sequence[Page]) -> Iterator[Fault]:
    """Yields a warning if the orientations of NIfTI volumes differ."""
    found = Counter(page.pointing for page in pages if page.pointing)
    for rare, _ in found.most_common()[1:]:
        names = [page.fact.image for page in pages if page.pointing == rare]
        text = f"{listed(names)}: axes point to {rare}, elsewhere to "
        text += f"{found.most_common(1)[0][0]}; volumes are "
        text += "not reoriented, bring them to one orientation"
        yield Fault("warning", "orientation", text)


def shares(parts: Mapping[str, str], plan: Plan, given: Set[str]) -> Iterator[Fault]:
    """Yields a warning for each split that is far from the share it should have."""
    count = Counter(parts.values())
    if plan.folds or given & {"val", "test"}:
        return
    wanted = {"val": plan.val, "test": plan.test, "train": 1 - plan.val - plan.test}
    for name, share in wanted.items():
        goal = share * len(parts)
        if abs(count[name] - goal) > max(0.5 * goal, 2):
            text = f"{count[name]} of {len(parts)} images are in {name}, where "
            text += f"{goal:.0f} were wished: there are large groups (files of many "
            text += "pages, images that are alike) that stay together"
            yield Fault("warning", "split", text)


def leaks(facts: Sequence[Fact], found: Sequence[Twins], allow: str) -> Iterator[Fault]:
    """Yields faults of images that are in two splits, or twice in one."""
    near = []
    for a, b, same in found:
        one, other = facts[a], facts[b]
        if not (one.split and other.split):
            continue
        names = [f.image if one.image != other.image else f.id for f in (one, other)]
        if one.split == other.split:
            if same:
                text = f"{names[1]}: the same pixels as {names[0]}; remove one"
                yield Fault("warning", "duplicate", text)
            continue
        pair = f"image as {names[0]} ({one.split})"
        if not same:
            near.append(f"{names[1]} ({other.split}): nearly the same {pair}")
            continue
        refused = allow != "allow" and one.image != other.image
        text = f"{names[1]} ({other.split}): the same {pair}; remove one, or what is "
        text += "measured says nothing about new images"
        text += ", or go on with --config.data.leaks=allow" if refused else ""
        yield Fault("error" if refused else "warning", "leak", text)
    if near:
        more = f", and {len(near) - 1} more like these" if near[1:] else ""
        text = f"{near[0]}{more}; what is measured says less about new images"
        yield Fault("warning", "leak", text)


def unlabelled_leaks(
    facts: Sequence[Fact], unlabelled: Sequence[Fact], allow: str
) -> Iterator[Fault]:
    """Yields a fault if unlabelled images are also images to validate or test with.

    Args:
      facts: of the images that are in splits.
      unlabelled: of the others.
      allow: 'allow' makes it a warning.
    """
    held = {fact.digest: fact for fact in facts if fact.split in ("val", "test")}
    same = [(f, held[f.digest]) for f in unlabelled if f.digest in held]
    same = [(fact, other) for fact, other in same if fact.thumbnail.any()]
    if same:
        fact, other = same[0]
        refused = allow != "allow"
        text = f"{fact.image}: the same image as {other.image} ({other.split})"
        text += f", and {len(same) - 1} more like this" if same[1:] else ""
        text += "; training must not see it: remove the unlabelled one"
        text += ", or go on with --config.data.leaks=allow" if refused else ""
        yield Fault("error" if refused else "warning", "leak", text)


def groups(facts: Sequence[Fact], names: Sequence[str], allow: str) -> Iterator[Fault]:
    """Yields faults of groups whose images are in several splits.

    Args:
      facts: of the set.
      names: the group of each.
      allow: whether that may be.
    """
    where: dict[str, set[str]] = {}
    for fact, name in zip(facts, names, strict=True):
        where.setdefault(name, set()).add(fact.split)
    level = "warning" if allow == "allow" else "error"
    for name, in_splits in where.items():
        if len(in_splits) > 1:
            text = f"group {name!r} is in {' and '.join(sorted(in_splits))}; move its "
            text += "files into one of them, or set --config.data.leaks=allow"
            yield Fault(level, "leak", text)


def multilabel(pages: Sequence[Page], classes: int) -> Iterator[Fault]:
    """Yields faults of masks of another number of classes than most, or than are named.

    Args:
      pages: of the set.
      classes: that are named, the background among them; 0 if they are not.
    """
    pages = [page for page in pages if page.classes]
    counts = Counter(page.classes for page in pages)
    most = max(counts, key=lambda n: (counts[n], n), default=0)
    wanted = classes - 1 if classes else most
    for page in pages:
        if page.classes != wanted:
            text = f"{page.fact.mask}: {page.classes} channels, one for each class, "
            text += f"and not {wanted}; save one for every class but the background"
            yield Fault("error", "mask channels", text)


def classes(facts: Sequence[Fact], meant: Meaning) -> Iterator[Fault]:
    """Yields faults of classes that training never shows, and of empty masks."""
    train = [fact for fact in facts if fact.split == "train"]
    if not train or not meant.classes:
        return
    there = merged(train)
    if not any(k > 0 for k in there):
        text = f"all {len(train)} masks to train on hold nothing but "
        text += f"{meant.classes[0]}; check them, and --config.data.label_map"
        yield Fault("error", "empty masks", text)
        return
    for k, name in enumerate(meant.classes):
        if k not in there:
            elsewhere = [f.image for f in facts if k in f.pixels]
            where = (
                f"only {listed(elsewhere)} has it" if elsewhere else "no mask has it"
            )
            text = f"class {k} {name!r} is never present in training; {where}. Split "
            text += "otherwise (--config.data.seed=1), or leave it out of the classes"
            yield Fault("error" if k else "warning", "class never present", text)
    if len(there.keys() - {IGNORE}) == 1:
        only = meant.classes[max(there)]
        text = f"all masks to train on hold nothing but {only}; check them: "
        text += "transparency may have been lost when the masks were exported"
        yield Fault("error", "empty masks", text)
    empty = [f.mask for f in facts if not any(k > 0 for k in f.pixels)]
    if empty:
        text = f"{listed(empty)}: nothing but {meant.classes[0]}"
        yield Fault("warning", "empty masks", text)


def _images(pages: Sequence[Page]) -> list[_Channels]:
    return [_Channels(p.fact.image, p.fact.channels, p.grey) for p in pages]


def _common(files: Sequence[_Channels]) -> int:
    """Returns the channels that all files can have, or most of them do; 0 of none."""
    needed = Counter(1 if f.grey and f.count == 3 else f.count for f in files)
    if needed.keys() == {1, 3}:
        return 3
    return max(needed, key=lambda n: (needed[n], n), default=0)


def _unlike(files: Sequence[_Channels], count: int, where: str) -> Iterator[Fault]:
    """Yields an error for each file that cannot be converted to so many channels."""
    for file in files:
        if file.count != count and {file.count, count} != {1, 3}:
            text = f"{file.name}: {file.count} channels, where {where} {count}; save "
            text += f"it with {count}, or take it away"
            yield Fault("error", "channels", text)


def _converted(files: Sequence[_Channels], count: int, others: str) -> Iterator[Fault]:
    """Yields a warning that names the files that are converted."""
    names = [file.name for file in files if {file.count, count} == {1, 3}]
    if names:
        become = "RGB" if count == 3 else "grey"
        text = f"{listed(names)}: {become} is made of these, as {others}"
        yield Fault("warning", "channels", text)
