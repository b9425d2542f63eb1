"""Data sets that a TFDS builder prepares once, then read at random.

TensorFlow is not needed: the records are array_record files of PNG images. TFDS is
imported when a data set is asked for, as that takes seconds.
"""

import contextlib
import importlib
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unet_jax.arrays import IGNORE
from unet_jax.data.account import Record
from unet_jax.data.builders.storage import UNLABELLED
from unet_jax.errors import UserError


def builder_of(name: str) -> Any:
    """The module of one of the builders here, which imports TFDS."""
    return importlib.import_module(
        f"unet_jax.data.builders.{name}.{name}_dataset_builder"
    )


def home(data_dir: str) -> str:
    """Where prepared data sets lie; '' is TFDS's own folder."""
    import tensorflow_datasets as tfds

    return os.path.expanduser(data_dir or tfds.core.constants.DATA_DIR)


def prepare(builder: type, manual_dir: str, data_dir: str) -> Any:
    """The builder of a data set that is on the disk, whole, when this returns.

    Args:
      builder: one of `data/builders`.
      manual_dir: the archive, its folder, or the folder it was extracted to; ''
        downloads it. Looked at once: afterwards the prepared records are used.
      data_dir: where the prepared records go; '' is TFDS's own folder.

    Raises:
      UserError: the archive cannot be had or used, or the records not be written.
    """
    place = home(data_dir)
    try:
        draft = builder(data_dir=place, file_format="array_record")
        if not _whole(draft):
            _generate(draft, _manual(manual_dir))
        return builder(data_dir=place)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"data_dir: cannot prepare {builder.name} in {place} ({reason}); "
            "name a folder with space that you may write to"
        ) from error


def rows(prepared: Any, split: str) -> Sequence[dict[str, Any]]:
    """The rows of a split as they are stored: images as the bytes of their files.

    Raises:
      UserError: the files are damaged.
    """
    import tensorflow_datasets as tfds

    features = prepared.info.features
    raw = {  # TFDS would ask for OpenCV to decode 16 bits
        name: tfds.decode.SkipDecoding()
        for name, feature in features.items()
        if isinstance(feature, tfds.features.Image)
    }
    try:
        stored = prepared.as_data_source(split, decoders=raw)
        stored[len(stored) - 1]  # opens the file, which shows whether it is whole
    except Exception as error:  # whatever array_record and TFDS make of broken files
        raise UserError(
            f"{prepared.data_dir} is damaged ({type(error).__name__}); delete that "
            "folder and run again"
        ) from error
    return stored


def records(prepared: Any, split: str) -> dict[str, Any]:
    """`length` and `load` of one split, as the builders here store it."""
    stored = rows(prepared, split)

    def load(index: int) -> Record:
        row = stored[index]
        image, label = picture(row["image"]), picture(row["label"]).astype(np.int32)
        label[label == UNLABELLED] = IGNORE
        record = {
            "image": image if image.ndim == 3 else image[..., None],
            "label": label,
            "id": row["id"].decode(),
        }
        if "instances" in row:
            record["instances"] = row["instances"][..., 0].astype(np.int32)
        return record

    return {"length": len(stored), "load": load}


def picture(content: bytes) -> np.ndarray:
    """The pixels of an image file as it has them; of a palette, the indices."""
    return np.array(Image.open(io.BytesIO(content)))


def _manual(manual_dir: str) -> Path | None:
    manual = Path(manual_dir).expanduser() if manual_dir else None
    if manual and manual.is_file():  # the archive itself
        manual = manual.parent
    if manual and not manual.is_dir():
        raise UserError(
            f"manual_dir: there is no folder {manual}; name the one that holds the "
            "archive, or '' to download it"
        )
    return manual


def _generate(draft: Any, manual: Path | None) -> None:
    """Lets TFDS write the records, which come into place all at once."""
    import tensorflow_datasets as tfds

    config = tfds.download.DownloadConfig(manual_dir=manual)
    if draft.data_path.exists():  # a copy that was cut short, say
        config.download_mode = tfds.download.GenerateMode.REUSE_CACHE_IF_EXISTS
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            draft.download_and_prepare(download_config=config)
    except OSError:
        if not _whole(draft):  # else another process has put the same there first
            raise


def _whole(draft: Any) -> bool:
    """Whether the records are there; TFDS writes dataset_info.json last."""
    return (draft.data_path / "dataset_info.json").exists()
