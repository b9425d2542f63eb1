"""Whole images through a network that takes tiles: the overlap-tile strategy.

A tile is cut with the context that its pixels see, mirrored where it leaves the image
(figure 2 of the paper), and answers for the pixels inside it. What is put together is
what the network says of the whole image: the tiles start at multiples of the coarsest
stride, where their poolings fall on the same pixels; a VALID network loses a margin and
so never sees the tile's edge; a SAME network pads that edge with zeros, so every tile
keeps a halo away from it, unless it is the image's own edge. A VALID network's result
is the same to the bit on a CPU (where a tile is so small that less than 8 pixels are
left at the bottom of the U, XLA rounds otherwise), a SAME network's to rounding.

A norm that takes its statistics from space (group, instance) sees the whole tile, and
then no tiling can equal the whole image. Those tiles overlap by half and are blended,
each pixel weighted by a Gaussian around the middle of the tile (sigma an eighth of it,
as nnU-Net has it).
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from unet_jax.arrays import mirror_indices
from unet_jax.errors import UserError
from unet_jax.geometry import Geometry

LIMIT = 2**20  # pixels of the largest tile, mirrored border included

Read = Callable[[Sequence[slice]], np.ndarray]  # a box within the image -> [*box, C]
Answer = dict[str, np.ndarray]  # arrays [*S, ...] of one tile, or of some rows


class Span(NamedTuple):
    """A tile along one axis, in pixels of the image.

    Attributes:
      start: where the tile begins; outside the image it is mirrored.
      first: the first pixel that it answers for.
      stop: the end of those.
    """

    start: int
    first: int
    stop: int


class Tiles(NamedTuple):
    """How one image is cut.

    Attributes:
      image: its spatial shape.
      shape: of every tile that goes into the network.
      margin: pixels that the network loses on each side, per axis.
      spans: the tiles along each axis; every combination is a tile.
      blend: whether tiles overlap in what they answer for.
    """

    image: tuple[int, ...]
    shape: tuple[int, ...]
    margin: tuple[int, ...]
    spans: tuple[tuple[Span, ...], ...]
    blend: bool

    @property
    def count(self) -> int:
        """How many tiles there are."""
        return int(np.prod([len(spans) for spans in self.spans]))

    def __iter__(self) -> Iterator[tuple[Span, ...]]:
        """The tiles in order, the last axis fastest."""
        return itertools.product(*self.spans)


def plan(
    image: tuple[int, ...],
    network: Geometry,
    *,
    pixels: int = LIMIT,
    edges: tuple[int, ...] = (),
    fill: bool = False,
) -> Tiles:
    """Covers an image with as few tiles as their size allows.

    Args:
      image: its spatial shape.
      network: its geometry for so many axes.
      pixels: of the largest tile, which is a cube but where the image is shorter.
      edges: the largest size of a tile along each axis, in place of `pixels`. One that
        leaves nothing between its halos becomes the least that does.
      fill: takes tiles of these edges even where a smaller one would hold the image,
        if padding is VALID; the rest of them is mirrored.
    """
    full = (
        size + 2 * margin for size, margin in zip(image, network.margin, strict=True)
    )
    wholes = network.valid_shape(tuple(full))
    edges = edges or _spread(pixels, wholes)
    least = smallest(network)
    shape, spans = [], []
    for axis, (size, whole, edge) in enumerate(zip(image, wholes, edges, strict=True)):
        margin, multiple = network.margin[axis], network.multiple[axis]
        tile = network.valid_size_below(max(edge, least[axis]), axis)
        if not (fill and margin):
            tile = min(tile, whole)
        shape.append(tile)
        if tile >= whole:
            spans.append((Span(-margin, 0, size),))
        elif network.halo is None:
            spans.append(_overlapping(size, whole, tile, margin, multiple))
        elif margin:
            spans.append(_adjacent(size, tile, margin, multiple))
        else:
            spans.append(_within(size, whole, tile, network.halo[axis], multiple))
    blend = network.halo is None and max(map(len, spans)) > 1
    return Tiles(tuple(image), tuple(shape), network.margin, tuple(spans), blend)


def _spread(pixels: int, wholes: Sequence[int]) -> list[int]:
    """Edges of so many pixels; long axes take what short ones leave."""
    edges = [0] * len(wholes)
    order = sorted(range(len(wholes)), key=wholes.__getitem__)
    for i, axis in enumerate(order):
        cube = int((pixels + 0.5) ** (1 / (len(order) - i)))
        edges[axis] = min(wholes[axis], max(cube, 1))
        pixels //= edges[axis]
    return edges


def smallest(network: Geometry) -> tuple[int, ...]:
    """Returns the shape of the smallest tile whose output can be used for anything."""
    pairs = zip(network.context, network.multiple, strict=True)
    return network.valid_shape(tuple(2 * context + step for context, step in pairs))


def check_edges(edges: tuple[int, ...], network: Geometry) -> None:
    """Raises UserError if the output of a tile of these edges could not be used."""
    for axis, (edge, least) in enumerate(zip(edges, smallest(network), strict=True)):
        if edge < least:
            raise UserError(
                f"must be {least} or more along axis {axis}, not {edge}: the network "
                f"needs {network.context[axis]} pixels of context on each side of what "
                "it answers for"
            )


def _adjacent(size: int, tile: int, margin: int, multiple: int) -> tuple[Span, ...]:
    """Tiles of a VALID network; the last is mirrored as far as it reaches out."""
    stride = (tile - 2 * margin) // multiple * multiple
    firsts = range(0, size, stride)
    return tuple(Span(o - margin, o, min(o + stride, size)) for o in firsts)


def _within(
    size: int, whole: int, tile: int, halo: int, multiple: int
) -> tuple[Span, ...]:
    """Tiles of a SAME network, none beyond the image as the network would pad it."""
    stride = (tile - 2 * halo) // multiple * multiple
    last = whole - tile
    spans: list[Span] = []
    for start in (*range(0, last, stride), last):
        first = spans[-1].stop if spans else 0
        stop = size if start == last else start + tile - halo
        spans.append(Span(start, first, min(stop, size)))
    return tuple(span for span in spans if span.first < span.stop)


def _overlapping(
    size: int, whole: int, tile: int, margin: int, multiple: int
) -> tuple[Span, ...]:
    """Tiles that answer for all they can, each half of the one before it."""
    left = tile - 2 * margin
    stride = max(left // 2 // multiple, 1) * multiple
    last = whole - 2 * margin - left
    firsts = (*range(0, last, stride), last)
    return tuple(Span(o - margin, o, min(o + left, size)) for o in firsts)


def cut(tiles: Tiles, tile: tuple[Span, ...], read: Read) -> np.ndarray:
    """Reads one tile, `[*tiles.shape, C]`; no more of the image than that is asked for.

    Args:
      tiles: the plan.
      tile: one of it.
      read: box of slices within the image -> its pixels, channels last.
    """
    starts = [span.start for span in tile]
    axes = list(map(mirror_indices, starts, tiles.shape, tiles.image))
    box = [slice(int(index.min()), int(index.max()) + 1) for index in axes]
    inside = [index - b.start for index, b in zip(axes, box, strict=True)]
    return read(box)[np.ix_(*inside)]


def assemble(tiles: Tiles, answers: Iterator[Answer]) -> Iterator[Answer]:
    """Puts the answers of the tiles together, some rows of the image at a time.

    Args:
      tiles: the plan.
      answers: what the network said of each tile, in their order: named arrays of the
        tile's shape without its margins, and any further axes.

    Yields:
      The same arrays for consecutive rows (slabs, of a volume), which together are the
      image. No more than two rows of tiles are held at once.
    """
    return (_blended if tiles.blend else _pasted)(tiles, answers)


def _pasted(tiles: Tiles, answers: Iterator[Answer]) -> Iterator[Answer]:
    for row in tiles.spans[0]:
        rows: Answer = {}
        for rest in itertools.product(*tiles.spans[1:]):
            for name, piece in next(answers).items():
                space = (row.stop - row.first, *tiles.image[1:])
                tail = piece.shape[len(space) :]
                whole = rows.setdefault(name, np.empty((*space, *tail), piece.dtype))
                target = tuple(slice(span.first, span.stop) for span in rest)
                whole[(slice(None), *target)] = piece[_inner(tiles, (row, *rest))]
        yield rows


def _blended(tiles: Tiles, answers: Iterator[Answer]) -> Iterator[Answer]:
    sizes = zip(tiles.shape, tiles.margin, strict=True)
    weight = _gaussian([size - 2 * margin for size, margin in sizes])
    above: Answer = {}
    nexts = [*(row.first for row in tiles.spans[0][1:]), tiles.image[0]]
    for row, done in zip(tiles.spans[0], nexts, strict=True):
        sums: Answer = {}
        for rest in itertools.product(*tiles.spans[1:]):
            inner = _inner(tiles, (row, *rest))
            share = weight[inner]
            target = tuple(slice(span.first, span.stop) for span in rest)
            pieces = {name: piece[inner] for name, piece in next(answers).items()}
            for name, piece in {**pieces, "": np.ones_like(share)}.items():
                space = (row.stop - row.first, *tiles.image[1:])
                tail = piece.shape[len(space) :]
                total = sums.setdefault(name, np.zeros((*space, *tail), np.float32))
                total[(slice(None), *target)] += _like(share, piece) * piece
        for name, begun in above.items():
            sums[name][: len(begun)] += begun
        height = done - row.first
        above = {name: total[height:].copy() for name, total in sums.items()}
        summed = sums.pop("")[:height]
        for total in sums.values():
            total[:height] /= _like(summed, total)
        yield {name: total[:height] for name, total in sums.items()}


def _like(weight: np.ndarray, array: np.ndarray) -> np.ndarray:
    """The weight `[*S]` with an axis of 1 for every further one of the array."""
    return weight.reshape(*weight.shape, *(1,) * (array.ndim - weight.ndim))


def _inner(tiles: Tiles, tile: tuple[Span, ...]) -> tuple[slice, ...]:
    """Where, in what the network makes of a tile, lies what the tile answers for."""
    starts = [span.start + m for span, m in zip(tile, tiles.margin, strict=True)]
    return tuple(
        slice(span.first - start, span.stop - start)
        for span, start in zip(tile, starts, strict=True)
    )


def _gaussian(shape: Sequence[int]) -> np.ndarray:
    """Weights `f32[*S]` that fall off from 1 in the middle, and stay above 0."""
    weight = np.ones(())
    for size in shape:
        place = np.arange(size) - (size - 1) / 2
        bell = np.exp(-0.5 * (place / (size / 8)) ** 2)
        weight = np.multiply.outer(weight, bell)
    return np.maximum(weight, 1e-3).astype(np.float32)
