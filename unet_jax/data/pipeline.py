"""Prepared examples -> batches: `batch = f(seed, step)`, and nothing else.

An example's place in the order, its crop and its own `seed` follow from (seed, epoch,
index) alone. Threads, processes and the batch size change none of them, so the step is
the pipeline's only state and a resumed run sees what it would have seen.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from unet_jax.arrays import Batch, Example, cut_window, list_spatial
from unet_jax.data import sampling
from unet_jax.data.examples import Examples, Room, prepare
from unet_jax.errors import UserError

if TYPE_CHECKING:
    import grain

__all__ = ["Examples", "Room", "batches", "iterate", "prepare"]

ENDLESS = 2**53  # examples: more than any run takes, and exact where Grain divides


def batches(
    examples: Examples,
    *,
    seed: int,
    crop: tuple[int, ...],
    margin: tuple[int, ...],
    batch_size: int,
    shard: tuple[int, int] = (0, 1),
    unlabelled: Examples | None = None,
    unlabelled_size: int = 0,
) -> "grain.MapDataset":
    """The endless training set, of which `dataset[step]` is the batch of that step.

    Every epoch visits each example once, in an order of its own. `crop` is what the
    network sees. What it answers for, the window without `margin` on each side, falls
    anywhere within the image with equal chance (or anywhere around it, if larger), and
    the rest is mirrored where it leaves the image: Ronneberger et al. 2015, figure 2.
    Where the examples were prepared to be sampled otherwise, some windows are drawn
    from among those that hold a certain pixel.

    Args:
      examples: what `prepare` returned.
      seed: of the run, 0 <= seed < 2^32.
      crop: the input window in pixels, one size for each spatial axis.
      margin: the pixels that the network loses on each side, per axis; 0 with SAME
        padding.
      batch_size: of all shards together.
      shard: (index, count): this process's share of every batch.
      unlabelled: further examples with the same arrays, without annotations.
      unlabelled_size: how many rows of every batch, the last ones, are of these.

    Returns:
      Batches of every array that the examples have, such as `image f32[b, *crop, C]`,
      `label i32[b, *crop]` and `weight f32[b, *crop]`, and `seed u32[b]`, b =
      batch_size / count. In one run no two labelled examples have the same seed, until
      2^32 of them have been seen.

    Raises:
      UserError: a number above is not possible; or, on reading, a bad record.
    """
    import grain

    index, count = shard
    if not 0 <= seed < 2**32:
        raise UserError(f"seed must be between 0 and 2**32 - 1, not {seed}")
    if any(size <= 2 * lost for size, lost in zip(crop, margin, strict=True)):
        raise UserError(f"crop {crop} must be larger than twice the margin {margin}")
    if batch_size < 1 or batch_size % count:
        raise UserError(f"batch_size {batch_size} must be a multiple of {count} shards")
    draw = _draw(examples, seed, crop, margin)
    if unlabelled_size:
        if not unlabelled or unlabelled_size >= batch_size:
            raise UserError(
                f"{unlabelled_size} of {batch_size} examples cannot be unlabelled; "
                "leave room for labelled ones, and give unlabelled images"
            )
        other = _draw(unlabelled, seed, crop, margin, stream=1)
        draw = _mixed(draw, other, batch_size - unlabelled_size, unlabelled_size)
    # Not Grain's shuffle: looking one place up there takes 0.5 ms.
    stream = grain.MapDataset.range(ENDLESS).map(draw)
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


def _mixed(
    first: Callable[[int], Example],
    second: Callable[[int], Example],
    size: int,
    other_size: int,
) -> Callable[[int], Example]:
    """A stream of batches with `size` examples of one stream, then of another."""

    def draw(position: int) -> Example:
        step, row = divmod(position, size + other_size)
        if row < size:
            return first(step * size + row)
        return second(step * other_size + row - size)

    return draw


def _draw(
    examples: Examples,
    seed: int,
    crop: tuple[int, ...],
    margin: tuple[int, ...],
    stream: int = 0,
) -> Callable[[int], Example]:
    """The example at each position of an endless stream, cut and with its seed.

    Streams of different numbers have nothing random in common.
    """
    length = len(examples)
    # To numpy (seed, epoch, 0) is (seed, epoch): a chosen example counts from 1.
    more = (0, stream) if stream else ()
    first = int(np.random.SeedSequence([seed, *more]).generate_state(1)[0])

    @functools.lru_cache(maxsize=2)  # threads meet where one epoch ends
    def order(epoch: int) -> np.ndarray:
        return np.random.default_rng((seed, epoch, *more)).permutation(length)

    @functools.cache
    def names() -> tuple[str, ...]:
        return tuple(_arrays(examples[0]))

    def draw(position: int) -> Example:
        epoch, place = divmod(position, length)
        chosen = int(order(epoch)[place])
        rng = np.random.default_rng((seed, epoch, 1 + chosen, *more[1:]))
        # Counted, not drawn: drawn seeds would meet after some 2^16 examples.
        own = np.uint32((first + epoch * length + chosen) % 2**32)
        example = examples[chosen]
        if set(_arrays(example)) != set(names()):
            raise UserError(
                f"{example['id']} has the arrays {', '.join(_arrays(example))}, and "
                f"the first record {', '.join(names())}; all must have the same ones"
            )
        return _cut(example, rng, crop, margin) | {"seed": own}

    return draw


def _cut(
    example: Example,
    rng: np.random.Generator,
    crop: tuple[int, ...],
    margin: tuple[int, ...],
) -> Example:
    """A window of `crop`, whose middle lies within the image or around all of it.

    It holds the pixel that `sampling.draw` asks for, at any of its places alike.
    """
    space = example["weight"].shape
    if len(space) != len(crop):
        raise UserError(f"crop {crop} must have {len(space)} sizes for {example['id']}")
    held = sampling.draw(example.get("places"), rng)
    origin = []
    for axis, (size, length, lost) in enumerate(zip(space, crop, margin, strict=True)):
        low, high = sorted((0, size - (length - 2 * lost)))
        if held is not None:
            low = max(low, int(held[axis]) - (length - 2 * lost) + 1)
            high = min(high, int(held[axis]))
        origin.append(int(rng.integers(low, high, endpoint=True)) - lost)
    return _arrays(example) | {
        k: cut_window(example[k], origin, crop) for k in list_spatial(example)
    }


def _arrays(example: Example) -> Example:
    """The arrays of an example, which batches have."""
    return {k: v for k, v in example.items() if isinstance(v, np.ndarray)}
