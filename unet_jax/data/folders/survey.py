"""Every file of every pair, read once: facts, and faults where there are any."""

import functools
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.progress import track

from unet_jax.data import files
from unet_jax.data.account import Fact, Fault, count, measure
from unet_jax.data.folders import reading, values
from unet_jax.data.folders.pairs import Pair
from unet_jax.data.folders.reading import Opened, Raw, Way
from unet_jax.errors import UserError

THREADS = 4  # decoding leaves Python's lock


class Page(NamedTuple):
    """One image of a pair of files: all of it, or one of a stack.

    Attributes:
      pair: the files.
      number: of the page.
      fact: what was found; `pixels` are empty where mask values are yet to be mapped.
      grey: whether all channels are the same.
      finite: whether all pixels are numbers.
    """

    pair: Pair
    number: int
    fact: Fact
    grey: bool
    finite: bool


class Seen(NamedTuple):
    """The pages of one pair that could be read, and what was wrong."""

    pages: tuple[Page, ...]
    faults: tuple[Fault, ...]


def survey(
    pairs: Sequence[Pair], root: Path, way: Way
) -> tuple[list[Page], list[Fault]]:
    """Reads all pairs, several at a time, with a bar on a terminal."""
    look = functools.partial(_pair, root=root, way=way)
    pages, faults = [], []
    with ThreadPoolExecutor(THREADS) as pool:
        seen = pool.map(look, pairs)
        bar = {"disable": not sys.stdout.isatty(), "transient": True}
        for one in track(seen, "reading the data", total=len(pairs), **bar):
            pages += one.pages
            faults += one.faults
    return pages, faults


def _pair(pair: Pair, root: Path, way: Way) -> Seen:
    pages: list[Page] = []
    faults: list[Fault] = []
    try:
        with reading.opened(pair, way.axes) as found:
            if fault := reading.misfit(found):
                return Seen((), (_fault("size", fault, root),))
            if fault := _apart(found):
                faults.append(Fault("warning", "spacing", _short(fault, root)))
            for number in range(found.image.count):
                read = reading.raw(found, number)
                page = _page(pair, number, found, read, root, way)
                pages.append(page)
                if fault := _odd(page, read):
                    faults.append(fault)
    except UserError as error:
        text = str(error)
        if all(str(f) not in text for f in (pair.image, *pair.masks, pair.instances)):
            text = f"{(*pair.masks, pair.image)[0]}: {text}"
        kind = "mask values" if "mask" in text.split(":", 1)[1] else "unreadable"
        faults.append(_fault(kind, text, root))
    return Seen(tuple(pages), tuple(faults))


def _page(
    pair: Pair, number: int, found: Opened, read: Raw, root: Path, way: Way
) -> Page:
    """Measures one page; raises UserError if its mask is none."""
    mask = pair.masks or (pair.instances,)
    more = {
        "image": _short(str(pair.image), root),
        "mask": ", ".join(_short(str(path), root) for path in mask),
        "kind": files.ending(pair.image).lstrip("."),
        "values": {},
        "pixels": {},
    }
    if read.mask is None or way.multilabel:
        label = reading.label(read, way)
        more["pixels"] = count(label, independent=label.ndim == read.image.ndim)
        if way.multilabel:
            _check_two_values(read.mask, way)
    else:
        more["values"] = values.histogram(read.mask)
    name = f"{pair.id}/{number:03d}" if found.image.count > 1 else pair.id
    finite = bool(np.isfinite(read.image).all())
    shown = read.image if finite else np.nan_to_num(read.image, posinf=0, neginf=0)
    made = {"id": name, "image": shown}
    if spacing := read.spacing or way.spacing:
        made["spacing"] = spacing
    if read.instances is not None:
        made["instances"] = read.instances
    grey = bool((read.image == read.image[..., :1]).all())
    return Page(pair, number, measure(made, pair.split, **more), grey, finite)


def _odd(page: Page, read: Raw) -> Fault | None:
    """Pixels that no network can learn from."""
    if not page.finite:
        bad = int((~np.isfinite(read.image)).sum())
        text = f"{page.fact.image}: {bad} values are NaN or infinite; replace them, or "
        return Fault("error", "NaN or Inf", text + "take the image away")
    if read.image.size > 1 and (read.image == read.image.flat[0]).all():
        value = read.image.flat[0]
        text = f"{page.fact.image}: every pixel is {value}; is it the right file?"
        return Fault("warning", "flat", text)
    return None


def _check_two_values(mask: np.ndarray, way: Way) -> None:
    for k, channel in enumerate(np.moveaxis(mask, -1, 0)):
        seen = {f"{v:g}" for v in np.unique(channel)} - {"0", way.ignore}
        if len(seen) > 1:
            raise UserError(
                f"class {k + 1} has the mask values {', '.join(sorted(seen)[:5])}; "
                "where each class has a mask of its own, that is 0 and one other"
            )


def _apart(found: Opened) -> str:
    """Where image and mask disagree about the size of a pixel; '' if they do not."""
    for grid in found.masks:
        ours, theirs = found.image.spacing, grid.spacing
        if ours and theirs and not np.allclose(ours, theirs, rtol=1e-3):
            return (
                f"{grid.path}: its pixels measure {_sizes(theirs)}, those of its image "
                f"{_sizes(ours)}; the image's count"
            )
    return ""


def _fault(kind: str, text: str, root: Path) -> Fault:
    return Fault("error", kind, _short(text, root))


def _short(text: str, root: Path) -> str:
    """A path, or a line that names one, from the root on."""
    return text.replace(f"{root}/", "")


def _sizes(spacing: Sequence[float]) -> str:
    return " x ".join(f"{size:g}" for size in spacing)
