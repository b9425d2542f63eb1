"""Vector fields that point from every pixel of an object to its centre.

Stringer et al. 2021 (Cellpose, Nature Methods 18) let heat flow from the centre of an
object to a cold outside, and take the direction in which the heat rises. Objects are
found by following these vectors: pixels that arrive at the same position are one
object. All functions work for any number of axes. NumPy arrays stay on the host.
"""

import itertools
import math
from types import ModuleType

import jax.numpy as jnp
import numpy as np
from scipy import ndimage, sparse
from scipy.sparse import csgraph, linalg

from unet_jax.tasks.task import Array

TOLERANCE = 1e-12  # relative residual at which the solver stops
SMALLEST_HEAT = 1e-5  # smaller heat is solved again, in smaller units
BLOCK_SIZE = 6  # side of a block of the solver's coarse grid, in pixels
FLAT_RISE = 1e-4  # relative rise of the heat that can be rounding error
MERGE_EVERY = 10  # number of steps after which points are merged
MERGE_GRID = 4  # points in the same 1/4 pixel are merged
CORE_POINTS = 3  # least number of end points at a position of a core (the paper)


def compute_potential(instances: np.ndarray) -> np.ndarray:
    """Computes the logarithm of the heat in every object, on the host.

    The paper repeats two steps. Add 1 to the centre, the pixel nearest to the median of
    the object along each axis. Then replace every pixel of the object by the mean of
    the 3 x 3 (x 3) pixels around it, where pixels outside are 0. This function solves
    directly for the limit of infinitely many repetitions. In long objects the paper's
    number of repetitions is far from this limit.

    Each face-connected piece of an object has its own centre. Along thin objects the
    heat falls by orders of magnitude. Its logarithm falls linearly, which float32 and
    linear interpolation can represent. Pixels outside take the value of the nearest
    object, so that its edge is interpolated correctly.

    Args:
      instances: `int[*S]`, ids above 0; other values are background or ignored.

    Returns:
      `f32[*S]`; 0 everywhere if there are no objects.
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
    block = _number_blocks(place, piece)
    heat.flat[pixels] = _solve_log_heat(mean, source, piece, block)
    inner = (slice(1, -1),) * ids.ndim
    nearest = ndimage.distance_transform_edt(
        ids[inner] == 0, return_distances=False, return_indices=True
    )
    return heat[inner][tuple(nearest)]


def compute_vectors(potential: Array, instances: Array, axes: int) -> Array:
    """Computes the direction in which the heat of an object rises.

    Vectors have length 1 inside objects, and less where the heat is flat, as it can be
    at the centre. Outside objects they are 0. The direction is that of the central
    difference of the heat, where neighbours outside the object have heat 0. Beyond the
    border of the array, where a crop can cut an object,
    the heat is extrapolated linearly.

    Args:
      potential: `f32[..., *S]`, the logarithm of the heat.
      instances: `int[..., *S]`, ids above 0.
      axes: the number of spatial axes.

    Returns:
      `f32[..., *S, axes]`.
    """
    xp = np if isinstance(potential, np.ndarray) else jnp
    heat = (xp, potential, instances)
    rises = [_differentiate_heat(*heat, axis, axes) for axis in range(-axes, 0)]
    rise = xp.stack(rises, axis=-1) * (instances > 0)[..., None]
    length = xp.sqrt((rise**2).sum(axis=-1, keepdims=True))
    return rise / xp.maximum(length, FLAT_RISE)


def follow_vectors(vectors: np.ndarray, inside: np.ndarray, steps: int) -> np.ndarray:
    """Moves each pixel of the mask along the vectors and returns its end point.

    Each step has the length of the vector (Euler's method). Vectors are interpolated
    linearly between pixels and are 0 outside the mask. Points that meet are merged,
    which saves most of the time.

    Args:
      vectors: `f32[*S, axes]`.
      inside: `bool[*S]`, the mask of the N pixels.
      steps: the number of steps.

    Returns:
      `f32[axes, N]`, in pixels; the N pixels are in the order of the array.
    """
    parts = [np.where(inside, v, 0) for v in np.moveaxis(vectors, -1, 0)]
    parts = np.array(parts, np.float32)
    shape = np.array(inside.shape)
    last = shape.astype(np.float32)[:, None] - 1
    point = np.array(np.nonzero(inside), np.float32)
    which = np.arange(point.shape[1])  # the merged point of each pixel
    for step in range(1, steps + 1):
        move = [ndimage.map_coordinates(v, point, order=1) for v in parts]
        point = np.clip(point + np.stack(move), 0, last)
        if step % MERGE_EVERY == 0:
            index = (MERGE_GRID * point).astype(np.int64)
            cell = np.ravel_multi_index(index, MERGE_GRID * shape)
            _, first, same = np.unique(cell, return_index=True, return_inverse=True)
            point, which = point[:, first], same[which]
    return point[:, which]


def group_end_points(ends: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Groups end points into objects and returns the object of each, `i32[N]` from 1.

    A position at which three or more end points meet is a core. Cores within 2 pixels
    of each other are one object (in the paper: adjacent cores). End points adjacent to
    a core belong to it. Of the remaining end points, such as the pixels of a tiny
    object, adjacent positions form one object.

    Args:
      ends: `f32[axes, N]`, in pixels.
      shape: `*S`, the size of the image.
    """
    index = tuple(np.rint(ends).astype(np.int64))
    number = np.zeros(shape, np.int32)
    np.add.at(number, index, 1)
    touching = np.ones((3,) * len(shape))
    dense = number >= CORE_POINTS
    # Blocks of 2 pixels at positions 2 pixels apart touch each other.
    core, count = ndimage.label(
        ndimage.binary_dilation(dense, touching[(slice(2),) * len(shape)]), touching
    )
    core = ndimage.maximum_filter(np.where(dense, core, 0), footprint=touching)
    lone, _ = ndimage.label((number > 0) & (core == 0), touching)
    return np.where(core > 0, core, lone + count)[index].astype(np.int32)


def _link_pixels(
    ids: np.ndarray, pixels: np.ndarray, steps: np.ndarray, value: float
) -> sparse.csr_array:
    """Returns a matrix with `value` where a step leads to a pixel of the same id.

    Args:
      ids: object ids, padded by background.
      pixels: flat indices of the N pixels, none of them at the border of the array.
      steps: the steps to the neighbours.
      value: the entry of the matrix.

    Returns:
      Sparse `f64[N, N]`.
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
    """Returns the pixel of each piece that is nearest to its median along each axis.

    Of several such pixels it is the first. Pixels are sorted by piece, here and below.
    """
    size = np.bincount(piece)
    first = np.cumsum(size) - size
    distance = np.zeros(len(piece))
    for x in place:
        ordered = x[np.lexsort((x, piece))]
        median = (ordered[first + (size - 1) // 2] + ordered[first + size // 2]) / 2
        distance += (x - median[piece]) ** 2
    return np.lexsort((distance, piece))[first]


def _number_blocks(place: tuple[np.ndarray, ...], piece: np.ndarray) -> np.ndarray:
    """Numbers the pixels by piece and by block of the coarse grid."""
    grid = [x // BLOCK_SIZE for x in place]
    return np.ravel_multi_index((piece, *grid), [x.max() + 1 for x in (piece, *grid)])


def _solve_log_heat(
    mean: sparse.csr_array, source: np.ndarray, piece: np.ndarray, block: np.ndarray
) -> np.ndarray:
    """Returns the logarithm of the solution of `heat = mean @ (heat + source)`.

    The error of a solver is relative to the hottest pixel of a piece. Pixels that are
    too cold for this accuracy are solved again, from the known heat around them. The
    largest heat around them is then the unit, so that the hottest pixel is about 1.
    """
    log = np.full(piece.size, -np.inf)
    unit = np.zeros(piece[-1] + 1)  # logarithm of the unit of each piece
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
    own step lengths, so that it converges as fast as alone. The sums of the
    residual over blocks are corrected by a direct solve (a two-level additive
    preconditioner); without it the number of steps would grow with the radius of a
    piece.
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
    """Returns the central difference of the heat along an axis, divided by the heat."""

    def part(*ends: int | None) -> tuple:
        return (..., slice(*ends), *[slice(None)] * (-axis - 1))

    if potential.shape[axis] == 1:
        return xp.zeros_like(potential)
    one, two = part(None, -1), part(1, None)
    # A pixel has at least its share of a neighbour's heat, 1 / 3^axes.
    most = axes * math.log(3)
    step = xp.clip(potential[two] - potential[one], -most, most)
    same = instances[one] == instances[two]
    after, before = xp.where(same, xp.exp(step), 0), xp.where(same, xp.exp(-step), 0)
    first, last = part(0, 1), part(-1, None)
    beyond = xp.where(same[last], 2 - before[last], 0)
    start = xp.where(same[first], 2 - after[first], 0)
    after = xp.concatenate([after, beyond], axis=axis)
    return after - xp.concatenate([start, before], axis=axis)
