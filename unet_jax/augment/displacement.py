"""Displacement fields, collected while an example is augmented and applied once.

A displacement is a smooth vector field over the crop. It is given by its vectors at a
few control points that span the crop: `f32[n, *G]`, in pixels, for n spatial axes. Two
control points per axis make an affine map, more points a natural cubic spline. A
displacement of zeros is the identity.

A spatial operation appends its displacement to the tuple `example['displacements']`.
`apply_displacements` then reads the pixels through all of them. Pixels are therefore
interpolated only once, and an operation with a probability below 1 selects between a
few numbers, not between two images.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.interpolate import CubicSpline

from unet_jax import arrays
from unet_jax.arrays import Example
from unet_jax.errors import UserError


def get_shape(example: Example) -> tuple[int, ...]:
    """Returns the spatial shape of an example, (H, W) or (D, H, W)."""
    return example["image"].shape[:-1]


def resolve_axes(axes: tuple[int, ...], example: Example) -> tuple[int, ...]:
    """Returns the spatial axes that an option chooses in rising order; () for all.

    Raises:
      UserError: the example does not have one of the axes.
    """
    shape = get_shape(example)
    every = tuple(range(len(shape)))
    if not set(axes) <= set(every):
        raise UserError(
            f"axes {axes}: the crop {shape} has the spatial axes {every}; choose from "
            "these"
        )
    return tuple(sorted(set(axes))) or every


def displace(example: Example, displacement: jax.Array) -> Example:
    """Appends a displacement, `f32[n, *G]` in pixels, to the pending ones."""
    pending = example.get("displacements", ())
    return {**example, "displacements": (*pending, displacement)}


def apply_displacements(example: Example) -> Example:
    """Reads the pixels through all pending displacements and removes these."""
    if "displacements" not in example:
        return example
    pixels = {k: v for k, v in example.items() if k != "displacements"}
    points = compute_source_points(example["displacements"], get_shape(example))
    # Without a barrier XLA computes points and flips again for each corner of the
    # interpolation, which takes 2 to 4 times as long.
    return sample_at(*jax.lax.optimization_barrier((pixels, points)))


def compute_source_points(
    displacements: Sequence[jax.Array], shape: tuple[int, ...]
) -> jax.Array:
    """Returns the input position that each output pixel reads, `f32[n, *S]` in pixels.

    Args:
      displacements: `f32[n, *G]` each, in the order in which they are applied.
      shape: `*S`.
    """
    points = [
        jax.lax.broadcasted_iota(jnp.float32, shape, axis) for axis in range(len(shape))
    ]
    # The output of the last displacement reads the output of the one before it.
    for displacement in reversed(displacements):
        step = evaluate_displacement(displacement, points, shape)
        points = [x + dx for x, dx in zip(points, step, strict=True)]
    return jnp.stack(points)


def evaluate_displacement(
    displacement: jax.Array, points: Sequence[jax.Array], shape: tuple[int, ...]
) -> list[jax.Array]:
    """Evaluates a displacement at any points.

    The outer control points are the corner pixels of the crop. Outside the crop the
    displacement is extrapolated linearly.

    Args:
      displacement: `f32[n, *G]`, in pixels.
      points: n coordinates, in pixels, of any common shape.
      shape: the spatial shape of the crop.

    Returns:
      The n components of the vectors, in pixels, each shaped like a coordinate.
    """
    weights = []
    for x, size, knots in zip(points, shape, displacement.shape[1:], strict=True):
        t = (x - (size - 1) / 2) / max(size - 1, 1) + 0.5  # 0..1 across the crop
        weights.append(_evaluate_splines(t * (knots - 1), knots))
    return [_interpolate(component, weights) for component in displacement]


def _evaluate_splines(t: jax.Array, knots: int) -> list[jax.Array]:
    """Evaluates the natural cubic splines that are 1 at one knot and 0 at the others.

    The knots are 0, 1, 2, ... Each spline is written as a line plus one truncated cubic
    term per knot. This needs no table look-up, so that XLA fuses it with the loop over
    the pixels.
    """
    if knots == 2:
        return [1 - t, t]
    spline = CubicSpline(np.arange(knots), np.eye(knots), bc_type="natural")
    jumps = np.diff(spline.c[0], axis=0, prepend=0, append=0)
    parts = [jnp.ones_like(t), t, *(jnp.maximum(t - k, 0) ** 3 for k in range(knots))]
    factors = np.stack([spline(0), spline(0, 1), *jumps], axis=1).tolist()
    return [
        jnp.asarray(sum(f * p for f, p in zip(row, parts, strict=True)))
        for row in factors
    ]


def _interpolate(values: jax.Array, weights: list[list[jax.Array]]) -> jax.Array:
    """Sums control values times one weight per axis; the loop is unrolled."""
    if not weights:
        return values
    first, *rest = weights
    terms = (w * _interpolate(v, rest) for w, v in zip(first, values, strict=True))
    return jnp.asarray(sum(terms))


def sample_at(example: Example, points: jax.Array) -> Example:
    """Reads the spatial arrays of an example at the given points.

    Arrays of floats are interpolated linearly. Integers and the weight take the nearest
    pixel, so that no new label appears. Points outside the image are reflected; the
    edge pixel is not repeated (NumPy's 'reflect').

    Args:
      example: the arrays of one example; those that are not spatial are kept.
      points: `f32[n, *S]`, in pixels.
    """
    shape = get_shape(example)
    flat = {
        name: example[name].reshape(-1, *example[name].shape[len(shape) :])
        for name in arrays.list_spatial(example)
    }
    smooth = [name for name in flat if arrays.is_interpolated(name, example[name])]
    inside = [_reflect(x, size) for x, size in zip(points, shape, strict=True)]
    lower = [jnp.floor(x) for x in inside]
    mixed = dict.fromkeys(smooth, 0.0)
    for corner in itertools.product((0, 1), repeat=len(shape)):
        index = [low + up for low, up in zip(lower, corner, strict=True)]
        shares = [1 - jnp.abs(x - i) for x, i in zip(inside, index, strict=True)]
        share = jnp.asarray(math.prod(shares))
        position = _flatten_index(index, shape)
        for name in smooth:
            mixed[name] += _append_axes(share, flat[name]) * flat[name][position]
    nearest = _flatten_index([jnp.floor(x + 0.5) for x in inside], shape)
    rest = {name: flat[name][nearest] for name in flat if name not in mixed}
    return {**example, **mixed, **rest}


def _append_axes(share: jax.Array, flat: jax.Array) -> jax.Array:
    """Appends an axis of size 1 for each axis of `flat` after the first."""
    return share.reshape(*share.shape, *[1] * (flat.ndim - 1))


def _reflect(x: jax.Array, size: int) -> jax.Array:
    """Reflects a coordinate into 0..size-1."""
    period = max(2 * (size - 1), 1)
    x = x - period * jnp.floor(x / period)
    return jnp.minimum(x, period - x) if size > 1 else x * 0


def _flatten_index(index: Sequence[jax.Array], shape: tuple[int, ...]) -> jax.Array:
    """Returns the index into the flattened pixels, from one index per axis."""
    flat: Any = 0
    for i, size in zip(index, shape, strict=True):
        # The upper neighbour of the last pixel has weight 0, so any pixel will do.
        flat = flat * size + jnp.minimum(i.astype(jnp.int32), size - 1)
    return flat
