"""Examples: records that are checked, resampled, normalised and given weights."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from unet_jax.arrays import IGNORE, Example, is_interpolated, list_spatial
from unet_jax.data import sampling
from unet_jax.data.normalize import Scale
from unet_jax.data.record import Record
from unet_jax.data.resample import Resampling, make_resampling
from unet_jax.data.source import Source, only_images
from unet_jax.data.weights import exclusive_ids
from unet_jax.errors import UserError, prefix_errors


class MemoryBudget:
    """Bytes of memory that several `Examples` share; the first to ask gets them."""

    def __init__(self, size: float) -> None:
        self._left = size
        self._lock = threading.Lock()

    def reserve(self, size: int) -> bool:
        """Reserves `size` bytes; returns False if there are too few left."""
        with self._lock:
            fits = size <= self._left
            self._left -= size * fits
            return fits


class Examples:
    """A sequence of host examples, loaded on demand and cached while memory lasts.

    The last example is cached in any case, so that all tiles of one image load it once.
    Threads may share the sequence: at worst, two load the same example at the same
    time. The arrays are read-only, because all readers get the same ones.
    """

    def __init__(
        self, load: Callable[[int], Example], length: int, memory: MemoryBudget
    ) -> None:
        self._load = load
        self._length = length
        self._memory = memory
        self._cached: dict[int, Example] = {}
        self._last: tuple[int, Example] = (-1, {})
        self._shapes: dict[int, tuple[int, ...]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < self._length:
            raise IndexError(index)
        if index in self._cached:
            return self._cached[index]
        last, example = self._last
        if last == index:
            return example
        example = self._load(index)
        size = _byte_count(example)
        with self._lock:
            self._shapes[index] = example["image"].shape[:-1]
            if index not in self._cached and self._memory.reserve(size):
                self._cached[index] = example
            else:
                self._last = index, example
        return example

    def shape(self, index: int) -> tuple[int, ...]:
        """Returns the spatial shape of an image; loads the image if necessary."""
        if index not in self._shapes:
            self[index]
        return self._shapes[index]


def prepare_examples(
    source: Source,
    *,
    measure: Callable[[np.ndarray], Scale],
    weigh: Callable[[np.ndarray, np.ndarray | None], np.ndarray],
    add_truth: Callable[[Example], Example] = lambda example: example,
    needs: tuple[str, ...] = ("label",),
    value_scale: Callable[[Scale], Scale] = lambda scale: scale,
    memory: MemoryBudget | None = None,
    spacing: tuple[float, ...] = (),
    evaluation: bool = False,
    chances: sampling.ClassChances = sampling.uniform,
) -> Examples:
    """Prepares the records of a source: checks, resamples, normalises, adds weights.

    Args:
      source: the records.
      measure: image `[*S, C]` -> its `Scale`. It is called before resampling, which
        would change integers to floats (nnU-Net normalises first, too).
      weigh: class ids `i32[*S]`, from `weights.exclusive_ids`, and object ids or None
        -> weight `f32[*S]`. Examples without a label have weight 1.
      add_truth: example -> example with more arrays, which a task needs.
      needs: the keys that every record must have.
      value_scale: the scale of an image -> the scale of its `target`.
      memory: the memory to cache examples in; None caches only the last one.
      spacing: the size of a pixel that images are resampled to; () does not resample.
      evaluation: True for validation and test examples: everything but the image stays
        on the grid of the file, and targets keep their units.
      chances: a function of `sampling`, for the places of crops.

    Returns:
      Examples: `image f32[*S, C]`, `weight f32[*S]` and what the record has: `label
      i32[*S]` or `i32[*S, K]`, `instances i32[*S]`, `target f32[*S, C']`, other arrays,
      its `id` and its `spacing`. `places` is from `sampling.find_places`. With
      `evaluation`, `scale` is that of the values predicted from the image.

    Raises:
      UserError: the source is empty. When an example is loaded: its record is invalid;
        the message names the source and the record.
    """
    _check_not_empty(source)

    def with_truth(example: Example) -> Example:
        ids = _exclusive_ids(example)  # before a task makes channels of the classes
        example = add_truth(example)
        after = _exclusive_ids(example)
        if after is None:
            return example | {"weight": np.ones(example["image"].shape[:-1], "f4")}
        ids = after if ids is None else np.where(after < 0, IGNORE, ids)
        places = sampling.find_places(example["label"], ids.ndim, chances)
        weight = weigh(ids, example.get("instances"))
        return example | {"weight": weight, "places": places}

    def load(index: int) -> Example:
        record, resampling = _load_record(source, index, needs, spacing)
        scale = measure(record["image"])
        example = _with_example_types(record)
        with prefix_errors(f"{source.name}, {record['id']}"):
            if evaluation:
                example = with_truth(example) | {"scale": value_scale(scale)}
            elif "target" in example:
                example["target"] = value_scale(scale)(record["target"])
            example["image"] = resampling.image(scale(record["image"]))
            if not evaluation:
                example |= _resample_truth(record, example, resampling)
                example = with_truth(example)
        if resampling.changes and not evaluation:
            example["spacing"] = spacing
        return {k: _read_only(v) for k, v in example.items()}

    return Examples(load, source.length, memory or MemoryBudget(0))


def prepare_unlabelled(
    source: Source,
    like: Example,
    *,
    measure: Callable[[np.ndarray], Scale],
    memory: MemoryBudget | None = None,
    spacing: tuple[float, ...] = (),
) -> Examples:
    """Prepares images without labels, with the arrays of labelled examples.

    Args:
      source: the records, of which only the images are used.
      like: a labelled example. Its arrays that an unlabelled image lacks are filled in:
        the label is ignored, the weight and everything else is 0.
      measure: as in `prepare_examples`.
      memory: as in `prepare_examples`.
      spacing: as in `prepare_examples`.

    Raises:
      UserError: as in `prepare_examples`.
    """
    _check_not_empty(source)
    axes = like["image"].ndim - 1
    arrays = {k: v for k, v in like.items() if isinstance(v, np.ndarray)}
    spatial_names = [name for name in list_spatial(like) if name != "image"]
    source = only_images(source)

    def load(index: int) -> Example:
        record, resampling = _load_record(source, index, (), spacing)
        image = resampling.image(measure(record["image"])(record["image"]))
        example = {k: np.zeros_like(v) for k, v in arrays.items()}
        for name in spatial_names:
            shape = (*image.shape[:-1], *like[name].shape[axes:])
            blank = IGNORE if name == "label" else 0
            example[name] = np.full(shape, blank, like[name].dtype)
        example |= {"image": image, "id": record["id"]}
        return {k: _read_only(v) for k, v in example.items()}

    return Examples(load, source.length, memory or MemoryBudget(0))


def _check_not_empty(source: Source) -> None:
    """Raises UserError if a source has no records."""
    if not source.length:
        raise UserError(f"{source.name} holds no records; name a data set with images")


def _load_record(
    source: Source, index: int, needs: tuple[str, ...], spacing: tuple[float, ...]
) -> tuple[Record, Resampling]:
    """Loads and checks a record; returns it and its resampling to `spacing`."""
    record = source.load(index)
    with prefix_errors(f"{source.name}, {record['id']}"):
        if problem := _find_problem(record, source, needs):
            raise UserError(problem)
        shape = record["image"].shape[:-1]
        return record, make_resampling(shape, record.get("spacing"), spacing)


def _with_example_types(record: Record) -> Example:
    """Returns a record whose arrays have the types of examples, `label` in -1..K-1."""
    example = dict(record)
    if "label" in record:
        label = np.asarray(record["label"], np.int32)
        example["label"] = np.maximum(label, IGNORE)
    if record.get("instances") is not None:
        example["instances"] = np.asarray(record["instances"], np.int32)
    else:
        example.pop("instances", None)
    if "target" in record:
        example["target"] = np.asarray(record["target"], np.float32)
    return example


def _resample_truth(
    record: Record, example: Example, resampling: Resampling
) -> dict[str, np.ndarray]:
    """Resamples the spatial arrays of a record, except its image."""
    arrays = {}
    for name in list_spatial(record):
        if name == "label":
            arrays[name] = resampling.label(example[name])
        elif name in example and name != "image":
            smooth = is_interpolated(name, example[name])
            resample = resampling.image if smooth else resampling.nearest
            arrays[name] = resample(example[name])
    return arrays


def _exclusive_ids(example: Example) -> np.ndarray | None:
    """Returns the class ids for weights; None without a label."""
    if "label" not in example:
        return None
    return exclusive_ids(example["label"], example["image"].ndim - 1)


def _find_problem(record: Record, source: Source, needs: tuple[str, ...]) -> str | None:
    """Returns a message if a record is invalid, else None."""
    image, classes = record["image"], len(source.classes)
    space = image.shape[:-1]
    if image.shape[-1] != source.channels:
        return f"image {image.shape} must have {source.channels} channels, last"
    if not np.isfinite(image).all():
        return "image has NaN or infinite pixels; replace them or remove the image"
    for name in needs:
        if record.get(name) is None:
            return f"has no {name}; add it, or choose another --config.task.name"
    if (label := record.get("label")) is not None:
        if label.shape not in (space, (*space, classes - 1)):
            return f"label {label.shape} must fit an image {space} of {classes} classes"
        most = classes - 1 if label.shape == space else 1
        if label.max(initial=0) > most:
            largest = label.max()
            return f"label holds {largest}, above {most}; map its values to classes"
    if (instances := record.get("instances")) is not None and instances.shape != space:
        return f"instances are {instances.shape}, but the image is {space}"
    if (target := record.get("target")) is not None:
        if target.shape != (*space, source.target_channels):
            return f"target {target.shape} must fit an image {space}, channels last"
        if not np.isfinite(target).all():
            return "target has NaN or infinite pixels; replace them or remove the image"
    return None


def _byte_count(example: Example) -> int:
    """Returns the memory that the arrays of an example take."""
    places = example.get("places") or ()
    arrays = [v for v in example.values() if isinstance(v, np.ndarray)]
    return sum(array.nbytes for array in (*arrays, *places))


def _read_only(value: Any) -> Any:
    """Returns a read-only view of an array; any other value as it is."""
    if not isinstance(value, np.ndarray):
        return value
    view = value.view()
    view.flags.writeable = False
    return view
