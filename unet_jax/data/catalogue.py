"""Any data set of TFDS that has an image and a mask, by its name."""

import functools
from collections.abc import Iterable
from typing import Any

import numpy as np

from unet_jax.arrays import IGNORE
from unet_jax.data.account import Record
from unet_jax.data.builders.storage import decoded, indices
from unet_jax.data.files.grid import conversion
from unet_jax.data.folders.meaning import COLOURS
from unet_jax.data.prepared import rows
from unet_jax.data.shelf import prepared_by_name
from unet_jax.data.source import Source, Splits, subset
from unet_jax.errors import UserError, prefix_errors, suggest
from unet_jax.specs import BelowOne, Whole

GIVEN = {1: ("train",), 2: ("train", "test"), 3: ("train", "val", "test")}

_Ints = tuple[int, ...]


def tfds(
    *,
    dataset: str,
    image: str = "image",
    mask: str = "segmentation_mask",
    id: str = "",
    splits: tuple[str, ...] = ("train", "test"),
    val: BelowOne = 0.1,
    seed: Whole = 0,
    label_map: tuple[_Ints, ...] = (),
    ignore: _Ints = (),
    classes: tuple[str, ...] = (),
    colours: tuple[_Ints, ...] = (),
    manual_dir: str = "",
    data_dir: str = "",
) -> Splits:
    """A data set of TFDS, `name`, `name/config` or `name/config:version`.

    What `data_dir` holds of it is read, whoever prepared it; the latest version where
    none is named. Else it is prepared, if it is one of those in `data/builders`: TFDS's
    own builders need TensorFlow.

    Args:
      dataset: its name.
      image: the name of the feature with the image: a file, or an array `[*S, C]`.
      mask: of the one with the mask, of one channel.
      id: of a text that names the record; '' numbers the records.
      splits: which of its splits train, validate and test; of two, the second tests;
        of one, it does all. What is missing is drawn from the first.
      val: the fraction of the first split that each missing one gets, at least one
        record.
      seed: of that draw.
      label_map: (value, class id) for the values of the mask; () takes values for ids.
      ignore: values that nobody should be asked about: -1.
      classes: their names, by id; () takes them from the feature, if it has them.
      colours: red, green and blue of each, 0 to 255; () chooses.
      manual_dir: where the archives of one of `data/builders` are; '' downloads them.
      data_dir: where prepared data sets lie; '' is TFDS's own folder.

    Raises:
      UserError: there is no such data set, feature or split, it is stored in a format
        that needs TensorFlow, or the options do not fit.
    """
    if not 1 <= len(splits) <= 3 or len(set(splits)) < len(splits):
        raise UserError(f"splits must be one to three different names, not {splits}")
    prepared = prepared_by_name(dataset, manual_dir, data_dir)
    features = prepared.info.features
    wanted = {"image": image, "mask": mask} | ({"id": id} if id else {})
    for option, name in wanted.items():
        _check_there(f"{option}: {dataset} has no feature", name, features)
    _check_arrays(dataset, features, image, mask)
    for name in splits:
        _check_there(f"splits: {dataset} has no", name, prepared.info.splits)
    names = classes or tuple(getattr(features[mask], "names", None) or ())
    _check_classes(dataset, names, label_map, ignore, colours)
    *space, channels = features[image].shape
    axes, channels = len(space), channels or 3
    to_ids = functools.partial(
        class_ids, label_map=dict(label_map), ignore=ignore, classes=len(names)
    )

    def source(split: str) -> Source:
        stored = rows(prepared, split)

        def load(index: int) -> Record:
            row = stored[index]
            name = _text(row[id]) if id else f"{split}-{index:05d}"
            with prefix_errors(f"{dataset}, {name}"):
                return {
                    "image": _image(row[image], channels),
                    "label": to_ids(_mask(row[mask], axes)),
                    "id": name,
                }

        return Source(
            name=f"{dataset}/{split}",
            classes=names,
            colours=colours or _colours(len(names)),
            channels=channels,
            length=len(stored),
            load=load,
            convert=channels in (1, 3),
        )

    return _divide(tuple(map(source, splits)), dataset, val, seed)


def class_ids(
    mask: np.ndarray, *, label_map: dict[int, int], ignore: _Ints, classes: int
) -> np.ndarray:
    """Class ids `i32[*S]` of the values of a mask `[*S]`.

    Raises:
      UserError: it has a value that is neither mapped nor ignored, nor, where nothing
        is mapped, a class id.
    """
    values, places = np.unique(mask, return_inverse=True)
    known = label_map or {k: k for k in range(classes)}
    known = known | dict.fromkeys(ignore, IGNORE)
    strange = [value for value in values.tolist() if value not in known]
    if strange:
        raise UserError(
            f"its mask holds {', '.join(map(str, strange[:5]))}, of no class; give "
            "them one in label_map, a tuple of (value, class id), or list them in "
            "ignore"
        )
    ids = np.array([known[value] for value in values.tolist()], np.int32)
    return ids[places].reshape(mask.shape)


def _divide(given: tuple[Source, ...], dataset: str, val: float, seed: int) -> Splits:
    """The splits, of which those that are missing are drawn from the first."""
    parts = dict(zip(GIVEN[len(given)], given, strict=True))
    missing = [name for name in ("val", "test") if name not in parts]
    first = parts["train"]
    share = max(1, round(val * first.length))
    if missing and share * len(missing) >= first.length:
        raise UserError(
            f"{first.name} has {first.length} records, too few to take {share} for "
            f"each of {' and '.join(missing)}; lower val"
        )
    order = np.random.default_rng(seed).permutation(first.length).tolist()
    for name in (*missing, "train"):
        count = share if name in missing else len(order)
        drawn, order = sorted(order[:count]), order[count:]
        parts[name] = subset(first, drawn, "")
    return Splits(**{k: v._replace(name=f"{dataset}/{k}") for k, v in parts.items()})


def _colours(count: int) -> tuple[tuple[int, ...], ...]:
    return tuple(COLOURS[k % len(COLOURS)] for k in range(count))


def _image(stored: bytes | np.ndarray, channels: int) -> np.ndarray:
    """`[*S, C]`; grey becomes red, green and blue, and these grey."""
    image = decoded("its image", stored) if isinstance(stored, bytes) else stored
    return conversion(image.shape[-1], channels, convert=True)(image)


def _mask(stored: bytes | np.ndarray, axes: int) -> np.ndarray:
    """The values of a mask, `[*S]`, with or without a last axis of length 1."""
    mask = indices("its mask", stored) if isinstance(stored, bytes) else stored
    if mask.ndim == axes + 1 and mask.shape[-1] == 1:
        return mask[..., 0]
    if mask.ndim != axes:
        raise UserError(f"its mask is {mask.shape}, where it needs one channel")
    return mask


def _text(stored: Any) -> str:
    return stored.decode() if isinstance(stored, bytes) else str(stored)


def _check_there(said: str, name: str, there: Iterable[str]) -> None:
    if name not in there:
        raise UserError(f"{said} {name!r}; {suggest(name, there)}")


def _check_arrays(dataset: str, features: Any, image: str, mask: str) -> None:
    """Raises UserError unless the features are an image and a mask, `[*S, C]`."""
    import tensorflow_datasets

    kinds = tensorflow_datasets.features
    for option, name in (("image", image), ("mask", mask)):
        feature = features[name]
        if (
            not isinstance(feature, kinds.Image | kinds.Tensor)
            or len(feature.shape) < 2
        ):
            raise UserError(
                f"{option}: {name!r} of {dataset} is no image, but "
                f"{type(feature).__name__} of shape {feature.shape}"
            )


def _check_classes(
    dataset: str,
    classes: tuple[str, ...],
    label_map: tuple[_Ints, ...],
    ignore: _Ints,
    colours: tuple[_Ints, ...],
) -> None:
    """Raises UserError unless the options about classes fit each other."""
    if len(classes) < 2:
        raise UserError(
            f"classes: {dataset} does not name its classes; name two or more, the "
            "background first"
        )
    values = [pair[0] for pair in label_map if pair]
    pairs = all(len(pair) == 2 and 0 <= pair[1] < len(classes) for pair in label_map)
    if not pairs or len(set(values)) < len(values) or set(values) & set(ignore):
        raise UserError(
            f"label_map must have pairs (value, class id), ids 0 to {len(classes) - 1},"
            f" and no value twice or in ignore as well; it is {label_map}"
        )
    right = all(len(c) == 3 and 0 <= min(c) <= max(c) <= 255 for c in colours)
    if colours and (len(colours) != len(classes) or not right):
        raise UserError(
            f"colours must be {len(classes)} tuples (red, green, blue) of 0 to 255, "
            f"one for each class; they are {colours}"
        )
