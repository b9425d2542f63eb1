"""Cell Tracking Challenge: the HeLa and U373 cells of the U-Net paper.

An archive has two videos, `01` and `02`. For a frame, `01/t000.tif`, there are
  01_GT/SEG/man_seg000.tif    gold truth: object ids, drawn by hand
  01_GT/TRA/man_track000.tif  a marker in every cell
  01_ST/SEG/man_seg000.tif    silver truth, the consensus of programs; may be missing
Ulman et al. 2017, Nat. Methods 14:1141; Maška et al. 2023, Nat. Methods 20:1010.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from unet_jax.arrays import IGNORE
from unet_jax.data.datasets import prepared
from unet_jax.data.datasets.archives import Archive, read_archive
from unet_jax.data.source import Splits, subset
from unet_jax.errors import UserError

CLASSES = ("background", "cell")
VIDEOS = ("01", "02")
URL = "http://data.celltrackingchallenge.net/training-datasets"
SHA256 = {
    "DIC-C2DH-HeLa": "832fed2d05bb7488cf9c51a2994b75f8f3f53b3c3098856211f2d39023c34e1a",
    "PhC-C2DH-U373": "b18185c18fce54e8eeb93e4bbb9b201d757add9409bbf2283b8114185a11bc9e",
}
ARCHIVES = {
    name: Archive(
        file=f"{stem}.zip",
        url=f"{URL}/{stem}.zip",
        contents=("0[12]_GT/SEG/man_seg*.tif",),
        sha256=SHA256[stem],
    )
    for name, stem in (("dic_hela", "DIC-C2DH-HeLa"), ("phc_u373", "PhC-C2DH-U373"))
}

FRAME, GOLD, MARKER, SILVER = KINDS = ("frame", "GT/SEG", "GT/TRA", "ST/SEG")
KIND_OF = {  # by what is between the video and the time in the name of a file
    "/t": FRAME,
    "_GT/SEG/man_seg": GOLD,
    "_GT/TRA/man_track": MARKER,
    "_ST/SEG/man_seg": SILVER,
}
_NAME = re.compile(rf"(?:^|/)(01|02)({'|'.join(KIND_OF)})(\d+)\.tif$")

FileKey = tuple[str, str, int]  # the video, kind and time of a file
Files = dict[FileKey, bytes]


def dic_hela(
    *, sequence: Literal[1, 2] = 2, manual_dir: str = "", data_dir: str = ""
) -> Splits:
    """Makes the data set DIC-C2DH-HeLa, HeLa cells, which tests on one video.

    The last fifth of the frames of the other video validates and the earlier frames
    train, because neighbouring frames are alike. Only frames with gold truth are used.
    In some of them not every cell was drawn: a cell that is known from silver truth or
    from a tracking marker, and missing in gold truth, is ignored (-1).

    Args:
      sequence: the video to test on.
      manual_dir: a folder with DIC-C2DH-HeLa.zip, or with its content; '' downloads it.
      data_dir: the folder for prepared records; '' is TFDS's own folder.

    Raises:
      UserError: the archive is missing or damaged.
    """
    return _videos(DIC_HELA, sequence, manual_dir, data_dir)


def phc_u373(
    *, sequence: Literal[1, 2] = 2, manual_dir: str = "", data_dir: str = ""
) -> Splits:
    """Makes the data set PhC-C2DH-U373, U373 cells.

    The arguments, the splits and the errors are those of `dic_hela`.
    """
    return _videos(PHC_U373, sequence, manual_dir, data_dir)


def _videos(
    dataset: prepared.PublicDataset, sequence: int, manual_dir: str, data_dir: str
) -> Splits:
    name = dataset.name
    builder = prepared.prepare(dataset, manual_dir, data_dir)
    tested, other = (
        prepared.read_source(builder, f"sequence_{number}")
        for number in (sequence, 3 - sequence)
    )
    if other.length < 2:
        raise UserError(
            f"{name}: sequence {3 - sequence} has {other.length} frame with gold "
            "truth, but one must train and one validate; test on this sequence instead"
        )
    first = other.length - max(1, round(other.length / 5))
    return Splits(
        train=subset(other, range(first), f"{name}/train"),
        val=subset(other, range(first, other.length), f"{name}/val"),
        test=tested._replace(name=f"{name}/test"),
    )


def ignore_missing_cells(gold: np.ndarray, known: list[np.ndarray]) -> np.ndarray:
    """Returns class ids `i32[H, W]`: 1 in gold objects, -1 in cells missing in gold.

    In a partially annotated frame some cells were not drawn. A known cell is one of
    them unless gold truth covers more than half of it, the challenge's own rule for a
    match. So pixels where a drawn cell and its silver outline differ stay background.

    Args:
      gold: object ids of the gold truth, 0 elsewhere.
      known: other maps of object ids: silver truth, or markers.
    """
    label = (gold > 0).astype(np.int32)
    for objects in known:
        sizes = np.bincount(objects.ravel())
        covered = np.bincount(objects.ravel(), weights=(gold > 0).ravel())
        missing = 2 * covered <= sizes
        missing[0] = False
        label[missing[objects] & (gold == 0)] = IGNORE
    return label


def _dataset(name: str, description: str) -> prepared.PublicDataset:
    def read_splits(find: prepared.FindArchive) -> Mapping[str, prepared.TfdsExamples]:
        archive = ARCHIVES[name]
        path = find(archive)
        # all files are read first, so that a damaged archive is found at once
        files = read_archive(archive, path, _key, _missing_gold)
        return {f"sequence_{int(v)}": _examples(path, files, v) for v in VIDEOS}

    return prepared.PublicDataset(
        name=name,
        description=description + LABELS_AND_TERMS,
        citation=CITATION,
        release_notes="The frames that have gold truth.",
        features=lambda: prepared.make_features(CLASSES, channels=1, instances=True),
        read_splits=read_splits,
    )


def _missing_gold(files: Files) -> list[str]:
    return [f"{v}_{GOLD}/man_seg*.tif" for v in VIDEOS if not _times(files, v)]


def _examples(path: Path, files: Files, video: str) -> prepared.TfdsExamples:
    """Yields an example for each frame with gold truth, in the order of time."""
    for time in _times(files, video):
        name = f"{video}-t{time:03d}"
        place = f"{path}, {name}"
        frame = {
            kind: _decode(f"{place} ({kind})", files[video, kind, time])
            for kind in KINDS
            if (video, kind, time) in files
        }
        _check_frame(place, frame)
        known = [frame[kind] for kind in (SILVER, MARKER) if kind in frame]
        label = ignore_missing_cells(frame[GOLD], known)
        yield time, prepared.make_example(name, frame[FRAME], label, frame[GOLD])


def _times(files: Files, video: str) -> list[int]:
    return sorted(key[2] for key in files if key[:2] == (video, GOLD))


def _key(name: str) -> FileKey | None:
    """Returns the key of a file of the data set, or None for any other file."""
    match = _NAME.search(name)
    return (match[1], KIND_OF[match[2]], int(match[3])) if match else None


def _decode(name: str, content: bytes) -> np.ndarray:
    pages = prepared.decode_grey_tiff(content, name)
    if len(pages) > 1:
        raise UserError(f"{name} has {len(pages)} pages, but must have one")
    return pages[0]


def _check_frame(name: str, frame: dict[str, np.ndarray]) -> None:
    """Raises UserError unless everything that an example needs is there."""
    image = frame.get(FRAME)
    if image is None or image.dtype != np.uint8:
        found = "missing" if image is None else f"{image.dtype} of shape {image.shape}"
        raise UserError(f"{name}: its frame must be an 8-bit image, but it is {found}")
    if SILVER not in frame and MARKER not in frame:
        raise UserError(
            f"{name} has neither tracking markers (GT/TRA) nor silver truth (ST/SEG), "
            "which distinguish missing cells from background; get the archive again"
        )
    for kind, ids in frame.items():
        if kind != FRAME and (ids.shape != image.shape or ids.dtype != np.uint16):
            raise UserError(
                f"{name}: its {kind} must hold 16-bit ids of shape {image.shape}, not "
                f"{ids.dtype} of {ids.shape}"
            )


LABELS_AND_TERMS = """

Only frames with gold truth (`man_seg`, ids drawn by hand) are examples, in the order of
time: `sequence_1` and `sequence_2`. `label` is 0 = background and 1 = cell; cells that
are known (silver truth or a tracking marker) but were not drawn are stored as 255.
`instances` are the ids of the gold truth.

Terms: see https://celltrackingchallenge.net/2d-datasets/. Cite the papers of the
citation."""
CITATION = r"""
@article{ulman2017objective,
  title = {An objective comparison of cell-tracking algorithms},
  author = {Ulman, Vladim{\'\i}r and Ma{\v{s}}ka, Martin and
    Magnusson, Klas E. G. and others},
  journal = {Nature Methods}, volume = {14}, pages = {1141--1152},
  year = {2017}, doi = {10.1038/nmeth.4473}
}

@article{maska2023cell,
  title = {The Cell Tracking Challenge: 10 years of objective benchmarking},
  author = {Ma{\v{s}}ka, Martin and Ulman, Vladim{\'\i}r and
    Delgado-Rodriguez, Pablo and others},
  journal = {Nature Methods}, volume = {20}, pages = {1010--1020},
  year = {2023}, doi = {10.1038/s41592-023-01879-y}
}"""
DIC_HELA = _dataset(
    "dic_hela",
    "HeLa cells on flat glass under differential interference contrast: DIC-C2DH-HeLa "
    "of the Cell\nTracking Challenge, one of the two cell sets of the U-Net paper. Two "
    "videos.",
)
PHC_U373 = _dataset(
    "phc_u373",
    "Glioblastoma-astrocytoma U373 cells on polyacrylamide under phase contrast: "
    "PhC-C2DH-U373 of\nthe Cell Tracking Challenge, one of the two cell sets of the "
    "U-Net paper. Two videos.",
)
