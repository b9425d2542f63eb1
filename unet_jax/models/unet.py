"""The U-Net, written to be read beside figure 1 of the paper.

Ronneberger, Fischer and Brox: U-Net: Convolutional Networks for Biomedical Image
Segmentation, MICCAI 2015, arXiv:1505.04597.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from unet_jax.arrays import Image, Logits, Seed, centre
from unet_jax.models import sizes
from unet_jax.models.blocks import (
    AttentionGate,
    Block,
    Conv,
    Dropout,
    Norm,
    UpConv,
    max_pool,
)
from unet_jax.specs import BelowOne, Count


class UNet(nn.Module):
    """A U-Net; the defaults are the network of the paper.

    Attributes:
      widths: channels of each level, from the finest to the bottom of the U.
      outputs: channels of the output, K.
      padding: VALID as in the paper (the output is smaller), or SAME.
      norm: what follows each convolution of a block.
      upsample: the paper's 2x2 up-convolution, or nearest or linear interpolation
        followed by a 3x3 convolution.
      activation: a function of `jax.nn`.
      dropout: rate at the end of the contracting path, that is after the last two
        levels, so that the deepest skip carries it too.
      residual: adds a shortcut to every block (He et al. 2016).
      attention: gates every skip (Oktay et al. 2018).
      deep_supervision: in training, returns the logits of every level of the expanding
        path, the finest first, not the finest alone (Lee et al. 2015).
      remat: recomputes the blocks in the backward pass, to save memory.
      dtype: of the computation; parameters and logits are float32 whatever it is.
      axis_name: the axis of devices over which batch norm takes its statistics.
    """

    widths: tuple[Count, ...] = (64, 128, 256, 512, 1024)
    outputs: Count = 2
    padding: sizes.Padding = "VALID"
    norm: Norm = "none"
    upsample: sizes.Upsample = "transpose"
    activation: str = "relu"
    dropout: BelowOne = 0.5
    residual: bool = False
    attention: bool = False
    deep_supervision: bool = False
    remat: bool = False
    dtype: Any = jnp.float32
    axis_name: str | None = None

    def fault(self) -> str | None:
        """What is wrong with the attributes, after the name of one, if anything is."""
        if len(self.widths) < 2:
            return f"widths needs two or more numbers, not {self.widths}"
        if not _is_elementwise(self.activation):
            return (
                f"activation: {self.activation!r} is no activation of jax.nn; usual "
                "ones are relu, leaky_relu, elu, gelu and silu"
            )
        return None

    def geometry(self, axes):
        class G:
            strides = tuple((2**i,) * axes for i in range(self.depth + 1))

        return G

    @property
    def depth(self) -> int:
        """The number of poolings."""
        return len(self.widths) - 1

    @property
    def margin(self) -> int:
        """Pixels that the output lacks on each side of the input."""
        return sizes.margin(self.depth, self.padding, self.upsample)

    @property
    def halo(self) -> int | None:
        """How far an output pixel sees; None: all over the image, through its norms."""
        if self.norm in ("group", "instance"):
            return None
        return sizes.halo(self.depth, self.upsample)

    @property
    def strict(self) -> bool:
        """Whether a training crop must be a size that `valid_size` leaves alone.

        Padding inside would waste a VALID network's work, and would move the middle
        that the coarse outputs of deep supervision are compared with.
        """
        return self.padding == "VALID" or self.deep_supervision

    def valid_size(self, size: int) -> int:
        """The smallest size, not below `size`, that needs no padding inside."""
        return sizes.valid_size(size, self.depth, self.padding, self.upsample)

    @nn.compact
    def __call__(
        self, image: Image, *, train: bool = False, seed: Seed | None = None
    ) -> Logits | tuple[Logits, ...]:
        """Segments images or volumes of any size.

        Args:
          image: `f32[B, *S, C]`. Sizes that the poolings cannot halve are padded by
            reflection at the far end, and the output is cropped back.
          train: turns dropout, batch statistics and deep supervision on.
          seed: `u32[B]`, whose dropout masks these are; only read in training.

        Returns:
          `f32[B, *(S - 2 margin), K]`; with deep supervision in training a tuple of
          logits, of which element i has one pixel for every 2^i of the image.

        Raises:
          ValueError: a VALID network would have nothing left.
        """
        seed = jnp.arange(len(image)) if seed is None else seed
        x = self._pad(image)
        skips, heads = [], []
        for level, width in enumerate(self.widths):
            if level > 0:
                x = max_pool(x)
            x = self._block(width, f"down{level}")((x,), train)
            if level >= self.depth - 1:
                x = Dropout(self.dropout, name=f"dropout{level}")(x, seed, train=train)
            skips.append(x)

        x = skips.pop()
        for level in reversed(range(self.depth)):
            width = self.widths[level]
            x = self._up(width, f"upconv{level}")(x)
            skip = centre(skips.pop(), x.shape[1:-1])
            if self.attention:
                skip = AttentionGate(self.dtype, name=f"gate{level}")(skip, x)
            x = self._block(width, f"up{level}")((skip, x), train)
            if level == 0 or self.deep_supervision:
                heads.append(Conv(self.outputs, 1, name=f"head{level}")(x))

        logits = tuple(reversed(heads))
        left = tuple(size - 2 * self.margin for size in image.shape[1:-1])
        logits = (_crop(logits[0], left), *logits[1:])
        return logits if train and self.deep_supervision else logits[0]

    def _block(self, width: int, name: str) -> nn.Module:
        block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
        return block(
            width,
            self.padding,
            self.norm,
            self.activation,
            self.residual,
            self.axis_name,
            self.dtype,
            name=name,
        )

    def _up(self, width: int, name: str) -> nn.Module:
        return UpConv(width, self.upsample, self.padding, self.dtype, name=name)

    def _pad(self, image: Image) -> Image:
        shape = image.shape[1:-1]
        if min(shape) <= 2 * self.margin:
            raise ValueError(
                f"an image of {shape} leaves nothing of a VALID network that takes "
                f"{self.margin} pixels off each side; the least size is "
                f"{self.valid_size(0)}"
            )
        ends = [(0, self.valid_size(size) - size) for size in shape]
        if not any(end for _, end in ends):
            return image
        return jnp.pad(image, [(0, 0), *ends, (0, 0)], mode="reflect")


def _is_elementwise(name: str) -> bool:
    x = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    try:
        return jax.eval_shape(getattr(jax.nn, name), x) == x
    except (AttributeError, TypeError, ValueError):
        return False


def _crop(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Keeps the first pixels: what was padded at the far end falls off there."""
    return x[(slice(None), *(slice(size) for size in shape))]
