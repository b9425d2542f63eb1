"""Videos of the Cell Tracking Challenge: frames with gold truth, from the archive.

Inside, `01` and `02` are two videos. `01/t000.tif` is a frame. Its gold truth, object
ids drawn by hand, is `01_GT/SEG/man_seg000.tif`, and `01_GT/TRA/man_track000.tif` has a
marker in every cell. `01_ST/SEG/man_seg000.tif`, which may be absent, is silver truth:
what several programs agree on. Ulman et al. 2017, Nat. Methods 14:1141; Maška et al.
2023, Nat. Methods 20:1010.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unet_jax.arrays import IGNORE
from unet_jax.data.builders.archive import Archive, find, gather, named
from unet_jax.data.builders.storage import decoded_tiff, features, stored
from unet_jax.errors import UserError

CLASSES = ("background", "cell")
SEQUENCES = ("01", "02")

FRAME, GOLD, MARKER, SILVER = KINDS = ("frame", "GT/SEG", "GT/TRA", "ST/SEG")
_NAME = re.compile(
    r"(?:^|/)(?P<sequence>01|02)(?:/|_(?P<kind>GT/SEG|GT/TRA|ST/SEG)/)"
    r"(?P<stem>t|man_seg|man_track)(?P<time>\d+)\.tif$"
)
_STEMS = {FRAME: "t", GOLD: "man_seg", MARKER: "man_track", SILVER: "man_seg"}

Files = dict[tuple[str, str, int], bytes]  # by sequence, kind and time


def archive(name: str) -> Archive:
    """The training set of this name."""
    base = "http://data.celltrackingchallenge.net/training-datasets"
    file = f"{name}.zip"
    return Archive(file, f"{base}/{file}", signs=("0[12]_GT/SEG/man_seg*.tif",))


def info(builder: Any) -> Any:
    """What TFDS is to know of one of these sets."""
    return builder.dataset_info_from_configs(
        features=features(CLASSES, channels=1, instances=True),
        supervised_keys=("image", "label"),
        disable_shuffling=True,
    )


def videos(given: Archive, dl_manager: Any) -> dict[str, Iterator]:
    """The records of each video, by the name of its split.

    Raises:
      UserError: the archive cannot be had or used.
    """
    path = find(given, dl_manager)
    files = read(given, path)
    return {f"sequence_{int(s)}": frames(path, files, s) for s in SEQUENCES}


def read(given: Archive, path: Path) -> Files:
    """All of it, so that a bad archive stops here.

    Raises:
      UserError: it is damaged, or a video has no gold truth.
    """
    found, there = gather(given, path, lambda name: _key(name) is not None)
    files = {_key(name): content for name, content in found.items()}
    for sequence in SEQUENCES:
        if not _times(files, sequence):
            raise UserError(
                f"{path} has no {sequence}_{GOLD}/man_seg*.tif; it holds "
                f"{named(there)}; {given.file} comes from {given.url}"
            )
    return files


def frames(path: Path, files: Files, sequence: str) -> Iterator[tuple[int, dict]]:
    """A record for each frame of a video that has gold truth, in the order of time.

    Raises:
      UserError: a file is missing, is no TIFF, or has another shape or depth.
    """
    for time in _times(files, sequence):
        name = f"{sequence}-t{time:03d}"
        frame = {kind: _pixels(path, files, (sequence, kind, time)) for kind in KINDS}
        _check(f"{path}, {name}", frame)
        known = [frame[k] for k in (SILVER, MARKER) if frame[k] is not None]
        label = annotate(frame[GOLD], known)
        yield time, stored(name, frame[FRAME], label, frame[GOLD])


def annotate(gold: np.ndarray, known: list[np.ndarray]) -> np.ndarray:
    """Class ids `i32[H, W]`: 1 in a gold object, -1 in a cell that gold leaves out.

    A partially annotated frame has cells that nobody drew. A known cell is one of them
    unless gold covers more than half of it, the challenge's own rule for a match; so
    the pixels by which a drawn cell and its silver outline differ stay background.

    Args:
      gold: object ids of the gold truth, 0 elsewhere.
      known: other maps of object ids: silver truth, or markers.
    """
    label = (gold > 0).astype(np.int32)
    for objects in known:
        sizes = np.bincount(objects.ravel())
        covered = np.bincount(objects.ravel(), weights=(gold > 0).ravel())
        left_out = 2 * covered <= sizes
        left_out[0] = False
        label[left_out[objects] & (gold == 0)] = IGNORE
    return label


def _times(files: Files, sequence: str) -> list[int]:
    return sorted(key[2] for key in files if key[:2] == (sequence, GOLD))


def _key(name: str) -> tuple[str, str, int] | None:
    """Sequence, kind and time that a name stands for, if it stands for any."""
    match = _NAME.search(name)
    if not match:
        return None
    kind = match["kind"] or FRAME
    if _STEMS[kind] != match["stem"]:
        return None
    return match["sequence"], kind, int(match["time"])


def _pixels(path: Path, files: Files, key: tuple[str, str, int]) -> np.ndarray | None:
    content = files.get(key)
    if content is None:
        return None
    where = f"{path}, {key[0]}-t{key[2]:03d} ({key[1]})"
    pages = decoded_tiff(where, content)
    if len(pages) > 1:
        raise UserError(f"{where} has {len(pages)} pages, where one is expected")
    return pages[0]


def _check(where: str, frame: dict[str, np.ndarray | None]) -> None:
    """Raises UserError unless there is all that a record needs, of one shape."""
    image = frame[FRAME]
    if image is None or image.dtype != np.uint8:
        found = "missing" if image is None else f"{image.dtype} of shape {image.shape}"
        raise UserError(f"{where}: its frame must be an 8-bit image, but it is {found}")
    if frame[SILVER] is None and frame[MARKER] is None:
        raise UserError(
            f"{where} has neither tracking markers (GT/TRA) nor silver truth (ST/SEG), "
            "which tell a cell that nobody drew from background; get the archive again"
        )
    for kind in (GOLD, MARKER, SILVER):
        ids = frame[kind]
        if ids is not None and (ids.shape != image.shape or ids.dtype != np.uint16):
            raise UserError(
                f"{where}: its {kind} must hold 16-bit ids of shape {image.shape}, not "
                f"{ids.dtype} of {ids.shape}"
            )
