"""Records become examples: checked, resampled, normalised and weighed, once each."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from unet_jax.arrays import IGNORE, Example, is_interpolated, list_spatial
from unet_jax.data import sampling
from unet_jax.data.account import Record
from unet_jax.data.normalize import Scale
from unet_jax.data.resample import Resampling, between
from unet_jax.data.source import Source
from unet_jax.data.weights import shown
from unet_jax.errors import UserError, prefix_errors

__all__ = ["Examples", "Room", "prepare", "resampling", "unlabelled"]


class Room:
    """Bytes of memory that several `Examples` may fill, first come, first served."""

    def __init__(self, size: float) -> None:
        self._left = size
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Whether there was room for `size` bytes, which are then taken."""
        with self._lock:
            fits = size <= self._left
            self._left -= size * fits
            return fits


class Examples:
    """A sequence of host examples, loaded when asked for and kept while they fit.

    What does not fit is still held until another is asked for, so that the tiles of one
    image load it once. Threads may share it: at worst two load the same example at the
    same moment. The arrays are read-only, since the next reader gets the same ones.
    """

    def __init__(self, load: Callable[[int], Example], length: int, room: Room) -> None:
        self._load = load
        self._length = length
        self._room = room
        self._kept: dict[int, Example] = {}
        self._last: tuple[int, Example] = (-1, {})
        self._shapes: dict[int, tuple[int, ...]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < self._length:
            raise IndexError(index)
        if index in self._kept:
            return self._kept[index]
        last, example = self._last
        if last == index:
            return example
        example = self._load(index)
        size = _bytes(example)
        with self._lock:
            self._shapes[index] = example["image"].shape[:-1]
            if index not in self._kept and self._room.take(size):
                self._kept[index] = example
            else:
                self._last = index, example
        return example

    def shape(self, index: int) -> tuple[int, ...]:
        """The spatial shape of an image, which is loaded for it once at most."""
        if index not in self._shapes:
            self[index]
        return self._shapes[index]


def prepare(
    source: Source,
    *,
    measure: Callable[[np.ndarray], Scale],
    weigh: Callable[[np.ndarray, np.ndarray | None], np.ndarray],
    add_truth: Callable[[Example], Example] = lambda example: example,
    needs: tuple[str, ...] = ("label",),
    value_scale: Callable[[Scale], Scale] = lambda scale: scale,
    room: Room | None = None,
    spacing: tuple[float, ...] = (),
    judged: bool = False,
    sample: sampling.Sample = sampling.uniform,
) -> Examples:
    """Checks, resamples, normalises and weighs the records of a source, once each.

    Args:
      source: where the records come from.
      measure: image `[*S, C]` -> its `Scale`. It sees the file's own pixels: after
        interpolation, integers would be none (nnU-Net normalises first, too).
      weigh: class ids `i32[*S]`, as `weights.shown` gives them, and object ids or None
        -> weight `f32[*S]`. Examples without a label have weight 1.
      add_truth: example -> example with the arrays that a task needs besides.
      needs: the keys that every record must have.
      value_scale: the scale of an image -> that of its `target`.
      room: the memory to keep examples in; none keeps the last one only.
      spacing: the size of a pixel that images are resampled to; () leaves them.
      judged: the examples are measured, not learnt from: all but the image stays on
        the grid of the file, where the truth is, and targets keep their units.
      sample: a function of `sampling`, how crops are drawn.

    Returns:
      Examples: `image f32[*S, C]`, `weight f32[*S]` and what the record has: `label
      i32[*S]` or `i32[*S, K]`, `instances i32[*S]`, `target f32[*S, C']`, any other
      arrays, its `id` and its `spacing`. `places` is what `sampling.places` finds;
      `scale` of judged examples is that of the values predicted from the image.

    Raises:
      UserError: the source is empty or, when it is read, a record is not as it should
        be; the line names the source and the record.
    """
    if not source.length:
        raise UserError(f"{source.name} holds no records")

    def with_truth(example: Example) -> Example:
        ids = _ids(example)  # of the classes, before a task makes channels of them
        example = add_truth(example)
        after = _ids(example)
        if after is None:
            return example | {"weight": np.ones(example["image"].shape[:-1], "f4")}
        ids = after if ids is None else np.where(after < 0, IGNORE, ids)
        places = sampling.places(example["label"], ids.ndim, sample)
        weight = weigh(ids, example.get("instances"))
        return example | {"weight": weight, "places": places}

    def load(index: int) -> Example:
        record = source.load(index)
        where = f"{source.name}, {record['id']}"
        if fault := _fault(record, source, needs):
            raise UserError(f"{where}: {fault}")
        change = resampling(source, record, spacing)
        scale = measure(record["image"])
        example = _typed(record)
        with prefix_errors(where):
            if judged:
                example = with_truth(example) | {"scale": value_scale(scale)}
            elif "target" in example:
                example["target"] = value_scale(scale)(record["target"])
            example["image"] = change.image(scale(record["image"]))
            if not judged:
                example = with_truth(example | _resampled(record, example, change))
        if change.changes and not judged:
            example["spacing"] = spacing
        return {k: _read_only(v) for k, v in example.items()}

    return Examples(load, source.length, room or Room(0))


def unlabelled(
    source: Source,
    like: Example,
    *,
    measure: Callable[[np.ndarray], Scale],
    room: Room | None = None,
    spacing: tuple[float, ...] = (),
) -> Examples:
    """Prepares images without annotations, with the arrays that labelled ones have.

    Args:
      source: where the records come from; only their images are read.
      like: a labelled example. The arrays of it that an image lacks are filled in: the
        label is ignored, the weight is 0 and so is all else.
      measure: as in `prepare`.
      room: as in `prepare`.
      spacing: as in `prepare`.

    Raises:
      UserError: as in `prepare`.
    """
    if not source.length:
        raise UserError(f"{source.name} holds no records")
    axes = like["image"].ndim - 1
    arrays = {k: v for k, v in like.items() if isinstance(v, np.ndarray)}
    pixels = [name for name in list_spatial(like) if name != "image"]

    def load(index: int) -> Example:
        record = source.load(index)
        if fault := _fault({"image": record["image"]}, source, ()):
            raise UserError(f"{source.name}, {record['id']}: {fault}")
        change = resampling(source, record, spacing)
        image = change.image(measure(record["image"])(record["image"]))
        example = {k: np.zeros_like(v) for k, v in arrays.items()}
        for name in pixels:
            shape = (*image.shape[:-1], *like[name].shape[axes:])
            blank = IGNORE if name == "label" else 0
            example[name] = np.full(shape, blank, like[name].dtype)
        example |= {"image": image, "id": record["id"]}
        return {k: _read_only(v) for k, v in example.items()}

    return Examples(load, source.length, room or Room(0))


def resampling(
    source: Source, record: Record, spacing: tuple[float, ...]
) -> Resampling:
    """Returns the resampling of a record to pixels of the size `spacing`.

    Raises:
      UserError: it is not possible; the line names the source and the record.
    """
    with prefix_errors(f"{source.name}, {record['id']}"):
        return between(record["image"].shape[:-1], record.get("spacing"), spacing)


def _typed(record: Record) -> Example:
    """The record with arrays of the types that examples have, `label` in -1..K-1."""
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


def _resampled(record: Record, example: Example, change: Resampling) -> Example:
    """The spatial arrays of a record but its image, on the grid of the network."""
    arrays = {}
    for name in list_spatial(record):
        if name == "label":
            arrays[name] = change.label(example[name])
        elif name in example and name != "image":
            smooth = is_interpolated(name, example[name])
            arrays[name] = (change.image if smooth else change.nearest)(example[name])
    return arrays


def _ids(example: Example) -> np.ndarray | None:
    """The class ids of an example, of which weights are made; None without a label."""
    if "label" not in example:
        return None
    return shown(example["label"], example["image"].ndim - 1)


def _fault(record: Record, source: Source, needs: tuple[str, ...]) -> str | None:
    """The fault of a record in words, if it has one."""
    image, classes = record["image"], len(source.classes)
    space = image.shape[:-1]
    if image.shape[-1] != source.channels:
        return f"image {image.shape} must have {source.channels} channels, last"
    if not np.isfinite(image).all():
        return "image has NaN or infinite pixels; replace them or leave it out"
    for name in needs:
        if record.get(name) is None:
            return f"has no {name}; add it, or choose another --config.task.name"
    if (label := record.get("label")) is not None:
        if label.shape not in (space, (*space, classes - 1)):
            return f"label {label.shape} must fit an image {space} of {classes} classes"
        most = classes - 1 if label.shape == space else 1
        if label.max(initial=0) > most:
            held = label.max()
            return f"label holds {held}, more than {most}: map its values to classes"
    if (instances := record.get("instances")) is not None and instances.shape != space:
        return f"instances are {instances.shape}, but the image is {space}"
    if (target := record.get("target")) is not None:
        if target.shape != (*space, source.target_channels):
            return f"target {target.shape} must fit an image {space}, channels last"
        if not np.isfinite(target).all():
            return "target has NaN or infinite pixels; replace them or leave it out"
    return None


def _bytes(example: Example) -> int:
    """The memory that the arrays of an example take."""
    places = example.get("places") or ()
    arrays = [v for v in example.values() if isinstance(v, np.ndarray)]
    return sum(array.nbytes for array in (*arrays, *places))


def _read_only(value: Any) -> Any:
    """The value itself or, of an array, a view that cannot be written to."""
    if not isinstance(value, np.ndarray):
        return value
    view = value.view()
    view.flags.writeable = False
    return view
