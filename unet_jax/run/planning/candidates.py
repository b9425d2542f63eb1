"""Candidate crop sizes and network depths for images of a given size.

Shapes are in pixels after resampling; `aspect` is the size of a pixel along each axis,
of which only the ratios matter. The rules are those of nnU-Net (Isensee et al. 2021,
Nature Methods 18:203): the crop has the shape of the median image and is as large as
possible; the network has as many levels as leave at least 4 pixels along each axis of
the lowest level.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import flax.linen as nn

from unet_jax.geometry import Geometry

# Edge of the largest square or cubic crop, by number of axes. 572, the paper's tile, is
# the largest size below 576 that the paper's network takes.
MAX_EDGE = {1: 2**14, 2: 576, 3: 128}
MIN_LOWEST = 4  # pixels along each axis of the lowest level
MAX_LEVELS = 5  # up to which levels are added: the paper's number
MAX_WIDTH = {2: 1024, 3: 320}  # channels of an added level: the paper's, nnU-Net's
SHRINK = 0.8  # factor on the number of pixels from one candidate to the next
# Fields of depths, and the number of levels without one.
WITHOUT_DEPTH = {"encoder_depths": 0, "decoder_depths": 1}


def list_candidates(
    model: nn.Module,
    shape: tuple[int, ...],
    aspect: tuple[float, ...],
    space: int = 1,
    *,
    keep_levels: bool = False,
) -> Iterator[tuple[nn.Module, tuple[int, ...]]]:
    """Yields pairs of a network and a crop that it takes, the largest crop first.

    The first crop holds the whole image unless that exceeds `MAX_EDGE`.

    Args:
      model: a network with `widths`.
      shape: spatial shape of the median image, in pixels.
      aspect: size of its pixels along each axis.
      space: number of devices that share the first axis.
      keep_levels: True keeps the widths of the network.
    """
    most = len(model.widths) if keep_levels else max(MAX_LEVELS, len(model.widths))
    levels = range(most, most - 1 if keep_levels else 1, -1)
    pixels, last = float(MAX_EDGE.get(len(shape), 64) ** len(shape)), ()
    while pixels >= 1 and set(last) != {1}:
        network, crop = _fit_network(model, levels, shape, aspect, pixels, space)
        if not last or math.prod(crop) < math.prod(last):
            yield network, crop
            last = crop
        pixels *= SHRINK


def fit_box(
    shape: tuple[int, ...], aspect: tuple[float, ...], pixels: float
) -> tuple[int, ...]:
    """Returns the largest box of at most `pixels` in an image, as cubic as possible.

    The box is cubic in physical units, not in pixels: its edges are inverse to
    `aspect`. An axis on which the image is shorter than the cube is taken whole, and
    the other axes become longer instead.
    """
    whole: set[int] = set()
    while True:
        rest = [i for i in range(len(shape)) if i not in whole]
        left = pixels / math.prod(shape[i] for i in whole)
        scale = (left * math.prod(aspect[i] for i in rest)) ** (1 / max(len(rest), 1))
        short = {i for i in rest if shape[i] <= scale / aspect[i] + 1e-6}
        if not short:
            cut = {i: max(math.floor(scale / aspect[i] + 1e-6), 1) for i in rest}
            return tuple(cut.get(i, size) for i, size in enumerate(shape))
        whole |= short


def compute_output_shape(crop: tuple[int, ...], geometry: Geometry) -> tuple[int, ...]:
    """Returns the spatial shape of the network's output for a crop."""
    pairs = zip(crop, geometry.margin, strict=True)
    return tuple(size - 2 * margin for size, margin in pairs)


def extend_widths(given: tuple[int, ...], levels: int, axes: int) -> tuple[int, ...]:
    """Returns the channels of each level: the first given ones, then doubled ones.

    The number of spatial axes limits the channels of added levels.
    """
    more = list(given[:levels])
    while len(more) < levels:
        more.append(max(min(2 * more[-1], MAX_WIDTH.get(axes, 1024)), more[-1]))
    return tuple(more)


def set_levels(model: nn.Module, levels: int, axes: int) -> nn.Module:
    """Returns a network with another number of levels.

    Widths are cut short, or extended by doubling. Depths of every level are cut short,
    or the last one is repeated.
    """
    changes: dict[str, Any] = {"widths": extend_widths(model.widths, levels, axes)}
    for field, fewer in WITHOUT_DEPTH.items():
        given = getattr(model, field, ())
        if len(given) > 1:
            changes[field] = (given + given[-1:] * levels)[: levels - fewer]
    return model.clone(**changes)


def deepen(model: nn.Module, crop: tuple[int, ...]) -> nn.Module:
    """Returns the deepest network for a crop; the given one if no other takes it."""
    for levels in range(max(MAX_LEVELS, len(model.widths)), 1, -1):
        tried = set_levels(model, levels, len(crop))
        if tried.fault():
            continue
        geometry = tried.geometry(len(crop))
        deep_enough = min(_lowest_sizes(geometry, crop)) >= MIN_LOWEST
        if deep_enough and geometry.valid_shape(crop) == crop:
            return tried
    return model


def _fit_network(
    model: nn.Module,
    levels: range,
    shape: tuple[int, ...],
    aspect: tuple[float, ...],
    pixels: float,
    space: int = 1,
) -> tuple[nn.Module, tuple[int, ...]]:
    """Returns the deepest network for a crop of at most `pixels`, and the crop.

    The lowest level keeps `MIN_LOWEST` pixels along each axis, and a VALID network
    outputs at least half of every edge of the crop. A crop that holds the whole image
    may exceed `pixels`, because its edges are rounded up to legal sizes. A network
    whose strides or kernels are given per level keeps its levels.
    """
    for count in levels:
        tried = set_levels(model, count, len(shape))
        if tried.fault():
            continue
        network, geometry = tried, tried.geometry(len(shape))
        margins = zip(shape, geometry.margin, strict=True)
        needed = tuple(size + 2 * margin for size, margin in margins)
        edges = fit_box(needed, aspect, pixels)
        if min(_lowest_sizes(geometry, edges)) >= MIN_LOWEST:
            break
    multiples = (space, *(1 for _ in shape[1:]))
    sizes = zip(edges, needed, multiples, strict=True)
    legal = (_round_to_legal(geometry, axis, *size) for axis, size in enumerate(sizes))
    return network, tuple(legal)


def _lowest_sizes(geometry: Geometry, edges: tuple[int, ...]) -> list[int]:
    """Returns the output's size at the lowest level; 0 if it is under half the crop."""
    output = compute_output_shape(edges, geometry)
    parts = zip(edges, output, geometry.multiple, strict=True)
    return [n // stride if 2 * n >= edge else 0 for edge, n, stride in parts]


def _round_to_legal(
    geometry: Geometry, axis: int, edge: int, needed: int, multiple: int
) -> int:
    """Rounds to a legal size: `needed` up if the edge reaches it, else `edge` down."""

    def is_legal(size: int) -> bool:
        return geometry.valid_size(size, axis) == size and size % multiple == 0

    above = next(filter(is_legal, itertools.count(max(needed, 1))))
    if edge >= needed:
        return above
    return next(filter(is_legal, range(edge, 0, -1)), above)
