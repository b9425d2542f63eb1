"""Spatial operations: each appends a displacement or permutes the pixels exactly."""

import itertools
import math
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from unet_jax import arrays
from unet_jax.arrays import Example
from unet_jax.augment.displacement import displace, get_shape, resolve_axes
from unet_jax.augment.draws import draw_log_uniform
from unet_jax.errors import UserError
from unet_jax.specs import Domain, NonNegative, Positive

__all__ = ["elastic", "flip", "rotation", "scale", "shift", "turn"]

_Grid = Annotated[int, Domain("from 2 to 64", lambda x: 2 <= x <= 64)]


def elastic(
    key: jax.Array, example: Example, *, sigma: NonNegative = 10.0, grid: _Grid = 3
) -> Example:
    """Deforms the example smoothly, by random vectors on a coarse grid.

    The vectors are N(0, sigma) along every axis. Between the grid points they are
    interpolated by a natural cubic spline along each axis, which passes through every
    vector. With a sigma near the distance between grid points the image folds over
    itself.

    Ronneberger et al. 2015, section 3.1: sigma of 10 pixels and 3 x 3 points.

    Args:
      key: the random key.
      example: the arrays of one example.
      sigma: the standard deviation of the vectors, in pixels.
      grid: the number of grid points per axis, from corner to corner of the crop.
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
    """Rotates about the centre by an angle uniform in -degrees..degrees.

    A volume is rotated in each of its three planes in turn.

    Args:
      key: the random key.
      example: the arrays of one example.
      degrees: the largest angle.
      axes: the spatial axes whose planes are used; () for all. Use (1, 2) for volumes
        of thick slices.

    Raises:
      UserError: the example does not have one of the axes, or only one axis is given.
    """
    n = len(get_shape(example))
    planes = list(itertools.combinations(resolve_axes(axes, example), 2))
    if not planes:
        raise UserError(f"axes {axes} span no plane; give two or more axes")
    angles = math.radians(degrees) * jax.random.uniform(key, (len(planes),), minval=-1)
    matrix = jnp.eye(n)
    for (a, b), angle in zip(planes, angles, strict=True):
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        first, second = matrix[a], matrix[b]
        matrix = matrix.at[a].set(cos * first - sin * second)
        matrix = matrix.at[b].set(sin * first + cos * second)
    return _add_affine(example, matrix)


def scale(
    key: jax.Array,
    example: Example,
    *,
    low: Positive = 0.8,
    high: Positive = 1.25,
    axes: tuple[int, ...] = (),
) -> Example:
    """Magnifies about the centre by one factor for all axes, log-uniform in low..high.

    Args:
      key: the random key.
      example: the arrays of one example.
      low: the least factor.
      high: the largest factor; 2 doubles the size of objects.
      axes: the spatial axes that are magnified; () for all. Use (1, 2) for volumes of
        thick slices.

    Raises:
      UserError: `0 < low <= high` does not hold, or the example does not have one of
        the axes.
    """
    factor = draw_log_uniform(key, low, high)
    chosen = list(resolve_axes(axes, example))
    factors = jnp.ones(len(get_shape(example))).at[jnp.array(chosen)].set(1 / factor)
    return _add_affine(example, jnp.diag(factors))


def shift(key: jax.Array, example: Example, *, pixels: NonNegative = 10.0) -> Example:
    """Shifts along each axis by a distance uniform in -pixels..pixels."""
    n = len(get_shape(example))
    offset = pixels * jax.random.uniform(key, (n,), minval=-1)
    return displace(
        example, jnp.broadcast_to(offset.reshape(n, *[1] * n), (n, *[2] * n))
    )


def flip(key: jax.Array, example: Example, *, axes: tuple[int, ...] = ()) -> Example:
    """Flips each of the spatial `axes`, () for all, with probability 1/2, exactly.

    Raises:
      UserError: the example does not have one of the axes.
    """
    chosen = resolve_axes(axes, example)
    coins = jax.random.bernoulli(key, shape=(len(chosen),))
    for axis, coin in zip(chosen, coins, strict=True):
        example = _select(coin, _mirror_axis(example, axis), example)
    return example


def turn(key: jax.Array, example: Example) -> Example:
    """Turns by 0, 90, 180 or 270 degrees in the plane of the last two axes, exactly.

    Raises:
      UserError: the crop has different sizes on these axes.
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
    """Appends the displacement from x to `matrix @ x`; the origin is the centre."""
    size = np.array(get_shape(example))
    n = len(size)
    span = np.maximum(size - 1, 1).reshape(n, *[1] * n)
    corners = jnp.asarray((np.indices([2] * n) - 0.5) * span, jnp.float32)
    bend = matrix - jnp.eye(n)
    # At its default precision a TPU would round corners by whole pixels.
    return displace(example, jnp.tensordot(bend, corners, axes=1, precision="highest"))


def _mirror_axis(example: Example, axis: int) -> Example:
    """Mirrors the pixels and the pending displacements along an axis."""
    names = arrays.list_spatial(example)
    mirrored: Example = {name: jnp.flip(example[name], axis) for name in names}
    if "displacements" in example:
        pending = (jnp.flip(d, axis + 1) for d in example["displacements"])
        mirrored["displacements"] = tuple(d.at[axis].multiply(-1) for d in pending)
    return {**example, **mirrored}


def _turn_quarter(example: Example, a: int, b: int) -> Example:
    """Turns the pixels and the pending displacements by 90 degrees."""
    names = arrays.list_spatial(example)
    turned: Example = {name: jnp.rot90(example[name], axes=(a, b)) for name in names}
    if "displacements" in example:
        pending = (jnp.rot90(d, axes=(a + 1, b + 1)) for d in example["displacements"])
        turned["displacements"] = tuple(
            d.at[a].set(-d[b]).at[b].set(d[a]) for d in pending
        )
    return {**example, **turned}


def _select(coin: jax.Array, yes: Example, no: Example) -> Example:
    return jax.tree.map(lambda y, n: jnp.where(coin, y, n), yes, no)
