"""The Unet of segmentation_models_pytorch with a ResNet as its encoder.

Its decoder enlarges by repeating pixels, without a convolution, and concatenates the
upsampled features before the skip. The last layer has a kernel of 3.
"""

from collections.abc import Iterator, Mapping

from unet_jax.pytorch.architecture import (
    Architecture,
    Layer,
    get_shape,
    make_conv,
    make_norm,
    swap_inputs,
)
from unet_jax.pytorch.resnet import IMAGENET, STEM, list_encoder
from unet_jax.pytorch.tensor import Tensor

BLOCKS = 5  # of the decoder
NAME = "segmentation_models_pytorch Unet"


def describe(tensors: Mapping[str, Tensor]) -> Architecture:
    """Returns the description of a network with the sizes of these tensors."""
    name, encoder = list_encoder(tensors, "encoder.")
    channels = get_shape(tensors, "encoder.conv1.weight", 4)[1]
    widths = [
        get_shape(tensors, f"decoder.blocks.{i}.conv1.0.weight", 4)[0]
        for i in range(BLOCKS)
    ]
    outputs = get_shape(tensors, "segmentation_head.0.weight", 4)[0]
    return Architecture(
        name=f"{NAME} with {name}",
        model={
            "encoder": name,
            "padding": "SAME",
            "norm": "batch",
            "conv_bias": False,
            "activation": "relu",
            "upsample": "nearest",
            "upsample_conv": False,
            "decoder_widths": tuple(widths[::-1]),
            "head_kernel": 3,
        },
        layers=(*encoder, *_list_decoder(name, widths, outputs)),
        axes=2,
        channels=channels,
        outputs=outputs,
        ignored=("classification_head.",),
        fields={"normalize": IMAGENET} if channels == 3 else {},
        assumed=("nearest interpolation in the decoder",),
    )


def _list_decoder(name: str, widths: list[int], outputs: int) -> Iterator[Layer]:
    expansion = 1 if name in ("resnet18", "resnet34") else 4
    stages = [STEM * 2**stage * expansion for stage in range(4)]
    skips = [*stages[-2::-1], STEM, 0]
    before = stages[-1]
    for i, (skip, width) in enumerate(zip(skips, widths, strict=True)):
        path = f"up{BLOCKS - 1 - i}"
        for n, inputs in enumerate((before + skip, width)):
            key = f"decoder.blocks.{i}.conv{n + 1}"
            shape = (width, inputs, 3, 3)
            conv, norm = f"{path}/Conv_{n}", f"{path}/Normalization_{n}"
            for layer in make_conv(f"{key}.0", shape, conv, bias=False):
                ours = layer.path.endswith("kernel") and n == 0
                yield layer._replace(convert=swap_inputs(before)) if ours else layer
            yield from make_norm(f"{key}.1", width, norm, "batch")
        before = width
    shape = (outputs, before, 3, 3)
    yield from make_conv("segmentation_head.0", shape, "head0", bias=True)
