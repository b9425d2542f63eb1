"""ISBI 2012, from the public archive to PNG records, with no TensorFlow."""

import http.client
import io
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import tensorflow_datasets as tfds
import tifffile
from PIL import Image

from unet_jax.errors import UserError

ARCHIVE = "ISBI-2012-challenge.zip"
URL = f"https://downloads.imagej.net/{ARCHIVE}"
NEEDED = ("train-volume.tif", "train-labels.tif", "test-volume.tif")
STACKS = (*NEEDED, "test-labels.tif")  # the last is not in every archive

CLASSES = ("membrane", "cell")
UNLABELLED = 255  # in the stored label, as a PNG cannot hold -1


class Builder(tfds.core.GeneratorBasedBuilder):
    """30 sections with labels, `train`, and 30 of another volume, `test`."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "The sections in the order of the stack."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"{ARCHIVE} from {URL}, or its extracted folder."

    def _info(self) -> tfds.core.DatasetInfo:
        shape = (None, None, 1)
        features = {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=shape),
            "label": tfds.features.LabeledImage(labels=list(CLASSES), shape=shape),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator]:
        archive = _find(dl_manager)
        stacks = _read(archive)  # all of it, so that a bad archive stops here
        return {
            split: self._generate_examples(split, *_pair(archive, stacks, split))
            for split in ("train", "test")
        }

    def _generate_examples(
        self, split: str, volume: np.ndarray, labels: np.ndarray
    ) -> Iterator[tuple[int, dict]]:
        for i, (image, label) in enumerate(zip(volume, labels, strict=True)):
            record = {"image": _png(image), "label": _png(label)}
            yield i, {"id": f"{split}-{i:02d}", **record}


def _find(dl_manager: tfds.download.DownloadManager) -> Path:
    """The archive or its folder: in the manual folder, or else from the net."""
    try:
        manual = Path(dl_manager.manual_dir)
    except AssertionError:  # how TFDS says that the folder is missing or empty
        manual = None
    if manual and (manual / ARCHIVE).exists():
        return manual / ARCHIVE
    for folder in (manual / Path(ARCHIVE).stem, manual) if manual else ():
        if any((folder / name).exists() for name in NEEDED):
            return folder
    try:
        # TFDS would retry for minutes before it says that there is no network.
        urllib.request.urlopen(URL, timeout=5).close()
        return Path(dl_manager.download(URL))
    except (OSError, http.client.HTTPException, tfds.download.DownloadError) as error:
        raise UserError(
            f"isbi2012: no {ARCHIVE} in {manual or 'manual_dir (not set)'} and no "
            f"download from {URL} ({_line(error)}); set manual_dir to a folder that "
            "holds the file"
        ) from error


def _read(archive: Path) -> dict[str, np.ndarray]:
    """The stacks by file name, from the zip or from its extracted folder."""
    if archive.is_dir():
        files = {f.name: f.read_bytes() for f in archive.iterdir() if f.name in STACKS}
        there = sorted(f.name for f in archive.iterdir())
    else:
        files, there = _unzip(archive)
    missing = [name for name in NEEDED if name not in files]
    if missing:
        raise UserError(
            f"{archive} has no {', '.join(missing)}; it holds "
            f"{', '.join(there[:5]) or 'nothing'}; {ARCHIVE} comes from {URL}"
        )
    return {name: _stack(archive, name, data) for name, data in files.items()}


def _unzip(archive: Path) -> tuple[dict[str, bytes], list[str]]:
    """The bytes of the stacks, whatever folder they are in, and all the names."""
    try:
        with zipfile.ZipFile(archive) as members:
            there = members.namelist()
            names = {PurePosixPath(name).name: name for name in there}
            return {n: members.read(names[n]) for n in STACKS if n in names}, there
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise UserError(
            f"{archive} is not a whole zip file ({_line(error)}); delete it and get "
            f"it again from {URL}"
        ) from error


def _stack(archive: Path, name: str, data: bytes) -> np.ndarray:
    try:
        stack = tifffile.imread(io.BytesIO(data))
    except Exception as error:  # tifffile raises what its many decoders raise
        raise UserError(f"{archive}: {name} is no TIFF ({_line(error)})") from error
    if stack.ndim != 3 or stack.dtype != np.uint8:
        raise UserError(
            f"{archive}: {name} must be a stack of 8-bit sections, not "
            f"{stack.dtype} of shape {stack.shape}"
        )
    return stack


def _pair(
    archive: Path, stacks: dict[str, np.ndarray], split: str
) -> tuple[np.ndarray, np.ndarray]:
    """The volume of a split and its class ids, `u8[N, H, W]` both."""
    volume, labels = stacks[f"{split}-volume.tif"], stacks.get(f"{split}-labels.tif")
    if labels is None:
        return volume, np.full_like(volume, UNLABELLED)
    if labels.shape != volume.shape:
        raise UserError(
            f"{archive}: {split}-labels.tif is {labels.shape} but {split}-volume.tif "
            f"is {volume.shape}; they must have one shape"
        )
    strange = np.setdiff1d(labels, (0, 255))
    if strange.size:
        raise UserError(
            f"{archive}: {split}-labels.tif holds {', '.join(map(str, strange[:5]))}; "
            "a label is 0 (membrane) or 255 (cell)"
        )
    return volume, labels // 255


def _png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
