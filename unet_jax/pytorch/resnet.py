"""ResNets of torchvision, timm and segmentation_models_pytorch as encoders.

The three programs use the same names for the tensors of resnet18, 34, 50 and 101. A
classifier is left out. The networks are those of He et al. 2016 in the version of
PyTorch; variants of timm with other stems or blocks have other tensors and do not fit.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from unet_jax.pytorch.architecture import (
    Architecture,
    Layer,
    count_blocks,
    get_shape,
    make_conv,
    make_norm,
)
from unet_jax.pytorch.tensor import Tensor

NAMES = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
}
STEM = 64  # channels after the first convolution
# Of ImageNet, for images of 8 bits: the pixels from 0 to 255, in the order RGB.
IMAGENET = {
    "name": "fixed",
    "mean": (123.675, 116.28, 103.53),
    "std": (58.395, 57.12, 57.375),
}


def describe(tensors: Mapping[str, Tensor]) -> Architecture:
    """Returns the description of the ResNet with the blocks of these tensors."""
    name, layers = list_encoder(tensors, "")
    channels = get_shape(tensors, "conv1.weight", 4)[1]
    return Architecture(
        name=f"{name} of torchvision or timm",
        model={"encoder": name, "norm": "batch", "activation": "relu"},
        layers=tuple(layers),
        axes=2,
        channels=channels,
        outputs=0,
        ignored=("fc.", "classifier."),
        fields={"normalize": IMAGENET} if channels == 3 else {},
    )


def list_encoder(
    tensors: Mapping[str, Tensor], prefix: str
) -> tuple[str, Iterator[Layer]]:
    """Returns the name of the ResNet with the most similar blocks, and its layers.

    Args:
      tensors: of the checkpoint.
      prefix: of their names: 'encoder.'.
    """
    key = f"{prefix}layer{{}}.{{{{}}}}.conv1.weight"
    given = tuple(count_blocks(tensors, key.format(stage)) for stage in range(1, 5))
    deep = f"{prefix}layer1.0.conv3.weight" in tensors

    def distance(blocks: tuple[tuple[int, ...], bool]) -> tuple[bool, int]:
        depths, bottleneck = blocks
        pairs = zip(depths, given, strict=True)
        return bottleneck != deep, sum(abs(a - b) for a, b in pairs)

    depths, bottleneck = min(NAMES, key=distance)
    channels = get_shape(tensors, f"{prefix}conv1.weight", 4)[1]
    layers = _list_layers(prefix, channels, depths, bottleneck)
    return NAMES[depths, bottleneck], layers


def _list_layers(
    prefix: str, channels: int, depths: tuple[int, ...], bottleneck: bool
) -> Iterator[Layer]:
    shape = (STEM, channels, 7, 7)
    yield from make_conv(f"{prefix}conv1", shape, "stem/Conv_0", bias=False)
    yield from make_norm(f"{prefix}bn1", STEM, "stem/Normalization_0", "batch")
    before = STEM
    for stage, depth in enumerate(depths):
        inner = STEM * 2**stage
        end = 4 * inner if bottleneck else inner
        for i in range(depth):
            key = f"{prefix}layer{stage + 1}.{i}"
            path = f"down{stage + 2}_{i}"
            layers = [(before, inner, 3), (inner, end, 3)]
            if bottleneck:
                layers = [(before, inner, 1), (inner, inner, 3), (inner, end, 1)]
            for n, (a, b, size) in enumerate(layers):
                shape = (b, a, size, size)
                conv, norm = f"{path}/Conv_{n}", f"{path}/Normalization_{n}"
                yield from make_conv(f"{key}.conv{n + 1}", shape, conv, bias=False)
                yield from make_norm(f"{key}.bn{n + 1}", b, norm, "batch")
            if i == 0 and (stage > 0 or before != end):
                conv, norm = f"{path}/shortcut", f"{path}/shortcut_norm"
                down = f"{key}.downsample"
                shape = (end, before, 1, 1)
                yield from make_conv(f"{down}.0", shape, conv, bias=False)
                yield from make_norm(f"{down}.1", end, norm, "batch")
            before = end


def adapt_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Returns the first kernel of a network for another number of channels.

    For one channel, the kernel is summed over its channels. For others, its channels
    are repeated in turn and scaled, so that equal channels give equal features. It is
    the rule of timm and of segmentation_models_pytorch.

    Args:
      kernel: `[*K, C, F]`.
      channels: of the images.
    """
    given = kernel.shape[-2]
    if channels == 1:
        return kernel.sum(-2, keepdims=True)
    chosen = np.arange(channels) % given
    return kernel[..., chosen, :] * (given / channels)
