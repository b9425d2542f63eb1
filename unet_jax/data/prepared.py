"""Public data sets that a TFDS builder prepares once, then read at random.

TensorFlow is not needed: the records are array_record files of PNG images. TFDS is
imported when a data set is asked for, as that takes seconds.
"""

import contextlib
import io
import os
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from PIL import Image

from unet_jax.arrays import IGNORE
from unet_jax.data.account import Record
from unet_jax.data.source import Source, Splits, subset
from unet_jax.errors import UserError
from unet_jax.specs import Whole, Within

_Folds = Annotated[int, Within("of 3 or more", lambda n: n >= 3)]


def isbi2012(
    *, fold: Whole = 0, folds: _Folds = 5, manual_dir: str = "", data_dir: str = ""
) -> Splits:
    """The 30 labelled sections of the ISBI 2012 challenge, cross-validated.

    Fold k tests on the sections i with i % folds == k, chooses by those of fold k + 1
    and learns from the rest: 6, 6 and 18 of them. The folds are interleaved because
    neighbouring sections are alike and sections 0-14 are cleaner than 15-29: blocks
    would test on another kind of image than they learn from. The challenge's own test
    volume, split `test` of the builder, is in none of them.

    Args:
      fold: the fold to test on, 0 to `folds` - 1.
      folds: how many there are, at least 3.
      manual_dir: a folder with ISBI-2012-challenge.zip, or with what was in it; ''
        downloads it. Looked into once: afterwards the prepared records are used.
      data_dir: where the prepared records go; '' is TFDS's own folder.

    Raises:
      UserError: an argument is out of range, or the archive cannot be had or used.
    """
    if fold >= folds:
        raise UserError(f"fold must be 0 to {folds - 1}, not {fold}")
    from unet_jax.data.builders.isbi2012 import isbi2012_dataset_builder as isbi

    labelled = Source(
        name="isbi2012",
        classes=isbi.CLASSES,
        colours=((40, 40, 40), (235, 235, 235)),
        channels=1,
        **_records(isbi.Builder, "train", manual_dir, data_dir, isbi.UNLABELLED),
    )
    if folds > labelled.length:
        raise UserError(f"folds must be 3 to {labelled.length}, not {folds}")
    part = [(i - fold) % folds for i in range(labelled.length)]

    def take(name: str, parts: range) -> Source:
        chosen = [i for i, p in enumerate(part) if p in parts]
        return subset(labelled, chosen, f"isbi2012/{name}")

    return Splits(
        train=take("train", range(2, folds)),
        val=take("val", range(1, 2)),
        test=take("test", range(1)),
    )


def _records(
    builder: type, split: str, manual_dir: str, data_dir: str, unlabelled: int
) -> dict[str, Any]:
    """`length` and `load` of one split of id, image and label records."""
    import tensorflow_datasets as tfds

    raw = tfds.decode.SkipDecoding()  # to PNG bytes; TFDS would ask for OpenCV
    prepared = _prepare(builder, manual_dir, data_dir)
    try:
        rows = prepared.as_data_source(split, decoders={"image": raw, "label": raw})
        length = len(rows)
        rows[length - 1]  # opens the file, which shows whether it is whole
    except Exception as error:  # whatever array_record and TFDS make of broken files
        raise UserError(
            f"{prepared.data_dir} is damaged ({type(error).__name__}); delete that "
            "folder and run again"
        ) from error

    def load(index: int) -> Record:
        row = rows[index]
        label = _pixels(row["label"]).astype(np.int32)
        label[label == unlabelled] = IGNORE
        return {
            "image": _pixels(row["image"])[..., None],
            "label": label,
            "id": row["id"].decode(),
        }

    return {"length": length, "load": load}


def _prepare(builder: type, manual_dir: str, data_dir: str) -> Any:
    """The builder of a data set that is on the disk, whole, when this returns."""
    import tensorflow_datasets as tfds

    home = os.path.expanduser(data_dir or tfds.core.constants.DATA_DIR)
    try:
        draft = builder(data_dir=home, file_format="array_record")
        if not _whole(draft):
            _generate(draft, _manual(manual_dir))
        return builder(data_dir=home)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"data_dir: cannot prepare {builder.name} in {home} ({reason}); "
            "name a folder with space that you may write to"
        ) from error


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


def _pixels(png: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(png)))
