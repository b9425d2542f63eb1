"""Operations that move the pixels: each adds a move, or permutes the pixels exactly."""

import itertools
import math
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from unet_jax import arrays
from unet_jax.arrays import Example
from unet_jax.augment.displacement import displace, get_shape
from unet_jax.augment.draws import draw_log_uniform
from unet_jax.errors import UserError
from unet_jax.specs import NonNegative, Positive, Within

_Grid = Annotated[int, Within("of 2 or more", lambda x: x >= 2)]


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
    n = len(get_shape(example))
    return displace(example, sigma * jax.random.normal(key, (n, *[grid] * n)))


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
    n = len(get_shape(example))
    planes = list(itertools.combinations(_resolve_axes(axes, example), 2))
    if not planes:
        raise UserError(f"axes {axes} span no plane; name two or more")
    angles = math.radians(degrees) * jax.random.uniform(key, (len(planes),), minval=-1)
    matrix = jnp.eye(n)
    for (a, b), angle in zip(planes, angles, strict=True):
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        first, second = matrix[a], matrix[b]
        matrix = matrix.at[a].set(cos * first - sin * second)
        matrix = matrix.at[b].set(sin * first + cos * second)
    return _add_affine(example, matrix)


def scale(
    key: jax.Array, example: Example, *, low: Positive = 0.8, high: Positive = 1.25
) -> Example:
    """Magnifies about the centre by a factor log-uniform in low..high, on all axes.

    2 doubles the size of things. Raises UserError unless 0 < low <= high.
    """
    factor = draw_log_uniform(key, low, high)
    return _add_affine(example, jnp.eye(len(get_shape(example))) / factor)


def shift(key: jax.Array, example: Example, *, pixels: NonNegative = 10.0) -> Example:
    """Shifts by a distance uniform in ±pixels, drawn for each axis."""
    n = len(get_shape(example))
    offset = pixels * jax.random.uniform(key, (n,), minval=-1)
    return displace(
        example, jnp.broadcast_to(offset.reshape(n, *[1] * n), (n, *[2] * n))
    )


def flip(key: jax.Array, example: Example, *, axes: tuple[int, ...] = ()) -> Example:
    """Mirrors each of the spatial `axes` (empty: all) with probability 1/2, exactly.

    Raises UserError if an axis is not there.
    """
    chosen = _resolve_axes(axes, example)
    coins = jax.random.bernoulli(key, shape=(len(chosen),))
    for axis, coin in zip(chosen, coins, strict=True):
        example = _select(coin, _mirror_axis(example, axis), example)
    return example


def turn(key: jax.Array, example: Example) -> Example:
    """Turns by 0, 90, 180 or 270 degrees in the plane of the last two axes, exactly.

    Raises UserError unless the crop has the same size on both.
    """
    shape = get_shape(example)
    if shape[-2] != shape[-1]:
        raise UserError(
            f"the crop {shape} must have the same size on its last two axes; "
            "make it square, or use flip"
        )
    n = len(shape)
    quarter, half = jax.random.bernoulli(key, shape=(2,))
    example = _select(quarter, _turn_quarter(example, n - 2, n - 1), example)
    return _select(half, _mirror_axis(_mirror_axis(example, n - 2), n - 1), example)


def _add_affine(example: Example, matrix: jax.Array) -> Example:
    """Adds the move to `matrix @ x` from x, both counted from the centre."""
    size = np.array(get_shape(example))
    n = len(size)
    span = np.maximum(size - 1, 1).reshape(n, *[1] * n)
    corners = jnp.asarray((np.indices([2] * n) - 0.5) * span, jnp.float32)
    bend = matrix - jnp.eye(n)
    # Full precision: a TPU would round to 8 bits, and a corner by whole pixels.
    return displace(example, jnp.tensordot(bend, corners, axes=1, precision="highest"))


def _mirror_axis(example: Example, axis: int) -> Example:
    """Mirrors the pixels at once, and the moves that wait, as vectors, with them."""
    mirrored = {k: jnp.flip(example[k], axis) for k in arrays.list_spatial(example)}
    if "displacements" in example:
        moves = (jnp.flip(move, axis + 1) for move in example["displacements"])
        mirrored["displacements"] = tuple(move.at[axis].multiply(-1) for move in moves)
    return {**example, **mirrored}


def _turn_quarter(example: Example, a: int, b: int) -> Example:
    """Turns the pixels by 90 degrees at once, and the moves that wait with them."""
    turned = {
        k: jnp.rot90(example[k], axes=(a, b)) for k in arrays.list_spatial(example)
    }
    if "displacements" in example:
        moves = (
            jnp.rot90(move, axes=(a + 1, b + 1)) for move in example["displacements"]
        )
        turned["displacements"] = tuple(
            move.at[a].set(-move[b]).at[b].set(move[a]) for move in moves
        )
    return {**example, **turned}


def _select(coin: jax.Array, yes: Example, no: Example) -> Example:
    return jax.tree.map(lambda y, n: jnp.where(coin, y, n), yes, no)


def _resolve_axes(axes: tuple[int, ...], example: Example) -> tuple[int, ...]:
    shape = get_shape(example)
    there = tuple(range(len(shape)))
    if not set(axes) <= set(there):
        raise UserError(f"axes {axes}: the crop {shape} has the spatial axes {there}")
    return tuple(sorted(set(axes))) or there
