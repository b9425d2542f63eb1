"""Any prepared data set of TensorFlow Datasets that has an image and a mask."""

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from unet_jax.arrays import IGNORE
from unet_jax.data.datasets import cell_tracking, dsb2018, isbi2012, pets
from unet_jax.data.datasets.prepared import (
    data_home,
    find_manual_folder,
    prepare,
    read_rows,
)
from unet_jax.data.files import channel_converter, decode_image
from unet_jax.data.files.limits import check_regular
from unet_jax.data.label_map import apply_label_map, class_colours, parse_label_map
from unet_jax.data.record import Record
from unet_jax.data.source import Source, Splits, subset
from unet_jax.data.splitting import SPLITS, split_random
from unet_jax.errors import UserError, prefix_errors, suggest
from unet_jax.json_file import convert, read_json
from unet_jax.specs import BelowOne, Whole
from unet_jax.text import one_line

READABLE = "array_record"  # the format that can be read without TensorFlow
PREPARABLE = {  # data sets that can be prepared without TensorFlow
    dataset.name: dataset
    for dataset in (
        cell_tracking.DIC_HELA,
        dsb2018.DATASET,
        isbi2012.DATASET,
        pets.DATASET,
        cell_tracking.PHC_U373,
    )
}

REPEAT = "prepare the data set again"
MOST_CLASSES = 2**16
MOST_NAMES = 2**20  # bytes of a file of class names
FEATURE_CLASSES = {  # classes that make features from JSON and run no other program
    f"tensorflow_datasets.core.features.{name}"
    for name in (
        "bounding_boxes.BBoxFeature",
        "class_label_feature.ClassLabel",
        "dataset_feature.Dataset",
        "feature.Tensor",  # its name in older versions of TFDS
        "features_dict.FeaturesDict",
        "image_feature.Image",
        "labeled_image.LabeledImage",
        "scalar.Scalar",
        "sequence_feature.Sequence",
        "tensor_feature.Tensor",
        "text_feature.Text",
        "translation_feature.Translation",
        "translation_feature.TranslationVariableLanguages",
        "video_feature.Video",
    )
}
_CLASS_KEYS = ("pythonClassName", "python_class_name", "type")  # of TFDS 4 and before
_FILE_KEYS = ("names_file", "labels")  # a text: TFDS reads that file's lines as names
_NAME = re.compile(r"(?P<name>\w+)(?:/(?P<config>[^/:]+))?(?::(?P<version>[\d.]+))?")


class _Split(TypedDict, total=False):
    """A split in a dataset_info.json of TFDS, which reads both forms of a key."""

    shardLengths: list[Any]
    shard_lengths: list[Any]


def tfds(
    *,
    dataset: str,
    image: str = "image",
    mask: str = "segmentation_mask",
    id: str = "",
    splits: tuple[str, ...] = ("train", "test"),
    val: BelowOne = 0.1,
    seed: Whole = 0,
    label_map: tuple = (),
    ignore_label: int = IGNORE,
    classes: tuple[str, ...] = (),
    background: bool = True,
    colours: tuple[tuple[int, ...], ...] = (),
    manual_dir: str = "",
    data_dir: str = "",
) -> Splits:
    """Makes a data set of TFDS from its name.

    A data set that any program has prepared in `data_dir` is read if its format is
    array_record. Otherwise it is prepared, if it is one of `PREPARABLE`: TFDS's own
    builders need TensorFlow.

    Args:
      dataset: `name`, `name/config` or `name/config:version`; without a version, the
        latest one.
      image: the feature of the image: a file, or an array `[*S, C]`.
      mask: the feature of the mask, with one channel.
      id: the feature of a text that names the record; '' numbers the records.
      splits: the TFDS splits that train, validate and test. With two, the second tests.
        Splits that are missing are drawn from the first.
      val: the share of the first split for each missing one, at least one record.
      seed: another seed draws other records.
      label_map: pairs of a mask value and a class id or name, where -1 ignores; () if
        mask values are class ids.
      ignore_label: the mask value of pixels that are not annotated; -1 for none.
      classes: names by id; () takes the names of the feature, if it has any.
      background: False if class 0 is a class like the others, as in street scenes. All
        classes then count in the mean of a score.
      colours: red, green and blue of each class, 0 to 255; () for default colours.
      manual_dir: the folder of the archives of a `PREPARABLE` data set; '' downloads
        them.
      data_dir: the folder of prepared data sets; '' is TFDS's own folder.

    Raises:
      UserError: there is no such data set, feature or split, the format needs
        TensorFlow, or an option is wrong.
    """
    if not 1 <= len(splits) <= 3 or len(set(splits)) < len(splits):
        raise UserError(f"splits must be one to three different names, not {splits}")
    builder = find_builder(dataset, manual_dir, data_dir)
    features = builder.info.features
    named = {"image": image, "mask": mask} | ({"id": id} if id else {})
    for option, name in named.items():
        _check_exists(f"{option}: {dataset} has no feature", name, features)
        if option != "id":
            _check_array(f"{option}: {name!r} of {dataset}", features[name])
    for name in splits:
        _check_exists(f"splits: {dataset} has no", name, builder.info.splits)
    if (getattr(features[mask], "num_classes", 0) or 0) > MOST_CLASSES:
        raise UserError(f"mask: {mask!r} of {dataset} has too many classes; {REPEAT}")
    names = classes or tuple(getattr(features[mask], "names", None) or ())
    if len(names) < 2:
        raise UserError(
            f"classes: {dataset} does not name its classes; name two or more, the "
            "background first"
        )
    ids = _class_ids(label_map, names, ignore_label)
    colours = class_colours(colours, len(names), background=background)
    *space, channels = features[image].shape
    axes, channels = len(space), channels or 3

    def source(split: str) -> Source:
        rows = read_rows(builder, split)

        def load(index: int) -> Record:
            row = rows[index]
            name = row[id] if id else f"{split}-{index:05d}"
            name = name.decode() if isinstance(name, bytes) else str(name)
            with prefix_errors(f"{dataset}, {name}"):
                label = apply_label_map(_mask_values(row[mask], axes), ids)
                pixels = row[image]
                if isinstance(pixels, bytes):
                    pixels = decode_image(pixels, "its image")
                convert = channel_converter(pixels.shape[-1], channels, convert=True)
                return {"image": convert(pixels), "label": label, "id": name}

        return Source(
            name=f"{dataset}/{split}",
            classes=names,
            colours=colours,
            channels=channels,
            length=len(rows),
            load=load,
            convert=channels in (1, 3),
            background=background,
        )

    return _with_missing_splits(tuple(map(source, splits)), dataset, val, seed)


def find_builder(dataset: str, manual_dir: str, data_dir: str) -> Any:
    """Returns the TFDS builder of a data set that can be read; prepares it if needed.

    The arguments are those of `tfds`.

    Raises:
      UserError: there is no such data set, its format needs TensorFlow, or it names
        code outside of TFDS.
    """
    import tensorflow_datasets

    match = _NAME.fullmatch(dataset)
    if not match:
        raise UserError(
            f"dataset must be name, name/config or name/config:version, not {dataset!r}"
        )
    find_manual_folder(manual_dir)  # prepared data do not hide a wrong path
    home = data_home(data_dir)
    folders = _version_folders(home, **match.groupdict())
    formats: set[str] = set()
    for folder in folders:
        _check_files(folder)
        _check_features(folder)
        try:
            builder = tensorflow_datasets.builder_from_directory(folder)
            formats = {form.value for form in builder.info.available_file_formats()}
        except Exception as error:  # damaged files raise exceptions of many types
            raise UserError(
                f"{folder} cannot be read ({one_line(error)}); delete it, or prepare "
                "it again"
            ) from error
        if READABLE in formats:
            return builder
    only_named = not (match["config"] or match["version"])
    if only_named and match["name"] in PREPARABLE:
        return prepare(PREPARABLE[match["name"]], manual_dir, data_dir)
    place = folders[0] if folders else home / dataset
    reason = f"is stored as {', '.join(sorted(formats))}" if folders else "is not there"
    code = f"tensorflow_datasets.builder({dataset!r}, file_format={READABLE!r}"
    raise UserError(
        f"{place} {reason}, and only TensorFlow can prepare it: where it is installed, "
        f"run {code}, data_dir=...).download_and_prepare(), and give that folder as "
        f"data_dir; data sets prepared without it are {', '.join(sorted(PREPARABLE))}"
    )


def _version_folders(
    home: Path, *, name: str, config: str | None, version: str | None
) -> list[Path]:
    """Returns the folders of a data set, the latest version first.

    Raises:
      UserError: the config must be named.
    """
    base = home / name / config if config else home / name
    found = [path.parent for path in base.glob("*/dataset_info.json")]
    if not found and not config:
        configs = {path.parents[1].name for path in base.glob("*/*/dataset_info.json")}
        if configs:
            raise UserError(
                f"dataset: {name} needs its config, {name}/CONFIG; "
                f"{suggest('', configs)}"
            )
    numbered = {tuple(map(int, re.findall(r"\d+", path.name))): path for path in found}
    latest = [numbered[number] for number in sorted(numbered, reverse=True)]
    return [path for path in latest if version in (None, path.name)]


def _check_files(folder: Path) -> None:
    """Raises UserError if TFDS would wait for a file, or read another one."""
    for path in sorted(folder.iterdir()):
        with prefix_errors(str(path)):
            check_regular(path)
            odd = path.is_symlink() or path.stat().st_size > MOST_NAMES
            if odd and path.name.endswith(".labels.txt"):
                raise UserError(f"is not a file of class names; {REPEAT}")


def _check_features(folder: Path) -> None:
    """Raises UserError if TFDS would import code or read files that the folder names.

    TFDS imports the module of every feature class that it does not know, which
    `features.json` and the key `features` of `dataset_info.json` may name. The folder
    is data, so only `FEATURE_CLASSES` are allowed.
    """
    for path in (folder / "dataset_info.json", folder / "features.json"):
        if not path.exists():
            continue
        content = read_json(path, dict[str, Any], REPEAT)
        if path.name == "dataset_info.json":
            _check_shards(path, content)
            content = content.get("features")
        try:
            named = set(_find_names(content))
        except RecursionError as error:
            raise UserError(f"{path} is nested too deeply; {REPEAT}") from error
        for key, name in sorted(named):
            if key in _FILE_KEYS:
                raise UserError(f"{path} names the file {name!r} in {key}; {REPEAT}")
            if name not in FEATURE_CLASSES:
                readable = {each.rpartition(".")[2] for each in FEATURE_CLASSES}
                raise UserError(
                    f"{path} names the class {name!r}, which is not imported; prepare "
                    "the data set with these features of tensorflow_datasets only: "
                    f"{', '.join(sorted(readable))}"
                )


def _check_shards(path: Path, info: dict[str, Any]) -> None:
    """Raises UserError if a split has more files than the folder.

    TFDS makes a list of their names, which can take hours.
    """
    files = len(os.listdir(path.parent))
    for split in convert(info.get("splits", []), list[_Split], str(path), REPEAT):
        forms = split.get("shardLengths", []), split.get("shard_lengths", [])
        count = max(map(len, forms))
        if count > files:
            raise UserError(
                f"{path} has a split of {count} files, more than there are; {REPEAT}"
            )


def _find_names(value: Any) -> Iterator[tuple[str, str]]:
    """Yields names of classes and files in JSON data, at any depth, with their keys."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in _CLASS_KEYS + _FILE_KEYS and isinstance(inner, str):
                yield key, inner
            else:
                yield from _find_names(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _find_names(inner)
    elif isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        # TFDS stores some features as JSON text. It is read as TFDS reads it, with
        # `json`: a stricter reader would skip text that TFDS then follows.
        with contextlib.suppress(ValueError):
            yield from _find_names(json.loads(value))


def _with_missing_splits(
    given: tuple[Source, ...], dataset: str, val: float, seed: int
) -> Splits:
    """Draws the splits that are not given from the first; of two, the second tests."""
    names = SPLITS if len(given) == len(SPLITS) else ("train", "test")[: len(given)]
    sources = dict(zip(names, given, strict=True))
    missing = [name for name in ("val", "test") if name not in sources]
    first = sources["train"]
    size = max(1, round(val * first.length))
    if missing and size * len(missing) >= first.length:
        raise UserError(
            f"{first.name} has {first.length} records, too few to take {size} for each "
            f"of {' and '.join(missing)}; lower val"
        )
    rng = np.random.default_rng(seed)
    parts = split_random(first.length, dict.fromkeys(missing, size), rng)
    sources |= {name: subset(first, part, "") for name, part in parts.items()}
    named: dict[str, Any] = {
        name: source._replace(name=f"{dataset}/{name}")
        for name, source in sources.items()
    }
    return Splits(**named)


def _class_ids(
    label_map: tuple, classes: tuple[str, ...], ignore_label: int
) -> Mapping[str, int]:
    """Returns the class id of each mask value."""
    ignore_value = "" if ignore_label == IGNORE else str(ignore_label)
    ids = parse_label_map(label_map, classes, ignore_value)
    ids = ids or {str(k): k for k in range(len(classes))}
    return ids | ({ignore_value: IGNORE} if ignore_value else {})


def _mask_values(stored: bytes | np.ndarray, axes: int) -> np.ndarray:
    """Returns the values of a mask, `[*S, 1]`."""
    decoded = isinstance(stored, bytes)
    mask = decode_image(stored, "its mask", indices=True) if decoded else stored
    if mask.ndim == axes:
        mask = mask[..., None]
    if mask.ndim != axes + 1 or mask.shape[-1] != 1:
        raise UserError(f"its mask is {mask.shape}, but must have one channel")
    return mask


def _check_exists(problem: str, name: str, existing: Iterable[str]) -> None:
    if name not in existing:
        raise UserError(f"{problem} {name!r}; {suggest(name, existing)}")


def _check_array(place: str, feature: Any) -> None:
    """Raises UserError unless the feature is an image or a mask."""
    import tensorflow_datasets

    kinds = tensorflow_datasets.features
    if not isinstance(feature, kinds.Image | kinds.Tensor) or len(feature.shape) < 2:
        raise UserError(
            f"{place} is not an image, but {type(feature).__name__} of shape "
            f"{feature.shape}"
        )
