"""The results of a survey as JSON data, and back.

The data may come from someone else's run folder, so they are validated: a pair whose
entry is not as `survey_to_json` writes it is read again.
"""

import contextlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta

from unet_jax.arrays import IGNORE
from unet_jax.data.dataset_report import Issue
from unet_jax.data.folders.pair import Pair
from unet_jax.data.folders.reading import ReadOptions
from unet_jax.data.folders.survey import UNREADABLE, Page, PairSurvey, page_names
from unet_jax.data.image_stats import PERCENTS, THUMBNAIL_SIZE
from unet_jax.data.record import RecordStats
from unet_jax.json_file import FiniteNumber, PositiveNumber

VERSION = 5  # of the format, and of the measurements
INT64_MAX = 2**63 - 1
INVALID = (msgspec.MsgspecError, KeyError, TypeError, ValueError)  # of invalid data

Stamp = tuple[str, str, int, int | str]  # from `cache.file_stamps`
NonNegativeInt = Annotated[int, Meta(ge=0, le=INT64_MAX)]
PositiveInt = Annotated[int, Meta(ge=1, le=INT64_MAX)]
ClassId = Annotated[int, Meta(ge=IGNORE, le=INT64_MAX)]
Percentiles = Annotated[
    tuple[FiniteNumber, ...], Meta(min_length=len(PERCENTS), max_length=len(PERCENTS))
]
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{40}\Z")]
Dtype = Annotated[str, Meta(pattern=r"^(u?int(8|16|32|64)|float(16|32|64))?\Z")]
MaskValue = Annotated[
    str, Meta(pattern=r"^(-?[0-9]{1,18}|[0-9]{1,5}(,[0-9]{1,5}){2})\Z")
]


class _PageStats(msgspec.Struct):
    """The attributes of `RecordStats` that do not follow from the names of files."""

    shape: tuple[PositiveInt, ...]
    channels: PositiveInt
    dtype: Dtype
    spacing: tuple[PositiveNumber, ...]
    intensity: tuple[Percentiles, ...]
    pixels: tuple[tuple[ClassId, PositiveInt], ...]
    values: tuple[tuple[MaskValue, PositiveInt], ...]
    objects: NonNegativeInt | None
    digest: Digest
    thumbnail: bytes
    target_channels: NonNegativeInt
    target_dtype: Dtype
    target_intensity: tuple[Percentiles, ...]


class _PageEntry(msgspec.Struct):
    """The attributes of `Page` that do not follow from the names of files."""

    number: NonNegativeInt
    stats: _PageStats
    grey: bool
    finite: bool
    classes: NonNegativeInt
    digests: dict[Literal["mask", "instances", "target"], Digest]
    orientation: Annotated[str, Meta(pattern=r"^([LRPAIS]{3})?\Z")]
    target_grey: bool


class _PairEntry(msgspec.Struct):
    files: tuple[Stamp, ...]
    count: PositiveInt
    pages: tuple[_PageEntry, ...]
    issues: tuple[Issue, ...]


class _Options(NamedTuple):
    """The options that a survey depends on."""

    axes: int
    multilabel: bool
    coloured: bool
    ignore_value: str
    spacing: tuple[float, ...]
    tiff_axes: str


class _Survey(msgspec.Struct):
    version: int
    options: _Options
    pairs: list[Any]  # each is validated by itself


def survey_to_json(
    surveys: Sequence[PairSurvey],
    stamps: Sequence[tuple[Stamp, ...]],
    options: ReadOptions,
) -> dict[str, Any]:
    """Returns the results of pairs, with the stamps of their files, as JSON data.

    Files that could not be read are left out: the cause may be a missing library or a
    permission, which stamps do not show.
    """
    pairs: list[Any] = [
        _PairEntry(stamp, result.count, tuple(map(_entry, result.pages)), result.issues)
        for result, stamp in zip(surveys, stamps, strict=True)
        if all(issue.kind != UNREADABLE for issue in result.issues)
    ]
    return msgspec.to_builtins(_Survey(VERSION, _select_options(options), pairs))


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
    entries = {entry.files: entry for entry in _valid_entries(data, options)}
    known: list[PairSurvey | None] = [None] * len(pairs)
    for i, (pair, stamp) in enumerate(zip(pairs, stamps, strict=True)):
        with contextlib.suppress(*INVALID):
            known[i] = _pair_survey(entries[stamp], pair, root, options)
    return known


def list_changed_files(
    data: Any,
    surveys: Sequence[PairSurvey],
    stamps: Sequence[tuple[Stamp, ...]],
    options: ReadOptions,
) -> list[str]:
    """Returns the names of files whose content has changed since a survey.

    Both the stamp and the pixels of such a file differ. A copy of the file has another
    stamp, but the same pixels.

    Args:
      data: from `survey_to_json`, or anything else.
      surveys: the present result of each pair.
      stamps: of the files of each, as they are now.
      options: to read the files with; after other options nothing is compared.
    """
    old = {e.files[0][1]: e for e in _valid_entries(data, options) if e.files}
    changed = []
    for result, stamp in zip(surveys, stamps, strict=True):
        entry = old.get(stamp[0][1])
        if entry is None or entry.files == stamp or not result.pages:
            continue
        pages = tuple(map(_entry, result.pages))
        before, now = map(_digests, (entry.pages, pages))
        changed += [
            file[1]
            for file in sorted(set(stamp) - set(entry.files))
            if before[file[0]] != now[file[0]]
        ]
    return changed


def _digests(pages: Sequence[_PageEntry]) -> dict[str, list[str | None]]:
    """Returns the hashes of the pixels of all pages by the role of the file."""
    each = [{"image": page.stats.digest, **page.digests} for page in pages]
    roles = ("image", "mask", "instances", "target")
    return {role: [digests.get(role) for digests in each] for role in roles}


def _valid_entries(data: Any, options: ReadOptions) -> list[_PairEntry]:
    """Returns the valid entries of a survey with the same options."""
    entries = []
    with contextlib.suppress(*INVALID):
        survey = msgspec.convert(data, _Survey)
        _require(survey.version == VERSION)
        _require(survey.options == _select_options(options))
        for pair_data in survey.pairs:
            with contextlib.suppress(*INVALID):
                entries.append(msgspec.convert(pair_data, _PairEntry))
    return entries


def _select_options(options: ReadOptions) -> _Options:
    return _Options(*(getattr(options, name) for name in _Options._fields))


def _entry(page: Page) -> _PageEntry:
    stats = page.stats._replace(
        pixels=tuple(page.stats.pixels.items()),
        values=tuple(page.stats.values.items()),
        thumbnail=page.stats.thumbnail.tobytes(),
    )
    fields = page._replace(stats=_PageStats(*_select(stats, _PageStats)))
    return _PageEntry(*_select(fields, _PageEntry))


def _select(values: Any, struct: type[msgspec.Struct]) -> list[Any]:
    return [getattr(values, name) for name in struct.__struct_fields__]


# The functions below raise one of INVALID if the data cannot be a result of the pair.


def _pair_survey(
    entry: _PairEntry, pair: Pair, root: Path, options: ReadOptions
) -> PairSurvey:
    pages = [_page(page, entry.count, pair, root, options) for page in entry.pages]
    _require([p.number for p in pages] == sorted({p.number for p in pages}))
    _require(bool(pages) or any(issue.level != "note" for issue in entry.issues))
    _require(all((i.kind + i.text).isprintable() for i in entry.issues))
    return PairSurvey(tuple(pages), entry.issues, entry.count)


def _page(
    entry: _PageEntry, count: int, pair: Pair, root: Path, options: ReadOptions
) -> Page:
    axes, stats = options.axes, entry.stats
    _require(entry.number < count)
    _require((entry.classes > 0) == bool(options.multilabel and pair.masks))
    _require(len(stats.shape) == axes and len(stats.spacing) in (0, axes))
    _require(len(stats.intensity) == stats.channels and stats.dtype != "")
    mapped = bool(pair.masks) and not options.multilabel
    values, pixels = dict(stats.values), dict(stats.pixels)
    _require(sum(values.values()) == (math.prod(stats.shape) if mapped else 0))
    _require(bool(pixels) == (pair.labelled and not mapped))
    _require((stats.objects is None) == (pair.instances is None))
    _require((stats.target_channels > 0) == (pair.target is not None))
    _require(len(stats.target_intensity) == stats.target_channels)
    roles = {"mask": pair.masks, "instances": pair.instances, "target": pair.target}
    _require(set(entry.digests) == {role for role, path in roles.items() if path})
    _require((stats.target_dtype == "") == (pair.target is None))
    blocks = [THUMBNAIL_SIZE[axes]] * axes
    measured = msgspec.structs.asdict(stats) | {
        "pixels": pixels,
        "values": values,
        "thumbnail": np.frombuffer(stats.thumbnail, np.int8).reshape(blocks),
    }
    names = page_names(pair, entry.number, count, root)
    fields: dict[str, Any] = msgspec.structs.asdict(entry)
    fields |= {"stats": RecordStats(**names, **measured)}
    return Page(pair, **fields)


def _require(condition: bool) -> None:
    if not condition:
        raise ValueError
