"""The survey: reads every file of every pair once, for facts and faults."""

import functools
import os
import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.progress import track

from unet_jax.data import files
from unet_jax.data.account import Fact, Fault, count, measure
from unet_jax.data.folders import grids, reading, values
from unet_jax.data.folders.pairs import Pair
from unet_jax.data.folders.reading import Opened, Raw, ReadOptions
from unet_jax.errors import UserError

THREADS = 4  # decoding releases Python's lock
UNREADABLE = "unreadable"  # the kind of the fault of a file that cannot be read
VOLUMES = "set --config.data.axes=3 and a crop of three sizes, --config.crop=32,64,64"


class Page(NamedTuple):
    """One image of a pair of files: all of it, or one of a stack.

    Attributes:
      pair: the files.
      number: of the page.
      fact: its measurements; `pixels` are empty where mask values are yet to be mapped.
      grey: True if all channels are the same.
      finite: True if the image and the target have neither NaN nor infinite values.
      classes: channels of the mask, where each is a class of its own; else 0.
      pointing: the directions of the axes, 'RAS'; '' if the file does not state them.
      target_grey: True if all channels of the target are the same.
    """

    pair: Pair
    number: int
    fact: Fact
    grey: bool
    finite: bool
    classes: int
    pointing: str
    target_grey: bool


class PairSurvey(NamedTuple):
    """The result for one pair.

    Attributes:
      pages: those that could be read.
      faults: what is wrong, or odd.
      count: how many pages the image file has; 0 if it cannot be read.
    """

    pages: tuple[Page, ...]
    faults: tuple[Fault, ...]
    count: int = 0


def survey_pairs(
    pairs: Sequence[Pair],
    root: Path,
    options: ReadOptions,
    known: Sequence[PairSurvey | None],
) -> list[PairSurvey]:
    """Reads pairs, several at a time, with a progress bar on a terminal.

    Args:
      pairs: the files.
      root: the folder that file names start from in facts and faults.
      options: how to read them.
      known: the result for each pair that need not be read; None for the others.
    """
    unknown = [pair for pair, result in zip(pairs, known, strict=True) if not result]
    look = functools.partial(_survey, root=root, options=options)
    with ThreadPoolExecutor(THREADS) as pool:
        bar = {"disable": not sys.stdout.isatty(), "transient": True}
        reading_all = pool.map(look, unknown)
        news = iter([*track(reading_all, "reading the data", len(unknown), **bar)])
    return [result or next(news) for result in known]


def names(pair: Pair, number: int, count: int, root: Path) -> dict[str, str]:
    """Returns the attributes of a fact that follow from the files of the pair.

    Args:
      pair: the files.
      number: of the page.
      count: how many pages the file has.
      root: the folder that file names start from.
    """
    drawn = pair.masks or (pair.instances,) if pair.labelled else ()
    return {
        "id": f"{pair.id}/{number:03d}" if count > 1 else pair.id,
        "split": pair.split,
        "image": relative(pair.image, root),
        "mask": ", ".join(relative(path, root) for path in drawn),
        "target": relative(pair.target, root) if pair.target else "",
        "kind": files.ending(pair.image).lstrip("."),
    }


def relative(path: Path, root: Path) -> str:
    """Returns a path from the root on; an absolute one if it is outside the root."""
    name, start = str(path), os.path.join(root, "")
    if str(root) == ".":
        return name
    return name[len(start) :] if name.startswith(start) else os.path.abspath(name)


def _survey(pair: Pair, root: Path, options: ReadOptions) -> PairSurvey:
    pages: list[Page] = []
    faults: list[Fault] = []
    pages_of_image = 0
    try:
        with reading.opened(pair, options) as found:
            pages_of_image = found.image.count
            if text := reading.mismatch(found):
                fault = Fault("error", "size", _short(text, root))
                return PairSurvey((), (fault,), pages_of_image)
            if fault := grids.apart(found):
                faults.append(fault._replace(text=_short(fault.text, root)))
            for number in range(pages_of_image):
                read = reading.raw(found, number)
                fact = names(pair, number, pages_of_image, root)
                try:
                    label = _label(read, options)
                except UserError as error:
                    text = f"{fact['mask']}: {error}"
                    faults.append(Fault("error", "mask values", text))
                    continue
                pages.append(_page(pair, number, found, read, options, fact | label))
                faults += _odd(pages[-1].fact, read)
            if any(grid.alpha_varies() for grid in found.masks):
                text = f"{pair.masks[0]}: a mask with transparent parts, which are "
                text += "lost; save it without an alpha channel, on a black ground"
                faults.append(Fault("error", "mask values", _short(text, root)))
    except UserError as error:
        text = _short(str(error), root)
        if "is a volume, the network takes images of 2 axes" in text:
            text += f"; to train on volumes {VOLUMES}"
        faults.append(Fault("error", UNREADABLE, text))
    return PairSurvey(tuple(pages), tuple(faults), pages_of_image)


def _page(
    pair: Pair,
    number: int,
    found: Opened,
    read: Raw,
    options: ReadOptions,
    fact: dict[str, Any],
) -> Page:
    """Measures one page; of its fact, what follows from names and label is given."""
    name, split = fact.pop("id"), fact.pop("split")
    made = {"id": name, "image": _finite(read.image)}
    if spacing := read.spacing or options.spacing:
        made["spacing"] = spacing
    if read.instances is not None:
        made["instances"] = read.instances
    if read.target is not None:
        made["target"] = _finite(read.target)
    unchanged = made["image"] is read.image and made.get("target") is read.target
    return Page(
        pair,
        number,
        measure(made, split, **fact),
        grey=_grey(read.image),
        finite=unchanged,
        classes=read.mask.shape[-1] if options.multilabel and pair.masks else 0,
        pointing=grids.pointing(found.image),
        target_grey=read.target is not None and _grey(read.target),
    )


def _label(read: Raw, options: ReadOptions) -> dict[str, Any]:
    """Counts the values of a mask; or, where these need no mapping, the classes."""
    if read.mask is not None and not options.multilabel:
        return {"values": values.histogram(read.mask), "pixels": {}}
    if read.mask is not None:
        _check_two_values(read.mask, options)
    if (label := reading.label(read, options)) is None:
        return {"values": {}, "pixels": {}}
    independent = label.ndim == read.image.ndim
    return {"values": {}, "pixels": count(label, independent=independent)}


def _odd(fact: Fact, read: Raw) -> Iterator[Fault]:
    """Yields faults of pixels that no network can learn from."""
    for file, array in ((fact.image, read.image), (fact.target, read.target)):
        if array is None:
            continue
        if _finite(array) is not array:
            bad = int((~np.isfinite(array)).sum())
            text = f"{file}: {bad} values are NaN or infinite; replace them, or take "
            yield Fault("error", "NaN or Inf", text + "the image away")
        elif array.size > 1 and (array == array.flat[0]).all():
            text = f"{file}: every pixel is {array.flat[0]}; is it the right file?"
            yield Fault("warning", "flat", text)


def _finite(array: np.ndarray) -> np.ndarray:
    """Returns the array itself, or one with 0 for NaN and infinite values."""
    if array.dtype.kind in "iub" or np.isfinite(array).all():
        return array
    return np.nan_to_num(array, posinf=0, neginf=0)


def _grey(image: np.ndarray) -> bool:
    return bool((image == image[..., :1]).all())


def _check_two_values(mask: np.ndarray, options: ReadOptions) -> None:
    for k, channel in enumerate(np.moveaxis(mask, -1, 0)):
        seen = {f"{v:g}" for v in np.unique(channel)} - {"0", options.ignore}
        if len(seen) > 1:
            raise UserError(
                f"class {k + 1} has the mask values {', '.join(sorted(seen)[:5])}; "
                "where each class has a mask of its own, that is 0 and one other"
            )


def _short(text: str, root: Path) -> str:
    """Shortens the paths that a line names: from the root on."""
    return re.sub(rf"(?<![^\s'(]){re.escape(str(root))}/", "", text)
