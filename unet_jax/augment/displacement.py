"""Where an output pixel looks in the input: moves wait, and the pixels are read once.

A move is a smooth displacement of the plane (or of space), given by its vectors at a
few control points that span the crop: `f32[n, *G]`, in pixels, for n spatial axes.
Two points an axis make an affine map, more a natural cubic spline; a move of zeros is
the identity. A geometric operation only appends its move to `example['moves']`, and
`settle` reads the pixels through all of them, in the order of the list. So nothing is
interpolated twice, and to choose whether to move is to choose between a few numbers.
"""

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from scipy.interpolate import CubicSpline

from unet_jax import arrays
from unet_jax.arrays import Example


def get_shape(example: Example) -> tuple[int, ...]:
    """Returns the spatial shape of an example, (H, W) or (D, H, W)."""
    return example["image"].shape[:-1]


def displace(example: Example, move: jax.Array) -> Example:
    """Adds a move, `f32[n, *G]` in pixels, to those that wait."""
    return {**example, "displacements": (*example.get("displacements", ()), move)}


def apply_displacements(example: Example) -> Example:
    """Reads the pixels through the moves that wait, if any, and drops the moves."""
    if "displacements" not in example:
        return example
    pixels = {k: v for k, v in example.items() if k != "displacements"}
    here = compute_source_points(example["displacements"], get_shape(example))
    # Else XLA works out points (and flips) anew for each corner: 2 to 4 times slower.
    return sample_at(*jax.lax.optimization_barrier((pixels, here)))


def compute_source_points(
    moves: Sequence[jax.Array], shape: tuple[int, ...]
) -> jax.Array:
    """`f32[n, *S]`: the input pixel at which each output pixel looks."""
    here = [jax.lax.broadcasted_iota(jnp.float32, shape, a) for a in range(len(shape))]
    # The output of the last move looks into the output of the one before it.
    for move in reversed(moves):
        step = evaluate_displacement(move, here, shape)
        here = [x + dx for x, dx in zip(here, step, strict=True)]
    return jnp.stack(here)


def evaluate_displacement(
    move: jax.Array, here: Sequence[jax.Array], shape: tuple[int, ...]
) -> list[jax.Array]:
    """The vectors of a move at any points: n arrays, in pixels, for n coordinates.

    The outer control points lie on the corner pixels of the crop; outside, the
    displacement goes on in straight lines.
    """
    weights = []
    for x, size, knots in zip(here, shape, move.shape[1:], strict=True):
        t = (x - (size - 1) / 2) / max(size - 1, 1) + 0.5  # 0..1 across the crop
        weights.append(_evaluate_splines(t * (knots - 1), knots))
    return [_sum_control_points(vector, weights) for vector in move]


def _evaluate_splines(t: jax.Array, knots: int) -> list[jax.Array]:
    """The natural cubic splines that are 1 at one of the knots 0, 1, 2, ... and 0 else.

    Written as a line plus a cube that sets in at every knot, which needs no table
    look-up and so becomes part of one fused loop over the pixels.
    """
    if knots == 2:
        return [1 - t, t]
    spline = CubicSpline(np.arange(knots), np.eye(knots), bc_type="natural")
    jumps = np.diff(spline.c[0], axis=0, prepend=0, append=0)
    parts = [jnp.ones_like(t), t, *(jnp.maximum(t - k, 0) ** 3 for k in range(knots))]
    factors = np.stack([spline(0), spline(0, 1), *jumps], axis=1).tolist()
    return [sum(f * p for f, p in zip(row, parts, strict=True)) for row in factors]


def _sum_control_points(values: jax.Array, weights: list[list[jax.Array]]) -> jax.Array:
    """The sum over control points of value times one weight an axis, unrolled."""
    if not weights:
        return values
    first, *rest = weights
    return sum(
        w * _sum_control_points(v, rest) for w, v in zip(first, values, strict=True)
    )


def sample_at(example: Example, at: jax.Array) -> Example:
    """Reads an example `at` points, `f32[n, *S]` in pixels, mirrored at the borders.

    Spatial arrays of floats are interpolated linearly; integers and the weight take the
    nearest pixel, so that no new label appears. The edge pixel is not repeated (numpy's
    'reflect').
    """
    shape = get_shape(example)
    flat = {
        name: example[name].reshape(-1, *example[name].shape[len(shape) :])
        for name in arrays.list_spatial(example)
    }
    smooth = [name for name in flat if arrays.is_interpolated(name, example[name])]
    inside = [_mirror_coordinate(x, size) for x, size in zip(at, shape, strict=True)]
    lower = [jnp.floor(x) for x in inside]
    mixed = dict.fromkeys(smooth, 0.0)
    for corner in itertools.product((0, 1), repeat=len(shape)):
        index = [low + up for low, up in zip(lower, corner, strict=True)]
        shares = [1 - jnp.abs(x - i) for x, i in zip(inside, index, strict=True)]
        share, place = math.prod(shares), _flatten_index(index, shape)
        for name in smooth:
            mixed[name] += _append_axes(share, flat[name]) * flat[name][place]
    nearest = _flatten_index([jnp.floor(x + 0.5) for x in inside], shape)
    rest = {name: flat[name][nearest] for name in flat if name not in mixed}
    return {**example, **mixed, **rest}


def _append_axes(share: jax.Array, flat: jax.Array) -> jax.Array:
    """Adds an axis of 1 for each axis of an array besides its pixels."""
    return share.reshape(*share.shape, *[1] * (flat.ndim - 1))


def _mirror_coordinate(x: jax.Array, size: int) -> jax.Array:
    """Folds a coordinate into 0..size-1."""
    period = max(2 * (size - 1), 1)
    x = x - period * jnp.floor(x / period)
    return jnp.minimum(x, period - x) if size > 1 else x * 0


def _flatten_index(index: Sequence[jax.Array], shape: tuple[int, ...]) -> jax.Array:
    """One index into the flattened pixels, from one index an axis."""
    flat = 0
    for i, size in zip(index, shape, strict=True):
        # The upper neighbour of the last pixel has weight zero: any pixel will do.
        flat = flat * size + jnp.minimum(i.astype(jnp.int32), size - 1)
    return flat
