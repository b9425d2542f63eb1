"""The survey: reads every file of every pair once, to measure it and to find issues."""

import functools
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unet_jax.arrays import cut_chunks
from unet_jax.data import files
from unet_jax.data.dataset_report import Issue
from unet_jax.data.files import ImageFile
from unet_jax.data.folders.pair import Pair
from unet_jax.data.folders.reading import (
    PairFiles,
    ReadOptions,
    find_alignment_issue,
    find_size_error,
    open_pair,
    orientation,
)
from unet_jax.data.image_stats import ImageStats, measure_image
from unet_jax.data.label_map import (
    channels_to_label,
    count_values,
    value_codes,
    value_text,
)
from unet_jax.data.record import RecordStats, count_pixels
from unet_jax.errors import UserError, prefix_errors
from unet_jax.progress import iterate_with_progress
from unet_jax.text import listing, printable

THREADS = 4  # decoding releases Python's lock
BAND_BYTES = 2**24  # of an image that are in memory at a time, for each thread
UNREADABLE = "unreadable"  # the kind of issue of a file that cannot be read
VOLUMES = "set --config.data.axes=3 and a crop of three sizes, --config.crop=32,64,64"


class Page(NamedTuple):
    """One image of a pair of files: the whole image, or one page of a stack.

    Attributes:
      pair: the files.
      number: the number of the page.
      stats: its measurements; `pixels` are empty if mask values have to be mapped.
      grey: True if all channels are equal.
      finite: True if neither image nor target has NaN or infinite values.
      classes: the number of mask channels, if each is a class of its own; else 0.
      digests: a hash of the pixels of the masks, the object ids and the target, by the
        role of the file: 'mask', 'instances', 'target'. That of the image is in stats.
      orientation: the directions of the axes, 'RAS'; '' if the file does not state it.
      target_grey: True if all channels of the target are equal.
    """

    pair: Pair
    number: int
    stats: RecordStats
    grey: bool
    finite: bool
    classes: int
    digests: Mapping[str, str]
    orientation: str = ""
    target_grey: bool = False


class _LabelStats(NamedTuple):
    """The masks and the object ids of a page.

    Attributes:
      pixels: of each class id; empty if mask values have to be mapped first.
      values: pixels of each mask value; empty if each channel is a class.
      classes: the number of mask channels, if each is a class of its own; else 0.
      objects: their number; None without object ids.
      digests: as in `Page`, without the target.
      problem: mask values that are not allowed; '' if there are none.
    """

    pixels: Mapping[int, int]
    values: Mapping[str, int]
    classes: int
    objects: int | None
    digests: Mapping[str, str]
    problem: str = ""


class PairSurvey(NamedTuple):
    """The result for one pair.

    Attributes:
      pages: the pages that could be read.
      issues: problems of the files.
      count: the number of pages of the image file; 0 if it cannot be read.
    """

    pages: tuple[Page, ...]
    issues: tuple[Issue, ...]
    count: int = 0


def survey_pairs(
    pairs: Sequence[Pair],
    root: Path,
    options: ReadOptions,
    known: Sequence[PairSurvey | None],
) -> list[PairSurvey]:
    """Reads pairs, several at a time, and shows the progress.

    `known` has the earlier result of each pair, or None if the pair must be read.
    """
    unknown = [pair for pair, result in zip(pairs, known, strict=True) if not result]
    survey = functools.partial(_survey_pair, root=root, options=options)
    title = f"reading {len(unknown):,} pairs"
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(survey, unknown)
        news = iter([*iterate_with_progress(found, len(unknown), title)])
    return [result or next(news) for result in known]


def page_names(pair: Pair, number: int, count: int, root: Path) -> dict[str, str]:
    """Returns the attributes of `RecordStats` that follow from the names of files.

    They are those of page `number` of `count`; names are relative to `root`.
    """
    masks = pair.masks or pair.label_files
    return {
        "id": f"{pair.id}/{number:03d}" if count > 1 else pair.id,
        "split": pair.split,
        "image": relative_path(pair.image, root),
        "mask": ", ".join(relative_path(path, root) for path in masks),
        "target": relative_path(pair.target, root) if pair.target else "",
        "kind": files.ending(pair.image).lstrip("."),
    }


def relative_path(path: Path, root: Path) -> str:
    """Returns a path relative to the root; absolute if it is outside the root.

    Bytes of the name that are not UTF-8, and control characters, are escaped.
    """
    name, start = str(path), os.path.join(root, "")
    if str(root) == ".":
        return printable(name)
    inside = name.startswith(start)
    return printable(name[len(start) :] if inside else os.path.abspath(name))


def _survey_pair(pair: Pair, root: Path, options: ReadOptions) -> PairSurvey:
    pages: list[Page] = []
    issues: list[Issue] = []
    count = 0
    try:
        with open_pair(pair, options) as opened:
            count = opened.image.count
            issues += _find_notes(opened, root)
            if text := find_size_error(opened):
                issues.append(Issue("error", "size", _shorten(text, root)))
                return PairSurvey((), tuple(issues), count)
            if issue := find_alignment_issue(opened):
                issues.append(issue._replace(text=_shorten(issue.text, root)))
            for number in range(count):
                names = page_names(pair, number, count, root)
                labels = _measure_labels(opened, number, options)
                if labels.problem:
                    text = f"{names['mask']}: {labels.problem}"
                    issues.append(Issue("error", "mask values", text))
                    continue
                page, odd = _measure_page(opened, pair, number, names, labels, options)
                pages.append(page)
                issues += odd
            if any(file.alpha_varies() for file in opened.masks):
                text = f"{pair.masks[0]}: a mask with transparent parts, which are "
                text += "ignored; save it without an alpha channel, on black"
                issues.append(Issue("error", "mask values", _shorten(text, root)))
    except UserError as error:
        text = _shorten(str(error), root)
        if "is a volume, the network takes images of 2 axes" in text:
            text += f"; to train on volumes {VOLUMES}"
        issues.append(Issue("error", UNREADABLE, text))
    return PairSurvey(tuple(pages), tuple(issues), count)


def _find_notes(pair: PairFiles, root: Path) -> Iterator[Issue]:
    """Yields decisions about the meaning of the pixels, for each file of a pair."""
    masks = (("masks", mask) for mask in pair.masks)
    others = ("instances", pair.instances), ("targets", pair.target)
    for noun, file in (("images", pair.image), *masks, *others):
        if file is None:
            continue
        name = printable(relative_path(Path(str(file.path)), root))
        for note in file.notes:
            yield Issue("note", f"{noun} {note}", name)


def _measure_page(
    opened: PairFiles,
    pair: Pair,
    number: int,
    names: dict[str, Any],
    labels: _LabelStats,
    options: ReadOptions,
) -> tuple[Page, list[Issue]]:
    """Measures the image and the target of a page; returns also their odd pixels."""
    image = opened.image
    measured = _measure_image(image, number)
    issues = [*_find_odd_pixels(names["image"], measured)]
    stats = RecordStats(
        **names,
        shape=image.shape,
        channels=image.channels,
        dtype=str(image.dtype),
        spacing=tuple(image.spacing or options.spacing),
        intensity=measured.intensity,
        pixels=labels.pixels,
        values=labels.values,
        objects=labels.objects,
        digest=measured.digest,
        thumbnail=measured.thumbnail,
    )
    finite, target_grey = not measured.not_finite, False
    digests = dict(labels.digests)
    if target := opened.target:
        of_target = _measure_image(target, number)
        issues += _find_odd_pixels(names["target"], of_target)
        digests["target"] = of_target.digest
        finite, target_grey = finite and not of_target.not_finite, of_target.grey
        stats = stats._replace(
            target_channels=target.channels,
            target_dtype=str(target.dtype),
            target_intensity=of_target.intensity,
        )
    page = Page(
        pair,
        number,
        stats,
        grey=measured.grey,
        finite=finite,
        classes=labels.classes,
        digests=digests,
        orientation=orientation(image),
        target_grey=target_grey,
    )
    return page, issues


def _measure_image(file: ImageFile, number: int) -> ImageStats:
    bands = (band for _, band in files.read_bands(file, number, BAND_BYTES))
    return measure_image(bands, (*file.shape, file.channels), file.dtype)


def _measure_labels(
    opened: PairFiles, number: int, options: ReadOptions
) -> _LabelStats:
    """Counts the pixels of masks and the objects of a page, a band at a time.

    Raises:
      UserError: a file is damaged, or object ids are not whole numbers.
    """
    pixels: Counter[int] = Counter()
    values: Counter[int] = Counter()
    seen: list[set[float]] = []  # of each channel, if each is a class
    objects: set[int] | None = None
    hashes = {name: hashlib.sha1() for name in ("mask", "instances")}
    mapped = bool(opened.masks) and not options.multilabel
    for mask in _read_masks(opened, number):
        hashes["mask"].update(_buffer(mask))
        seen = seen or [set() for _ in range(mask.shape[-1])]
        try:
            if mapped:  # values become classes when all masks are read
                count_values(values, mask)
                continue
            _check_two_values(mask, seen, options)
        except UserError as error:
            return _LabelStats({}, {}, 0, None, {}, problem=str(error))
        label = channels_to_label(mask, options.ignore_value)
        pixels.update(count_pixels(label, independent=True))
    if file := opened.instances:
        objects = set()
        for _, band in files.read_bands(file, number, BAND_BYTES):
            for chunk in cut_chunks(band):
                hashes["instances"].update(_buffer(chunk))
                with prefix_errors(str(file.path)):
                    ids = value_codes(chunk)
                objects.update(np.unique(ids[ids > 0]).tolist())
                if not opened.masks:  # objects are of class 1
                    label = (ids > 0).astype(np.int32)
                    pixels.update(count_pixels(label, independent=False))
    used = {"mask": bool(opened.masks), "instances": opened.instances is not None}
    return _LabelStats(
        pixels=dict(sorted(pixels.items())),
        values={value_text(code): n for code, n in sorted(values.items())},
        classes=len(seen) if opened.masks and options.multilabel else 0,
        objects=None if objects is None else len(objects),
        digests={name: h.hexdigest() for name, h in hashes.items() if used[name]},
    )


def _buffer(array: np.ndarray) -> Any:
    """Returns an array whose bytes can be hashed."""
    return np.ascontiguousarray(array)


def _read_masks(opened: PairFiles, number: int) -> Iterator[np.ndarray]:
    """Yields parts of all masks of a page, `[rows, ..., K]` with all their channels."""
    if not opened.masks:
        return
    first, *others = opened.masks
    inner = [slice(0, size) for size in first.shape[1:]]
    for rows, band in files.read_bands(first, number, BAND_BYTES):
        bands = [band, *(file.read(number, [rows, *inner]) for file in others)]
        yield from cut_chunks(np.concatenate(bands, axis=-1))


def _find_odd_pixels(file: str, measured: ImageStats) -> Iterator[Issue]:
    """Yields issues of an image or target that is not finite, or constant."""
    if measured.not_finite:
        text = f"{file}: {measured.not_finite} values are NaN or infinite; replace "
        yield Issue("error", "NaN or Inf", text + "them, or remove the image")
    elif measured.constant:
        text = f"{file}: every pixel is {measured.intensity[0][0]:g}; check the file"
        yield Issue("warning", "flat", text)


def _check_two_values(
    mask: np.ndarray, seen: Sequence[set[float]], options: ReadOptions
) -> None:
    """Adds the values of each channel to those seen; raises UserError if too many."""
    for k, channel in enumerate(np.moveaxis(mask, -1, 0)):
        seen[k].update(np.unique(channel).tolist())
        values = {f"{v:g}" for v in sorted(seen[k])} - {"0", options.ignore_value}
        if len(values) > 1:
            raise UserError(
                f"class {k + 1} has the mask values {listing(sorted(values))}; a mask "
                "of one class must hold 0 and one other value"
            )


def _shorten(text: str, root: Path) -> str:
    """Makes the paths in a line relative to the root, and the line printable."""
    start = re.escape(printable(root))
    return re.sub(rf"(?<![^\s'(]){start}/", "", printable(text))
