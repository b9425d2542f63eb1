"""How large a crop of an image can be, and how deep a network it has room for.

Shapes are in pixels after resampling; `aspect` is the size of a pixel along each axis,
of which only the proportions count. The rules are nnU-Net's (Isensee et al. 2021,
Nature Methods 18:203): a crop of the shape of the median image, as large as can be, and
as many levels as leave the lowest one 4 pixels along each axis.
"""

import itertools
import math
from collections.abc import Iterator

import flax.linen as nn

from unet_jax.geometry import Geometry

# of the largest crop, if it is a square or a cube: the paper's tile of 572 is the
# largest that its network takes below 576
EDGE = {1: 2**14, 2: 576, 3: 128}
LOWEST = 4  # pixels along an axis of the lowest level, at least
LEVELS = 5  # of a network that is made deeper: the paper's
WIDEST = {2: 1024, 3: 320}  # channels of a level that is added: the paper's, nnU-Net's
SMALLER = 0.8  # times the pixels of a crop that is too large


def fits(
    model: nn.Module, shape: tuple[int, ...], aspect: tuple[float, ...], space: int = 1
) -> Iterator[tuple[nn.Module, tuple[int, ...]]]:
    """Networks with the crops that they take, the largest first.

    The first crop holds the whole image if that is not too large.

    Args:
      model: with `widths`, which are cut short, or continued by doubling.
      shape: of the image, the median one.
      aspect: of its pixels.
      space: devices that share the first axis.
    """
    pixels, last = float(EDGE.get(len(shape), 64) ** len(shape)), ()
    while pixels >= 1 and set(last) != {1}:
        fitting, crop = _fit(model, shape, aspect, pixels, space)
        if not last or math.prod(crop) < math.prod(last):
            yield fitting, crop
            last = crop
        pixels *= SMALLER


def window(
    shape: tuple[int, ...], aspect: tuple[float, ...], pixels: float
) -> tuple[int, ...]:
    """The largest box of at most `pixels` in an image, as near to a cube as can be.

    A cube of the world, not of pixels: its edges are inverse to `aspect`. An axis on
    which the image is shorter is taken whole, and leaves the others the more.
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


def answered(crop: tuple[int, ...], geometry: Geometry) -> tuple[int, ...]:
    """The part of a crop that a network answers for."""
    pairs = zip(crop, geometry.margin, strict=True)
    return tuple(size - 2 * margin for size, margin in pairs)


def widths(given: tuple[int, ...], levels: int, axes: int) -> tuple[int, ...]:
    """The widths of so many levels: the first of those given, then doubled."""
    more = list(given[:levels])
    while len(more) < levels:
        more.append(max(min(2 * more[-1], WIDEST.get(axes, 1024)), more[-1]))
    return tuple(more)


def _fit(
    model: nn.Module,
    shape: tuple[int, ...],
    aspect: tuple[float, ...],
    pixels: float,
    space: int = 1,
) -> tuple[nn.Module, tuple[int, ...]]:
    """The deepest network, up to a limit, that so large a crop has room for.

    Its lowest level keeps 4 pixels along each axis, and of a VALID network at least
    half of every edge of the crop is answered for. The crop has at most `pixels`, but
    for rounding up, to sizes that the network takes, where it holds the whole image. A
    network whose strides, kernels or depths are given level by level keeps its levels.
    """
    for levels in range(max(LEVELS, len(model.widths)), 1, -1):
        tried = model.clone(widths=widths(model.widths, levels, len(shape)))
        if tried.fault():
            continue
        fitting, geometry = tried, tried.geometry(len(shape))
        margins = zip(shape, geometry.margin, strict=True)
        needed = tuple(size + 2 * margin for size, margin in margins)
        edges = window(needed, aspect, pixels)
        if min(_lowest(geometry, edges)) >= LOWEST:
            break
    multiples = (space, *(1 for _ in shape[1:]))
    sizes = zip(edges, needed, multiples, strict=True)
    legal = (_legal(geometry, axis, *size) for axis, size in enumerate(sizes))
    return fitting, tuple(legal)


def _lowest(geometry: Geometry, edges: tuple[int, ...]) -> list[int]:
    """Pixels of the lowest level that answer for something; 0 where few do."""
    parts = zip(edges, answered(edges, geometry), geometry.multiple, strict=True)
    return [n // stride if 2 * n >= edge else 0 for edge, n, stride in parts]


def _legal(geometry: Geometry, axis: int, edge: int, needed: int, multiple: int) -> int:
    """The nearest size that the network takes: above `needed`, or below `edge`."""

    def fits(size: int) -> bool:
        return geometry.valid_size(size, axis) == size and size % multiple == 0

    above = next(filter(fits, itertools.count(max(needed, 1))))
    if edge >= needed:
        return above
    return next(filter(fits, range(edge, 0, -1)), above)
