"""Every file of every pair, read once: facts, and faults where there are any."""

import functools
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.progress import track

from unet_jax.data import files
from unet_jax.data.account import Fact, Fault, count, measure
from unet_jax.data.folders import grids, reading, values
from unet_jax.data.folders.pairs import Pair
from unet_jax.data.folders.reading import Opened, Raw, Way
from unet_jax.errors import UserError

THREADS = 4  # decoding leaves Python's lock
VOLUMES = "set --config.data.axes=3 and a crop of three sizes, --config.crop=32,64,64"


class Page(NamedTuple):
    """One image of a pair of files: all of it, or one of a stack.

    Attributes:
      pair: the files.
      number: of the page.
      fact: what was found; `pixels` are empty where mask values are yet to be mapped.
      grey: whether all channels are the same.
      finite: whether all pixels are numbers.
      classes: channels of the mask, where each is a class of its own; else 0.
      pointing: where the axes of the file point to; '' if it does not say.
    """

    pair: Pair
    number: int
    fact: Fact
    grey: bool
    finite: bool
    classes: int
    pointing: str


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
        with reading.opened(pair, way) as found:
            if said := reading.misfit(found):
                return Seen((), (Fault("error", "size", _short(said, root)),))
            if fault := grids.apart(found):
                faults.append(fault._replace(text=_short(fault.text, root)))
            for number in range(found.image.count):
                read = reading.raw(found, number)
                page = _page(pair, number, found, read, root, way)
                if isinstance(page, Page):
                    pages.append(page)
                    page = _odd(page, read)
                if page:
                    faults.append(page)
            if any(grid.alpha_varies() for grid in found.masks):
                said = f"{pair.masks[0]}: a mask with transparent parts, which are "
                said += "lost; save it without an alpha channel, on a black ground"
                faults.append(Fault("error", "mask values", _short(said, root)))
    except UserError as error:
        said = _short(str(error), root)
        if "is a volume, the network takes images of 2 axes" in said:
            said += f"; to train on volumes {VOLUMES}"
        faults.append(Fault("error", "unreadable", said))
    return Seen(tuple(pages), tuple(faults))


def _page(
    pair: Pair, number: int, found: Opened, read: Raw, root: Path, way: Way
) -> Page | Fault:
    """Measures one page, if its mask is one."""
    masks = [_short(str(path), root) for path in pair.masks or (pair.instances,)]
    more = {
        "image": _short(str(pair.image), root),
        "mask": ", ".join(masks),
        "kind": files.ending(pair.image).lstrip("."),
    }
    try:
        more |= _mask(read, way)
    except UserError as error:
        return Fault("error", "mask values", f"{more['mask']}: {error}")
    name = f"{pair.id}/{number:03d}" if found.image.count > 1 else pair.id
    finite = bool(np.isfinite(read.image).all())
    shown = read.image if finite else np.nan_to_num(read.image, posinf=0, neginf=0)
    made = {"id": name, "image": shown}
    if spacing := read.spacing or way.spacing:
        made["spacing"] = spacing
    if read.instances is not None:
        made["instances"] = read.instances
    return Page(
        pair,
        number,
        measure(made, pair.split, **more),
        grey=bool((read.image == read.image[..., :1]).all()),
        finite=finite,
        classes=read.mask.shape[-1] if way.multilabel else 0,
        pointing=grids.pointing(found.image),
    )


def _mask(read: Raw, way: Way) -> dict[str, Any]:
    """The values of a mask; or, where these need no mapping, the pixels of classes."""
    if way.multilabel:
        _check_two_values(read.mask, way)
    elif read.mask is not None:
        return {"values": values.histogram(read.mask), "pixels": {}}
    label = reading.label(read, way)
    return {"values": {}, "pixels": count(label, independent=way.multilabel)}


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


def _short(text: str, root: Path) -> str:
    """A path, or a line that names one, from the root on."""
    return re.sub(rf"(?<![^\s'(]){re.escape(str(root))}/", "", text)
