"""ISBI 2012, from the public archive to PNG records, with no TensorFlow."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import tensorflow_datasets as tfds

from unet_jax.data.builders import archive, storage
from unet_jax.errors import UserError

NEEDED = ("train-volume.tif", "train-labels.tif", "test-volume.tif")
STACKS = (*NEEDED, "test-labels.tif")  # the last is not in every archive
ARCHIVE = archive.Archive(
    file="ISBI-2012-challenge.zip",
    url="https://downloads.imagej.net/ISBI-2012-challenge.zip",
    signs=NEEDED,
)
CLASSES = ("membrane", "cell")


class Builder(tfds.core.GeneratorBasedBuilder):
    """30 sections with labels, `train`, and 30 of another volume, `test`."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "The sections in the order of the stack."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"{ARCHIVE.file} from {ARCHIVE.url}, or its extracted folder."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=storage.features(CLASSES, channels=1, instances=False),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator]:
        path = archive.find(ARCHIVE, dl_manager)
        stacks = _read(path)  # all of it, so that a bad archive stops here
        return {
            split: self._generate_examples(split, *_pair(path, stacks, split))
            for split in ("train", "test")
        }

    def _generate_examples(
        self, split: str, volume: np.ndarray, labels: np.ndarray
    ) -> Iterator[tuple[int, dict]]:
        for i, (image, label) in enumerate(zip(volume, labels, strict=True)):
            yield i, storage.stored(f"{split}-{i:02d}", image, label)


def _read(path: Path) -> dict[str, np.ndarray]:
    """The stacks by file name, whatever folder of the archive they are in."""
    found, there = archive.gather(
        ARCHIVE, path, lambda name: PurePosixPath(name).name in STACKS
    )
    files = {PurePosixPath(name).name: content for name, content in found.items()}
    missing = [name for name in NEEDED if name not in files]
    if missing:
        raise UserError(
            f"{path} has no {', '.join(missing)}; it holds {archive.named(there)}; "
            f"{ARCHIVE.file} comes from {ARCHIVE.url}"
        )
    return {name: _stack(path, name, content) for name, content in files.items()}


def _stack(path: Path, name: str, content: bytes) -> np.ndarray:
    stack = storage.decoded_tiff(f"{path}: {name}", content)
    if stack.dtype != np.uint8:
        raise UserError(
            f"{path}: {name} must be a stack of 8-bit sections, not {stack.dtype}"
        )
    return stack


def _pair(
    path: Path, stacks: dict[str, np.ndarray], split: str
) -> tuple[np.ndarray, np.ndarray]:
    """The volume of a split and its class ids, `u8[N, H, W]` both."""
    volume, labels = stacks[f"{split}-volume.tif"], stacks.get(f"{split}-labels.tif")
    if labels is None:
        return volume, np.full_like(volume, storage.UNLABELLED)
    if labels.shape != volume.shape:
        raise UserError(
            f"{path}: {split}-labels.tif is {labels.shape} but {split}-volume.tif is "
            f"{volume.shape}; they must have one shape"
        )
    strange = np.setdiff1d(labels, (0, 255))
    if strange.size:
        raise UserError(
            f"{path}: {split}-labels.tif holds {', '.join(map(str, strange[:5]))}; a "
            "label is 0 (membrane) or 255 (cell)"
        )
    return volume, labels // 255
