"""The survey: reads every file of every pair once, to measure it and to find issues."""

import functools
import os
import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.progress import track

from unet_jax.data import files
from unet_jax.data.dataset_report import Issue
from unet_jax.data.folders.pairing import Pair
from unet_jax.data.folders.reading import (
    PagePixels,
    ReadOptions,
    find_alignment_issue,
    find_size_error,
    make_label,
    open_pair,
    orientation,
    read_page,
)
from unet_jax.data.label_map import count_values
from unet_jax.data.record import Record, RecordStats, measure_record
from unet_jax.errors import UserError
from unet_jax.text import listing

THREADS = 4  # decoding releases Python's lock
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
      orientation: the directions of the axes, 'RAS'; '' if the file does not state it.
      target_grey: True if all channels of the target are equal.
    """

    pair: Pair
    number: int
    stats: RecordStats
    grey: bool
    finite: bool
    classes: int
    orientation: str = ""
    target_grey: bool = False


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
    """Reads pairs, several at a time, with a progress bar on a terminal.

    `known` has the earlier result of each pair, or None if the pair must be read.
    """
    unknown = [pair for pair, result in zip(pairs, known, strict=True) if not result]
    survey = functools.partial(_survey_pair, root=root, options=options)
    hidden = not sys.stdout.isatty()
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(survey, unknown)
        bar = {"total": len(unknown), "disable": hidden, "transient": True}
        news = iter([*track(found, "reading the data", **bar)])
    return [result or next(news) for result in known]


def page_names(pair: Pair, number: int, count: int, root: Path) -> dict[str, str]:
    """Returns the attributes of `RecordStats` that follow from the names of files.

    They are those of page `number` of `count`; names are relative to `root`.
    """
    drawn = pair.masks or ((pair.instances,) if pair.instances else ())
    return {
        "id": f"{pair.id}/{number:03d}" if count > 1 else pair.id,
        "split": pair.split,
        "image": relative_path(pair.image, root),
        "mask": ", ".join(relative_path(path, root) for path in drawn),
        "target": relative_path(pair.target, root) if pair.target else "",
        "kind": files.ending(pair.image).lstrip("."),
    }


def relative_path(path: Path, root: Path) -> str:
    """Returns a path relative to the root; absolute if it is outside the root."""
    name, start = str(path), os.path.join(root, "")
    if str(root) == ".":
        return name
    return name[len(start) :] if name.startswith(start) else os.path.abspath(name)


def _survey_pair(pair: Pair, root: Path, options: ReadOptions) -> PairSurvey:
    pages: list[Page] = []
    issues: list[Issue] = []
    count = 0
    try:
        with open_pair(pair, options) as opened:
            count = opened.image.count
            if text := find_size_error(opened):
                issue = Issue("error", "size", _shorten(text, root))
                return PairSurvey((), (issue,), count)
            if issue := find_alignment_issue(opened):
                issues.append(issue._replace(text=_shorten(issue.text, root)))
            for number in range(count):
                pixels = read_page(opened, number)
                names = page_names(pair, number, count, root)
                try:
                    page = _measure_page(pair, number, pixels, options, names)
                except UserError as error:
                    text = f"{names['mask']}: {error}"
                    issues.append(Issue("error", "mask values", text))
                    continue
                pages.append(page._replace(orientation=orientation(opened.image)))
                issues += _find_odd_pixels(page.stats, pixels)
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


def _measure_page(
    pair: Pair,
    number: int,
    pixels: PagePixels,
    options: ReadOptions,
    names: dict[str, str],
) -> Page:
    """Measures one page; raises UserError if a mask has values that are not allowed."""
    target, mask = pixels.target, pixels.mask
    values, classes = {}, 0
    record: Record = {"id": names["id"], "image": _replace_not_finite(pixels.image)}
    if mask is not None and options.multilabel:
        _check_two_values(mask, options)
        classes = mask.shape[-1]
    if mask is not None and not options.multilabel:
        values = count_values(mask)  # which become classes when all masks are read
    elif (label := make_label(pixels, options)) is not None:
        record["label"] = label
    if spacing := pixels.spacing or options.spacing:
        record["spacing"] = spacing
    if pixels.instances is not None:
        record["instances"] = pixels.instances
    if target is not None:
        record["target"] = _replace_not_finite(target)
    return Page(
        pair,
        number,
        measure_record(record, values=values, **names),
        grey=_is_grey(pixels.image),
        finite=record["image"] is pixels.image and record.get("target") is target,
        classes=classes,
        target_grey=target is not None and _is_grey(target),
    )


def _find_odd_pixels(stats: RecordStats, pixels: PagePixels) -> Iterator[Issue]:
    """Yields issues of images and targets that are not finite, or constant."""
    for file, array in ((stats.image, pixels.image), (stats.target, pixels.target)):
        if array is None:
            continue
        if _replace_not_finite(array) is not array:
            count = int((~np.isfinite(array)).sum())
            text = f"{file}: {count} values are NaN or infinite; replace them, or "
            yield Issue("error", "NaN or Inf", text + "remove the image")
        elif array.size > 1 and (array == array.flat[0]).all():
            text = f"{file}: every pixel is {array.flat[0]}; check the file"
            yield Issue("warning", "flat", text)


def _replace_not_finite(array: np.ndarray) -> np.ndarray:
    """Returns the array itself, or a copy with 0 for NaN and infinite values."""
    if array.dtype.kind in "iub" or np.isfinite(array).all():
        return array
    return np.nan_to_num(array, posinf=0, neginf=0)


def _is_grey(image: np.ndarray) -> bool:
    return bool((image == image[..., :1]).all())


def _check_two_values(mask: np.ndarray, options: ReadOptions) -> None:
    for k, channel in enumerate(np.moveaxis(mask, -1, 0)):
        seen = {f"{v:g}" for v in np.unique(channel)} - {"0", options.ignore_value}
        if len(seen) > 1:
            raise UserError(
                f"class {k + 1} has the mask values {listing(sorted(seen))}; a mask of "
                "one class must hold 0 and one other value"
            )


def _shorten(text: str, root: Path) -> str:
    """Makes the paths in a line relative to the root."""
    return re.sub(rf"(?<![^\s'(]){re.escape(str(root))}/", "", text)
