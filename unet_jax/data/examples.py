"""Records -> prepared examples: checked, resampled, normalised, weighed, once each."""

import threading
from collections.abc import Callable

import numpy as np

from unet_jax.arrays import IGNORE, Example
from unet_jax.data import sampling
from unet_jax.data.account import Record
from unet_jax.data.resample import Resampling, between
from unet_jax.data.source import Source
from unet_jax.data.weights import shown
from unet_jax.errors import UserError, naming

__all__ = ["Examples", "Room", "prepare", "resampling"]


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
        size = sum(v.nbytes for v in example.values() if isinstance(v, np.ndarray))
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
    normalize: Callable[[np.ndarray], np.ndarray],
    weigh: Callable[[np.ndarray, np.ndarray | None], np.ndarray],
    independent: bool = False,
    room: Room | None = None,
    spacing: tuple[float, ...] = (),
    judged: bool = False,
    sample: sampling.Sample = sampling.uniform,
) -> Examples:
    """Checks, resamples, normalises and weighs the records of a source, once each.

    Args:
      source: where the records come from. Its first class is the background.
      normalize: image `[*S, C]` -> `f32[*S, C]`. It sees the file's own pixels: after
        interpolation, integers would be none (nnU-Net normalises first, too).
      weigh: class ids `i32[*S]`, as `weights.shown` gives them, and object ids or None
        -> weight `f32[*S]`.
      independent: turn class ids into one channel of 0 and 1 for each class but the
        background, `i32[*S, K]`, as a label that has a class axis has them already.
      room: the memory to keep examples in; none keeps the last one only.
      spacing: the size of a pixel that images are resampled to; () leaves them.
      judged: the examples are measured, not learnt from: all but the image stays on
        the grid of the file, where the truth is.
      sample: a function of `sampling`, how crops are drawn.

    Returns:
      Examples: `image f32[*S, C]`, `label i32[*S]` or `i32[*S, K]`, `weight f32[*S]`;
      of the record, its `id` and, if it has them, `instances` and `spacing`; and what
      `sampling.places` finds.

    Raises:
      UserError: the source is empty or, when it is read, a record is not as it should
        be; the line names the source and the record.
    """
    if not source.length:
        raise UserError(f"{source.name} holds no records")

    def load(index: int) -> Example:
        record = source.load(index)
        if fault := _fault(record, source, independent):
            raise UserError(f"{source.name}, {record['id']}: {fault}")
        change = resampling(source, record, spacing)
        image = change.image(normalize(record["image"]))
        label = np.maximum(np.asarray(record["label"], np.int32), IGNORE)
        instances = record.get("instances")
        if not judged:
            label = change.label(label)
            instances = None if instances is None else change.nearest(instances)
        ids = shown(label, image.ndim - 1)
        if independent and label.ndim < image.ndim:
            label = _channels(label, len(source.classes) - 1)
        example = {"image": image, "label": label, "weight": weigh(ids, instances)}
        if instances is not None:
            example["instances"] = np.asarray(instances, np.int32)
        example |= sampling.places(label, ids.ndim, sample)
        kept = {k: record[k] for k in ("id", "spacing") if k in record}
        if change.changes and not judged:
            kept["spacing"] = spacing
        return {k: _read_only(v) for k, v in example.items()} | kept

    return Examples(load, source.length, room or Room(0))


def resampling(
    source: Source, record: Record, spacing: tuple[float, ...]
) -> Resampling:
    """How a record is brought to pixels of the size `spacing`.

    Raises:
      UserError: it cannot be; the line names the source and the record.
    """
    with naming(f"{source.name}, {record['id']}"):
        return between(record["image"].shape[:-1], record.get("spacing"), spacing)


def _fault(record: Record, source: Source, independent: bool) -> str | None:
    """What is wrong with a record, in words, if anything is."""
    image, label, instances = record["image"], record["label"], record.get("instances")
    space, classes = image.shape[:-1], len(source.classes)
    if image.shape[-1] != source.channels:
        return f"image {image.shape} must have {source.channels} channels, last"
    if label.shape not in (space, (*space, classes - 1)):
        return f"label {label.shape} must fit an image {space} of {classes} classes"
    if label.shape != space and not independent:
        return "label has independent classes, which need config.head=sigmoid"
    if instances is not None and instances.shape != space:
        return f"instances are {instances.shape}, but the image is {space}"
    if not np.isfinite(image).all():
        return "image has NaN or infinite pixels; replace them or leave it out"
    most = classes - 1 if label.shape == space else 1
    if label.max(initial=0) > most:
        return f"label holds {label.max()}, more than {most}: map its values to classes"
    return None


def _channels(label: np.ndarray, classes: int) -> np.ndarray:
    """`i32[*S]` of 0..K -> `i32[*S, K]` of 0 and 1; a negative id stays in all K."""
    label = label[..., None]
    return np.where(label < 0, label, label == np.arange(1, classes + 1)).astype("i4")


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view
