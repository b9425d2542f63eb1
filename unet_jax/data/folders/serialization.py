"""The results of a survey as JSON data, and back.

The data may come from a stranger's run folder. They are read by a validating reader:
whatever is not as `dump` writes it is left out, and its files are then read again.
"""

import base64
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from unet_jax.arrays import IGNORE
from unet_jax.data.account import CELLS, PERCENTS, Fact, Fault
from unet_jax.data.folders import survey
from unet_jax.data.folders.pairs import Pair
from unet_jax.data.folders.reading import ReadOptions
from unet_jax.data.folders.survey import Page, PairSurvey

VERSION = 1  # of the format, and of what `measure` and the survey find in a file
MOST = 2**63  # that a whole number must be below
DTYPE = re.compile(r"u?int(8|16|32|64)|float(16|32|64)")
DIGEST = re.compile(r"[0-9a-f]{40}")
VALUE = re.compile(r"-?[0-9]{1,18}|[0-9]{1,5},[0-9]{1,5},[0-9]{1,5}")
POINTING = re.compile(r"|[LRPAIS]{3}")
MISFITS = (KeyError, OverflowError, TypeError, ValueError)  # of data in another form

Stamp = tuple[str, str, int, int | str]
Thing = TypeVar("Thing")


def dump(
    surveys: Sequence[PairSurvey],
    stamps: Sequence[tuple[Stamp, ...]],
    options: ReadOptions,
) -> dict[str, Any]:
    """Returns the results as JSON data.

    Files that could not be read are left out: that may be due to a missing library, or
    to permissions, which their stamps do not show.

    Args:
      surveys: the result for each pair.
      stamps: of the files of each pair.
      options: that the files were read with.
    """
    pairs = [
        {
            "files": stamp,
            "count": result.count,
            "pages": [_plain(page) for page in result.pages],
            "faults": result.faults,
        }
        for result, stamp in zip(surveys, stamps, strict=True)
        if all(fault.kind != survey.UNREADABLE for fault in result.faults)
    ]
    return {"version": VERSION, "options": _options(options), "pairs": pairs}


def load(
    data: Any,
    pairs: Sequence[Pair],
    stamps: Sequence[tuple[Stamp, ...]],
    root: Path,
    options: ReadOptions,
) -> list[PairSurvey | None]:
    """Returns the result for each pair whose files and options are unchanged.

    Args:
      data: from `dump`, or anything.
      pairs: whose results are looked for.
      stamps: of the files of each, as they are now.
      root: the folder that file names start from.
      options: that the files are to be read with.

    Returns:
      A result for each pair; None for those that must be read.
    """
    entries: dict[tuple[Stamp, ...], Any] = {}
    same = isinstance(data, dict) and data.get("version") == VERSION
    if same and data.get("options") == _options(options):
        for entry in _or_none(lambda: _list(data["pairs"])) or ():
            if key := _or_none(lambda entry=entry: _key(entry["files"])):
                entries[key] = entry
    return [
        _or_none(lambda e=entries[stamp], p=pair: _survey(e, p, root, options))
        if stamp in entries
        else None
        for pair, stamp in zip(pairs, stamps, strict=True)
    ]


def _plain(page: Page) -> dict[str, Any]:
    """Returns a page without what follows from the names of its files."""
    fact = page.fact
    return {
        "shape": fact.shape,
        "channels": fact.channels,
        "dtype": fact.dtype,
        "spacing": fact.spacing,
        "intensity": fact.intensity,
        "pixels": list(fact.pixels.items()),
        "values": list(fact.values.items()),
        "objects": fact.objects,
        "digest": fact.digest,
        "thumbnail": base64.b64encode(fact.thumbnail.tobytes()).decode(),
        "target_channels": fact.target_channels,
        "target_dtype": fact.target_dtype,
        "target_intensity": fact.target_intensity,
        "number": page.number,
        "grey": page.grey,
        "finite": page.finite,
        "classes": page.classes,
        "pointing": page.pointing,
        "target_grey": page.target_grey,
    }


def _options(options: ReadOptions) -> dict[str, Any]:
    """Returns the options that a survey depends on."""
    return {
        "axes": options.axes,
        "multilabel": options.multilabel,
        "coloured": options.coloured,
        "ignore": options.ignore,
        "spacing": list(options.spacing),
    }


def _survey(
    entry: dict[str, Any], pair: Pair, root: Path, options: ReadOptions
) -> PairSurvey:
    count = _whole(entry["count"], least=1)
    pages = [
        _page(plain, pair, count, root, options) for plain in _list(entry["pages"])
    ]
    _require([p.number for p in pages] == sorted({p.number for p in pages}))
    faults = [_fault(*plain) for plain in _list(entry["faults"])]
    _require(bool(pages or faults))
    return PairSurvey(tuple(pages), tuple(faults), count)


def _page(
    plain: dict[str, Any], pair: Pair, count: int, root: Path, options: ReadOptions
) -> Page:
    number = _whole(plain["number"])
    _require(number < count)
    classes = _whole(plain["classes"])
    _require((classes > 0) == bool(options.multilabel and pair.masks))
    return Page(
        pair,
        number,
        _fact(plain, survey.names(pair, number, count, root), pair, options),
        grey=_flag(plain["grey"]),
        finite=_flag(plain["finite"]),
        classes=classes,
        pointing=_text(plain["pointing"], POINTING),
        target_grey=_flag(plain["target_grey"]),
    )


def _fact(
    plain: dict[str, Any], names: Mapping[str, str], pair: Pair, options: ReadOptions
) -> Fact:
    """Returns a fact, or raises one of `MISFITS` if it cannot be one of this pair."""
    shape = tuple(_whole(size, least=1) for size in _list(plain["shape"], options.axes))
    spacing = tuple(_number(size) for size in _list(plain["spacing"]))
    _require(len(spacing) in (0, options.axes) and all(size > 0 for size in spacing))
    channels = _whole(plain["channels"], least=1)
    values = {_text(v, VALUE): _whole(n, least=1) for v, n in _list(plain["values"])}
    mapped = bool(pair.masks) and not options.multilabel
    _require(sum(values.values()) == (math.prod(shape) if mapped else 0))
    pixels = {
        _whole(k, least=IGNORE): _whole(n, least=1) for k, n in _list(plain["pixels"])
    }
    _require(bool(pixels) == (pair.labelled and not mapped))
    objects = plain["objects"]
    _require((objects is None) == (pair.instances is None))
    cells = [CELLS[options.axes]] * options.axes
    thumbnail = base64.b64decode(plain["thumbnail"], validate=True)
    target_channels = _whole(plain["target_channels"])
    _require((target_channels > 0) == (pair.target is not None))
    target_dtype = plain["target_dtype"]
    return Fact(
        **names,
        shape=shape,
        channels=channels,
        dtype=_text(plain["dtype"], DTYPE),
        spacing=spacing,
        intensity=_intensity(plain["intensity"], channels),
        pixels=pixels,
        values=values,
        objects=None if objects is None else _whole(objects),
        digest=_text(plain["digest"], DIGEST),
        thumbnail=np.frombuffer(thumbnail, np.int8).reshape(cells),
        target_channels=target_channels,
        target_dtype=_text(target_dtype, DTYPE) if target_channels else "",
        target_intensity=_intensity(plain["target_intensity"], target_channels),
    )


def _fault(level: str, kind: str, text: str) -> Fault:
    """Returns a fault whose texts may be shown on a terminal."""
    _require(level in ("error", "warning"))
    _require(all(isinstance(t, str) and t.isprintable() for t in (kind, text)))
    return Fault(level, kind, text)


def _intensity(plain: Any, channels: int) -> tuple[tuple[float, ...], ...]:
    rows = [_list(row, len(PERCENTS)) for row in _list(plain, channels)]
    return tuple(tuple(map(_number, row)) for row in rows)


def _key(files: Any) -> tuple[Stamp, ...]:
    """Returns stamps of a pair that can be looked up."""
    key = tuple(tuple(_list(stamp)) for stamp in _list(files))
    hash(key)  # raises TypeError of what cannot be looked up
    return key


def _list(plain: Any, length: int | None = None) -> list[Any]:
    _require(isinstance(plain, list) and length in (None, len(plain)))
    return plain


def _whole(plain: Any, least: int = 0) -> int:
    _require(type(plain) is int and least <= plain < MOST)
    return plain


def _number(plain: Any) -> float:
    _require(type(plain) in (int, float) and math.isfinite(plain))
    return plain


def _flag(plain: Any) -> bool:
    _require(isinstance(plain, bool))
    return plain


def _text(plain: Any, form: re.Pattern) -> str:
    _require(form.fullmatch(plain) is not None)
    return plain


def _require(holds: bool) -> None:
    if not holds:
        raise ValueError


def _or_none(read: Callable[[], Thing]) -> Thing | None:
    """Returns what a reader returns, or None of data that it refuses."""
    try:
        return read()
    except MISFITS:
        return None
