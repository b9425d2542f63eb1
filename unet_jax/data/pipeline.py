"""Records -> prepared examples -> batches: `batch = f(seed, step)`, and nothing else.

An example's place in the order, its crop and its own `seed` follow from (seed, epoch,
index) alone. Threads, processes and the batch size change none of them, so the step is
the pipeline's only state and a resumed run sees what it would have seen.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from unet_jax.arrays import IGNORE, Batch, Example, window
from unet_jax.data.account import Record
from unet_jax.data.source import Source
from unet_jax.errors import UserError

if TYPE_CHECKING:
    import grain

__all__ = ["Examples", "Room", "batches", "iterate", "prepare"]

ENDLESS = 2**53  # examples: more than any run takes, and exact where Grain divides


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
            self._shapes[index] = example["weight"].shape
            if index not in self._kept and self._room.take(size):
                self._kept[index] = example
            else:
                self._last = index, example
        return example

    def shape(self, index: int) -> tuple[int, ...]:
        """The spatial shape of an example, which is loaded for it once at most."""
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
) -> Examples:
    """Checks, normalises and weighs the records of a source, whole, once each.

    Args:
      source: where the records come from. Its first class is the background.
      normalize: image `[*S, C]` -> `f32[*S, C]`.
      weigh: class ids `i32[*S]` and object ids or None -> weight `f32[*S]`. A label
        with a class axis is shown to it as 1 where any class is there.
      independent: turn class ids into one channel of 0 and 1 for each class but the
        background, `i32[*S, K]`, as a label that has a class axis has them already.
      room: the memory to keep examples in; none keeps the last one only.

    Returns:
      Examples: `image f32[*S, C]`, `label i32[*S]` or `i32[*S, K]`, `weight f32[*S]`
      and, of the record, its `id` and, if it has them, `instances` and `spacing`.

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
        label = np.maximum(np.asarray(record["label"], np.int32), IGNORE)
        exclusive = label.ndim < record["image"].ndim
        ids = label if exclusive else _anything(label)
        if independent and exclusive:
            label = _channels(label, len(source.classes) - 1)
        example = {
            "image": normalize(record["image"]),
            "label": label,
            "weight": weigh(ids, record.get("instances")),
        }
        if "instances" in record:
            example["instances"] = np.asarray(record["instances"], np.int32)
        kept = {k: record[k] for k in ("id", "spacing") if k in record}
        return {k: _read_only(v) for k, v in example.items()} | kept

    return Examples(load, source.length, room or Room(0))


def batches(
    examples: Examples,
    *,
    seed: int,
    crop: tuple[int, ...],
    margin: int,
    batch_size: int,
    shard: tuple[int, int] = (0, 1),
) -> "grain.MapDataset":
    """The endless training set, of which `dataset[step]` is the batch of that step.

    Every epoch visits each example once, in an order of its own. `crop` is what the
    network sees. What it answers for, the window without `margin` on each side, falls
    anywhere within the image with equal chance (or anywhere around it, if larger), and
    the rest is mirrored where it leaves the image: Ronneberger et al. 2015, figure 2.

    Args:
      examples: what `prepare` returned.
      seed: of the run, 0 <= seed < 2^32.
      crop: the input window in pixels, one size for each spatial axis.
      margin: the pixels that the network loses on each side; 0 with SAME padding.
      batch_size: of all shards together.
      shard: (index, count): this process's share of every batch.

    Returns:
      Batches of `image f32[b, *crop, C]`, `label i32[b, *crop]` or with K last,
      `weight f32[b, *crop]`, `seed u32[b]`, b = batch_size / count. In one run no two
      seeds are the same, until 2^32 examples have been seen.

    Raises:
      UserError: a number above is not possible; or, on reading, a bad record.
    """
    import grain

    index, count = shard
    if not 0 <= seed < 2**32:
        raise UserError(f"seed must be between 0 and 2**32 - 1, not {seed}")
    if min(crop) <= 2 * margin:
        raise UserError(f"crop {crop} must be larger than twice the margin {margin}")
    if batch_size < 1 or batch_size % count:
        raise UserError(f"batch_size {batch_size} must be a multiple of {count} shards")
    # Not Grain's shuffle: looking one place up there takes 0.5 ms.
    stream = grain.MapDataset.range(ENDLESS).map(_draw(examples, seed, crop, margin))
    return stream.batch(batch_size // count)[index::count]


def iterate(
    dataset: "grain.MapDataset", *, start: int, steps: int, threads: int = 2
) -> Iterator[Batch]:
    """Yields `dataset[start], ..., dataset[steps - 1]`, read ahead by threads.

    The threads end with the iterator, or when it is dropped. `threads=0` reads in the
    caller's. What goes wrong in a thread is raised here, at the step it belongs to.
    """
    import grain

    ahead = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    reader = iter(dataset[start:steps].to_iter_dataset(ahead))
    with contextlib.closing(reader):
        yield from reader


def _draw(
    examples: Examples, seed: int, crop: tuple[int, ...], margin: int
) -> Callable[[int], Example]:
    """The example at each position of the endless stream, cut and with its seed."""
    length = len(examples)
    first = int(np.random.SeedSequence(seed).generate_state(1)[0])

    @functools.lru_cache(maxsize=2)  # threads meet where one epoch ends
    def order(epoch: int) -> np.ndarray:
        return np.random.default_rng((seed, epoch)).permutation(length)

    def draw(position: int) -> Example:
        epoch, place = divmod(position, length)
        chosen = int(order(epoch)[place])
        # From 1: to numpy (seed, epoch, 0) is (seed, epoch), which made the order.
        rng = np.random.default_rng((seed, epoch, 1 + chosen))
        # Counted, not drawn: drawn seeds would meet after some 2^16 examples.
        own = np.uint32((first + epoch * length + chosen) % 2**32)
        return _cut(examples[chosen], rng, crop, margin) | {"seed": own}

    return draw


def _cut(
    example: Example, rng: np.random.Generator, crop: tuple[int, ...], margin: int
) -> Example:
    """A window of `crop`, whose middle lies within the image or around all of it."""
    space = example["weight"].shape
    if len(space) != len(crop):
        raise UserError(f"crop {crop} must have {len(space)} sizes for {example['id']}")
    origin = []
    for size, length in zip(space, crop, strict=True):
        low, high = sorted((0, size - (length - 2 * margin)))
        origin.append(int(rng.integers(low, high, endpoint=True)) - margin)
    return {k: window(example[k], origin, crop) for k in ("image", "label", "weight")}


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


def _anything(label: np.ndarray) -> np.ndarray:
    """`i32[*S, K]` -> `i32[*S]`: 1 where any class is, -1 where all are ignored."""
    ignored = (label < 0).all(axis=-1)
    return np.where(ignored, -1, (label > 0).any(axis=-1)).astype(np.int32)


def _channels(label: np.ndarray, classes: int) -> np.ndarray:
    """`i32[*S]` of 0..K -> `i32[*S, K]` of 0 and 1; a negative id stays in all K."""
    label = label[..., None]
    return np.where(label < 0, label, label == np.arange(1, classes + 1)).astype("i4")


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view
