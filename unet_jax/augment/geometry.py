"""Operations that move the pixels: each adds a move, or permutes the pixels exactly."""

import itertools
import math
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from unet_jax import arrays
from unet_jax.arrays import Example
from unet_jax.augment.draws import log_uniform
from unet_jax.augment.warp import append, spatial
from unet_jax.errors import UserError
from unet_jax.specs import Domain, NonNegative, Positive

_Grid = Annotated[int, Domain("of 2 or more", lambda x: x >= 2)]


def elastic(
    key: jax.Array, example: Example, *, sigma: NonNegative = 10.0, grid: _Grid = 3
) -> Example:
    """Bends the example smoothly: random vectors on a coarse grid, bicubic between.

    The vectors are N(0, sigma) pixels on every axis, at `grid` points an axis from
    corner to corner of the crop. Between them runs a natural cubic spline along each
    axis, which passes through every vector. Keep sigma well below the distance
    between points, or the image folds over itself.

    Ronneberger et al. 2015, section 3.1: sigma of 10 pixels, 3 x 3 points.
    """
    n = len(spatial(example))
    return append(example, sigma * jax.random.normal(key, (n, *[grid] * n)))


def rotation(
    key: jax.Array,
    example: Example,
    *,
    degrees: NonNegative = 180.0,
    axes: tuple[int, ...] = (),
) -> Example:
    """Rotates about the centre by an angle uniform in ±degrees.

    A volume is rotated in each of its three planes in turn. `axes` leaves only the
    planes between those spatial axes (empty: all), as (1, 2) does where voxels are
    flat. Raises UserError if an axis is not there, or only one is named.
    """
    n = len(spatial(example))
    planes = list(itertools.combinations(_chosen(axes, example), 2))
    if not planes:
        raise UserError(f"axes {axes} span no plane; name two or more")
    angles = math.radians(degrees) * jax.random.uniform(key, (len(planes),), minval=-1)
    matrix = jnp.eye(n)
    for (a, b), angle in zip(planes, angles, strict=True):
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        first, second = matrix[a], matrix[b]
        matrix = matrix.at[a].set(cos * first - sin * second)
        matrix = matrix.at[b].set(sin * first + cos * second)
    return _affine(example, matrix)


def scale(
    key: jax.Array, example: Example, *, low: Positive = 0.8, high: Positive = 1.25
) -> Example:
    """Magnifies about the centre by a factor log-uniform in low..high, on all axes.

    2 doubles the size of things. Raises UserError unless 0 < low <= high.
    """
    factor = log_uniform(key, low, high)
    return _affine(example, jnp.eye(len(spatial(example))) / factor)


def shift(key: jax.Array, example: Example, *, pixels: NonNegative = 10.0) -> Example:
    """Shifts by a distance uniform in ±pixels, drawn for each axis."""
    n = len(spatial(example))
    offset = pixels * jax.random.uniform(key, (n,), minval=-1)
    return append(example, jnp.broadcast_to(offset.reshape(n, *[1] * n), (n, *[2] * n)))


def flip(key: jax.Array, example: Example, *, axes: tuple[int, ...] = ()) -> Example:
    """Mirrors each of the spatial `axes` (empty: all) with probability 1/2, exactly.

    Raises UserError if an axis is not there.
    """
    chosen = _chosen(axes, example)
    coins = jax.random.bernoulli(key, shape=(len(chosen),))
    for axis, coin in zip(chosen, coins, strict=True):
        example = _where(coin, _mirror(example, axis), example)
    return example


def turn(key: jax.Array, example: Example) -> Example:
    """Turns by 0, 90, 180 or 270 degrees in the plane of the last two axes, exactly.

    Raises UserError unless the crop has the same size on both.
    """
    shape = spatial(example)
    if shape[-2] != shape[-1]:
        raise UserError(
            f"the crop {shape} must have the same size on its last two axes; "
            "make it square, or use flip"
        )
    n = len(shape)
    quarter, half = jax.random.bernoulli(key, shape=(2,))
    example = _where(quarter, _quarter(example, n - 2, n - 1), example)
    return _where(half, _mirror(_mirror(example, n - 2), n - 1), example)


def _affine(example: Example, matrix: jax.Array) -> Example:
    """Adds the move to `matrix @ x` from x, both counted from the centre."""
    size = np.array(spatial(example))
    n = len(size)
    span = np.maximum(size - 1, 1).reshape(n, *[1] * n)
    corners = jnp.asarray((np.indices([2] * n) - 0.5) * span, jnp.float32)
    bend = matrix - jnp.eye(n)
    # Full precision: a TPU would round to 8 bits, and a corner by whole pixels.
    return append(example, jnp.tensordot(bend, corners, axes=1, precision="highest"))


def _mirror(example: Example, axis: int) -> Example:
    """Mirrors the pixels at once, and the moves that wait, as vectors, with them."""
    mirrored = {k: jnp.flip(example[k], axis) for k in arrays.spatial(example)}
    if "moves" in example:
        moves = (jnp.flip(move, axis + 1) for move in example["moves"])
        mirrored["moves"] = tuple(move.at[axis].multiply(-1) for move in moves)
    return {**example, **mirrored}


def _quarter(example: Example, a: int, b: int) -> Example:
    """Turns the pixels by 90 degrees at once, and the moves that wait with them."""
    turned = {k: jnp.rot90(example[k], axes=(a, b)) for k in arrays.spatial(example)}
    if "moves" in example:
        moves = (jnp.rot90(move, axes=(a + 1, b + 1)) for move in example["moves"])
        turned["moves"] = tuple(
            move.at[a].set(-move[b]).at[b].set(move[a]) for move in moves
        )
    return {**example, **turned}


def _where(coin: jax.Array, yes: Example, no: Example) -> Example:
    return jax.tree.map(lambda y, n: jnp.where(coin, y, n), yes, no)


def _chosen(axes: tuple[int, ...], example: Example) -> tuple[int, ...]:
    shape = spatial(example)
    there = tuple(range(len(shape)))
    if not set(axes) <= set(there):
        raise UserError(f"axes {axes}: the crop {shape} has the spatial axes {there}")
    return tuple(sorted(set(axes))) or there
