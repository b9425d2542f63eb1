"""Oxford-IIIT Pet, from the two public archives, with no TensorFlow."""

import io
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from unet_jax.data.builders import archive, storage
from unet_jax.errors import UserError

URL = "https://thor.robots.ox.ac.uk/~vgg/data/pets"
IMAGES = archive.Archive("images.tar.gz", f"{URL}/images.tar.gz", signs=("*.jpg",))
ANNOTATIONS = archive.Archive(
    "annotations.tar.gz", f"{URL}/annotations.tar.gz", signs=("trainval.txt",)
)
LISTS = {"train": "trainval.txt", "test": "test.txt"}
TRIMAP = (1, 2, 3)  # pet, background, border


class Builder(tfds.core.GeneratorBasedBuilder):
    """Photographs with a trimap each."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Images and trimaps; the publisher's two splits."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"{IMAGES.file} and {ANNOTATIONS.file} from {URL}, or their extracted folders."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "file_name": tfds.features.Text(),
            "image": tfds.features.Image(),
            "segmentation_mask": tfds.features.Image(shape=(None, None, 1)),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "segmentation_mask"),
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator]:
        path = archive.find(ANNOTATIONS, dl_manager)
        trimaps = _read(path)
        images = archive.find(IMAGES, dl_manager)
        return {
            split: self._generate_examples(images, trimaps[split]) for split in LISTS
        }

    def _generate_examples(
        self, path: Path, trimaps: dict[str, bytes]
    ) -> Iterator[tuple[str, dict]]:
        left = dict(trimaps)
        for name, content in archive.members(
            IMAGES, path, lambda name: _photograph(name) in left
        ):
            photograph = _photograph(name)
            trimap = left.pop(photograph)
            record = {
                "file_name": photograph,
                "image": _checked(f"{path}: {name}", content, trimap),
                "segmentation_mask": trimap,
            }
            yield photograph, record
        if left:
            raise UserError(
                f"{path} lacks {archive.named(sorted(left))}; {IMAGES.file} comes from "
                f"{IMAGES.url}"
            )


def _read(path: Path) -> dict[str, dict[str, bytes]]:
    """The trimap of each photograph of a split, as a PNG."""
    found, there = archive.gather(ANNOTATIONS, path, _wanted)
    files = {PurePosixPath(name).name: content for name, content in found.items()}
    missing = [name for name in LISTS.values() if name not in files]
    if missing:
        raise UserError(
            f"{path} has no {', '.join(missing)}; it holds {archive.named(there)}; "
            f"{ANNOTATIONS.file} comes from {ANNOTATIONS.url}"
        )
    trimaps: dict[str, dict[str, bytes]] = {}
    for split, name in LISTS.items():
        lines = files[name].decode("utf-8", "replace").splitlines()
        stems = [words[0] for words in map(str.split, lines) if words]
        absent = [stem for stem in stems if f"{stem}.png" not in files]
        if absent or not stems:
            raise UserError(
                f"{path}: {name} names {len(stems)} photographs, of which "
                f"{len(absent)} have no trimap: {archive.named(absent)}; get it again "
                f"from {ANNOTATIONS.url}"
            )
        trimaps[split] = {f"{stem}.jpg": files[f"{stem}.png"] for stem in stems}
    return trimaps


def _wanted(name: str) -> bool:
    path = PurePosixPath(name)
    trimap = path.parent.name == "trimaps" and path.suffix == ".png"
    return path.name in LISTS.values() or (trimap and not path.name.startswith("."))


def _photograph(name: str) -> str:
    return PurePosixPath(name).name


def _checked(where: str, content: bytes, trimap: bytes) -> bytes:
    """The photograph's file, or a PNG of it, once it and its trimap are in order."""
    image = storage.decoded(where, content)
    mask = storage.indices(f"{where}, its trimap", trimap)
    if mask.shape != image.shape[:2] or not np.isin(mask, TRIMAP).all():
        raise UserError(
            f"{where}: its trimap must hold 1, 2, 3 in its shape, {image.shape[:2]}; "
            f"it is {mask.shape}, from {mask.min()} to {mask.max()}"
        )
    with Image.open(io.BytesIO(content)) as file:
        if file.format == "JPEG" and file.mode == "RGB":
            return content
    return storage.png(np.broadcast_to(image, (*image.shape[:2], 3)))
