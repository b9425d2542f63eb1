"""Checks of all records of a folder together, after each one has been read."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from unet_jax.arrays import IGNORE
from unet_jax.data.dataset_report import Issue, total_pixels
from unet_jax.data.duplicates import check_unlabelled_leaks
from unet_jax.data.folders.masks import LabelMap
from unet_jax.data.folders.survey import Page
from unet_jax.data.record import RecordStats
from unet_jax.text import listing

NAMED_FILES = 1  # files in the message about a conversion


class _Channels(NamedTuple):
    """The channels of a file: their number, and True if all are equal."""

    name: str
    count: int
    grey: bool


def choose_channels(
    pages: Sequence[Page], unlabelled: Sequence[Page], requested: int
) -> tuple[int, int, list[Issue]]:
    """Returns the channels of all images and of all targets, and issues of others.

    Images have the `requested` number: 1 for grey, 3 for RGB, or the number that all
    images have. 0 takes RGB for a mixture of grey and RGB files, and otherwise what
    most images have. RGB files that are grey in every pixel count as grey. Targets have
    the number that all target files have; a mixture is converted as images are.
    """
    images = _image_channels(pages)
    count = requested or _common_count(images) or 1
    expected, reason = "most have", ""
    remedy = f"--config.data.channels={4 - count} makes all of them "
    remedy += "grey" if count == 3 else "RGB"
    if requested:
        expected = f"--config.data.channels={requested} asks for"
        reason, remedy = f"as {expected}", ""
    issues = [*_check_channels(images, count, expected)]
    if any(image.count == count for image in images):
        issues += _describe_conversion("images", images, count, reason, remedy)
    stats = [(page.stats, page.target_grey) for page in pages if page.stats.target]
    targets = [_Channels(s.target, s.target_channels, grey) for s, grey in stats]
    counts = {target.count for target in targets}
    of_target = counts.pop() if len(counts) == 1 else _common_count(targets)
    issues += _check_channels(targets, of_target, "most targets have")
    issues += _describe_conversion("targets", targets, of_target)
    others, reason = _image_channels(unlabelled), "as the images to train on are"
    issues += _check_channels(others, count, "the images to train on have")
    issues += _describe_conversion("unlabelled images", others, count, reason)
    return count, of_target, issues


def check_set(
    pages: Sequence[Page],
    unlabelled: Sequence[Page],
    label_map: LabelMap,
    *,
    leaks: str,
    named_classes: int,
    background: bool,
    given: bool,
) -> Iterator[Issue]:
    """Yields the issues of all pages together.

    Args:
      pages: the pages of the splits, with their pixels counted by class.
      unlabelled: the pages without labels.
      label_map: the meaning of the values of the masks.
      leaks: as in `folder`.
      named_classes: the number of classes that the user has named, with the background.
      background: as in `check_classes`.
      given: True if the user has given a split.json.
    """
    stats = [page.stats for page in pages]
    every = [*pages, *unlabelled]
    extra_stats = [page.stats for page in unlabelled]
    yield from check_unlabelled_leaks(stats, extra_stats, leaks)
    yield from check_dtypes(every)
    yield from check_orientations(every)
    yield from check_mask_channels(pages, named_classes)
    if not label_map.issues:
        given = given or any(page.pair.split for page in pages)
        yield from check_classes(stats, label_map, background=background, given=given)


def check_dtypes(pages: Sequence[Page]) -> Iterator[Issue]:
    """Yields a warning if images, or targets, differ in the type of their pixels."""
    stats = [page.stats for page in pages]
    images = [(s.image, s.dtype) for s in stats]
    targets = [(s.target, s.target_dtype) for s in stats if s.target]
    for files, remedy in (
        (images, "normalize=unit would scale them differently"),
        (targets, "save all targets with one type"),
    ):
        counts = Counter(dtype for _, dtype in files)
        if len(counts) > 1:
            rare = counts.most_common()[-1][0]
            names = [name for name, dtype in files if dtype == rare]
            others = ", ".join(dtype for dtype in counts if dtype != rare)
            text = f"{listing(names)}: pixels are {rare}, elsewhere {others}; {remedy}"
            yield Issue("warning", "bit depth", text)


def check_orientations(pages: Sequence[Page]) -> Iterator[Issue]:
    """Yields a warning if the orientations of NIfTI volumes differ."""
    counts = Counter(page.orientation for page in pages if page.orientation)
    for rare, _ in counts.most_common()[1:]:
        names = [page.stats.image for page in pages if page.orientation == rare]
        text = f"{listing(names)}: axes point to {rare}, elsewhere to "
        text += f"{counts.most_common(1)[0][0]}; volumes are not reoriented "
        text += "automatically, bring them to one orientation"
        yield Issue("warning", "orientation", text)


def check_mask_channels(pages: Sequence[Page], classes: int) -> Iterator[Issue]:
    """Yields issues of masks that do not have one channel for each class.

    `classes` is the number of named classes, with the background. If it is 0, the
    masks must have the most frequent number of channels.
    """
    pages = [page for page in pages if page.classes]
    counts = Counter(page.classes for page in pages)
    most = max(counts, key=lambda n: (counts[n], n), default=0)
    expected = classes - 1 if classes else most
    for page in pages:
        if page.classes != expected:
            text = f"{page.stats.mask}: {page.classes} channels, one for each class, "
            text += f"and not {expected}; save one for each class but the background"
            yield Issue("error", "mask channels", text)


def check_classes(
    records: Sequence[RecordStats],
    label_map: LabelMap,
    *,
    background: bool,
    given: bool,
) -> Iterator[Issue]:
    """Yields issues of classes missing in the training set, and of empty masks.

    Args:
      records: the records of all splits.
      label_map: the meaning of the values of their masks.
      background: True if class 0 is the background. A mask with nothing else is then
        empty.
      given: True if the user has chosen the split of each image.
    """
    train = [record for record in records if record.split == "train"]
    classes = label_map.classes
    if not train or not classes:
        return
    pixels = total_pixels(train)
    if not any(k > 0 for k in pixels):
        text = f"all {len(train)} masks to train on hold only {classes[0]}; check "
        yield Issue("error", "empty masks", text + "them, and --config.data.label_map")
        return
    absent = []
    for k, name in enumerate(classes):
        elsewhere = [record.image for record in records if k in record.pixels]
        if not elsewhere and (k or not background):
            absent.append(f"{k} {name!r}")
        elif not elsewhere:
            text = f"no mask has {name!r}, class 0: all pixels are of other classes"
            yield Issue("warning", "class never present", text)
        elif k not in pixels:
            text = f"class {k} {name!r} is never present in training; only "
            text += f"{listing(elsewhere)} has it; "
            other = "choose another split, --config.data.seed=1"
            text += "move an image with it to the training images" if given else other
            level = "error" if k or not background else "warning"
            yield Issue(level, "class never present", text)
    if absent:
        text = f"in no mask: class {listing(absent)}; such a class is not learnt and "
        text += "has no score. Add masks that have it, or remove its name from "
        text += "--config.data.classes"
        yield Issue("warning", "class never present", text)
    if len(pixels.keys() - {IGNORE}) == 1:
        text = f"all masks to train on hold only {classes[max(pixels)]}; check them: "
        text += "transparency may have been lost when the masks were exported"
        yield Issue("error", "empty masks", text)
    empty = [record.mask for record in records if not any(k > 0 for k in record.pixels)]
    if empty and background:
        yield Issue("warning", "empty masks", f"{listing(empty)}: no foreground pixels")


def _image_channels(pages: Sequence[Page]) -> list[_Channels]:
    return [_Channels(p.stats.image, p.stats.channels, p.grey) for p in pages]


def _common_count(files: Sequence[_Channels]) -> int:
    """Returns the number of channels that all files can be converted to.

    If there is none, it is the most frequent number; without files it is 0.
    """
    counts = Counter(1 if f.grey and f.count == 3 else f.count for f in files)
    if counts.keys() == {1, 3}:
        return 3
    return max(counts, key=lambda n: (counts[n], n), default=0)


def _check_channels(
    files: Sequence[_Channels], count: int, expected: str
) -> Iterator[Issue]:
    """Yields errors of files that cannot have `count` channels."""
    for file in files:
        if file.count != count and {file.count, count} != {1, 3}:
            text = f"{file.name}: {file.count} channels, where {expected} {count}; "
            text += f"save it with {count}, or remove it"
            yield Issue("error", "channels", text)


def _describe_conversion(
    noun: str,
    files: Sequence[_Channels],
    count: int,
    reason: str = "",
    remedy: str = "",
) -> Iterator[Issue]:
    """Yields a warning if grey files become RGB, or RGB files become grey.

    Args:
      noun: the name of the files, in the plural.
      files: all files of this kind.
      count: the number of channels that they will have.
      reason: the cause; if it is empty, the other files are.
      remedy: the flag for the other direction, and its effect.
    """
    converted = [file for file in files if {file.count, count} == {1, 3}]
    if not converted:
        return
    old, new = ("grey", "RGB") if count == 3 else ("RGB", "grey")
    others = [f for f in files if f.count == count and not (count == 3 and f.grey)]
    text = f"{len(converted)} of {len(files)} {noun}"
    if reason or len(converted) <= len(others):
        text += f" ({listing((file.name for file in converted), NAMED_FILES)})"
    verbs = ("is", "becomes") if len(converted) == 1 else ("are", "become")
    text += f" {verbs[0]} {old} and {verbs[1]} {new}, "
    if not reason and count == 1 and all(file.grey for file in converted):
        reason = "because every pixel of "
        reason += "it is grey" if len(converted) == 1 else "them is grey"
    elif not reason:
        names = listing((file.name for file in others), NAMED_FILES)
        reason = f"because {len(others)} ({names})"
        reason += " is" if len(others) == 1 else " are"
        reason += " in colour" if count == 3 else " grey"
    text += reason + (f"; {remedy}" if remedy else "")
    yield Issue("warning", "channels", text)
