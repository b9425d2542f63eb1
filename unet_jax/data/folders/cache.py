"""Caches of a folder: the survey in a run folder, and records that are fast to read.

Both hold as long as the stamps of the files do: name, size and time of modification.
"""

import hashlib
import json
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from unet_jax.data import records
from unet_jax.data.account import Record
from unet_jax.data.folders import reading
from unet_jax.data.folders.pairs import Pair
from unet_jax.data.folders.reading import ReadOptions
from unet_jax.data.folders.serialization import Stamp
from unet_jax.data.folders.survey import Page, relative

LARGEST = 2**30  # bytes of a survey file that is read


def stamps(pairs: Sequence[Pair], root: Path) -> list[tuple[Stamp, ...]]:
    """Returns the stamps of the files of each pair, before these are read.

    Each is the role of a file, its path from the root on, its size in bytes, and its
    time of modification in ns. The time of a folder, an OME-Zarr, is a hash of what is
    in it.
    """
    return [
        tuple(_stamp(role, path, root) for role, path in _files(pair)) for pair in pairs
    ]


def read_survey(path: Path) -> Any:
    """Returns the JSON data of a survey file; None if it is missing or broken."""
    try:
        if not path.is_file() or path.stat().st_size > LARGEST:
            return None
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def place(home: str, stamped: Sequence[tuple[Stamp, ...]], *options: Any) -> Path:
    """Returns the cache path prefix: a hash of the files' stamps and of the options.

    Args:
      home: the folder that holds all caches of records.
      stamped: from `stamps`.
      *options: all else that a record depends on.
    """
    return Path(home).expanduser() / _hashed([stamped, repr(options)])


def stored_survey(prefix: Path) -> Any:
    """Returns the survey that was stored with the records of the same files, or None.

    Raises:
      UserError: the records are damaged.
    """
    there = sorted(prefix.parent.glob(f"{prefix.name}-*"))
    folder = next(filter(records.written, there), None)
    about = records.read(folder).about if folder else None
    return about.get("survey") if isinstance(about, dict) else None


def loader(
    prefix: Path, pages: Sequence[Page], options: ReadOptions, survey: Any
) -> Callable[[Page], Record]:
    """Returns a function that loads pages from a cache, which is written if missing.

    Args:
      prefix: from `place`.
      pages: to be loaded. Others, as another split has them, or another meaning of
        their masks, have another cache.
      options: how they are read.
      survey: JSON data to be stored with them.

    Raises:
      UserError: the cache cannot be written, or is damaged.
    """
    of = _hashed([[page.fact.id for page in pages], repr(options)])
    folder = prefix.with_name(f"{prefix.name}-{of}")
    if not records.written(folder):
        made = (reading.record(p.pair, p.number, p.fact.id, options) for p in pages)
        records.write(folder, made, {"survey": survey})
    load = records.read(folder).load
    index = {(page.pair, page.number): i for i, page in enumerate(pages)}
    return lambda page: load(index[page.pair, page.number])


def _files(pair: Pair) -> list[tuple[str, Path]]:
    """Returns the files of a pair, and what each is for."""
    found = [("image", pair.image), *(("mask", path) for path in pair.masks)]
    found += [("instances", pair.instances)] if pair.instances else []
    return found + ([("target", pair.target)] if pair.target else [])


def _stamp(role: str, path: Path, root: Path) -> Stamp:
    name = relative(path, root)
    try:
        status = path.stat()
    except OSError:  # a broken link: to read it will fail, too
        return role, name, 0, 0
    if not stat.S_ISDIR(status.st_mode):
        return role, name, status.st_size, status.st_mtime_ns
    inside = sorted(p for p in path.rglob("*") if p.is_file())
    each = [(os.path.relpath(p, path), p.stat()) for p in inside]
    size = sum(status.st_size for _, status in each)
    return role, name, size, _hashed([(n, s.st_size, s.st_mtime_ns) for n, s in each])


def _hashed(data: Any) -> str:
    return hashlib.sha1(json.dumps(data).encode()).hexdigest()[:12]
