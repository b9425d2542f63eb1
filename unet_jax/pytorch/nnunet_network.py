"""Reads the network of an nnU-Net v2 from its plans.

Plans of nnU-Net 2.0 to 2.3 describe the network by its kernels and strides, newer ones
by the arguments of a class.
"""

from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from unet_jax.errors import UserError
from unet_jax.json_file import PositiveNumber, convert

Size = Annotated[int, Meta(ge=1, le=2**16)]
Sizes = Annotated[list[Size], Meta(min_length=1, max_length=3)]
Levels = Annotated[list[Any], Meta(min_length=2, max_length=32)]
Depth = Annotated[int, Meta(ge=1, le=100)]

NETWORKS = {"PlainConvUNet": "plain", "ResidualEncoderUNet": "residual"}
ACTIVATIONS = {"LeakyReLU": "leaky_relu", "ReLU": "relu"}
NORMS = {"InstanceNorm": "instance", "BatchNorm": "batch"}
REMEDY = "name a folder that nnU-Net v2 has trained"


class _Network(msgspec.Struct):
    network_class_name: str
    arch_kwargs: dict[str, Any]


class Configuration(msgspec.Struct):
    """A configuration such as 2d; the last fields are those before nnU-Net 2.4."""

    patch_size: Sizes
    normalization_schemes: list[str]
    use_mask_for_norm: list[bool | None]
    spacing: list[PositiveNumber]
    batch_size: Size = 2
    previous_stage: str | None = None
    architecture: _Network | None = None
    UNet_class_name: str = ""
    UNet_base_num_features: Size = 32
    unet_max_num_features: Size = 512
    n_conv_per_stage_encoder: list[Depth] = []
    n_conv_per_stage_decoder: list[Depth] = []
    pool_op_kernel_sizes: list[Sizes] = []
    conv_kernel_sizes: list[Sizes] = []


class Network(NamedTuple):
    """The network of a configuration, with axes in the order of the files.

    Attributes:
      encoder: 'plain' or 'residual'.
      widths: of each level.
      strides: from each level to the next one.
      kernels: of each level.
      down: the depth of each level of the contracting path.
      up: the depth of each level of the expanding path, the finest first.
      conv_bias: True if convolutions have a bias.
      norm: 'instance', 'batch' or 'none'.
      activation: 'leaky_relu' or 'relu'.
      slope: of leaky_relu.
      order: for each axis of the files, the axis of the tensors.
    """

    encoder: str
    widths: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]
    down: tuple[int, ...]
    up: tuple[int, ...]
    conv_bias: bool
    norm: str
    activation: str
    slope: float
    order: tuple[int, ...]


class _Arguments(msgspec.Struct):
    """The arguments of a network's class that we read."""

    n_stages: Annotated[int, Meta(ge=2, le=32)]
    features_per_stage: list[Size]
    kernel_sizes: Levels
    strides: Levels
    n_conv_per_stage_decoder: list[Depth]
    n_conv_per_stage: list[Depth] = []
    n_blocks_per_stage: list[Depth] = []
    conv_op: str = ""
    conv_bias: bool = False
    norm_op: str | None = None
    norm_op_kwargs: dict[str, Any] | None = None
    dropout_op: str | None = None
    nonlin: str | None = None
    nonlin_kwargs: dict[str, Any] | None = None
    nonlin_first: bool = False
    stem_channels: int | None = None
    bottleneck_channels: Any = None
    block: Any = None


def read_network(used: Configuration, order: tuple[int, ...]) -> Network:
    """Returns the network of a configuration.

    Args:
      used: the configuration.
      order: for each axis of the files, the axis of nnU-Net.

    Raises:
      UserError: the network is not supported.
    """
    name = used.UNet_class_name
    arguments: dict[str, Any] = _convert_old(used)
    if used.architecture:
        name = used.architecture.network_class_name
        arguments = used.architecture.arch_kwargs
    short = name.rpartition(".")[2]
    if short not in NETWORKS:
        raise UserError(
            f"its network is {name or 'unknown'}, which is not supported; supported: "
            f"{', '.join(NETWORKS)}"
        )
    given = convert(arguments, _Arguments, "the network in plans.json", REMEDY)
    _check_supported(given)
    count = given.n_stages
    down = given.n_blocks_per_stage or given.n_conv_per_stage
    lengths = (given.features_per_stage, given.kernel_sizes, given.strides, down)
    up = given.n_conv_per_stage_decoder
    if any(len(each) != count for each in lengths) or len(up) != count - 1:
        raise UserError(f"plans.json: the network needs {count} stages; {REMEDY}")
    strides = [_read_sizes(each, order) for each in given.strides]
    if set(strides[0]) != {1}:
        raise UserError(
            f"its first level has the stride {strides[0]}, which is not supported; "
            f"{REMEDY}"
        )
    kernels = tuple(_read_sizes(each, order) for each in given.kernel_sizes)
    if even := [k for k in kernels if any(n % 2 == 0 for n in k)]:
        raise UserError(
            f"its kernel {even[0]} is even, which is not supported; train nnU-Net with "
            "odd kernels"
        )
    norm = (given.norm_op or "").rpartition(".")[2][: -len("2d")]
    slope = (given.nonlin_kwargs or {}).get("negative_slope", 0.01)
    return Network(
        encoder=NETWORKS[short],
        widths=tuple(given.features_per_stage),
        strides=tuple(strides[1:]),
        kernels=kernels,
        down=tuple(down),
        up=tuple(up[::-1]),
        conv_bias=given.conv_bias,
        norm=NORMS[norm] if norm else "none",
        activation=ACTIVATIONS[(given.nonlin or "").rpartition(".")[2]],
        slope=float(slope) if isinstance(slope, int | float) else 0.01,
        order=order,
    )


def _check_supported(given: _Arguments) -> None:
    """Raises UserError for arguments whose network we do not have."""
    norm = (given.norm_op or "").rpartition(".")[2]
    options = given.norm_op_kwargs or {}
    wrong = {
        f"norm_op={given.norm_op}": norm and norm[:-2] not in NORMS,
        f"norm_op_kwargs={options}": norm
        and (
            options.get("eps", 1e-5) != 1e-5
            or not (options.get("affine", "Batch" in norm))
        ),
        f"nonlin={given.nonlin}": (given.nonlin or "").rpartition(".")[2]
        not in ACTIVATIONS,
        "nonlin_first": given.nonlin_first,
        f"dropout_op={given.dropout_op}": given.dropout_op,
        f"stem_channels={given.stem_channels}": given.stem_channels
        not in (None, given.features_per_stage[0]),
        "bottleneck_channels": given.bottleneck_channels,
        f"block={given.block}": given.block and "BottleneckD" in str(given.block),
    }
    for name, unsupported in wrong.items():
        if unsupported:
            raise UserError(
                f"its network has {name}, which is not supported; train nnU-Net with "
                "its default network"
            )


def _read_sizes(value: Any, order: tuple[int, ...]) -> tuple[int, ...]:
    """Returns a kernel or a stride of each axis of the files."""
    several = value if isinstance(value, list | tuple) else [value] * len(order)
    kind: Any = Sizes
    sizes = convert(list(several), kind, "the network in plans.json", REMEDY)
    return permute(sizes, order)


def _convert_old(used: Configuration) -> dict[str, Any]:
    """Returns the arguments of the network of plans before nnU-Net 2.4."""
    count = len(used.pool_op_kernel_sizes)
    largest, base = used.unet_max_num_features, used.UNet_base_num_features
    axes = len(used.patch_size)
    residual = used.UNet_class_name == "ResidualEncoderUNet"
    depths = "n_blocks_per_stage" if residual else "n_conv_per_stage"
    return {
        "n_stages": count,
        "features_per_stage": [min(base * 2**i, largest) for i in range(count)],
        "kernel_sizes": used.conv_kernel_sizes,
        "strides": used.pool_op_kernel_sizes,
        depths: used.n_conv_per_stage_encoder,
        "n_conv_per_stage_decoder": used.n_conv_per_stage_decoder,
        "conv_bias": True,
        "norm_op": f"InstanceNorm{axes}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": "LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


def permute(numbers: Any, order: tuple[int, ...]) -> tuple:
    """Returns numbers of nnU-Net's axes in the order of the axes of the files."""
    if len(numbers) != len(order):
        raise UserError(f"plans.json: {numbers} has another number of axes; {REMEDY}")
    return tuple(numbers[axis] for axis in order)
