"""Batches of prepared examples: `batch = f(seed, step)`.

The place of an example in the order, its crop and its own `seed` depend only on (seed,
epoch, index), and not on threads, processes or the batch size. (With `free_rows`, the
crop depends on its row in the batch, too.) So the step is the only state of the
pipeline, and a resumed run continues with the batches of an unbroken one.
Augmentation comes later, on the device: methods/method.py.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from unet_jax.arrays import Batch, Example, cut_window, list_spatial
from unet_jax.data.examples import Examples
from unet_jax.data.sampling import draw_place
from unet_jax.errors import UserError

if TYPE_CHECKING:
    import grain

ENDLESS = 2**53  # examples: more than any run needs, and exact in Grain's divisions


def batch_dataset(
    examples: Examples,
    *,
    seed: int,
    crop: tuple[int, ...],
    margin: tuple[int, ...],
    batch_size: int,
    shard: tuple[int, int] = (0, 1),
    unlabelled: Examples | None = None,
    unlabelled_size: int = 0,
    free_rows: int = 0,
) -> "grain.MapDataset":
    """Makes the endless training set; `dataset[step]` is the batch of a step.

    Every epoch visits each example once, in its own order. `crop` is the input window.
    The output window is `crop` without `margin` on each side. Its position in the image
    is uniform; a window larger than the image contains all of it. The input is mirrored
    beyond the image: Ronneberger et al. 2015, figure 2. Depending on the `chances` of
    the examples, some windows must contain a chosen pixel.

    Args:
      examples: from `prepare_examples`.
      seed: the seed of the run, 0 <= seed < 2^32.
      crop: the input window in pixels, one size for each spatial axis.
      margin: the pixels that the network loses on each side, for each axis; 0 with SAME
        padding.
      batch_size: of all shards together.
      shard: (index, count): the share of this process in every batch.
      unlabelled: more examples with the same arrays, without annotations.
      unlabelled_size: the number of rows of every batch, the last ones, from these.
      free_rows: the number of rows of every batch, the first ones, whose windows can be
        anywhere, whatever their `chances`.

    Returns:
      Batches of every array that the examples have, such as `image f32[b, *crop, C]`,
      `label i32[b, *crop]` and `weight f32[b, *crop]`, and `seed u32[b]`, b =
      batch_size / count. In one run, labelled examples have different seeds until 2^32
      of them were seen.

    Raises:
      UserError: an argument is out of range. When a batch is read: a record is invalid.
    """
    import grain

    index, count = shard
    if not 0 <= seed < 2**32:
        raise UserError(f"seed must be between 0 and 2**32 - 1, not {seed}")
    if any(size <= 2 * lost for size, lost in zip(crop, margin, strict=True)):
        raise UserError(f"crop {crop} must be larger than twice the margin {margin}")
    if batch_size < 1 or batch_size % count:
        raise UserError(f"batch_size {batch_size} must be a multiple of {count} shards")
    labelled_size = batch_size - unlabelled_size
    stream = _example_stream(examples, seed, crop, margin)

    def draw_labelled(position: int) -> Example:
        return stream(position, free=position % labelled_size < free_rows)

    draw: Callable[[int], Example] = draw_labelled
    if unlabelled_size:
        if not unlabelled or unlabelled_size >= batch_size:
            raise UserError(
                f"{unlabelled_size} of {batch_size} examples cannot be unlabelled; "
                "leave some for labelled images, and give unlabelled images"
            )
        other = _example_stream(unlabelled, seed, crop, margin, stream=1)
        draw = _mix_streams(draw_labelled, other, labelled_size, unlabelled_size)
    # Grain's own shuffle takes 0.5 ms for each example.
    rows = grain.MapDataset.range(ENDLESS).map(draw)
    return rows.batch(batch_size // count)[index::count]


def iterate_batches(
    dataset: "grain.MapDataset", *, start: int, stop: int, threads: int = 2
) -> Iterator[Batch]:
    """Yields `dataset[start], ..., dataset[stop - 1]`, which threads read ahead.

    The threads end with the iterator, or when it is deleted. With `threads=0`, batches
    are read in the caller's thread. An exception in a thread is raised here, at the
    step that it belongs to.
    """
    import grain

    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    reader = iter(dataset[start:stop].to_iter_dataset(options))
    with contextlib.closing(reader):
        yield from reader


def name_examples(
    seeds: np.ndarray, examples: Examples, *, seed: int, stream: int = 0
) -> list[str]:
    """Returns the names of the images of a batch, which follow from their seeds.

    Args:
      seeds: `seed u32[b]` of the batch.
      examples: as in `batch_dataset`; 2^32 of them have not been seen yet.
      seed: the seed of the run.
      stream: 0 for labelled rows, 1 for unlabelled ones.
    """
    first = _first_seed(seed, stream)
    numbers = [(int(own) - first) % 2**32 % len(examples) for own in seeds]
    return [examples[number]["id"] for number in numbers]


def _stream_entropy(stream: int) -> tuple[int, ...]:
    # NumPy treats the seed (s, e, 0) like (s, e), so example numbers start at 1.
    return (0, stream) if stream else ()


def _first_seed(seed: int, stream: int) -> int:
    """Returns the seed of the first example of a stream; the others follow it."""
    sequence = np.random.SeedSequence([seed, *_stream_entropy(stream)])
    return int(sequence.generate_state(1)[0])


def _mix_streams(
    first: Callable[[int], Example],
    second: Callable[[int], Example],
    size: int,
    other_size: int,
) -> Callable[[int], Example]:
    """Returns a stream of batches: `size` examples of one stream, then of another."""

    def draw(position: int) -> Example:
        step, row = divmod(position, size + other_size)
        if row < size:
            return first(step * size + row)
        return second(step * other_size + row - size)

    return draw


def _example_stream(
    examples: Examples,
    seed: int,
    crop: tuple[int, ...],
    margin: tuple[int, ...],
    stream: int = 0,
) -> Callable[..., Example]:
    """Returns the function from a position of an endless stream to a cropped example.

    Streams of different numbers use independent random numbers. The function has a
    keyword `free`: True if the crop need not contain a chosen pixel.
    """
    length = len(examples)
    more = _stream_entropy(stream)
    first = _first_seed(seed, stream)

    @functools.lru_cache(maxsize=2)  # threads may be in two epochs
    def order(epoch: int) -> np.ndarray:
        return np.random.default_rng((seed, epoch, *more)).permutation(length)

    @functools.cache
    def names() -> tuple[str, ...]:
        return tuple(_arrays(examples[0]))

    def draw(position: int, *, free: bool = False) -> Example:
        epoch, rank = divmod(position, length)
        chosen = int(order(epoch)[rank])
        rng = np.random.default_rng((seed, epoch, 1 + chosen, *more[1:]))
        # Seeds are consecutive: of 2^16 random ones, two would probably be equal.
        own = np.uint32((first + epoch * length + chosen) % 2**32)
        example = examples[chosen]
        if set(_arrays(example)) != set(names()):
            raise UserError(
                f"{example['id']} has the arrays {', '.join(_arrays(example))}, and "
                f"the first record {', '.join(names())}; all must have the same ones"
            )
        contained = None if free else draw_place(example.get("places"), rng)
        return _crop(example, rng, crop, margin, contained) | {"seed": own}

    return draw


def _crop(
    example: Example,
    rng: np.random.Generator,
    crop: tuple[int, ...],
    margin: tuple[int, ...],
    contained: np.ndarray | None,
) -> Example:
    """Cuts a window; its output part lies within the image or around all of it.

    It has the pixel `contained`, `i32[axes]`, at a random position; None for no pixel.
    """
    space = example["weight"].shape
    if len(space) != len(crop):
        raise UserError(f"crop {crop} must have {len(space)} sizes for {example['id']}")
    origin = []
    for axis, (size, length, lost) in enumerate(zip(space, crop, margin, strict=True)):
        low, high = sorted((0, size - (length - 2 * lost)))
        if contained is not None:
            low = max(low, int(contained[axis]) - (length - 2 * lost) + 1)
            high = min(high, int(contained[axis]))
        origin.append(int(rng.integers(low, high, endpoint=True)) - lost)
    return _arrays(example) | {
        k: cut_window(example[k], origin, crop) for k in list_spatial(example)
    }


def _arrays(example: Example) -> Example:
    """Returns the arrays of an example."""
    return {k: v for k, v in example.items() if isinstance(v, np.ndarray)}
