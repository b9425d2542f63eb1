"""BBBC038 stage1_train, from the public archive to records, with no TensorFlow."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from unet_jax.data.builders import archive, storage
from unet_jax.errors import UserError

ARCHIVE = archive.Archive(
    file="stage1_train.zip",
    url="https://data.broadinstitute.org/bbbc/BBBC038/stage1_train.zip",
    signs=("*/masks/*.png",),
)
CLASSES = ("background", "nucleus")

_NAME = re.compile(r"(?:^|/)(?P<id>[^/]+)/(?P<kind>images|masks)/[^/.][^/]*\.png$")


class Files(NamedTuple):
    """The files of one image, not yet decoded."""

    images: dict[str, bytes]  # by name; there should be one
    masks: dict[str, bytes]  # one nucleus each


class Builder(tfds.core.GeneratorBasedBuilder):
    """Images with their nuclei, each kind of image a split."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "A split for each size and mode, in the order of ids."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"{ARCHIVE.file} from {ARCHIVE.url}, or its extracted folder."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=storage.features(CLASSES, channels=3, instances=True),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator]:
        path = archive.find(ARCHIVE, dl_manager)
        files = _read(path)
        kinds: dict[str, list[str]] = {}
        for name in sorted(files):
            kind = _kind(_image(path, name, files[name]))
            kinds.setdefault(kind, []).append(name)
        return {
            kind: self._generate_examples(path, {name: files[name] for name in names})
            for kind, names in sorted(kinds.items())
        }

    def _generate_examples(
        self, path: Path, files: dict[str, Files]
    ) -> Iterator[tuple[int, dict]]:
        for i, (name, parts) in enumerate(files.items()):
            image = _image(path, name, parts)
            instances = _instances(path, name, parts, image.shape[:2])
            yield i, storage.stored(name, image, instances > 0, instances)


def _read(path: Path) -> dict[str, Files]:
    found, there = archive.gather(
        ARCHIVE, path, lambda name: _NAME.search(name) is not None
    )
    files: dict[str, Files] = {}
    for name, content in found.items():
        match = _NAME.search(name)
        parts = files.setdefault(match["id"], Files({}, {}))
        getattr(parts, match["kind"])[name] = content
    if not files:
        raise UserError(
            f"{path} has no ID/images/ID.png; it holds {archive.named(there)}; "
            f"{ARCHIVE.file} comes from {ARCHIVE.url}"
        )
    for name, parts in files.items():
        if len(parts.images) != 1 or not parts.masks:
            raise UserError(
                f"{path}, {name} has {len(parts.images)} images and {len(parts.masks)} "
                "masks, where one and some are expected; get the archive again"
            )
    return files


def _image(path: Path, name: str, parts: Files) -> np.ndarray:
    """`u8[H, W, 3]`."""
    (content,) = parts.images.values()
    image = storage.decoded(f"{path}, {name}", content)
    if image.dtype != np.uint8:
        raise UserError(f"{path}, {name}: its image has {image.dtype}, not 8 bits")
    return np.broadcast_to(image, (*image.shape[:2], 3))


def _kind(image: np.ndarray) -> str:
    height, width = image.shape[:2]
    mode = "grey" if (image == image[..., :1]).all() else "colour"
    return f"{mode}_{height}x{width}"


def _instances(
    path: Path, name: str, parts: Files, shape: tuple[int, ...]
) -> np.ndarray:
    """Numbers the nuclei from 1 by the names of their files; the first one wins."""
    instances = np.zeros(shape, np.int32)
    for number, file in enumerate(sorted(parts.masks), start=1):
        mask = storage.decoded(f"{path}, {file}", parts.masks[file])[..., 0]
        if mask.shape != shape or not np.isin(mask, (0, 255)).all():
            raise UserError(
                f"{path}, {file} must hold 0 and 255 only and have the shape of its "
                f"image, {shape}; it is {mask.shape}, from {mask.min()} to {mask.max()}"
            )
        instances[(mask > 0) & (instances == 0)] = number
    return instances
