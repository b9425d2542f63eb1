"""The convolution of a network, in the formulation that is fastest on the platform.

Accelerators get XLA's own convolution. On CPUs, three other formulations are faster for
strides of 1 in float32, if no image is divided between devices:

- a convolution of volumes is a sum of convolutions of their planes;
- with many channels, the first axis uses Winograd's minimal filtering F(4, 3), which
  needs half of the multiplications (Lavin and Gray 2016, section 4);
- the gradient of the kernel is summed over blocks of rows, which fit the cache.

All formulations are equal up to rounding, which Winograd's increases to about 1e-5 of
the largest value. A forward pass without a gradient uses no Winograd, so that
predictions do not depend on it.
"""

import functools
import math
import operator
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from unet_jax.arrays import SPACE

Sizes = tuple[int, ...]

ROWS = 16  # of a block in the gradient of a kernel
MAX_BLOCKS = 32  # more would compile for long
MIN_WORK = 432  # taps of the kernel times channels, below which Winograd does not pay

# F(4, 3) with the points 0, 1, -1, 2, -2 and infinity: four outputs of a filter g of
# three taps, for six input values d, are OUTPUT [(KERNEL g) * (INPUT d)].
TILE = 4
INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
OUTPUT = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)


def convolve(
    x: jax.Array, kernel: jax.Array, *, strides: Sizes, zeros: Sizes
) -> jax.Array:
    """Convolves images or volumes with a kernel.

    On CPUs it has a gradient, but no forward-mode derivative (`jax.jvp`).

    Args:
      x: `[B, *S, C]`.
      kernel: `[*K, C, features]`, of the same type.
      strides: along each axis.
      zeros: the number of zeros on both sides of each axis.

    Returns:
      `[B, *S', features]`.
    """
    usable = x.dtype == jnp.float32 and set(strides) == {1} and _is_for_cpu(x)
    if usable and min(find_output_shape(x.shape, kernel.shape, zeros)) > 0:
        return convolve_cpu(x, kernel, zeros)
    return convolve_plainly(x, kernel, strides, zeros)


def _is_for_cpu(x: jax.Array) -> bool:
    """Returns True if a CPU computes a whole image.

    A program that `jax.export` writes, with sizes that are symbols, is for several
    platforms.
    """
    known = all(isinstance(size, int) for size in x.shape)
    return known and jax.default_backend() == "cpu" and not _divides_images()


def _divides_images() -> bool:
    """Returns True if several devices share an image, each with some of its rows.

    XLA would move the rows of every tile and block between the devices.
    """
    return jax.sharding.get_abstract_mesh().shape.get(SPACE, 1) > 1


def convolve_plainly(
    x: jax.Array, kernel: jax.Array, strides: Sizes, zeros: Sizes
) -> jax.Array:
    """Convolves with XLA's own convolution; see `convolve`."""
    axes = "XYZ"[: x.ndim - 2]
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=strides,
        padding=[(n, n) for n in zeros],
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve_cpu(x: jax.Array, kernel: jax.Array, zeros: Sizes) -> jax.Array:
    """Convolves with strides of 1, to an output that is not empty; see `convolve`."""
    return _convolve_planes(x, kernel, zeros)


def _forward(x: jax.Array, kernel: jax.Array, zeros: Sizes) -> tuple:
    return _convolve(x, kernel, zeros), (x, kernel)


def _backward(zeros: Sizes, inputs: tuple, gradient: jax.Array) -> tuple:
    x, kernel = inputs
    size = kernel.shape[:-2]
    flipped = jnp.flip(kernel, range(len(size))).swapaxes(-1, -2)
    # Negative if there were more zeros than the kernel is wide: then rows are removed.
    others = tuple(k - 1 - n for k, n in zip(size, zeros, strict=True))
    return (
        _convolve(gradient, flipped, others),
        _find_kernel_gradient(x, gradient, size, zeros),
    )


convolve_cpu.defvjp(_forward, _backward)


def find_output_shape(shape: Sizes, kernel_shape: Sizes, zeros: Sizes) -> Sizes:
    """Returns `[B, *S', features]` of a convolution with strides of 1.

    Args:
      shape: `[B, *S, C]`.
      kernel_shape: `[*K, C, features]`.
      zeros: the number of zeros on both sides of each axis.
    """
    *size, _, features = kernel_shape
    sizes = zip(shape[1:-1], zeros, size, strict=True)
    return (shape[0], *(max(n + 2 * z - k + 1, 0) for n, z, k in sizes), features)


def has_winograd_gain(kernel_shape: Sizes, output_shape: Sizes) -> bool:
    """Returns True if Winograd's filtering is faster than a plain convolution.

    With few channels, or few pixels, its additions cost more than it saves.

    Args:
      kernel_shape: `[*K, C, features]`.
      output_shape: `[B, *S', features]`.
    """
    *size, channels, features = kernel_shape
    work = math.prod(size) * min(channels, features)
    pixels = math.prod(output_shape[:-1])
    enough = work >= MIN_WORK and pixels >= max(channels, features)
    # A tile of one or two rows would need more multiplications than it saves.
    return size[0] == 3 and output_shape[1] > 2 and enough


def _convolve(x: jax.Array, kernel: jax.Array, zeros: Sizes) -> jax.Array:
    shape = find_output_shape(x.shape, kernel.shape, zeros)
    if not has_winograd_gain(kernel.shape, shape):
        return _convolve_planes(x, kernel, zeros)
    height = shape[1]
    parts = _transform(INPUT, _split_tiles(x, zeros[0], height, TILE + 2))
    kernels = _transform(KERNEL, list(kernel[:, None]))
    rest = (0, *zeros[1:])
    products = [
        _convolve_planes(part, k, rest) for part, k in zip(parts, kernels, strict=True)
    ]
    y = jnp.stack(_transform(OUTPUT, products), axis=2)
    y = y.reshape(len(y), -1, *y.shape[3:])
    return lax.slice_in_dim(y, 0, height, axis=1)


def _find_kernel_gradient(
    x: jax.Array, gradient: jax.Array, size: Sizes, zeros: Sizes
) -> jax.Array:
    """Returns the gradient of a kernel of some size, `[*size, C, features]`."""
    kernel_shape = (*size, x.shape[-1], gradient.shape[-1])
    if not has_winograd_gain(kernel_shape, gradient.shape):
        return _sum_planes(x, gradient, size, zeros)
    height = gradient.shape[1]
    parts = _transform(INPUT, _split_tiles(x, zeros[0], height, TILE + 2))
    rows = _split_tiles(gradient, 0, height, TILE)
    others = _transform(_transpose(OUTPUT), rows)
    one, rest = (1, *size[1:]), (0, *zeros[1:])
    products = [
        _sum_planes(part, other, one, rest)
        for part, other in zip(parts, others, strict=True)
    ]
    return jnp.concatenate(_transform(_transpose(KERNEL), products))


def _split_tiles(x: jax.Array, zeros: int, height: int, length: int) -> list[jax.Array]:
    """Returns row 0 of every tile, then row 1, ..., `[B, tiles, *S[1:], C]` each.

    A tile has `length` rows. It starts `TILE` rows after the one before it, and the
    first one starts with the zeros. The tiles cover an output of some height.
    """
    tiles = -(-height // TILE)
    end = (tiles - 1) * TILE
    padded = _pad_rows(x, zeros, end + length - zeros - x.shape[1])
    return [
        lax.slice_in_dim(padded, i, i + end + 1, TILE, axis=1) for i in range(length)
    ]


def _pad_rows(x: jax.Array, before: int, after: int) -> jax.Array:
    """Adds zeros to both ends of the first axis; negative numbers remove rows."""
    ends = [(0, 0, 0)] * x.ndim
    ends[1] = (before, after, 0)
    return lax.pad(x, jnp.zeros((), x.dtype), ends)


def _transform(
    matrix: Sequence[Sequence[float]], arrays: Sequence[jax.Array]
) -> list[jax.Array]:
    """Multiplies a matrix with a vector of arrays, without the zeros."""
    return [
        _add(x if n == 1 else n * x for n, x in zip(row, arrays, strict=True) if n)
        for row in matrix
    ]


def _transpose(matrix: Sequence[Sequence[float]]) -> list[tuple[float, ...]]:
    return list(zip(*matrix, strict=True))


def _add(arrays: Iterable[jax.Array]) -> jax.Array:
    return functools.reduce(operator.add, arrays)


def _convolve_planes(x: jax.Array, kernel: jax.Array, zeros: Sizes) -> jax.Array:
    """Convolves images plainly, and volumes as a sum over convolved planes."""
    if x.ndim < 5:
        return convolve_plainly(x, kernel, (1,) * len(zeros), zeros)
    planes = _shift_planes(x, zeros[0], len(kernel))
    y = _add(
        _convolve_planes(part, k, zeros[1:])
        for part, k in zip(planes, kernel, strict=True)
    )
    return y.reshape(len(x), -1, *y.shape[1:])


def _sum_planes(
    x: jax.Array, gradient: jax.Array, size: Sizes, zeros: Sizes
) -> jax.Array:
    """Returns the gradient of a kernel, that of a volume from pairs of planes."""
    if x.ndim < 5:
        return _sum_blocks(x, gradient, size, zeros)
    flat = gradient.reshape(-1, *gradient.shape[2:])
    return jnp.stack(
        [
            _sum_planes(planes, flat, size[1:], zeros[1:])
            for planes in _shift_planes(x, zeros[0], size[0])
        ]
    )


def _shift_planes(x: jax.Array, zeros: int, taps: int) -> list[jax.Array]:
    """Returns the planes that each tap of a kernel reads, as a batch of images."""
    padded = _pad_rows(x, zeros, zeros)
    depth = padded.shape[1] - taps + 1
    planes = (lax.slice_in_dim(padded, i, i + depth, axis=1) for i in range(taps))
    return [p.reshape(-1, *p.shape[2:]) for p in planes]


def _sum_blocks(
    x: jax.Array, gradient: jax.Array, size: Sizes, zeros: Sizes
) -> jax.Array:
    """Returns the gradient of the kernel of an image, summed over blocks of rows."""
    padded = jnp.pad(x, [(0, 0), *((n, n) for n in zeros), (0, 0)])
    height = gradient.shape[1]
    rows = max(ROWS, -(-height // MAX_BLOCKS))
    axes = "HW"[: len(size)]
    numbers = f"C{axes}N", f"I{axes}O", f"{axes}NC"  # the batch is summed over
    products = []
    for start in range(0, height, rows):
        end = min(start + rows, height)
        block = lax.slice_in_dim(padded, start, end + size[0] - 1, axis=1)
        other = lax.slice_in_dim(gradient, start, end, axis=1)
        products.append(
            lax.conv_general_dilated(
                block, other, (1,) * len(size), "VALID", dimension_numbers=numbers
            )
        )
    return _add(products)
