"""Public data sets that TFDS prepares once, as array_record files of PNG images.

TensorFlow is not needed. TFDS is imported only when a data set is used, because that
takes seconds.
"""

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from unet_jax.arrays import IGNORE
from unet_jax.data.datasets.archives import Archive, find_archive
from unet_jax.data.files import decode_image, decode_tiff
from unet_jax.data.label_map import MICROSCOPY
from unet_jax.data.record import Record
from unet_jax.data.source import Source
from unet_jax.errors import UserError
from unet_jax.text import one_line

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

STORED_IGNORE = 255  # in stored labels, because a PNG cannot hold -1
TFDS_VERSION = "1.0.0"  # of all data sets here

FindArchive = Callable[[Archive], Path]
TfdsExamples = Iterator[tuple[int | str, dict[str, Any]]]  # keys and TFDS examples


class PublicDataset(NamedTuple):
    """A public data set, from which a TFDS builder is made.

    Attributes:
      name: the name of the data set in TFDS.
      description: text about the data, their labels and their terms.
      citation: BibTeX entries.
      release_notes: what version 1.0.0 contains.
      features: returns the TFDS features of an example.
      read_splits: `(find_archive) -> examples of each TFDS split`. Raises UserError if
        an archive is missing or damaged.
      supervised_keys: the features for input and truth.
      shuffle: True if TFDS may store the examples in another order.
    """

    name: str
    description: str
    citation: str
    release_notes: str
    features: Callable[[], "tfds.features.FeaturesDict"]
    read_splits: Callable[[FindArchive], Mapping[str, TfdsExamples]]
    supervised_keys: tuple[str, str] = ("image", "label")
    shuffle: bool = False


def prepare(dataset: PublicDataset, manual_dir: str, data_dir: str) -> Any:
    """Prepares a data set unless that was done before, and returns its TFDS builder.

    Args:
      dataset: the data set.
      manual_dir: the archive, its folder, or its extracted folder; '' downloads it. It
        is read once; afterwards the prepared records are used.
      data_dir: the folder for prepared records; '' is TFDS's own folder.

    Raises:
      UserError: `manual_dir` does not exist, the archive is missing or damaged, or
        records cannot be written.
    """
    manual = find_manual_folder(manual_dir)
    home = data_home(data_dir)
    builder_class = _builder_class(dataset, manual, home / "downloads")
    try:
        builder = builder_class(data_dir=home, file_format="array_record")
        if not _is_complete(builder):
            _generate(builder)
        return builder_class(data_dir=home)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"data_dir: cannot prepare {dataset.name} in {home} ({reason}); "
            "name a folder with space that you may write to"
        ) from error


def data_home(data_dir: str) -> Path:
    """Returns the folder of prepared data sets; '' is TFDS's own folder."""
    import tensorflow_datasets as tfds

    return Path(os.path.expanduser(data_dir or tfds.core.constants.DATA_DIR))


def read_rows(builder: Any, split: str) -> Sequence[dict[str, Any]]:
    """Returns the examples of a split, with images as the bytes of their files.

    Raises:
      UserError: the files are damaged.
    """
    import tensorflow_datasets as tfds

    # TFDS would need OpenCV to decode images of 16 bits
    decoders = {
        name: tfds.decode.SkipDecoding()
        for name, feature in builder.info.features.items()
        if isinstance(feature, tfds.features.Image)
    }
    try:
        rows = builder.as_data_source(split, decoders=decoders)
        rows[len(rows) - 1]  # opens the file, and shows whether it is complete
        stored = sum(map(_count_records, builder.info.splits[split].filepaths))
        if stored != len(rows):
            raise ValueError(f"{stored} records instead of {len(rows)}")
    except Exception as error:  # damaged files raise exceptions of many types
        raise UserError(
            f"{builder.data_dir} is damaged ({type(error).__name__}: "
            f"{one_line(error)}); delete that folder and run again"
        ) from error
    return rows


def _count_records(file: Path) -> int:
    from array_record.python import array_record_module

    reader = array_record_module.ArrayRecordReader(str(file))
    try:
        return reader.num_records()
    finally:
        reader.close()


def read_source(builder: Any, split: str) -> Source:
    """Returns the source of a split whose examples `make_example` made."""
    rows, features = read_rows(builder, split), builder.info.features

    def load(index: int) -> Record:
        row = rows[index]
        name = row["id"].decode()
        label = decode_image(row["label"], name)[..., 0].astype(np.int32)
        label[label == STORED_IGNORE] = IGNORE
        image = decode_image(row["image"], name)
        record = {"image": image, "label": label, "id": name}
        if "instances" in row:
            record["instances"] = row["instances"][..., 0].astype(np.int32)
        return record

    return Source(
        name=builder.name,
        classes=tuple(features["label"].names),
        colours=MICROSCOPY,
        channels=features["image"].shape[-1],
        length=len(rows),
        load=load,
    )


def make_features(
    classes: tuple[str, ...], *, channels: int, instances: bool
) -> "tfds.features.FeaturesDict":
    """Returns the features of `make_example`: PNG images, and object ids of 16 bits."""
    import tensorflow_datasets as tfds

    shape = (None, None, 1)
    features = {
        "id": tfds.features.Text(),
        "image": tfds.features.Image(shape=(None, None, channels)),
        "label": tfds.features.LabeledImage(labels=list(classes), shape=shape),
    }
    if instances:
        features["instances"] = tfds.features.Tensor(
            shape=shape, dtype=np.uint16, encoding="zlib"
        )
    return tfds.features.FeaturesDict(features)


def make_example(
    name: str, image: np.ndarray, label: np.ndarray, instances: np.ndarray | None = None
) -> dict[str, Any]:
    """Returns a TFDS example.

    Args:
      name: the id of the record.
      image: `u8[H, W]` or `u8[H, W, 3]`.
      label: class ids `[H, W]`; -1 is ignored.
      instances: object ids `[H, W]` below 2^16; None for a data set without objects.
    """
    label = np.where(label == IGNORE, STORED_IGNORE, label).astype(np.uint8)
    example = {"id": name, "image": png_bytes(image), "label": png_bytes(label)}
    if instances is not None:
        example["instances"] = instances.astype(np.uint16)[..., None]
    return example


def png_bytes(image: np.ndarray) -> bytes:
    """Returns `u8[H, W]` or `u8[H, W, 3]` as a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def decode_grey_tiff(content: bytes, name: str) -> np.ndarray:
    """Decodes the pages of a grey TIFF to `[N, H, W]`.

    Raises:
      UserError: it is damaged, too large, or in colour; the message starts with `name`.
    """
    pages = decode_tiff(content, name)
    if pages.shape[-1] > 1:
        raise UserError(f"{name} has {pages.shape[-1]} channels, but must have one")
    return pages[..., 0]


def _builder_class(dataset: PublicDataset, manual: Path | None, downloads: Path) -> Any:
    import tensorflow_datasets as tfds

    with tfds.core.registered.skip_registration():

        class Builder(tfds.core.GeneratorBasedBuilder):
            name = dataset.name
            VERSION = tfds.core.Version(TFDS_VERSION)
            RELEASE_NOTES = {TFDS_VERSION: dataset.release_notes}

            def _info(self) -> tfds.core.DatasetInfo:
                return tfds.core.DatasetInfo(
                    builder=self,
                    description=dataset.description,
                    citation=dataset.citation,
                    features=dataset.features(),
                    supervised_keys=dataset.supervised_keys,
                    disable_shuffling=not dataset.shuffle,
                )

            def _split_generators(self, dl_manager: Any) -> Mapping[str, TfdsExamples]:
                del dl_manager  # it retries for minutes if there is no network
                return dataset.read_splits(lambda a: find_archive(a, manual, downloads))

            def _generate_examples(self) -> TfdsExamples:
                raise NotImplementedError  # the splits are made above

    return Builder


def find_manual_folder(manual_dir: str) -> Path | None:
    """Returns the folder of the archives; None for ''.

    Raises:
      UserError: there is no such file or folder.
    """
    manual = Path(manual_dir).expanduser() if manual_dir else None
    if manual and manual.is_file():  # the archive itself
        manual = manual.parent
    if manual and not manual.is_dir():
        raise UserError(
            f"manual_dir: there is no folder {manual}; name the folder of the archive, "
            "or '' if the data are prepared already or to be downloaded"
        )
    return manual


def _generate(builder: Any) -> None:
    """Writes the records; TFDS moves them into place when all are written."""
    import tensorflow_datasets as tfds

    config = tfds.download.DownloadConfig()
    if builder.data_path.exists():  # an incomplete copy
        config.download_mode = tfds.download.GenerateMode.REUSE_CACHE_IF_EXISTS
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(download_config=config)
    except OSError:
        if not _is_complete(builder):  # another process may have written it first
            raise


def _is_complete(builder: Any) -> bool:
    """Returns True if all records are there; TFDS writes dataset_info.json last."""
    return (builder.data_path / "dataset_info.json").exists()
