"""The parts that a U-Net is made of, for any number of spatial axes.

Three of them are written for speed and equal their textbook form exactly: a pooling
is a reshape and a comparison for each axis, a 2x2 up-convolution is one matrix product
and a reshape, and a convolution of a concatenation is a sum of convolutions, so that
nothing is concatenated. None of them stops a spatial axis from being cut over devices.
"""

import math
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from unet_jax.arrays import Seed, centre
from unet_jax.models.sizes import Padding, Upsample

Norm = Literal["none", "batch", "group", "instance"]

# N(0, sqrt(2 / N)) with N the incoming nodes of one neuron (section 3 of the paper).
he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
# An output pixel of a 2x2 stride-2 up-convolution sees one input pixel, so N is C.
he_normal_up = nn.initializers.variance_scaling(
    2.0, "fan_in", "normal", in_axis=0, out_axis=-1, batch_axis=1
)


def max_pool(x: jax.Array) -> jax.Array:
    """Halves every spatial axis by its maximum over pairs; sizes must be even.

    Of equal pixels the first gets the gradient, as in `nn.max_pool`.
    """
    for axis in reversed(range(1, x.ndim - 1)):
        pairs = x.reshape(*x.shape[:axis], -1, 2, *x.shape[axis + 1 :])
        first, second = (
            jax.lax.index_in_dim(pairs, i, axis + 1, keepdims=False) for i in (0, 1)
        )
        # Not jnp.max: its gradient asks which pixel equals the maximum, and where XLA
        # computes the two anew, differently rounded, none does and the answer is NaN.
        x = jnp.where((second > first) | jnp.isnan(second), second, first)
    return x


def interleave(x: jax.Array, spatial: int) -> jax.Array:
    """Depth to space: `[B, *S, *(2, ...), C]` to `[B, *2S, C]`."""
    batch, *rest, channels = x.shape
    sizes = rest[:spatial]
    order = [axis for i in range(spatial) for axis in (1 + i, 1 + spatial + i)]
    x = x.transpose(0, *order, x.ndim - 1)
    return x.reshape(batch, *(2 * size for size in sizes), channels)


def double_nearest(x: jax.Array) -> jax.Array:
    """Doubles every spatial axis by repeating each pixel."""
    for axis in range(1, x.ndim - 1):
        x = jnp.repeat(x, 2, axis=axis)
    return x


def double_linear(x: jax.Array) -> jax.Array:
    """Doubles every spatial axis linearly (half-pixel centres, clamped at the edge)."""
    for axis in range(1, x.ndim - 1):
        first = jax.lax.slice_in_dim(x, 0, 1, axis=axis)
        last = jax.lax.slice_in_dim(x, x.shape[axis] - 1, None, axis=axis)
        before = jnp.concatenate(
            [first, jax.lax.slice_in_dim(x, 0, -1, axis=axis)], axis
        )
        after = jnp.concatenate(
            [jax.lax.slice_in_dim(x, 1, None, axis=axis), last], axis
        )
        pairs = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1)
        x = pairs.reshape(*x.shape[:axis], -1, *x.shape[axis + 1 :])
    return x


class Conv(nn.Module):
    """A convolution of its inputs, as if they had been concatenated in that order."""

    features: int
    size: int = 3
    padding: Padding = "SAME"
    bias: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, *inputs: jax.Array) -> jax.Array:
        """`[B, *S, C_i]` each to `[B, *S', features]`."""
        axes = "XYZ"[: inputs[0].ndim - 2]
        channels = [x.shape[-1] for x in inputs]
        shape = (self.size,) * len(axes) + (sum(channels), self.features)
        kernel = self.param("kernel", he_normal, shape).astype(self.dtype)
        parts = jnp.split(kernel, list(_cumulative(channels)), axis=-2)
        y = sum(
            jax.lax.conv_general_dilated(
                x.astype(self.dtype),
                part,
                window_strides=(1,) * len(axes),
                padding=self.padding,
                dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
            )
            for x, part in zip(inputs, parts, strict=True)
        )
        if self.bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
            y = y + jnp.broadcast_to(bias.astype(self.dtype), y.shape)
        return y


def _cumulative(channels: list[int]) -> list[int]:
    return [sum(channels[:i]) for i in range(1, len(channels))]


class UpConv(nn.Module):
    """The paper's up-convolution, or an interpolation with a 3x3 convolution.

    Either doubles the size and returns `features` channels. With VALID padding the
    interpolations lose `sizes.UPSAMPLING_LOSS` pixels a side, so that no output pixel
    depends on how the border was treated.
    """

    features: int
    upsample: Upsample = "transpose"
    padding: Padding = "SAME"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, *S, C]` to `[B, *2S, features]`."""
        if self.upsample != "transpose":
            double = {"nearest": double_nearest, "linear": double_linear}[self.upsample]
            y = double(x)
            if self.upsample == "linear" and self.padding == "VALID":
                y = centre(y, tuple(size - 2 for size in y.shape[1:-1]))
            return Conv(self.features, 3, self.padding, dtype=self.dtype)(y)
        spatial = x.ndim - 2
        twos = (2,) * spatial
        shape = (x.shape[-1], math.prod(twos), self.features)
        kernel = self.param("kernel", he_normal_up, shape).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        y = jnp.einsum("...c,cpf->...pf", x.astype(self.dtype), kernel)
        y = y + jnp.broadcast_to(bias.astype(self.dtype), y.shape)
        return interleave(y.reshape(*x.shape[:-1], *twos, self.features), spatial)


class Normalization(nn.Module):
    """Batch, group (8 groups, fewer where 8 does not divide) or instance norm."""

    kind: Norm
    axis_name: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """The normalised array, with a learnt scale and offset per channel."""
        if self.kind == "none":
            return x
        if self.kind == "batch":
            return nn.BatchNorm(
                use_running_average=not train,
                momentum=0.9,
                axis_name=self.axis_name,
                dtype=self.dtype,
            )(x)
        channels = x.shape[-1]
        groups = channels if self.kind == "instance" else math.gcd(channels, 8)
        return nn.GroupNorm(num_groups=groups, dtype=self.dtype)(x)


class Dropout(nn.Module):
    """Dropout whose mask belongs to the example, whatever batch or device it is in."""

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, seed: Seed, *, train: bool) -> jax.Array:
        """Zeroes elements with probability `rate` and scales the rest up."""
        if not train or self.rate == 0:
            return x
        fold = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
        keys = fold(self.make_rng("dropout"), seed)
        keep = jax.vmap(lambda k: jax.random.bernoulli(k, 1 - self.rate, x.shape[1:]))
        return jnp.where(keep(keys), x / (1 - self.rate), 0).astype(x.dtype)


class AttentionGate(nn.Module):
    """Additive attention on a skip (Oktay et al. 2018, equations 1 and 2)."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, skip: jax.Array, gate: jax.Array) -> jax.Array:
        """Scales every pixel of the skip by a number in (0, 1)."""
        hidden = max(skip.shape[-1] // 2, 1)
        # W_x x + W_g g with one bias is a 1x1 convolution of the two together.
        q = nn.relu(Conv(hidden, 1, dtype=self.dtype, name="project")(skip, gate))
        return skip * nn.sigmoid(Conv(1, 1, dtype=self.dtype, name="score")(q))


class Block(nn.Module):
    """Two 3x3 convolutions, each with norm and activation; residual if asked.

    A residual block adds a 1x1 projection of its inputs before the last activation
    (He et al. 2016), cropped to what VALID convolutions leave.
    """

    features: int
    padding: Padding
    norm: Norm
    activation: str
    residual: bool
    axis_name: str | None
    dtype: Any

    @nn.compact
    def __call__(self, inputs: tuple[jax.Array, ...], train: bool) -> jax.Array:
        """`[B, *S, C_i]` each to `[B, *S', features]`, S' = S - 4 when VALID."""
        activation = getattr(jax.nn, self.activation)
        bias = self.norm == "none"  # a norm takes the mean away, and has its own

        def normalize(x: jax.Array) -> jax.Array:
            return Normalization(self.norm, self.axis_name, self.dtype)(x, train=train)

        def conv() -> Conv:
            return Conv(self.features, 3, self.padding, bias, self.dtype)

        x = activation(normalize(conv()(*inputs)))
        x = normalize(conv()(x))
        if self.residual:
            short = Conv(self.features, 1, dtype=self.dtype, name="shortcut")(*inputs)
            x = x + centre(short, x.shape[1:-1])
        return activation(x)
