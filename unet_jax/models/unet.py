"""The U-Net, to be read beside figure 1 of the paper.

Ronneberger, Fischer and Brox: U-Net: Convolutional Networks for Biomedical Image
Segmentation, MICCAI 2015, arXiv:1505.04597.
"""

import functools
import math
import shlex
from collections.abc import Callable
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from unet_jax.arrays import Image, Logits, Seed, crop_centre
from unet_jax.errors import UserError
from unet_jax.geometry import Geometry, Shape
from unet_jax.models import sizes
from unet_jax.models.blocks import (
    AttentionGate,
    Block,
    BlockOptions,
    Dropout,
    Head,
    Norm,
    Residual,
    TimeEmbedding,
    UpConv,
    broadcast_sizes,
    max_pool,
)
from unet_jax.specs import BelowOne, Count, Domain, NonNegative

Odd = Annotated[int, Domain("that is odd, 1 or more", lambda n: n > 0 and n % 2 == 1)]
Even = Annotated[
    int, Domain("that is even, 0 or more", lambda n: n >= 0 and n % 2 == 0)
]

TIME_SCALE = 1000.0  # the embedding is made for times of 0 to 1000 (Ho et al. 2020)

# Fields with one entry per level, and the number of levels without an entry.
MAX_LEVELS = 32
MAX_SIZE = 2**31 - 1  # of an axis of an array
MAX_SCALE = 2**16  # pixels of an image along an axis that are one at the bottom
MAX_DEPTH = 1000  # blocks of a path; each takes a while to compile
WITHOUT_ENTRY = {"encoder_depths": 0, "decoder_depths": 1, "strides": 1, "kernels": 0}


class UNet(nn.Module):
    """A U-Net. The defaults are the network of the paper.

    Level 0 is the finest level and the last level is the bottom of the U. `widths` sets
    the number of levels. The other tuples also start with level 0, or have a single
    entry for all levels. In the same way a single number can stand for all axes.

    Attributes:
      widths: the number of channels of each level.
      outputs: the number of output channels, K.
      padding: "VALID" as in the paper (the output is smaller than the input), or
        "SAME".
      norm: the norm after each convolution of a block.
      conv_bias: adds a bias to convolutions that are followed by a norm, as in nnU-Net.
      activation: the name of a function of `jax.nn`.
      negative_slope: of `leaky_relu`.
      encoder: "plain" has convolutions at each level of the contracting path.
        "residual" has one convolution (the stem) and then residual blocks of two
        convolutions at each level (nnU-Net's residual encoder, Isensee et al. 2024).
      encoder_depths: the number of convolutions, or of residual blocks, at each level
        of the contracting path, including the bottom.
      decoder_depths: the number of convolutions at each level of the expanding path.
      strides: from each level to the next one, and per axis: `((1, 2, 2), (2, 2, 2))`.
      kernels: the kernel sizes of each level, and per axis.
      downsample: "pool" as in the paper, or "conv" for strides in the first convolution
        of a level, as in nnU-Net; this needs SAME padding.
      upsample: "transpose" for the paper's up-convolution; "nearest" or "linear" for an
        interpolation followed by a convolution.
      dropout: the rate at the end of the contracting path. Dropout follows the last two
        levels, so that it affects the deepest skip, too.
      residual: adds a projected shortcut to every plain block (He et al. 2016).
      attention: adds an attention gate to every skip (Oktay et al. 2018).
      deep_supervision: returns in training the logits of every level of the expanding
        path, the finest first, instead of the finest only (Lee et al. 2015).
      time_features: the size of the sinusoidal embedding of `time`, which is added in
        every block; 0 for networks without a time.
      remat: recomputes the blocks in the backward pass to save memory.
      dtype: of the computation; parameters and logits are always float32.
      axis_name: the axis of devices that share the statistics of batch norm.
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
          train: turns on dropout, batch statistics and deep supervision.
          seed: `u32[B]`, which determines the dropout masks; read in training only.
          time: `f32[B]`, the time of a diffusion from 0 (an image) to 1 (noise); 0 by
            default. Needs `time_features`.

        Returns:
          `f32[B, *(S - 2 margin), K]`. With deep supervision in training: a tuple of
          logits, where element i belongs to level i.

        Raises:
          ValueError: the image is too small for a network with VALID padding.
          UserError: `time` is given and `time_features` is 0.
        """
        seed = jnp.arange(len(image)) if seed is None else seed
        time = self._embed_time(time, len(image))
        geometry = self.geometry(image.ndim - 2)
        x = _pad_to_valid(image, geometry)
        *skips, bottom = self._contract(x, train, seed, time)
        logits = self._expand(bottom, skips, train, time)
        sides = zip(image.shape[1:-1], geometry.margin, strict=True)
        ends = (slice(size - 2 * margin) for size, margin in sides)
        logits[0] = logits[0][(slice(None), *ends)]  # without the padded pixels
        return tuple(logits) if train and self.deep_supervision else logits[0]

    def _contract(
        self, x: jax.Array, train: bool, seed: Seed, time: jax.Array | None
    ) -> list[jax.Array]:
        """Applies the left side of figure 1 and returns the features of each level."""
        features = []
        if self.encoder == "residual":
            x = self._make_block(0, "stem", convolutions=1)((x,), train, time)
        for level in range(len(self.widths)):
            strides = self._expand_field("strides")[level - 1] if level > 0 else (1,)
            if self.downsample == "pool":
                x, strides = max_pool(x, strides), (1,)
            for block in self._make_encoder_blocks(level, strides):
                x = block((x,), train, time)
            if level >= len(self.widths) - 2:
                x = Dropout(self.dropout, name=f"dropout{level}")(x, seed, train=train)
            features.append(x)
        return features

    def _expand(
        self, x: jax.Array, skips: list[jax.Array], train: bool, time: jax.Array | None
    ) -> list[Logits]:
        """Applies the right side of figure 1 and returns logits, the finest first."""
        logits = []
        for level in reversed(range(len(skips))):
            x = self._make_upsampling(level)(x)
            skip = crop_centre(skips[level], x.shape[1:-1])
            if self.attention:
                skip = AttentionGate(self.dtype, name=f"gate{level}")(skip, x)
            x = self._make_decoder_block(level)((skip, x), train, time)
            if level == 0 or self.deep_supervision:
                logits.append(Head(self.outputs, self.dtype, name=f"head{level}")(x))
        return logits[::-1]

    def _make_encoder_blocks(self, level: int, strides: Shape) -> list[nn.Module]:
        """Returns the blocks of a contracting level; the first one has the strides."""
        depth = self._expand_field("encoder_depths")[level]
        if self.encoder == "plain":
            name, residual = f"down{level}", self._shortcut
            return [self._make_block(level, name, depth, strides, residual)]
        block = functools.partial(self._make_block, level, residual="identity")
        return [
            block(f"down{level}_{i}", strides=strides if i == 0 else (1,))
            for i in range(depth)
        ]

    def _make_decoder_block(self, level: int) -> nn.Module:
        depth = self._expand_field("decoder_depths")[level]
        return self._make_block(level, f"up{level}", depth, residual=self._shortcut)

    def _make_block(
        self,
        level: int,
        name: str,
        convolutions: int = 2,
        strides: Shape = (1,),
        residual: Residual = "none",
    ) -> nn.Module:
        block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
        kernel_size = self._expand_field("kernels")[level]
        options = BlockOptions(
            self.padding,
            self.norm,
            self.conv_bias,
            _get_activation(self.activation, self.negative_slope),
            self.axis_name,
            self.dtype,
        )
        shape = convolutions, kernel_size, strides
        return block(self.widths[level], options, *shape, residual, name=name)

    def _make_upsampling(self, level: int) -> nn.Module:
        return UpConv(
            self.widths[level],
            self.upsample,
            self.padding,
            self.dtype,
            strides=self._expand_field("strides")[level],
            kernel_size=self._expand_field("kernels")[level],
            name=f"upconv{level}",
        )

    def _embed_time(self, time: jax.Array | None, batch: int) -> jax.Array | None:
        if self.time_features == 0:
            if time is None:
                return None
            raise UserError(
                "config.model.time_features is 0, and the method needs a network that "
                "reads the time; set --config.model.time_features=32"
            )
        time = jnp.zeros(batch) if time is None else TIME_SCALE * time
        return TimeEmbedding(self.time_features, self.dtype, name="time")(time)

    def fault(self) -> str | None:
        """Returns a line about a wrong field, starting with its name, or None."""
        levels = len(self.widths)
        if levels < 2:
            return f"widths needs two or more numbers, not {self.widths}"
        if levels > MAX_LEVELS:
            return (
                f"widths has {levels} numbers, one for each level; {MAX_LEVELS} at most"
            )
        numbers = {"widths": self.widths, "kernels": sum(self.kernels, ())}
        numbers["time_features"] = (self.time_features,)
        for field, given in numbers.items():
            if max(given, default=0) > MAX_SIZE:
                return f"{field} has {max(given)}; {MAX_SIZE} at most"
        for field, fewer in WITHOUT_ENTRY.items():
            count, given = levels - fewer, len(getattr(self, field))
            if given not in (1, count):
                line = (
                    f"{field} needs 1 entry or {count}, for the {levels} levels of "
                    f"widths, not {given}"
                )
                return line + self._advise_entries(field, count)
        for field in ("encoder_depths", "decoder_depths"):
            if sum(self._expand_field(field)) > MAX_DEPTH:
                return f"{field} is more than {MAX_DEPTH} blocks in all; lower it"
        for field in ("strides", "kernels"):
            lengths = {len(entry) for entry in getattr(self, field)}
            if 0 in lengths or len(lengths - {1}) > 1:
                return (
                    f"{field} needs entries of 1 number or of one for each axis, not "
                    f"{getattr(self, field)}"
                )
        scale = math.prod(max(entry) for entry in self._expand_field("strides"))
        if scale > MAX_SCALE:
            return f"strides multiply to {scale}; {MAX_SCALE} at most"
        if self.downsample == "conv" and self.padding == "VALID":
            return "downsample='conv' needs padding='SAME'; set it, or use 'pool'"
        if not _is_elementwise(self.activation):
            return (
                f"activation: {self.activation!r} is not a function of jax.nn; set one "
                "such as relu, leaky_relu, elu, gelu or silu"
            )
        return None

    def geometry(self, axes: int) -> Geometry:
        """Returns the input and output sizes for images with the given number of axes.

        A training crop must have a legal shape in two cases. With VALID padding, a
        padded crop would waste computation. With deep supervision, it would misalign
        the coarse outputs and their targets.

        Raises:
          UserError: `strides` or `kernels` are for another number of axes.
        """
        each = [self._make_axis(i, axes) for i in range(axes)]
        scales = zip(*(axis.scales for axis in each), strict=True)
        unbounded = self.norm in ("group", "instance")  # statistics over all pixels
        return Geometry(
            strides=tuple(scales),
            margin=tuple(map(sizes.compute_margin, each)),
            halo=None if unbounded else tuple(map(sizes.compute_halo, each)),
            valid_shape=lambda shape: tuple(map(sizes.find_valid_size, shape, each)),
            strict=self.padding == "VALID" or self.deep_supervision,
        )

    @property
    def _shortcut(self) -> Residual:
        return "projection" if self.residual else "none"

    def _advise_entries(self, field: str, count: int) -> str:
        """Returns the flag that keeps the first entries; '' if there are too few."""
        given = getattr(self, field)
        if len(given) < count:
            return ""
        entries = [str(entry).replace(" ", "") for entry in given[:count]]
        text = ",".join(entries) + ("," if count == 1 else "")
        return f"; for its first entries set --config.model.{field}={shlex.quote(text)}"

    def _expand_field(self, field: str) -> tuple:
        """Returns the entries of a field, one for each level or each stride."""
        given = getattr(self, field)
        count = len(self.widths) - WITHOUT_ENTRY[field]
        return given * count if len(given) == 1 else given

    def _make_axis(self, i: int, axes: int) -> sizes.UNetAxis:
        """Returns the architecture along axis i."""
        for field in ("strides", "kernels"):
            wrong = [x for x in getattr(self, field) if len(x) not in (1, axes)]
            if wrong:
                raise UserError(
                    f"{field} has {wrong[0]}, {len(wrong[0])} numbers for images of "
                    f"{axes} axes; give one number for each axis, or one for all"
                )
        strides, kernels = map(self._expand_field, ("strides", "kernels"))
        down = self._expand_field("encoder_depths")
        if self.encoder == "residual":  # two convolutions per block, and the stem
            down = tuple(2 * n + (level == 0) for level, n in enumerate(down))
        return sizes.UNetAxis(
            strides=tuple(broadcast_sizes(s, axes)[i] for s in strides),
            kernels=tuple(broadcast_sizes(k, axes)[i] for k in kernels),
            down=down,
            up=self._expand_field("decoder_depths"),
            padding=self.padding,
            upsample=self.upsample,
            downsample=self.downsample,
        )


def _get_activation(name: str, slope: float) -> Callable[[jax.Array], jax.Array]:
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


def _pad_to_valid(image: Image, geometry: Geometry) -> Image:
    """Pads an image by reflection at the far end to the next legal shape."""
    shape, margin = image.shape[1:-1], geometry.margin
    if any(size <= 2 * lost for size, lost in zip(shape, margin, strict=True)):
        least = geometry.valid_shape((1,) * len(shape))
        raise ValueError(
            f"an image of {shape} is too small for a VALID network, which removes "
            f"{margin} pixels on each side; the least shape is {least}"
        )
    valid = geometry.valid_shape(shape)
    if valid == shape:
        return image
    ends = [(0, end - size) for size, end in zip(shape, valid, strict=True)]
    return jnp.pad(image, [(0, 0), *ends, (0, 0)], mode="reflect")
