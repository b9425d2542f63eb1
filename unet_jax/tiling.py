"""Whole images through a network that takes tiles: the overlap-tile strategy.

A VALID network loses a margin on each side, so a tile is cut with that margin around
the pixels it predicts, mirrored where it leaves the image (figure 2 of the paper).
Tiles start at multiples of 2^depth, where the poolings of a tile fall on the same
pairs of pixels as those of the whole image; the stitched result is the whole one's,
unless a norm takes its statistics from space (group, instance): those are a tile's.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from unet_jax.arrays import IGNORE, window

LIMIT = 2**20  # pixels of the largest tile of a VALID network, mirrored border included


class Tiles(NamedTuple):
    """How one image is cut.

    Attributes:
      shape: of every tile that goes into the network.
      stride: pixels between the outputs of neighbouring tiles, per axis.
      margin: pixels that the network loses on each side.
      origins: the first pixel of each tile's output, in the image.
    """

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    margin: int
    origins: tuple[tuple[int, ...], ...]


def plan(
    image: tuple[int, ...],
    *,
    margin: int,
    multiple: int,
    valid_size: Callable[[int], int],
    limit: int = LIMIT,
) -> Tiles:
    """Covers an image with as few tiles as the limit allows.

    Args:
      image: its spatial shape.
      margin: pixels that the network loses on each side; 0 with SAME padding, whose
        images go through whole.
      multiple: what tile origins must be multiples of, 2^depth.
      valid_size: rounds a size up to one that the network takes as it is.
      limit: pixels of the largest tile.
    """
    edge = round(limit ** (1 / len(image)))
    least = valid_size(2 * margin + multiple)  # leaves a stride of one multiple
    shape, stride = [], []
    for size in image:
        whole = valid_size(size + 2 * margin)
        if margin == 0 or whole <= max(edge, least):
            shape.append(whole)
            stride.append(size)
        else:
            tile = _largest(max(edge, least), valid_size)
            shape.append(tile)
            stride.append((tile - 2 * margin) // multiple * multiple)
    starts = [range(0, size, step) for size, step in zip(image, stride, strict=True)]
    return Tiles(tuple(shape), tuple(stride), margin, tuple(itertools.product(*starts)))


def _largest(size: int, valid_size: Callable[[int], int]) -> int:
    """The largest legal size that is not above `size`."""
    while valid_size(size) != size:
        size -= 1
    return size


def cut(
    tiles: Tiles, origin: tuple[int, ...], image: np.ndarray, label: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The tile of the image `[*S, C]`, and the label of the pixels it answers for.

    The label is as large as the tile, and ignored wherever another tile, or nobody,
    answers: every pixel of the image is judged exactly once.
    """
    start = [o - tiles.margin for o in origin]
    judged = np.full((*tiles.shape, *label.shape[len(origin) :]), IGNORE, label.dtype)
    inner, outer = [], []
    for o, step, size in zip(origin, tiles.stride, label.shape, strict=False):
        length = min(step, size - o)
        inner.append(slice(tiles.margin, tiles.margin + length))
        outer.append(slice(o, o + length))
    judged[tuple(inner)] = label[tuple(outer)]
    return window(image, start, tiles.shape), judged


def stitch(
    tiles: Tiles, image: tuple[int, ...], pieces: list[np.ndarray]
) -> np.ndarray:
    """Puts the outputs of all tiles, in the order of `origins`, into one array."""
    tail = pieces[0].shape[len(image) :]
    whole = np.empty((*image, *tail), pieces[0].dtype)
    for origin, piece in zip(tiles.origins, pieces, strict=True):
        target = tuple(
            slice(o, min(o + step, size))
            for o, step, size in zip(origin, tiles.stride, image, strict=True)
        )
        source = tuple(slice(t.stop - t.start) for t in target)
        whole[target] = piece[source]
    return whole
