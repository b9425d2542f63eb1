"""The results of a survey as JSON data, and back.

The data may come from someone else's run folder, so they are validated: a pair whose
entry is not as `survey_to_json` writes it is read again.
"""

import base64
import contextlib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unet_jax.arrays import IGNORE
from unet_jax.data.dataset_report import Issue
from unet_jax.data.folders.pairing import Pair
from unet_jax.data.folders.reading import ReadOptions
from unet_jax.data.folders.survey import UNREADABLE, Page, PairSurvey, page_names
from unet_jax.data.record import PERCENTS, THUMBNAIL_SIZE, RecordStats

VERSION = 2  # of the format, and of the measurements
TOO_LARGE = 2**63  # for a whole number
DTYPE = re.compile(r"u?int(8|16|32|64)|float(16|32|64)")
DIGEST = re.compile(r"[0-9a-f]{40}")
VALUE = re.compile(r"-?[0-9]{1,18}|[0-9]{1,5},[0-9]{1,5},[0-9]{1,5}")
ORIENTATION = re.compile(r"|[LRPAIS]{3}")
FROM_FILES = {"pair", "stats", "id", "split", "image", "mask", "kind", "target"}
INVALID = (KeyError, OverflowError, TypeError, ValueError)  # raised by invalid data

Stamp = tuple[str, str, int, int | str]  # from `cache.file_stamps`


def survey_to_json(
    surveys: Sequence[PairSurvey],
    stamps: Sequence[tuple[Stamp, ...]],
    options: ReadOptions,
) -> dict[str, Any]:
    """Returns the results of pairs, with the stamps of their files, as JSON data.

    Files that could not be read are left out: the cause may be a missing library or a
    permission, which stamps do not show.
    """
    pairs = [
        {
            "files": stamp,
            "count": result.count,
            "pages": [_page_to_json(page) for page in result.pages],
            "issues": result.issues,
        }
        for result, stamp in zip(surveys, stamps, strict=True)
        if all(issue.kind != UNREADABLE for issue in result.issues)
    ]
    return {"version": VERSION, "options": _options_to_json(options), "pairs": pairs}


def survey_from_json(
    data: Any,
    pairs: Sequence[Pair],
    stamps: Sequence[tuple[Stamp, ...]],
    root: Path,
    options: ReadOptions,
) -> list[PairSurvey | None]:
    """Returns the results of pairs whose files and options have not changed.

    Args:
      data: from `survey_to_json`, or anything else.
      pairs: the pairs to find results for; a pair that must be read gets None.
      stamps: of the files of each, as they are now.
      root: the folder that file names are relative to.
      options: to read the files with.
    """
    entries: dict[tuple[Stamp, ...], Any] = {}
    known: list[PairSurvey | None] = [None] * len(pairs)
    with contextlib.suppress(*INVALID):
        _require(data["version"] == VERSION)
        _require(data["options"] == _options_to_json(options))
        for entry in _list(data["pairs"]):
            with contextlib.suppress(*INVALID):
                key = tuple(tuple(_list(stamp)) for stamp in _list(entry["files"]))
                entries[key] = entry
    for i, (pair, stamp) in enumerate(zip(pairs, stamps, strict=True)):
        with contextlib.suppress(*INVALID):
            known[i] = _pair_survey(entries[stamp], pair, root, options)
    return known


def _page_to_json(page: Page) -> dict[str, Any]:
    """Returns a page without the attributes that follow from the names of files."""
    stats = page.stats
    data = page._asdict() | stats._asdict()
    data["pixels"] = list(stats.pixels.items())
    data["values"] = list(stats.values.items())
    data["thumbnail"] = base64.b64encode(stats.thumbnail.tobytes()).decode()
    return {key: value for key, value in data.items() if key not in FROM_FILES}


def _options_to_json(options: ReadOptions) -> dict[str, Any]:
    """Returns the options that a survey depends on."""
    names = ("axes", "multilabel", "coloured", "ignore_value")
    data = {name: getattr(options, name) for name in names}
    return data | {"spacing": list(options.spacing)}


# The functions below raise one of INVALID if the data cannot be a result of the pair.


def _pair_survey(
    entry: dict[str, Any], pair: Pair, root: Path, options: ReadOptions
) -> PairSurvey:
    count = _whole(entry["count"], least=1)
    pages = [_page(data, pair, count, root, options) for data in _list(entry["pages"])]
    _require([p.number for p in pages] == sorted({p.number for p in pages}))
    issues = [_issue(*data) for data in _list(entry["issues"])]
    _require(bool(pages or issues))
    return PairSurvey(tuple(pages), tuple(issues), count)


def _page(
    data: dict[str, Any], pair: Pair, count: int, root: Path, options: ReadOptions
) -> Page:
    number = _whole(data["number"])
    _require(number < count)
    classes = _whole(data["classes"])
    _require((classes > 0) == bool(options.multilabel and pair.masks))
    return Page(
        pair,
        number,
        _stats(data, page_names(pair, number, count, root), pair, options),
        grey=_flag(data["grey"]),
        finite=_flag(data["finite"]),
        classes=classes,
        orientation=_text(data["orientation"], ORIENTATION),
        target_grey=_flag(data["target_grey"]),
    )


def _stats(
    data: dict[str, Any], names: Mapping[str, str], pair: Pair, options: ReadOptions
) -> RecordStats:
    axes = options.axes
    shape = tuple(_whole(size, least=1) for size in _list(data["shape"], axes))
    spacing = tuple(map(_number, _list(data["spacing"])))
    _require(len(spacing) in (0, axes) and all(size > 0 for size in spacing))
    channels = _whole(data["channels"], least=1)
    values = {_text(v, VALUE): _whole(n, least=1) for v, n in _list(data["values"])}
    mapped = bool(pair.masks) and not options.multilabel
    _require(sum(values.values()) == (math.prod(shape) if mapped else 0))
    counts = _list(data["pixels"])
    pixels = {_whole(k, least=IGNORE): _whole(n, least=1) for k, n in counts}
    _require(bool(pixels) == (pair.labelled and not mapped))
    objects = data["objects"]
    _require((objects is None) == (pair.instances is None))
    blocks = [THUMBNAIL_SIZE[axes]] * axes
    thumbnail = base64.b64decode(data["thumbnail"], validate=True)
    target_channels = _whole(data["target_channels"])
    _require((target_channels > 0) == (pair.target is not None))
    return RecordStats(
        **names,
        shape=shape,
        channels=channels,
        dtype=_text(data["dtype"], DTYPE),
        spacing=spacing,
        intensity=_intensity(data["intensity"], channels),
        pixels=pixels,
        values=values,
        objects=None if objects is None else _whole(objects),
        digest=_text(data["digest"], DIGEST),
        thumbnail=np.frombuffer(thumbnail, np.int8).reshape(blocks),
        target_channels=target_channels,
        target_dtype=_text(data["target_dtype"], DTYPE) if target_channels else "",
        target_intensity=_intensity(data["target_intensity"], target_channels),
    )


def _issue(level: Any, kind: Any, text: Any) -> Issue:
    _require(level in ("error", "warning"))
    _require(all(isinstance(t, str) and t.isprintable() for t in (kind, text)))
    return Issue(level, kind, text)


def _intensity(data: Any, channels: int) -> tuple[tuple[float, ...], ...]:
    rows = [_list(row, len(PERCENTS)) for row in _list(data, channels)]
    return tuple(tuple(map(_number, row)) for row in rows)


def _list(data: Any, length: int | None = None) -> list[Any]:
    _require(isinstance(data, list) and length in (None, len(data)))
    return data


def _whole(data: Any, least: int = 0) -> int:
    _require(type(data) is int and least <= data < TOO_LARGE)
    return data


def _number(data: Any) -> float:
    _require(type(data) in (int, float) and math.isfinite(data))
    return data


def _flag(data: Any) -> bool:
    _require(isinstance(data, bool))
    return data


def _text(data: Any, pattern: re.Pattern) -> str:
    _require(pattern.fullmatch(data) is not None)
    return data


def _require(condition: bool) -> None:
    if not condition:
        raise ValueError
