"""The building blocks of a U-Net, for any number of spatial axes.

Two of them are written for speed and are mathematically equal to their textbook form.
An up-convolution is one matrix product and a reshape. A convolution of a concatenation
is a sum of convolutions, without the concatenation. Both allow a spatial axis to be
sharded over devices.

Kernels and strides are tuples with one number per spatial axis, or with a single number
for all axes.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from unet_jax.arrays import Seed, crop_centre
from unet_jax.models.convolution import convolve
from unet_jax.models.resizing import (
    Sizes,
    average_pool,
    broadcast_sizes,
    depth_to_space,
    upsample_aligned,
    upsample_linear,
    upsample_nearest,
)
from unet_jax.models.sizes import Padding, Upsample, count_border_pixels

Norm = Literal["none", "batch", "group", "instance"]
Residual = Literal["none", "projection", "identity"]

LONGEST_PERIOD = 10_000.0  # of the sinusoids of a time embedding, divided by 2 pi
EPSILON = 1e-5  # added to the variance in every norm, as in PyTorch and nnU-Net

INTERPOLATIONS = {
    "aligned": upsample_aligned,
    "linear": upsample_linear,
    "nearest": upsample_nearest,
}

# N(0, sqrt(2 / N)), with N the number of incoming nodes (section 3 of the paper).
he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
# An output pixel of an up-convolution reads one input pixel, so N is C.
he_normal_up = nn.initializers.variance_scaling(
    2.0, "fan_in", "normal", in_axis=0, out_axis=-1, batch_axis=1
)


class BlockOptions(NamedTuple):
    """The options that all blocks of a network share.

    Attributes:
      padding: of the convolutions.
      norm: the norm after each convolution.
      conv_bias: adds a bias to convolutions that are followed by a norm.
      activation: an elementwise function.
      axis_name: the axis of devices that share the statistics of batch norm.
      dtype: of the computation; parameters are float32.
    """

    padding: Padding = "SAME"
    norm: Norm = "none"
    conv_bias: bool = False
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    axis_name: str | None = None
    dtype: Any = jnp.float32


class Conv(nn.Module):
    """A convolution of its inputs as if they were concatenated in this order.

    SAME padding is symmetric, (kernel - 1) / 2 zeros on each side for any stride.
    """

    features: int
    kernel_size: Sizes = (3,)
    padding: Padding = "SAME"
    bias: bool = True
    dtype: Any = jnp.float32
    strides: Sizes = (1,)

    @nn.compact
    def __call__(self, *inputs: jax.Array) -> jax.Array:
        """Maps inputs `[B, *S, C_i]` to `[B, *S', features]`."""
        axes = inputs[0].ndim - 2
        sizes = broadcast_sizes(self.kernel_size, axes)
        *ends, channels = itertools.accumulate(x.shape[-1] for x in inputs)
        shape = (*sizes, channels, self.features)
        kernel = self.param("kernel", he_normal, shape).astype(self.dtype)
        parts = jnp.split(kernel, ends, axis=-2)
        same = self.padding == "SAME"
        zeros = tuple(size // 2 if same else 0 for size in sizes)
        strides = broadcast_sizes(self.strides, axes)
        outputs = (
            convolve(x.astype(self.dtype), part, strides=strides, zeros=zeros)
            for x, part in zip(inputs, parts, strict=True)
        )
        y = jnp.asarray(sum(outputs))
        if self.bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
            y = y + jnp.broadcast_to(bias.astype(self.dtype), y.shape)
        return y


class Head(nn.Module):
    """A convolution that returns the logits in float32, with SAME padding.

    A kernel of 1 multiplies in the type of the network and adds in float32. A copy of
    the features in float32 would take 4 % of a training step in bfloat16.
    """

    outputs: int
    dtype: Any = jnp.float32
    kernel_size: int = 1  # along every axis

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[B, *S, C]` to `f32[B, *S, outputs]`."""
        axes = x.ndim - 2
        shape = (*(self.kernel_size,) * axes, x.shape[-1], self.outputs)
        kernel = self.param("kernel", he_normal, shape).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.outputs,))
        x = x.astype(self.dtype)
        if self.kernel_size == 1:
            matrix = kernel.reshape(shape[-2:])
            y = jnp.einsum(
                "...c,ck->...k", x, matrix, preferred_element_type=jnp.float32
            )
        else:
            zeros = (self.kernel_size // 2,) * axes
            y = convolve(x, kernel, strides=(1,) * axes, zeros=zeros)
            y = y.astype(jnp.float32)
        return y + jnp.broadcast_to(bias, y.shape)


class UpConv(nn.Module):
    """The paper's up-convolution, or an interpolation followed by a convolution.

    Both enlarge the image by the stride and return `features` channels; without the
    convolution, an interpolation returns those of its input. With VALID padding an
    interpolation also removes the pixels that depend on values outside the image: those
    of `sizes.count_border_pixels`, and those of the convolution.
    """

    features: int
    upsample: Upsample = "transpose"
    padding: Padding = "SAME"
    dtype: Any = jnp.float32
    strides: Sizes = (2,)
    kernel_size: Sizes = (3,)  # of the convolution after an interpolation
    convolved: bool = True  # False: no convolution after an interpolation

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[B, *S, C]` to `[B, *(stride S), features]`."""
        strides = broadcast_sizes(self.strides, x.ndim - 2)
        if self.upsample != "transpose":
            y = INTERPOLATIONS[self.upsample](x, strides)
            if self.upsample == "linear" and self.padding == "VALID":
                sizes = zip(y.shape[1:-1], strides, strict=True)
                left = (n - 2 * count_border_pixels(s) for n, s in sizes)
                y = crop_centre(y, tuple(left))
            if not self.convolved:
                return y
            conv = Conv(self.features, self.kernel_size, self.padding, dtype=self.dtype)
            return conv(y)
        shape = (x.shape[-1], math.prod(strides), self.features)
        kernel = self.param("kernel", he_normal_up, shape).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        y = jnp.einsum("...c,cpf->...pf", x.astype(self.dtype), kernel)
        y = y + jnp.broadcast_to(bias.astype(self.dtype), y.shape)
        y = y.reshape(*x.shape[:-1], *strides, self.features)
        return depth_to_space(y, strides)


class Normalization(nn.Module):
    """Batch norm, group norm with 8 groups, or instance norm.

    Group norm has fewer groups if 8 does not divide the number of channels.
    """

    kind: Norm
    axis_name: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Normalises an array, then applies a learnt scale and offset per channel."""
        if self.kind == "none":
            return x
        if self.kind == "batch":
            return nn.BatchNorm(
                use_running_average=not train,
                momentum=0.9,
                epsilon=EPSILON,
                axis_name=self.axis_name,
                dtype=self.dtype,
            )(x)
        channels = x.shape[-1]
        groups = channels if self.kind == "instance" else math.gcd(channels, 8)
        return nn.GroupNorm(groups, epsilon=EPSILON, dtype=self.dtype)(x)


class Dropout(nn.Module):
    """Dropout whose mask depends on the seed of the example, not on its batch."""

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, seed: Seed, *, train: bool) -> jax.Array:
        """Sets elements to 0 with probability `rate` and scales up the others."""
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
        """Multiplies every pixel of the skip by a number in (0, 1)."""
        hidden = max(skip.shape[-1] // 2, 1)
        # W_x x + W_g g with one bias is a 1x1 convolution of both inputs.
        q = nn.relu(Conv(hidden, (1,), dtype=self.dtype, name="project")(skip, gate))
        return skip * nn.sigmoid(Conv(1, (1,), dtype=self.dtype, name="score")(q))


def embed_sinusoids(time: jax.Array, features: int) -> jax.Array:
    """Returns sines and cosines of a time, `f32[B, features]`, the sines first.

    The angular frequencies fall from 1 to 10000^-(1 - 2 / features) in a geometric
    series (Vaswani et al. 2017, section 3.5). They suit times in units of steps, 0 to
    1000.

    Args:
      time: `f32[B]`.
      features: an even number.
    """
    half = features // 2
    frequencies = LONGEST_PERIOD ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = jnp.asarray(time, jnp.float32)[:, None] * frequencies[None]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


class TimeEmbedding(nn.Module):
    """Sinusoids and two dense layers of four times their width.

    Ho et al. 2020, appendix B. The output is activated, ready for the dense layer of
    each block.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, time: jax.Array) -> jax.Array:
        """Maps `f32[B]` to `[B, 4 features]`."""
        x = embed_sinusoids(time, self.features)
        for _ in range(2):
            x = nn.silu(nn.Dense(4 * self.features, dtype=self.dtype)(x))
        return x


class Block(nn.Module):
    """Convolutions, each with norm and activation, and an optional shortcut.

    The shortcut is added before the last activation (He et al. 2016). It is average-
    pooled by the strides, and cropped to the output of VALID convolutions.

    Attributes:
      features: the number of output channels.
      options: the options that all blocks share.
      convolutions: the number of convolutions.
      hidden: the number of channels of all convolutions but the last; 0: `features`.
      kernel_size: of every convolution.
      strides: of the first convolution.
      residual: the shortcut. "projection" is a 1x1 convolution of the inputs.
        "identity" is the single input itself, or, if the number of channels changes,
        its 1x1 convolution without bias and a norm (ResNet-D, He et al. 2019, as in
        nnU-Net's residual encoder).
    """

    features: int
    options: BlockOptions = BlockOptions()
    convolutions: int = 2
    kernel_size: Sizes = (3,)
    strides: Sizes = (1,)
    residual: Residual = "none"
    hidden: int = 0

    @nn.compact
    def __call__(
        self, inputs: tuple[jax.Array, ...], train: bool, time: jax.Array | None = None
    ) -> jax.Array:
        """Applies the block.

        Args:
          inputs: `[B, *S, C_i]` each, used as if they were concatenated.
          train: uses the statistics of the batch for batch norm.
          time: the output of `TimeEmbedding`. A dense layer converts it to one number
            per channel. It is added after the first norm, because the norm would
            cancel it.

        Returns:
          `[B, *S', features]`; S' = S - convolutions (kernel - 1) with VALID padding.
        """
        arrays = inputs
        for i in range(self.convolutions):
            first, last = i == 0, i == self.convolutions - 1
            features = self.features if last else self.hidden or self.features
            x = self._make_conv(features, self.strides if first else (1,))(*arrays)
            x = self._normalize(x, train)
            if first and time is not None:
                x = x + self._project_time(time, x.shape)
            if last and self.residual != "none":
                x = x + crop_centre(self._apply_shortcut(inputs, train), x.shape[1:-1])
            arrays = (self.options.activation(x),)
        return arrays[0]

    def _make_conv(self, features: int, strides: Sizes) -> Conv:
        padding, norm, conv_bias, *_ = self.options
        bias = conv_bias or norm == "none"  # a norm cancels it and has its own offset
        size, dtype = self.kernel_size, self.options.dtype
        return Conv(features, size, padding, bias, dtype, strides)

    def _normalize(
        self, x: jax.Array, train: bool, name: str | None = None
    ) -> jax.Array:
        options = self.options
        norm = Normalization(options.norm, options.axis_name, options.dtype, name=name)
        return norm(x, train=train)

    def _project_time(self, time: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        shift = nn.Dense(shape[-1], dtype=self.options.dtype, name="time")(time)
        return shift.reshape(shift.shape[0], *(1,) * (len(shape) - 2), shape[-1])

    def _apply_shortcut(self, inputs: tuple[jax.Array, ...], train: bool) -> jax.Array:
        inputs = tuple(average_pool(x, self.strides) for x in inputs)
        projection = self.residual == "projection"
        if not projection and inputs[0].shape[-1] == self.features:
            return inputs[0]
        dtype = self.options.dtype
        conv = Conv(self.features, (1,), bias=projection, dtype=dtype, name="shortcut")
        x = conv(*inputs)
        return x if projection else self._normalize(x, train, "shortcut_norm")
