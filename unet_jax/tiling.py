"""The overlap-tile strategy: whole images through a network, tile by tile.

Each tile contains the context that the network needs for its inner pixels. Context
outside the image is mirrored (figure 2 of the paper). Only the output of the inner
pixels is used.

The result equals that of the whole image in one piece, for three reasons:
- Tiles start at multiples of the coarsest stride, so that pooling windows cover the
  same pixels as in the whole image.
- With VALID padding, the output lacks a margin, so it does not depend on the edge of
  the tile.
- With SAME padding, the network pads the edge of the tile with zeros. So the output
  within a halo of that edge is not used, except at the edge of the image.
With VALID padding, the tiled result and that of the whole image are equal to the bit on
a CPU. (XLA rounds differently if fewer than 8 pixels of a tile remain at the bottom of
the U.) With SAME padding they are equal up to rounding.

A norm with spatial statistics (group, instance) depends on the whole tile, so no tiling
can equal the whole image. Then tiles overlap by half and are blended: each pixel has
the weight of a Gaussian around the middle of the tile, with a sigma of an eighth of the
tile, as in nnU-Net.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from unet_jax.arrays import mirror_indices
from unet_jax.errors import UserError
from unet_jax.geometry import Geometry

DEFAULT_PIXELS = 2**22  # of a tile, mirrored border included

ReadBox = Callable[[Sequence[slice]], np.ndarray]  # a box within the image -> [*box, C]
Results = dict[str, np.ndarray]  # named arrays [*S, ...] for a tile or for rows


class TileSpan(NamedTuple):
    """The extent of a tile along one axis, in pixels of the image.

    Attributes:
      start: the first pixel of the tile; may be outside the image.
      first: the first pixel whose output is used.
      stop: one more than the last pixel whose output is used.
    """

    start: int
    first: int
    stop: int


class Tiles(NamedTuple):
    """The tiles of one image.

    Attributes:
      image: the spatial shape of the image.
      shape: the spatial shape of every tile, as input of the network.
      margin: the pixels that the output of a tile lacks on each side, for each axis.
      spans: the spans along each axis. Each combination of them is a tile.
      blend: True if the used pixels of tiles overlap and must be blended.
      nnunet: True for nnU-Net's details: zeros outside the image, and the maximum of
        the weights at pixel `size // 2` of a tile.
    """

    image: tuple[int, ...]
    shape: tuple[int, ...]
    margin: tuple[int, ...]
    spans: tuple[tuple[TileSpan, ...], ...]
    blend: bool
    nnunet: bool = False

    @property
    def count(self) -> int:
        """The number of tiles."""
        return int(np.prod([len(spans) for spans in self.spans]))

    def __iter__(self) -> Iterator[tuple[TileSpan, ...]]:
        """Yields the tiles; the last axis varies fastest."""
        return itertools.product(*self.spans)


def find_max_pixels(geometry: Geometry) -> int:
    """Returns the pixels of the largest tile, where memory is not short.

    They allow 6 times the context along each axis: smaller tiles of a deep network for
    volumes would be almost only context.
    """
    return max(DEFAULT_PIXELS, math.prod(6 * context for context in geometry.context))


def plan_tiles(
    image: tuple[int, ...],
    network: Geometry,
    *,
    pixels: int = DEFAULT_PIXELS,
    edges: tuple[int, ...] = (),
    fill: bool = False,
) -> Tiles:
    """Returns the tiles that cover an image, as few as their maximal size allows.

    Without `edges`, they are as small as their number allows, so that they overlap
    little. Tiles that are blended stay large, because their result depends on it.

    Args:
      image: the spatial shape of the image.
      network: the geometry of the network for this number of axes.
      pixels: the maximal number of pixels of a tile. Tiles are cubes, except along axes
        on which the image is shorter.
      edges: the maximal size of a tile along each axis; replaces `pixels`. A size
        without any usable output is raised to that of the smallest usable tile.
      fill: True to use tiles with exactly these edges, even if the image fits into
        smaller ones; the rest is mirrored. Only for VALID padding.
    """
    full = (
        size + 2 * margin for size, margin in zip(image, network.margin, strict=True)
    )
    wholes = network.valid_shape(tuple(full))  # of one tile that holds the whole image
    smallest = find_smallest_tile(network)
    shape, spans = [], []
    axes = zip(image, wholes, edges or _choose_edges(pixels, wholes), strict=True)
    for axis, (length, whole, edge) in enumerate(axes):
        margin, multiple = network.margin[axis], network.multiple[axis]
        size = network.valid_size_below(max(edge, smallest[axis]), axis)
        assert size is not None  # the smallest tile has a legal size
        if not (fill and margin):
            size = min(size, whole)
        if size >= whole:
            spans.append((TileSpan(-margin, 0, length),))
        elif network.halo is None:
            spans.append(_place_overlapping(length, whole, size, margin, multiple))
        else:
            place = functools.partial(
                _place_valid if margin else _place_same,
                length,
                whole,
                context=network.context[axis],
                multiple=multiple,
            )
            if not edges:
                size = _find_least_size(size, smallest[axis], network, axis, place)
            spans.append(place(size))
        shape.append(size)
    blend = network.halo is None and max(map(len, spans)) > 1
    return Tiles(tuple(image), tuple(shape), network.margin, tuple(spans), blend)


def plan_even_tiles(image: tuple[int, ...], edges: tuple[int, ...]) -> Tiles:
    """Returns tiles of exactly these edges, as in nnU-Net.

    The steps between tiles are equal, and half a tile at most. An image that is smaller
    than a tile is in the middle of it, surrounded by zeros.

    Args:
      image: the spatial shape of the image.
      edges: the shape of a tile.
    """
    spans = []
    for size, edge in zip(image, edges, strict=True):
        before = max(edge - size, 0) // 2
        rest = max(size - edge, 0)
        steps = math.ceil(rest / (edge / 2))
        starts = [int(np.round(i * rest / max(steps, 1))) for i in range(steps + 1)]
        spans.append(
            tuple(
                TileSpan(start - before, start, min(start + edge, size))
                for start in starts
            )
        )
    blend = max(map(len, spans)) > 1
    margin = (0,) * len(image)
    return Tiles(tuple(image), tuple(edges), margin, tuple(spans), blend, nnunet=True)


def _choose_edges(pixels: int, wholes: Sequence[int]) -> list[int]:
    """Returns the edges of a tile of this many pixels, as equal as the image allows."""
    edges = [0] * len(wholes)
    order = sorted(range(len(wholes)), key=wholes.__getitem__)
    for i, axis in enumerate(order):
        cube = int((pixels + 0.5) ** (1 / (len(order) - i)))
        edges[axis] = min(wholes[axis], max(cube, 1))
        pixels //= edges[axis]
    return edges


def find_smallest_tile(network: Geometry) -> tuple[int, ...]:
    """Returns the shape of the smallest tile with any output that can be used."""
    pairs = zip(network.context, network.multiple, strict=True)
    return network.valid_shape(tuple(2 * context + step for context, step in pairs))


def check_edges(edges: tuple[int, ...], network: Geometry) -> None:
    """Raises UserError if a tile of these edges has no output that can be used."""
    smallest = find_smallest_tile(network)
    for axis, (edge, least) in enumerate(zip(edges, smallest, strict=True)):
        if edge < least:
            raise UserError(
                f"must be {least} or more along axis {axis}, not {edge}: the network "
                f"needs {network.context[axis]} pixels of context on each side of a "
                "tile, and their output is not used"
            )


def _find_least_size(
    size: int,
    smallest: int,
    network: Geometry,
    axis: int,
    place: Callable[[int], tuple[TileSpan, ...]],
) -> int:
    """Returns the smallest size with which there are no more tiles along an axis."""
    count, least = len(place(size)), smallest
    while least < size and len(place(least)) > count:
        least = network.valid_size(least + 1, axis)
    return least


def _place_valid(
    size: int, whole: int, tile: int, *, context: int, multiple: int
) -> tuple[TileSpan, ...]:
    """Places the tiles of a network with VALID padding along one axis."""
    stride = (tile - 2 * context) // multiple * multiple
    firsts = range(0, size, stride)
    return tuple(TileSpan(o - context, o, min(o + stride, size)) for o in firsts)


def _place_same(
    size: int, whole: int, tile: int, *, context: int, multiple: int
) -> tuple[TileSpan, ...]:
    """Places the tiles of a network with SAME padding, inside its padded image."""
    stride = (tile - 2 * context) // multiple * multiple
    last = whole - tile
    spans: list[TileSpan] = []
    for start in (*range(0, last, stride), last):
        first = spans[-1].stop if spans else 0
        stop = size if start == last else start + tile - context
        spans.append(TileSpan(start, first, min(stop, size)))
    return tuple(span for span in spans if span.first < span.stop)


def _place_overlapping(
    size: int, whole: int, tile: int, margin: int, multiple: int
) -> tuple[TileSpan, ...]:
    """Places tiles that overlap by half, with all of their output used."""
    output = tile - 2 * margin
    stride = max(output // 2 // multiple, 1) * multiple
    last = whole - 2 * margin - output
    firsts = (*range(0, last, stride), last)
    return tuple(TileSpan(o - margin, o, min(o + output, size)) for o in firsts)


def read_tile(tiles: Tiles, tile: tuple[TileSpan, ...], read: ReadBox) -> np.ndarray:
    """Reads one tile, `[*tiles.shape, C]`, mirrored or 0 outside the image.

    Args:
      tiles: the tiles of the image.
      tile: one of them.
      read: reads the pixels `[*box, C]` of a box within the image. The box is not
        larger than the tile.
    """
    if tiles.nnunet:
        used = read([slice(span.first, span.stop) for span in tile])
        ends = [
            (span.first - span.start, span.start + size - span.stop)
            for span, size in zip(tile, tiles.shape, strict=True)
        ]
        return np.pad(used, [*ends, (0, 0)])
    starts = [span.start for span in tile]
    axes = list(map(mirror_indices, starts, tiles.shape, tiles.image))
    box = [slice(int(index.min()), int(index.max()) + 1) for index in axes]
    inside = [index - b.start for index, b in zip(axes, box, strict=True)]
    return read(box)[np.ix_(*inside)]


def assemble_tiles(tiles: Tiles, results: Iterator[Results]) -> Iterator[Results]:
    """Joins the results for tiles to results for rows of the image.

    Args:
      tiles: the tiles of the image.
      results: the results for each tile, in the order of the tiles. Each is a dict of
        arrays `[*S, ...]`, where `*S` is the shape of a tile without its margins.

    Yields:
      The same arrays for consecutive rows of the image (slices of a volume). Only two
      rows of tiles are in memory at once.
    """
    return (_blend if tiles.blend else _paste)(tiles, results)


def _paste(tiles: Tiles, results: Iterator[Results]) -> Iterator[Results]:
    """Joins tiles whose used pixels do not overlap."""
    for row in tiles.spans[0]:
        rows: Results = {}
        for rest in itertools.product(*tiles.spans[1:]):
            for name, piece in next(results).items():
                space = (row.stop - row.first, *tiles.image[1:])
                tail = piece.shape[len(space) :]
                whole = rows.setdefault(name, np.empty((*space, *tail), piece.dtype))
                target = tuple(slice(span.first, span.stop) for span in rest)
                whole[(slice(None), *target)] = piece[_find_used(tiles, (row, *rest))]
        yield rows


def _blend(tiles: Tiles, results: Iterator[Results]) -> Iterator[Results]:
    """Joins tiles that overlap: the weighted mean of their results."""
    sizes = zip(tiles.shape, tiles.margin, strict=True)
    shape = [size - 2 * margin for size, margin in sizes]
    gaussian = _make_gaussian(shape, nnunet=tiles.nnunet)
    above: Results = {}  # the unfinished sums of rows that the tiles above have begun
    nexts = [*(row.first for row in tiles.spans[0][1:]), tiles.image[0]]
    for row, complete in zip(tiles.spans[0], nexts, strict=True):
        sums: Results = {}  # of each array, and of the weights under the name ""
        for rest in itertools.product(*tiles.spans[1:]):
            used = _find_used(tiles, (row, *rest))
            weight = gaussian[used]
            target = tuple(slice(span.first, span.stop) for span in rest)
            pieces = {name: piece[used] for name, piece in next(results).items()}
            for name, piece in {**pieces, "": np.ones_like(weight)}.items():
                space = (row.stop - row.first, *tiles.image[1:])
                tail = piece.shape[len(space) :]
                total = sums.setdefault(name, np.zeros((*space, *tail), np.float32))
                total[(slice(None), *target)] += _add_axes(weight, piece) * piece
        for name, total in above.items():
            sums[name][: len(total)] += total
        height = complete - row.first
        above = {name: total[height:].copy() for name, total in sums.items()}
        weights = sums.pop("")[:height]
        for total in sums.values():
            total[:height] /= _add_axes(weights, total)
        yield {name: total[:height] for name, total in sums.items()}


def _add_axes(weight: np.ndarray, array: np.ndarray) -> np.ndarray:
    """Returns a weight `[*S]` with axes of length 1 to broadcast to an array."""
    return weight.reshape(*weight.shape, *(1,) * (array.ndim - weight.ndim))


def _find_used(tiles: Tiles, tile: tuple[TileSpan, ...]) -> tuple[slice, ...]:
    """Returns the slices of the output of a tile that are used."""
    return tuple(
        slice(span.first - span.start - margin, span.stop - span.start - margin)
        for span, margin in zip(tile, tiles.margin, strict=True)
    )


def _make_gaussian(shape: Sequence[int], *, nnunet: bool = False) -> np.ndarray:
    """Returns weights `f32[*S]`, the largest in the middle, and above 0 everywhere.

    With `nnunet`, the middle is a pixel also for even sizes, and the weights are ten
    times as large and rounded to float16; zeros become the smallest other weight.
    """
    weight = np.ones(())
    for size in shape:
        middle = size // 2 if nnunet else (size - 1) / 2
        offset = np.arange(size) - middle
        factor = np.exp(-0.5 * (offset / (size / 8)) ** 2)
        weight = np.multiply.outer(weight, factor)
    if nnunet:
        weight = (10 * weight).astype(np.float16).astype(np.float32)
        return np.maximum(weight, weight[weight > 0].min())
    return np.maximum(weight, 1e-3).astype(np.float32)
