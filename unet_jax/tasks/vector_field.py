"""Fields of unit vectors that lead from every pixel of an object to its centre.

Stringer et al. 2021 (Cellpose, Nature Methods 18) let heat flow from the centre of an
object to a cold outside, take the direction in which the heat rises, and find objects
again by following it: pixels that arrive at the same place are one object. Everything
here is for any number of axes. NumPy arrays stay on the host.
"""

import itertools
import math
from types import ModuleType

import jax.numpy as jnp
import numpy as np
from scipy import ndimage, sparse
from scipy.sparse import csgraph, linalg

from unet_jax.tasks.task import Array

TOLERANCE = 1e-12  # of the heat equation, relative, where the solver stops
SMALLEST_HEAT = 1e-5  # heat below this is solved for once more, in smaller units
BLOCK_SIZE = 6  # the side of the blocks of the solver's coarse grid, in pixels
FLAT_RISE = 1e-4  # a relative rise of the heat that may be rounding alone
MERGE_EVERY = 10  # steps
MERGE_GRID = 4  # points in the same 1/4 pixel go on as one
CORE_POINTS = (
    3  # end points at a position in the core of an object, at least (the paper)
)


def compute_potential(instances: np.ndarray) -> np.ndarray:
    """Returns the logarithm of the heat in every object, `f32[*S]`, on the host.

    The paper repeats two steps: add 1 to the centre, which is the pixel nearest to the
    median of the object along each axis; give every pixel of the object the mean of the
    3 x 3 (x 3) pixels around it, where pixels outside are 0. This is the limit of
    infinitely many repetitions, solved for directly; the paper's number of repetitions
    is far from it in a long object.

    Each face-connected piece of an object has a centre of its own. Along thin objects
    the heat falls by orders of magnitude; the logarithm falls in a straight line, which
    survives float32 and linear interpolation. Pixels outside take the value of the
    nearest object, which is what the edge of an object is then interpolated with. In an
    image without objects all is 0.

    Args:
      instances: `int[*S]`, ids above 0; the rest is background or ignored.
    """
    ids = np.pad(np.maximum(np.asarray(instances, np.int64), 0), 1)
    pixels = np.flatnonzero(ids)
    if not pixels.size:
        return np.zeros(instances.shape, np.float32)
    around = np.array(list(itertools.product((-1, 0, 1), repeat=ids.ndim)))
    faces = around[np.abs(around).sum(axis=1) == 1]
    links = _link_pixels(ids, pixels, faces, 1)
    _, piece = csgraph.connected_components(links, directed=False)
    order = np.argsort(piece, kind="stable")
    pixels, piece = pixels[order], piece[order]
    place = np.unravel_index(pixels, ids.shape)
    ids.flat[pixels] = piece + 1
    source = np.zeros(pixels.size)
    source[_find_centres(place, piece)] = 1
    mean = _link_pixels(ids, pixels, around, 1 / len(around))
    heat = np.zeros(ids.shape, np.float32)
    heat.flat[pixels] = _solve_log_heat(
        mean, source, piece, _number_blocks(place, piece)
    )
    inner = (slice(1, -1),) * ids.ndim
    nearest = ndimage.distance_transform_edt(
        ids[inner] == 0, return_distances=False, return_indices=True
    )
    return heat[inner][tuple(nearest)]


def compute_vectors(potential: Array, instances: Array, axes: int) -> Array:
    """Returns the direction in which the heat of an object rises, `f32[..., *S, axes]`.

    Vectors have length 1 inside objects, but 0 where the heat is level, as it may be at
    the centre; outside they are 0. The direction is that of the central difference of
    the heat, in which a neighbour that is not of the same object counts as 0, the cold
    outside. Beyond the border of the array, where a crop may have cut the object, its
    heat goes on in a straight line.

    Args:
      potential: `f32[..., *S]`, the logarithm of the heat.
      instances: `int[..., *S]`, ids above 0.
      axes: the number of spatial axes.
    """
    xp = _get_numpy(potential)
    rises = [
        _differentiate_heat(xp, potential, instances, axis, axes)
        for axis in range(-axes, 0)
    ]
    rise = xp.stack(rises, axis=-1) * (instances > 0)[..., None]
    length = xp.sqrt((rise**2).sum(axis=-1, keepdims=True))
    return rise / xp.maximum(length, FLAT_RISE)


def follow_vectors(vectors: np.ndarray, inside: np.ndarray, steps: int) -> np.ndarray:
    """Returns where the vectors lead each pixel inside, `f32[axes, N]` in pixels.

    Each of the steps goes as far as the vector is long (Euler's method). Vectors are
    interpolated linearly between pixels and 0 outside. Points that have met go on
    together, which saves most of the time.

    Args:
      vectors: `f32[*S, axes]`.
      inside: `bool[*S]`, the N pixels to start at, in the order of the array.
      steps: the number of steps.
    """
    parts = [np.where(inside, v, 0) for v in np.moveaxis(vectors, -1, 0)]
    parts = np.array(parts, np.float32)
    shape = np.array(inside.shape)
    last = shape.astype(np.float32)[:, None] - 1
    point = np.array(np.nonzero(inside), np.float32)
    which = np.arange(point.shape[1])  # the point that each pixel goes with
    for step in range(1, steps + 1):
        move = [ndimage.map_coordinates(v, point, order=1) for v in parts]
        point = np.clip(point + np.stack(move), 0, last)
        if step % MERGE_EVERY == 0:
            cell = np.ravel_multi_index(
                (MERGE_GRID * point).astype(np.int64), MERGE_GRID * shape
            )
            _, first, same = np.unique(cell, return_index=True, return_inverse=True)
            point, which = point[:, first], same[which]
    return point[:, which]


def group_end_points(ends: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the object of each end point, `i32[N]` of 1, 2, 3, ...

    Positions at which three or more end points meet are the core of an object, together
    with all such positions that are within 2 pixels of one of them (in the paper, next
    to one). End points next to a core belong to it. Of the rest, such as the pixels of
    a tiny object, adjacent positions are one object.

    Args:
      ends: `f32[axes, N]`, in pixels.
      shape: `*S`, the size of the image.
    """
    index = tuple(np.rint(ends).astype(np.int64))
    number = np.zeros(shape, np.int32)
    np.add.at(number, index, 1)
    touching = np.ones((3,) * len(shape))
    dense = number >= CORE_POINTS
    # A block of 2 at each position touches the block of a position 2 pixels away.
    core, count = ndimage.label(
        ndimage.binary_dilation(dense, touching[(slice(2),) * len(shape)]), touching
    )
    core = ndimage.maximum_filter(np.where(dense, core, 0), footprint=touching)
    lone, _ = ndimage.label((number > 0) & (core == 0), touching)
    return np.where(core > 0, core, lone + count)[index].astype(np.int32)


def _link_pixels(
    ids: np.ndarray, pixels: np.ndarray, steps: np.ndarray, value: float
) -> sparse.csr_array:
    """`f64[N, N]`: `value` where a step leads from a pixel to one of the same id.

    The N pixels are flat indices, none of them at the border of the array.
    """
    number = np.zeros(ids.size, np.int32)
    number[pixels] = np.arange(pixels.size)
    strides = np.array(ids.strides) // ids.itemsize
    same = np.empty((pixels.size, len(steps)), bool)
    to = np.empty(same.shape, np.int32)
    for k, step in enumerate(steps @ strides):
        same[:, k] = ids.flat[pixels + step] == ids.flat[pixels]
        to[:, k] = number[pixels + step]
    ends = np.append(0, np.cumsum(same.sum(axis=1)))
    values = np.full(ends[-1], value, float)
    return sparse.csr_array((values, to[same], ends), shape=(pixels.size, pixels.size))


def _find_centres(place: tuple[np.ndarray, ...], piece: np.ndarray) -> np.ndarray:
    """The first pixel of each piece that is nearest to its median along each axis.

    Pixels are sorted by piece, here and in all that follows.
    """
    size = np.bincount(piece)
    first = np.cumsum(size) - size
    distance = 0
    for x in place:
        ordered = x[np.lexsort((x, piece))]
        median = (ordered[first + (size - 1) // 2] + ordered[first + size // 2]) / 2
        distance += (x - median[piece]) ** 2
    return np.lexsort((distance, piece))[first]


def _number_blocks(place: tuple[np.ndarray, ...], piece: np.ndarray) -> np.ndarray:
    """A number for each pixel, the same for those of a piece in a block of the grid."""
    grid = [x // BLOCK_SIZE for x in place]
    return np.ravel_multi_index((piece, *grid), [x.max() + 1 for x in (piece, *grid)])


def _solve_log_heat(
    mean: sparse.csr_array, source: np.ndarray, piece: np.ndarray, block: np.ndarray
) -> np.ndarray:
    """The logarithm of the solution of `heat = mean @ (heat + source)`, `f64[N]`.

    A solver's error is relative to the hottest pixel of a piece. Where the heat is too
    small for that, it is solved for again, from the heat that is known of the pixels
    around, in units of the largest of it. So the hottest pixel is always about 1.
    """
    log = np.full(piece.size, -np.inf)
    unit = np.zeros(piece[-1] + 1)  # the logarithm, for each piece
    rest, inner, inflow = np.arange(piece.size), mean, mean @ source
    while rest.size:
        heat = _solve_heat(inner, inflow, piece[rest], block[rest])
        sure = heat > SMALLEST_HEAT
        log[rest[sure]] = np.log(heat[sure]) + unit[piece[rest[sure]]]
        rest = rest[~sure]
        rows = mean[rest]
        inner, links = rows[:, rest], rows.tocoo()
        known = np.isfinite(log[links.col])
        row, col = links.row[known], links.col[known]
        unit = np.full(unit.size, -np.inf)
        np.maximum.at(unit, piece[col], log[col])
        arriving = links.data[known] * np.exp(log[col] - unit[piece[col]])
        inflow = np.bincount(row, arriving, rest.size)
    return log


def _solve_heat(
    mean: sparse.csr_array, inflow: np.ndarray, piece: np.ndarray, block: np.ndarray
) -> np.ndarray:
    """Solves `heat = mean @ heat + inflow` for all pieces at once.

    Conjugate gradients (Hestenes and Stiefel 1952) with two changes. Each piece has its
    own step lengths, so that it needs no more steps than it would alone. The sums of
    the residual over blocks are corrected by a direct solve (a two-level additive
    preconditioner), without which a piece needs steps in proportion to its radius.
    """
    first = np.flatnonzero(np.diff(piece, prepend=-1))
    size = np.diff(np.append(first, piece.size))
    _, block = np.unique(block, return_inverse=True)
    member = sparse.csr_array((np.ones(piece.size), (np.arange(piece.size), block)))
    coarse = linalg.splu(
        (member.T @ (member - mean @ member)).tocsc(),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0,
        options={"SymmetricMode": True},
    )

    def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.add.reduceat(a * b, first)

    def precondition(residual: np.ndarray) -> np.ndarray:
        return residual + coarse.solve(np.bincount(block, residual))[block]

    def divide_running(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        out = np.zeros(first.size)
        return np.repeat(np.divide(a, b, out=out, where=going), size)

    heat, residual = np.zeros(piece.size), inflow
    direction = precondition(residual)
    product = dot(residual, direction)
    goal = TOLERANCE**2 * dot(residual, residual)
    while np.any(going := dot(residual, residual) > goal):
        change = direction - mean @ direction
        length = divide_running(product, dot(direction, change))
        heat = heat + length * direction
        residual = residual - length * change
        new = precondition(residual)
        product, before = dot(residual, new), product
        direction = new + divide_running(product, before) * direction
    return heat


def _differentiate_heat(
    xp: ModuleType, potential: Array, instances: Array, axis: int, axes: int
) -> Array:
    """The central difference of the heat along an axis, in units of a pixel's own."""

    def part(*ends: int | None) -> tuple:
        return (..., slice(*ends), *[slice(None)] * (-axis - 1))

    if potential.shape[axis] == 1:
        return xp.zeros_like(potential)
    one, two = part(None, -1), part(1, None)
    # No pixel is colder than its share of a neighbour's heat, 1 / 3^axes.
    most = axes * math.log(3)
    step = xp.clip(potential[two] - potential[one], -most, most)
    same = instances[one] == instances[two]
    after, before = xp.where(same, xp.exp(step), 0), xp.where(same, xp.exp(-step), 0)
    first, last = part(0, 1), part(-1, None)
    beyond = xp.where(same[last], 2 - before[last], 0)
    start = xp.where(same[first], 2 - after[first], 0)
    after = xp.concatenate([after, beyond], axis=axis)
    return after - xp.concatenate([start, before], axis=axis)


def _get_numpy(array: Array) -> ModuleType:
    return np if isinstance(array, np.ndarray) else jnp
