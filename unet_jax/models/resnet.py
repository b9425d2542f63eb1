"""The blocks of a ResNet, as the contracting path of a U-Net.

He et al. 2016, "Deep Residual Learning for Image Recognition", in the version of
PyTorch: the second convolution of a bottleneck has the stride, not the first one. The
names of the layers follow `blocks.Block`, so that encoders have names of one kind.
"""

from typing import NamedTuple

import flax.linen as nn
import jax

from unet_jax.models.blocks import BlockOptions, Conv, Normalization
from unet_jax.models.resizing import Sizes

STEM = 64  # channels after the first convolution
EXPANSION = 4  # output channels of a bottleneck, for each of its inner channels
LEVELS = 6  # of the U: the image, the stem and four stages
DECODER_WIDTHS = (16, 32, 64, 128, 256)  # as in segmentation_models_pytorch


class ResNet(NamedTuple):
    """The sizes of a ResNet.

    Attributes:
      depths: the number of blocks of each stage.
      bottleneck: True if a block has three convolutions, the outer ones of size 1.
    """

    depths: tuple[int, ...]
    bottleneck: bool

    @property
    def widths(self) -> tuple[int, ...]:
        """The number of channels of each level of the U; the image counts as 0."""
        expansion = EXPANSION if self.bottleneck else 1
        return (0, STEM, *(STEM * 2**stage * expansion for stage in range(4)))

    @property
    def convolutions(self) -> tuple[int, ...]:
        """The number of layers of each level that look at their neighbours."""
        each = 1 if self.bottleneck else 2
        first, *others = (each * depth for depth in self.depths)
        return (0, 1, 1 + first, *others)  # the first stage starts with a pooling


RESNETS = {
    "resnet18": ResNet((2, 2, 2, 2), bottleneck=False),
    "resnet34": ResNet((3, 4, 6, 3), bottleneck=False),
    "resnet50": ResNet((3, 4, 6, 3), bottleneck=True),
    "resnet101": ResNet((3, 4, 23, 3), bottleneck=True),
}
KERNELS = (1, 7, 3, 3, 3, 3)  # of the layers of each level


class ResNetBlock(nn.Module):
    """Two convolutions, or a bottleneck of three, and a shortcut that is added.

    The shortcut is the input, or, if the number of channels or the size changes, its
    1x1 convolution with the stride, and a norm.

    Attributes:
      features: the number of output channels.
      options: the options that all blocks share.
      strides: of the block.
      bottleneck: True for three convolutions, the outer ones of size 1.
    """

    features: int
    options: BlockOptions
    strides: Sizes = (1,)
    bottleneck: bool = False

    @nn.compact
    def __call__(self, inputs: tuple[jax.Array, ...], train: bool) -> jax.Array:
        """Applies the block to a single input `[B, *S, C]`."""
        (image,) = inputs
        layers = [(self.features, (3,), self.strides), (self.features, (3,), (1,))]
        if self.bottleneck:
            inner = self.features // EXPANSION
            layers = [(inner, (1,), (1,)), (inner, (3,), self.strides)]
            layers.append((self.features, (1,), (1,)))
        x = image
        for i, (features, size, strides) in enumerate(layers):
            x = self._convolve(x, features, size, strides, f"Conv_{i}", train)
            if i < len(layers) - 1:
                x = self.options.activation(x)
        if set(self.strides) != {1} or image.shape[-1] != self.features:
            image = self._convolve(
                image, self.features, (1,), self.strides, "shortcut", train
            )
        return self.options.activation(x + image)

    def _convolve(
        self,
        x: jax.Array,
        features: int,
        kernel_size: Sizes,
        strides: Sizes,
        name: str,
        train: bool,
    ) -> jax.Array:
        """Applies a convolution and its norm."""
        options = self.options
        bias = options.conv_bias or options.norm == "none"
        kind = "SAME", bias, options.dtype
        x = Conv(features, kernel_size, *kind, strides=strides, name=name)(x)
        norm = f"{name}_norm" if name == "shortcut" else f"Normalization_{name[-1]}"
        return Normalization(options.norm, options.axis_name, options.dtype, name=norm)(
            x, train=train
        )
