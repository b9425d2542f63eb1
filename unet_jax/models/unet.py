"""The U-Net, written to be read beside figure 1 of the paper.

Ronneberger, Fischer and Brox: U-Net: Convolutional Networks for Biomedical Image
Segmentation, MICCAI 2015, arXiv:1505.04597.
"""

import functools
from collections.abc import Callable
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from unet_jax.arrays import Image, Logits, Seed, centre
from unet_jax.errors import UserError
from unet_jax.geometry import Geometry, Shape
from unet_jax.models import sizes
from unet_jax.models.blocks import (
    AttentionGate,
    Block,
    Conv,
    Dropout,
    Norm,
    Residual,
    Style,
    TimeEmbedding,
    UpConv,
    each_axis,
    max_pool,
)
from unet_jax.specs import BelowOne, Count, Domain, NonNegative

Odd = Annotated[int, Domain("that is odd, 1 or more", lambda n: n > 0 and n % 2 == 1)]
Even = Annotated[
    int, Domain("that is even, 0 or more", lambda n: n >= 0 and n % 2 == 0)
]

TIMES = 1000.0  # the embedding is made for 1000 steps (Ho et al. 2020)

# Fields with entries from level 0 on, and by how many they are fewer than the levels.
ENTRIES = {"encoder_depths": 0, "decoder_depths": 1, "strides": 1, "kernels": 0}


class UNet(nn.Module):
    """A U-Net; the defaults are the network of the paper.

    Level 0 is the finest one and the last level is the bottom of the U; `widths` sets
    their number. The other tuples also begin with level 0, or have a single entry that
    holds for all levels. Likewise a single number may hold for all axes.

    Attributes:
      widths: channels of each level.
      outputs: channels of the output, K.
      padding: VALID as in the paper (the output is smaller), or SAME.
      norm: what follows each convolution of a block.
      conv_bias: gives a convolution that a norm follows a bias, too, as in nnU-Net.
      activation: a function of `jax.nn`.
      negative_slope: of `leaky_relu`.
      encoder: "plain" has convolutions at each level of the contracting path;
        "residual" has one convolution (the stem) and then blocks of two convolutions
        with shortcuts at each level (nnU-Net's residual encoder, Isensee et al. 2024).
      encoder_depths: convolutions, or residual blocks, at each level of the contracting
        path, the bottom included.
      decoder_depths: convolutions at each level of the expanding path.
      strides: from each level to the next one, and per axis: `((1, 2, 2), (2, 2, 2))`.
      kernels: sizes of the convolutions at each level, and per axis.
      downsample: "pool" as in the paper, or "conv": the stride of the first convolution
        of a level, as in nnU-Net; that needs SAME padding.
      upsample: the paper's up-convolution, or nearest or linear interpolation followed
        by a convolution.
      dropout: rate at the end of the contracting path, that is after the last two
        levels, so that the deepest skip carries it too.
      residual: adds a projected shortcut to every plain block (He et al. 2016).
      attention: gates every skip (Oktay et al. 2018).
      deep_supervision: in training, returns the logits of every level of the expanding
        path, the finest first, not the finest alone (Lee et al. 2015).
      time_features: size of the sinusoidal embedding of `time`, which is then added in
        every block; 0 for networks without a time.
      remat: recomputes the blocks in the backward pass, to save memory.
      dtype: of the computation; parameters and logits are float32 whatever it is.
      axis_name: the axis of devices over which batch norm takes its statistics.
    """

    widths: tuple[Count, ...] = (64, 128, 256, 512, 1024)
    outputs: Count = 2
    padding: sizes.Padding = "VALID"
    norm: Norm = "none"
    conv_bias: bool = False
    activation: str = "relu"
    negative_slope: NonNegative = 0.01
    encoder: Literal["plain", "residual"] = "plain"
    encoder_depths: tuple[Count, ...] = (2,)
    decoder_depths: tuple[Count, ...] = (2,)
    strides: tuple[tuple[Count, ...], ...] = ((2,),)
    kernels: tuple[tuple[Odd, ...], ...] = ((3,),)
    downsample: sizes.Downsample = "pool"
    upsample: sizes.Upsample = "transpose"
    dropout: BelowOne = 0.5
    residual: bool = False
    attention: bool = False
    deep_supervision: bool = False
    time_features: Even = 0
    remat: bool = False
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self,
        image: Image,
        *,
        train: bool = False,
        seed: Seed | None = None,
        time: jax.Array | None = None,
    ) -> Logits | tuple[Logits, ...]:
        """Segments images or volumes of any size.

        Args:
          image: `f32[B, *S, C]`. Sizes that the strides do not divide are padded by
            reflection at the far end, and the output is cropped back.
          train: turns dropout, batch statistics and deep supervision on.
          seed: `u32[B]`, which determines the dropout masks; only read in training.
          time: `f32[B]`, the time of a diffusion from 0 (an image) to 1 (noise); 0 by
            default. Needs `time_features`.

        Returns:
          `f32[B, *(S - 2 margin), K]`; with deep supervision in training a tuple of
          logits, of which element i belongs to level i.

        Raises:
          ValueError: a VALID network would have nothing left.
          UserError: there is a `time`, and `time_features` is 0.
        """
        seed = jnp.arange(len(image)) if seed is None else seed
        time = self._embed(time, len(image))
        geometry = self.geometry(image.ndim - 2)
        x = _pad(image, geometry)
        *skips, bottom = self._contract(x, train, seed, time)
        logits = self._expand(bottom, skips, train, time)
        shape = zip(image.shape[1:-1], geometry.margin, strict=True)
        logits[0] = _crop(logits[0], tuple(size - 2 * margin for size, margin in shape))
        return tuple(logits) if train and self.deep_supervision else logits[0]

    def _contract(
        self, x: jax.Array, train: bool, seed: Seed, time: jax.Array | None
    ) -> list[jax.Array]:
        """The left side of figure 1: what each level makes of the image."""
        features = []
        if self.encoder == "residual":
            x = self._block(0, "stem", convolutions=1)((x,), train, time)
        for level in range(len(self.widths)):
            strides = self._entries("strides")[level - 1] if level > 0 else (1,)
            if self.downsample == "pool":
                x, strides = max_pool(x, strides), (1,)
            for block in self._encoder_blocks(level, strides):
                x = block((x,), train, time)
            if level >= len(self.widths) - 2:
                x = Dropout(self.dropout, name=f"dropout{level}")(x, seed, train=train)
            features.append(x)
        return features

    def _expand(
        self,
        x: jax.Array,
        skips: list[jax.Array],
        train: bool,
        time: jax.Array | None,
    ) -> list[Logits]:
        """The right side of figure 1, from the bottom up: logits, the finest first."""
        logits = []
        for level in reversed(range(len(skips))):
            x = self._up(level)(x)
            skip = centre(skips[level], x.shape[1:-1])
            if self.attention:
                skip = AttentionGate(self.dtype, name=f"gate{level}")(skip, x)
            x = self._decoder_block(level)((skip, x), train, time)
            if level == 0 or self.deep_supervision:
                logits.append(Conv(self.outputs, (1,), name=f"head{level}")(x))
        return logits[::-1]

    def _encoder_blocks(self, level: int, strides: Shape) -> list[nn.Module]:
        """The blocks of a level of the contracting path; the first one has strides."""
        depth = self._entries("encoder_depths")[level]
        if self.encoder == "plain":
            return [self._block(level, f"down{level}", depth, strides, self._shortcut)]
        block = functools.partial(self._block, level, residual="identity")
        return [
            block(f"down{level}_{i}", strides=strides if i == 0 else (1,))
            for i in range(depth)
        ]

    def _decoder_block(self, level: int) -> nn.Module:
        depth = self._entries("decoder_depths")[level]
        return self._block(level, f"up{level}", depth, residual=self._shortcut)

    def _block(
        self,
        level: int,
        name: str,
        convolutions: int = 2,
        strides: Shape = (1,),
        residual: Residual = "none",
    ) -> nn.Module:
        block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
        kernel_size = self._entries("kernels")[level]
        style = Style(
            self.padding,
            self.norm,
            self.conv_bias,
            _activation(self.activation, self.negative_slope),
            self.axis_name,
            self.dtype,
        )
        return block(
            self.widths[level],
            style,
            convolutions,
            kernel_size,
            strides,
            residual,
            name=name,
        )

    def _up(self, level: int) -> nn.Module:
        return UpConv(
            self.widths[level],
            self.upsample,
            self.padding,
            self.dtype,
            strides=self._entries("strides")[level],
            kernel_size=self._entries("kernels")[level],
            name=f"upconv{level}",
        )

    def _embed(self, time: jax.Array | None, batch: int) -> jax.Array | None:
        if self.time_features == 0:
            if time is None:
                return None
            raise UserError(
                "config.model.time_features is 0, and the method needs a network that "
                "sees the time; set --config.model.time_features=32"
            )
        time = jnp.zeros(batch) if time is None else TIMES * time
        return TimeEmbedding(self.time_features, self.dtype, name="time")(time)

    def fault(self) -> str | None:
        """Returns one line about a wrong field, which it begins with, or None."""
        levels = len(self.widths)
        if levels < 2:
            return f"widths needs two or more numbers, not {self.widths}"
        for field, fewer in ENTRIES.items():
            count, given = levels - fewer, len(getattr(self, field))
            if given not in (1, count):
                return (
                    f"{field} needs 1 entry or {count}, for the {levels} levels of "
                    f"widths, not {given}"
                )
        for field in ("strides", "kernels"):
            lengths = {len(entry) for entry in getattr(self, field)}
            if 0 in lengths or len(lengths - {1}) > 1:
                return (
                    f"{field} needs entries of 1 number or of one for each axis, not "
                    f"{getattr(self, field)}"
                )
        if self.downsample == "conv" and self.padding == "VALID":
            return "downsample='conv' needs padding='SAME', or else use 'pool'"
        if not _is_elementwise(self.activation):
            return (
                f"activation: {self.activation!r} is no activation of jax.nn; usual "
                "ones are relu, leaky_relu, elu, gelu and silu"
            )
        return None

    def geometry(self, axes: int) -> Geometry:
        """Returns the size arithmetic for images of so many axes.

        A training crop of a VALID network must be legal, because padding it would waste
        work. With deep supervision it must be legal, because padding would move the
        middle that the coarse outputs are compared with.

        Raises:
          UserError: `strides` or `kernels` are for another number of axes.
        """
        lines = [self._axis(i, axes) for i in range(axes)]
        scales = zip(*(line.scales for line in lines), strict=True)
        everywhere = self.norm in ("group", "instance")  # through their statistics
        return Geometry(
            strides=tuple(scales),
            margin=tuple(map(sizes.margin, lines)),
            halo=None if everywhere else tuple(map(sizes.halo, lines)),
            valid_shape=lambda shape: tuple(map(sizes.valid_size, shape, lines)),
            strict=self.padding == "VALID" or self.deep_supervision,
        )

    @property
    def _shortcut(self) -> Residual:
        return "projection" if self.residual else "none"

    def _entries(self, field: str) -> tuple:
        """The entries of a field, one for each level or each stride."""
        given = getattr(self, field)
        return given * (len(self.widths) - ENTRIES[field]) if len(given) == 1 else given

    def _axis(self, i: int, axes: int) -> sizes.Axis:
        """The network along axis i of so many."""
        for field in ("strides", "kernels"):
            wrong = [x for x in getattr(self, field) if len(x) not in (1, axes)]
            if wrong:
                raise UserError(
                    f"{field} has {wrong[0]}, {len(wrong[0])} numbers for images of "
                    f"{axes} axes; give one number for each axis, or one for all"
                )
        down = self._entries("encoder_depths")
        if self.encoder == "residual":  # of two convolutions each, and the stem
            down = tuple(2 * n + (level == 0) for level, n in enumerate(down))
        return sizes.Axis(
            strides=tuple(each_axis(s, axes)[i] for s in self._entries("strides")),
            kernels=tuple(each_axis(k, axes)[i] for k in self._entries("kernels")),
            down=down,
            up=self._entries("decoder_depths"),
            padding=self.padding,
            upsample=self.upsample,
            downsample=self.downsample,
        )


def _activation(name: str, slope: float) -> Callable[[jax.Array], jax.Array]:
    function = getattr(jax.nn, name)
    if name == "leaky_relu":
        return functools.partial(function, negative_slope=slope)
    return function


def _is_elementwise(name: str) -> bool:
    x = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    try:
        return jax.eval_shape(getattr(jax.nn, name), x) == x
    except (AttributeError, TypeError, ValueError):
        return False


def _pad(image: Image, geometry: Geometry) -> Image:
    """Pads by reflection at the far end, to the next legal shape."""
    shape, margin = image.shape[1:-1], geometry.margin
    if any(size <= 2 * lost for size, lost in zip(shape, margin, strict=True)):
        least = geometry.valid_shape((1,) * len(shape))
        raise ValueError(
            f"an image of {shape} leaves nothing of a VALID network that takes "
            f"{margin} pixels off each side; the least shape is {least}"
        )
    valid = geometry.valid_shape(shape)
    if valid == shape:
        return image
    ends = [(0, end - size) for size, end in zip(shape, valid, strict=True)]
    return jnp.pad(image, [(0, 0), *ends, (0, 0)], mode="reflect")


def _crop(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Keeps the first pixels: what was padded at the far end falls off there."""
    return x[(slice(None), *(slice(size) for size in shape))]
