"""Caches of a folder: the survey in a run folder, and records that are fast to read.

Both are valid while the stamps of the files are unchanged: name, size and time of
modification.
"""

import hashlib
import json
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from unet_jax.data.folders.pair import Pair
from unet_jax.data.folders.reading import ReadOptions, load_record
from unet_jax.data.folders.survey import Page, relative_path
from unet_jax.data.folders.survey_file import VERSION, Stamp
from unet_jax.data.record import Record
from unet_jax.data.record_file import is_complete, open_records, write_records
from unet_jax.errors import UserError
from unet_jax.json_file import read_json

SURVEY_FILE = "survey.json"  # of a run folder


def file_stamps(pairs: Sequence[Pair], root: Path) -> list[tuple[Stamp, ...]]:
    """Returns the stamps of the files of each pair.

    A stamp is the role of a file, its path relative to the root, its size in bytes, and
    its time of modification in ns. For a folder, an OME-Zarr, the time is a hash of the
    names, sizes and times of the files in it.
    """
    return [_pair_stamps(pair, root) for pair in pairs]


def read_survey(path: Path) -> Any:
    """Returns the JSON data of a survey file; None if it is missing or damaged."""
    try:
        return read_json(path, object, "")
    except UserError:
        return None


def make_cache_prefix(
    folder: str, stamps: Sequence[tuple[Stamp, ...]], *options: Any
) -> Path:
    """Returns the cache path prefix: a hash of the files' stamps and of the options.

    The options are everything else that a record depends on.
    """
    return Path(folder).expanduser() / _hash([VERSION, stamps, repr(options)])


def cached_survey(prefix: Path) -> Any:
    """Returns the survey that was stored with the records of the same files, or None.

    Raises:
      UserError: the records are damaged.
    """
    folders = sorted(prefix.parent.glob(f"{prefix.name}-*"))
    folder = next(filter(is_complete, folders), None)
    about = open_records(folder).about if folder else None
    return about.get("survey") if isinstance(about, dict) else None


def cached_loader(
    prefix: Path, pages: Sequence[Page], options: ReadOptions, survey: Any
) -> Callable[[Page], Record]:
    """Returns a function that loads pages from a cache; writes the cache if missing.

    Args:
      prefix: from `make_cache_prefix`.
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
