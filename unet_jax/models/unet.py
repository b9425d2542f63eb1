"""The U-Net, to be read beside figure 1 of the paper.

Ronneberger, Fischer and Brox: U-Net: Convolutional Networks for Biomedical Image
Segmentation, MICCAI 2015, arXiv:1505.04597.
"""

import functools
from collections.abc import Callable
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from unet_jax.arrays import Image, Logits, Seed, crop_centre
from unet_jax.errors import UserError
from unet_jax.geometry import Geometry, Shape
from unet_jax.models import faults, resnet, sizes
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
)
from unet_jax.models.resizing import broadcast_sizes, max_pool, max_pool_overlapping
from unet_jax.models.resnet import RESNETS, ResNetBlock
from unet_jax.specs import BelowOne, Count, Domain, NonNegative

Odd = Annotated[int, Domain("that is odd, 1 or more", lambda n: n > 0 and n % 2 == 1)]
Even = Annotated[
    int, Domain("that is even, 0 or more", lambda n: n >= 0 and n % 2 == 0)
]

TIME_SCALE = 1000.0  # the embedding is made for times of 0 to 1000 (Ho et al. 2020)


class UNet(nn.Module):
    """A U-Net. The defaults are the network of the paper.

    Level 0 is the finest level and the last level is the bottom of the U. `widths` sets
    the number of levels. The other tuples also start with level 0, or have a single
    entry for all levels. In the same way a single number can stand for all axes.

    Attributes:
      widths: the number of channels of each level. A ResNet has its own.
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
        "resnet18", "resnet34", "resnet50" and "resnet101" are the networks of He et al.
        2016, as in segmentation_models_pytorch: six levels, of which the finest one has
        no features and so no skip. They take no notice of `widths`, `encoder_depths`,
        `strides` and `downsample`.
      encoder_depths: the number of convolutions, or of residual blocks, at each level
        of the contracting path, including the bottom.
      decoder_depths: the number of convolutions at each level of the expanding path.
      decoder_widths: the number of channels of each level of the expanding path; ():
        `widths`, or 16, 32, 64, 128, 256 for a ResNet.
      decoder_hidden: the number of channels of all convolutions but the last one at
        each level of the expanding path; (): `decoder_widths`.
      up_widths: the number of channels after the upsampling to each level; ():
        `widths`, or `decoder_widths` for a ResNet.
      strides: from each level to the next one, and per axis: `((1, 2, 2), (2, 2, 2))`.
      kernels: the kernel sizes of each level, and per axis.
      downsample: "pool" as in the paper, or "conv" for strides in the first convolution
        of a level, as in nnU-Net; this needs SAME padding.
      upsample: "transpose" for the paper's up-convolution; "nearest", "linear" or
        "aligned" for an interpolation followed by a convolution. "aligned" keeps the
        corner pixels in place, so that it depends on the size of the image.
      upsample_conv: False leaves out the convolution after an interpolation.
      head_kernel: the kernel size of the last layer, along every axis.
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
    encoder: Literal[
        "plain", "residual", "resnet18", "resnet34", "resnet50", "resnet101"
    ] = "plain"
    encoder_depths: tuple[Count, ...] = (2,)
    decoder_depths: tuple[Count, ...] = (2,)
    decoder_widths: tuple[Count, ...] = ()
    decoder_hidden: tuple[Count, ...] = ()
    up_widths: tuple[Count, ...] = ()
    strides: tuple[tuple[Count, ...], ...] = ((2,),)
    kernels: tuple[tuple[Odd, ...], ...] = ((3,),)
    downsample: sizes.Downsample = "pool"
    upsample: sizes.Upsample = "transpose"
    upsample_conv: bool = True
    head_kernel: Odd = 1
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
        seed = jnp.arange(image.shape[0]) if seed is None else seed
        time = self._embed_time(time, image.shape[0])
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
        if self.encoder in RESNETS:
            return self._contract_resnet(x, train, seed)
        features = []
        if self.encoder == "residual":
            x = self._make_block(0, "stem", convolutions=1)((x,), train, time)
        for level in range(self.levels):
            strides = self._expand_field("strides")[level - 1] if level > 0 else (1,)
            if self.downsample == "pool":
                x, strides = max_pool(x, strides), (1,)
            for block in self._make_encoder_blocks(level, strides):
                x = block((x,), train, time)
            if level >= self.levels - 2:
                x = Dropout(self.dropout, name=f"dropout{level}")(x, seed, train=train)
            features.append(x)
        return features

    def _contract_resnet(self, x: jax.Array, train: bool, seed: Seed) -> list:
        """Applies a ResNet; the finest level has no features."""
        network = RESNETS[self.encoder]
        features: list[jax.Array | None] = [None]
        x = self._make_stem()((x,), train)
        features.append(x)
        block = (
            nn.remat(ResNetBlock, static_argnums=(2,)) if self.remat else ResNetBlock
        )
        for stage, depth in enumerate(network.depths):
            level = stage + 2
            x = max_pool_overlapping(x) if stage == 0 else x
            for i in range(depth):
                x = block(
                    network.widths[level],
                    self._options,
                    (2,) if i == 0 and stage > 0 else (1,),
                    network.bottleneck,
                    name=f"down{level}_{i}",
                )((x,), train)
            if level >= self.levels - 2:
                x = Dropout(self.dropout, name=f"dropout{level}")(x, seed, train=train)
            features.append(x)
        return features

    def _expand(
        self, x: jax.Array, skips: list, train: bool, time: jax.Array | None
    ) -> list[Logits]:
        """Applies the right side of figure 1 and returns logits, the finest first."""
        logits = []
        for level in reversed(range(len(skips))):
            x = self._make_upsampling(level)(x)
            inputs = (x,)
            if skips[level] is not None:
                skip = crop_centre(skips[level], x.shape[1:-1])
                if self.attention:
                    skip = AttentionGate(self.dtype, name=f"gate{level}")(skip, x)
                inputs = skip, x
            x = self._make_decoder_block(level)(inputs, train, time)
            if level == 0 or self.deep_supervision:
                logits.append(self._make_head(level)(x))
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
        return self._make_block(
            level,
            f"up{level}",
            self._expand_field("decoder_depths")[level],
            residual=self._shortcut,
            features=self._list_widths("decoder_widths")[level],
            hidden=self.decoder_hidden[level] if self.decoder_hidden else 0,
        )

    def _make_block(
        self,
        level: int,
        name: str,
        convolutions: int = 2,
        strides: Shape = (1,),
        residual: Residual = "none",
        *,
        features: int = 0,
        hidden: int = 0,
    ) -> nn.Module:
        block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
        kernel_size = self._expand_field("kernels")[level]
        shape = convolutions, kernel_size, strides
        features = features or self.widths[level]
        return block(features, self._options, *shape, residual, hidden, name=name)

    def _make_stem(self) -> nn.Module:
        """Returns the first layer of a ResNet."""
        stem = resnet.STEM, self._options, 1, resnet.KERNELS[1:2], (2,)
        return Block(*stem, name="stem")

    def _make_upsampling(self, level: int) -> nn.Module:
        return UpConv(
            self._list_widths("up_widths")[level],
            self.upsample,
            self.padding,
            self.dtype,
            strides=self._expand_field("strides")[level],
            kernel_size=self._expand_field("kernels")[level],
            convolved=self.upsample_conv,
            name=f"upconv{level}",
        )

    def _make_head(self, level: int) -> nn.Module:
        return Head(self.outputs, self.dtype, self.head_kernel, name=f"head{level}")

    @property
    def levels(self) -> int:
        """The number of levels of the U."""
        return resnet.LEVELS if self.encoder in RESNETS else len(self.widths)

    @property
    def _options(self) -> BlockOptions:
        return BlockOptions(
            self.padding,
            self.norm,
            self.conv_bias,
            _get_activation(self.activation, self.negative_slope),
            self.axis_name,
            self.dtype,
        )

    def _list_widths(self, field: str) -> tuple[int, ...]:
        """Returns the entries of `decoder_widths` or `up_widths`, or their defaults."""
        if given := getattr(self, field):
            return given
        if self.encoder not in RESNETS:
            return self.widths[:-1]
        return self.decoder_widths or resnet.DECODER_WIDTHS

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
        return faults.find_fault(self)

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
        # statistics over all pixels, or positions that depend on the size of the image
        unbounded = self.norm in ("group", "instance") or self.upsample == "aligned"
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

    def _expand_field(self, field: str) -> tuple:
        """Returns the entries of a field, one for each level or each stride."""
        return faults.expand_field(self, field)

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
        network = RESNETS.get(self.encoder)
        return sizes.UNetAxis(
            strides=tuple(broadcast_sizes(s, axes)[i] for s in strides),
            kernels=tuple(broadcast_sizes(k, axes)[i] for k in kernels),
            down=network.convolutions if network else down,
            up=self._expand_field("decoder_depths"),
            padding=self.padding,
            upsample=self.upsample,
            downsample="conv" if network else self.downsample,
            down_kernels=resnet.KERNELS if network else (),
            up_convolved=self.upsample_conv,
            head=self.head_kernel,
        )


def _get_activation(name: str, slope: float) -> Callable[[jax.Array], jax.Array]:
    function = getattr(jax.nn, name)
    if name == "leaky_relu":
        return functools.partial(function, negative_slope=slope)
    return function


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
