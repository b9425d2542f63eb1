"""Poolings and interpolations, for any number of spatial axes.

Pooling is a reshape and a comparison per axis, interpolation a sum of slices or a
matrix product per axis. All of them allow a spatial axis to be sharded over devices,
and have an equivalent in ONNX.
"""

import jax
import jax.numpy as jnp

Sizes = tuple[int, ...]  # kernels or strides, one for each axis or one for all


def broadcast_sizes(numbers: Sizes, axes: int) -> Sizes:
    """Repeats a single number for every axis; returns other tuples unchanged."""
    return numbers * axes if len(numbers) == 1 else numbers


def max_pool(x: jax.Array, stride: Sizes = (2,)) -> jax.Array:
    """Reduces every spatial axis by its stride to the maximum of the pixels.

    The strides must divide the sizes. Among equal pixels the first one gets the
    gradient, as in `nn.max_pool`.
    """
    strides = broadcast_sizes(stride, x.ndim - 2)
    for axis in reversed(range(1, x.ndim - 1)):
        first, *others = _split_phases(x, axis, strides[axis - 1])
        for other in others:
            # Not jnp.max: its gradient goes to the pixels equal to the maximum. If XLA
            # recomputes both with different rounding, none is equal: the result is NaN.
            first = jnp.where((other > first) | jnp.isnan(other), other, first)
        x = first
    return x


def average_pool(x: jax.Array, stride: Sizes) -> jax.Array:
    """Reduces every spatial axis by its stride to the mean of the pixels.

    The strides must divide the sizes.
    """
    strides = broadcast_sizes(stride, x.ndim - 2)
    for axis in reversed(range(1, x.ndim - 1)):
        first, *others = _split_phases(x, axis, strides[axis - 1])
        x = sum(others, start=first) / strides[axis - 1] if others else first
    return x


def max_pool_overlapping(x: jax.Array) -> jax.Array:
    """Halves every spatial axis: the maximum of 3 pixels around every second one.

    It is the pooling of ResNets, with a kernel of 3, a stride of 2 and a padding of 1.
    The sizes must be even.
    """
    for axis in range(1, x.ndim - 1):
        even, odd = _split_phases(x, axis, 2)
        # pixel -1 is outside: pixel 1, which is in the same window, stands for it
        first = jax.lax.slice_in_dim(odd, 0, 1, axis=axis)
        rest = jax.lax.slice_in_dim(odd, 0, -1, axis=axis)
        before = jnp.concatenate([first, rest], axis)
        for other in (odd, before):
            even = jnp.where((other > even) | jnp.isnan(other), other, even)
        x = even
    return x


def _split_phases(x: jax.Array, axis: int, stride: int) -> list[jax.Array]:
    """Returns every `stride`-th pixel along an axis, from pixel 0, from pixel 1, ..."""
    if stride == 1:
        return [x]
    groups = x.reshape(*x.shape[:axis], -1, stride, *x.shape[axis + 1 :])
    return [
        jax.lax.index_in_dim(groups, i, axis + 1, keepdims=False) for i in range(stride)
    ]


def depth_to_space(x: jax.Array, stride: Sizes) -> jax.Array:
    """Moves blocks to space: `[B, *S, *stride, C]` to `[B, *(stride S), C]`."""
    batch, *rest, channels = x.shape
    spatial = len(stride)
    order = [axis for i in range(spatial) for axis in (1 + i, 1 + spatial + i)]
    x = x.transpose(0, *order, x.ndim - 1)
    sizes = (size * s for size, s in zip(rest, stride, strict=False))
    return x.reshape(batch, *sizes, channels)


def upsample_nearest(x: jax.Array, stride: Sizes) -> jax.Array:
    """Enlarges every spatial axis by its stride by repeating each pixel."""
    for axis, s in enumerate(broadcast_sizes(stride, x.ndim - 2), start=1):
        x = jnp.repeat(x, s, axis=axis) if s > 1 else x
    return x


def upsample_linear(x: jax.Array, stride: Sizes) -> jax.Array:
    """Enlarges every spatial axis by its stride with linear interpolation.

    Pixel centres are at half-integer positions, and the edge value is repeated outside.
    """
    for axis, s in enumerate(broadcast_sizes(stride, x.ndim - 2), start=1):
        if s == 1:
            continue
        first = jax.lax.slice_in_dim(x, 0, 1, axis=axis)
        last = jax.lax.slice_in_dim(x, x.shape[axis] - 1, None, axis=axis)
        head = jax.lax.slice_in_dim(x, 0, -1, axis=axis)
        tail = jax.lax.slice_in_dim(x, 1, None, axis=axis)
        before = jnp.concatenate([first, head], axis)
        after = jnp.concatenate([tail, last], axis)
        phases = []
        for i in range(s):
            offset = (i + 0.5) / s - 0.5  # from the centre of the coarse pixel
            other = before if offset < 0 else after
            phases.append((1 - abs(offset)) * x + abs(offset) * other)
        x = jnp.stack(phases, axis + 1)
        x = x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])
    return x


def upsample_aligned(x: jax.Array, stride: Sizes) -> jax.Array:
    """Enlarges every spatial axis by its stride with aligned corners.

    The first and the last pixel keep their values, and the others are interpolated
    linearly at equal distances, as with `align_corners=True` in PyTorch. So a pixel of
    the result depends on the size of the whole image.
    """
    for axis, s in enumerate(broadcast_sizes(stride, x.ndim - 2), start=1):
        if s == 1:
            continue
        size = x.shape[axis]
        # position i (size - 1) / (s size - 1), as a whole number and a rest
        place = jnp.arange(s * size)[:, None] * (size - 1)
        last = s * size - 1
        left, share = place // last, (place % last) / last
        column = jnp.arange(size)[None]
        matrix = jnp.where(column == left, 1 - share, 0)
        matrix += jnp.where(column == left + 1, share, 0)
        y = jnp.tensordot(
            matrix.astype(x.dtype), x, (1, axis), precision=jax.lax.Precision.HIGHEST
        )
        x = jnp.moveaxis(y, 0, axis)
    return x
