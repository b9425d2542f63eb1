"""Records of a folder that were written once, and what the survey had found then."""

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unet_jax.data import records
from unet_jax.data.account import CELLS, Fact, Fault, Record
from unet_jax.data.folders import reading
from unet_jax.data.folders.pairs import Pair
from unet_jax.data.folders.reading import Way
from unet_jax.data.folders.survey import Page

Survey = tuple[list[Page], list[Fault]]


def place(home: str, pairs: Sequence[Pair], *how: Any) -> Path:
    """What the folders of these files, as they are now, read like this, begin with.

    Args:
      home: where the records of all folders are kept.
      pairs: the files; that one is changed is seen by its size and time.
      how: all that a record depends on besides.
    """
    paths = [
        p for pair in pairs for p in (pair.image, *pair.masks, pair.instances) if p
    ]
    stamps = [_stamp(path) for whole in paths for path in _files(whole)]
    text = json.dumps([stamps, repr(how)])
    return Path(home).expanduser() / _hashed(text)


def _hashed(text: str) -> str:
    return hashlib.sha1(text.encode()).hexdigest()[:12]


def _files(path: Path) -> list[Path]:
    """The files of a path: itself, or all in the folder of an OME-Zarr."""
    return (
        sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    )


def _stamp(path: Path) -> tuple[str, int, int]:
    status = path.lstat()  # of a broken link, too
    if path.exists():
        status = path.stat()
    return str(path), status.st_size, status.st_mtime_ns


def survey(place: Path, pairs: Sequence[Pair]) -> Survey | None:
    """What the survey of the files found when they were written; None if they are not.

    Raises:
      UserError: the records are damaged.
    """
    there = filter(records.written, sorted(place.parent.glob(f"{place.name}-*")))
    if (folder := next(there, None)) is None:
        return None
    about = records.read(folder).about
    by_id = {pair.id: pair for pair in pairs}
    pages = [
        Page(by_id[pair], number, _fact(fact), *rest)
        for pair, number, fact, *rest in about["pages"]
    ]
    return pages, [Fault(*fault) for fault in about["faults"]]


def loader(
    place: Path, pages: Sequence[Page], way: Way, found: Survey
) -> Callable[[Page], Record]:
    """Loads pages from the records, which are written first where they are not there.

    Args:
      place: from `place`.
      pages: the ones to be loaded; others, as another split has them, or another
        meaning of their masks, are other records.
      way: how they are read.
      found: what is to be kept of the survey.

    Raises:
      UserError: the records cannot be written, or are damaged.
    """
    of = json.dumps([[page.fact.id for page in pages], repr(way)])
    folder = place.with_name(f"{place.name}-{_hashed(of)}")
    if not records.written(folder):
        about = {
            "pages": [(p.pair.id, p.number, _plain(p.fact), *p[3:]) for p in found[0]],
            "faults": found[1],
        }
        each = (reading.record(p.pair, p.number, p.fact.id, way) for p in pages)
        records.write(folder, each, about)
    load = records.read(folder).load
    index = {page.fact.id: i for i, page in enumerate(pages)}
    return lambda page: load(index[page.fact.id])


def _plain(fact: Fact) -> dict[str, Any]:
    thumbnail = base64.b64encode(fact.thumbnail.tobytes()).decode()
    return fact._asdict() | {
        "thumbnail": thumbnail,
        "pixels": list(fact.pixels.items()),
    }


def _fact(plain: dict[str, Any]) -> Fact:
    axes = len(plain["shape"])
    thumbnail = np.frombuffer(base64.b64decode(plain["thumbnail"]), np.float32)
    cells = CELLS.get(axes, 4)
    return Fact(**plain)._replace(
        shape=tuple(plain["shape"]),
        spacing=tuple(plain["spacing"]),
        intensity=tuple(map(tuple, plain["intensity"])),
        pixels={int(k): pixels for k, pixels in plain["pixels"]},
        thumbnail=thumbnail.reshape(*[cells] * axes),
    )
