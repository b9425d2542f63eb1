"""Caches of a folder: the survey in a run folder, and records that are fast to read.

Both are valid while the stamps of the files are unchanged: name, size and time of
modification.
"""

import functools
import hashlib
import json
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from unet_jax.data.dataset_report import Issue
from unet_jax.data.folders.pair import Pair
from unet_jax.data.folders.reading import ReadOptions, load_record
from unet_jax.data.folders.survey import Page, relative_path, survey_pairs
from unet_jax.data.folders.survey_file import (
    VERSION,
    Stamp,
    list_changed_files,
    survey_from_json,
    survey_to_json,
)
from unet_jax.data.record import Record
from unet_jax.data.record_file import is_complete, open_records, write_records
from unet_jax.errors import UserError
from unet_jax.json_file import read_json
from unet_jax.text import listing

SURVEY_FILE = "survey.json"  # of a run folder


class FolderSurvey(NamedTuple):
    """The results of the survey of a folder.

    Attributes:
      pages: the pages that could be read.
      issues: problems of the files.
      data: the results as JSON data, for survey.json.
      prefix: the cache path prefix of the records; None without a cache.
      changed: a warning if the content of files has changed since the saved survey.
    """

    pages: list[Page]
    issues: list[Issue]
    data: dict[str, Any]
    prefix: Path | None
    changed: list[Issue]


def survey_folder(
    pairs: Sequence[Pair],
    root: Path,
    options: ReadOptions,
    *,
    saved: str,
    records: str,
    others: Sequence[Any],
) -> FolderSurvey:
    """Reads and measures all files, except those with a result that is still valid.

    Args:
      pairs: the files.
      root: the folder that file names are relative to.
      options: how files are read.
      saved: the path of a survey.json, which may be missing or damaged; '' for none.
      records: the folder of the cached records; '' for none.
      others: what a record depends on, besides the files and the options.

    Raises:
      UserError: the cached records are damaged.
    """
    stamps = file_stamps(pairs, root)
    load = functools.partial(
        survey_from_json, pairs=pairs, stamps=stamps, root=root, options=options
    )
    before = _read_survey(Path(saved).expanduser())
    known, prefix = load(before), None
    if records:
        key = _hash([VERSION, stamps, repr((options, *others))])
        prefix = Path(records).expanduser() / key
        if None in known:
            cached = load(_cached_survey(prefix))
            known = [one or other for one, other in zip(known, cached, strict=True)]
    results = survey_pairs(pairs, root, options, known)
    return FolderSurvey(
        [page for result in results for page in result.pages],
        [issue for result in results for issue in result.issues],
        survey_to_json(results, stamps, options),
        prefix,
        _warn_of_changes(list_changed_files(before, results, stamps, options)),
    )


def file_stamps(pairs: Sequence[Pair], root: Path) -> list[tuple[Stamp, ...]]:
    """Returns the stamps of the files of each pair.

    A stamp is the role of a file, its path relative to the root, its size in bytes, and
    its time of modification in ns. For a folder, an OME-Zarr, the time is a hash of the
    names, sizes and times of the files in it.
    """
    return [_pair_stamps(pair, root) for pair in pairs]


def cached_loader(
    prefix: Path, pages: Sequence[Page], options: ReadOptions, survey: Any
) -> Callable[[Page], Record]:
    """Returns a function that loads pages from a cache; writes the cache if missing.

    Args:
      prefix: from `survey_folder`.
      pages: all pages to load. Other pages, as in another split, or another label map
        have another cache.
      options: how pages are read.
      survey: JSON data to store with the records.

    Raises:
      UserError: the cache cannot be written, or is damaged.
    """
    suffix = _hash([[page.stats.id for page in pages], repr(options)])
    folder = prefix.with_name(f"{prefix.name}-{suffix}")
    if not is_complete(folder):
        records = (load_record(p.pair, p.number, p.stats.id, options) for p in pages)
        write_records(folder, records, {"survey": survey})
    load = open_records(folder).load
    index = {(page.pair, page.number): i for i, page in enumerate(pages)}
    return lambda page: load(index[page.pair, page.number])


def _warn_of_changes(names: Sequence[str]) -> list[Issue]:
    """Returns a warning about files of a run that have changed, if there are any."""
    if not names:
        return []
    have = "1 file has" if len(names) == 1 else f"{len(names):,} files have"
    text = f"{have} changed since this run began ({listing(names, 2)}), so its scores "
    text += "are not comparable; restore them, or start a new run"
    return [Issue("warning", "changed files", text)]


def _read_survey(path: Path) -> Any:
    """Returns the JSON data of a survey file; None if it is missing or damaged."""
    try:
        return read_json(path, object, "")
    except UserError:
        return None


def _cached_survey(prefix: Path) -> Any:
    """Returns the survey that was stored with the records, or None."""
    folders = sorted(prefix.parent.glob(f"{prefix.name}-*"))
    folder = next(filter(is_complete, folders), None)
    about = open_records(folder).about if folder else None
    return about.get("survey") if isinstance(about, dict) else None


def _pair_stamps(pair: Pair, root: Path) -> tuple[Stamp, ...]:
    found = [("image", pair.image), *(("mask", path) for path in pair.masks)]
    found += [("instances", pair.instances), ("target", pair.target)]
    return tuple(_file_stamp(role, path, root) for role, path in found if path)


def _file_stamp(role: str, path: Path, root: Path) -> Stamp:
    name = relative_path(path, root)
    try:
        status = path.stat()
    except OSError:  # a broken link, which cannot be read either
        return role, name, 0, 0
    if not stat.S_ISDIR(status.st_mode):
        return role, name, status.st_size, status.st_mtime_ns
    inside = sorted(p for p in path.rglob("*") if p.is_file())
    each = [(os.path.relpath(p, path), p.stat()) for p in inside]
    size = sum(status.st_size for _, status in each)
    return role, name, size, _hash([(n, s.st_size, s.st_mtime_ns) for n, s in each])


def _hash(data: Any) -> str:
    return hashlib.sha1(json.dumps(data).encode()).hexdigest()[:12]
