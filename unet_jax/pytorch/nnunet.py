"""The networks that nnU-Net v2 has trained: PlainConvUNet and ResidualEncoderUNet.

nnU-Net registers many layers more than once: the tensors below `decoder.encoder` and
`all_modules` are copies of others. The network works on transposed volumes if that
suits their spacing; here the kernels are transposed instead, so that images need not
be.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unet_jax.errors import UserError, prefix_errors
from unet_jax.json_file import read_json
from unet_jax.pytorch.architecture import (
    Architecture,
    Layer,
    make_conv,
    make_norm,
    make_up_conv,
    swap_inputs,
)
from unet_jax.pytorch.checkpoint_file import Checkpoint, read_checkpoint
from unet_jax.pytorch.nnunet_network import REMEDY, Network
from unet_jax.pytorch.nnunet_plans import Plan, read_plan

FILES = ("checkpoint_final.pth", "checkpoint_best.pth")
MAX_DEPTH = 32  # of lists and dicts in the plans of a checkpoint
MAX_SIZE = 2**22  # items and characters of the plans
COPIES = (".all_modules.", "decoder.encoder.")  # in names of tensors


def holds_plans(folder: Path) -> bool:
    """Returns True for a folder of nnU-Net v2: of a fold, or of all folds."""
    holder = folder.parent if folder.name.startswith("fold_") else folder
    return (holder / "plans.json").is_file()


def find_checkpoint(folder: Path) -> Path | None:
    """Returns the checkpoint of an nnU-Net; None if the folder is of another kind.

    Args:
      folder: of a fold, 'fold_0', or the one that holds the folds and plans.json.

    Raises:
      UserError: the folder holds several folds, or none that has ended.
    """
    if not holds_plans(folder):
        return None
    folds = [folder]
    if not folder.name.startswith("fold_"):
        folds = sorted(path for path in folder.glob("fold_*") if path.is_dir())
    if len(folds) > 1:
        names = ", ".join(path.name for path in folds)
        raise UserError(f"{folder} has {names}; name one of them: {folds[0]}")
    files = [fold / name for fold in folds for name in FILES]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise UserError(
            f"{folder} has no {FILES[0]}; train nnU-Net first, or name another folder"
        )
    return found


def is_nnunet(checkpoint: Checkpoint) -> bool:
    """Returns True if nnU-Net's trainer wrote a checkpoint."""
    arguments = checkpoint.content.get("init_args")
    return isinstance(arguments, Mapping) and "plans" in arguments


def read_nnunet(path: Path) -> tuple[Checkpoint, Architecture, Plan]:
    """Reads a checkpoint of nnU-Net with its plans.

    The plans are those of the files beside the fold, or else those in the checkpoint.

    Raises:
      UserError: the checkpoint or the plans are not valid, or are not supported.
    """
    checkpoint = read_checkpoint(path)
    with prefix_errors(str(path)):
        arguments = checkpoint.content.get("init_args")
        if not isinstance(arguments, Mapping):
            raise UserError(f"has no init_args, so nnU-Net did not write it; {REMEDY}")
        mirrored = checkpoint.content.get("inference_allowed_mirroring_axes")
        _check_size([arguments, mirrored])
        name = arguments.get("configuration")
        if not isinstance(name, str):
            raise UserError(f"names no configuration; {REMEDY}")
        plans, data_set = arguments.get("plans"), arguments.get("dataset_json")
        folder = path.parent.parent
        if (folder / "plans.json").is_file():
            plans = read_json(folder / "plans.json", dict[str, Any], REMEDY)
        if (folder / "dataset.json").is_file():
            data_set = read_json(folder / "dataset.json", dict[str, Any], REMEDY)
        plan = read_plan(plans, data_set, name)
        axes = len(plan.network.order)
        fields = {**plan.fields, "predict.tta": _choose_views(mirrored, axes)}
        plan = plan._replace(fields=fields)
        tensors = {
            key: tensor
            for key, tensor in checkpoint.tensors.items()
            if not any(part in f".{key}" for part in COPIES)
        }
        architecture = describe(plan)
    return checkpoint._replace(tensors=tensors), architecture, plan


def _check_size(value: Any) -> None:
    """Raises UserError for data that is too large or too deep to be plans.

    A pickle can refer to one object many times, and to an object from itself. Each
    reference counts, because the readers of the plans follow all of them.
    """
    level, size = [value], 0
    for _ in range(MAX_DEPTH):
        size += sum(len(v) for v in level if isinstance(v, str | list | tuple | dict))
        if size > MAX_SIZE:
            break
        dicts = [v for v in level if isinstance(v, dict)]
        lists = [v for v in level if isinstance(v, list | tuple)]
        parts = [*lists, *dicts, *(v.values() for v in dicts)]
        level = [inner for part in parts for inner in part]
        if not level:
            return
    raise UserError(f"its plans are too large or too deep; {REMEDY}")


def _choose_views(mirrored: Any, axes: int) -> str:
    """Returns the test-time augmentation that mirrors the same axes."""
    if not mirrored:
        return "none"
    if isinstance(mirrored, list | tuple):
        flipped = [axis in mirrored for axis in range(axes)]
        if all(flipped) and all(axis in range(axes) for axis in mirrored):
            return "flips"
    raise UserError(
        f"its test-time augmentation mirrors the axes {mirrored} alone, which is not "
        "supported; train nnU-Net to mirror all axes or none"
    )


def describe(plan: Plan) -> Architecture:
    """Returns the description of the network of a plan."""
    network = plan.network
    outputs = len(plan.classes)
    layers = tuple(_list_layers(network, plan.channels, outputs))
    constants = {}
    if not network.conv_bias:  # the bias of our up-convolutions
        constants = {
            f"params/upconv{level}/bias": np.zeros(width, np.float32)
            for level, width in enumerate(network.widths[:-1])
        }
    names = {"plain": "PlainConvUNet", "residual": "ResidualEncoderUNet"}
    return Architecture(
        name=f"nnU-Net's {names[network.encoder]}",
        model={
            "widths": network.widths,
            "padding": "SAME",
            "norm": network.norm,
            "conv_bias": network.conv_bias,
            "activation": network.activation,
            "negative_slope": network.slope,
            "encoder": network.encoder,
            "encoder_depths": network.down,
            "decoder_depths": network.up,
            "strides": network.strides,
            "kernels": network.kernels,
            "downsample": "conv",
            "upsample": "transpose",
            "deep_supervision": True,
        },
        layers=tuple(_transpose(layer, network.order) for layer in layers),
        axes=len(network.order),
        channels=plan.channels,
        outputs=outputs,
        constants=constants,
        fields=plan.fields,
        assumed=plan.assumed,
    )


def _transpose(layer: Layer, order: tuple[int, ...]) -> Layer:
    """Returns a layer whose kernel has its axes in the order of the files.

    The description lists shapes in that order; the tensors have nnU-Net's.
    """
    if len(layer.shape) != len(order) + 2 or order == tuple(range(len(order))):
        return layer
    axes = (0, 1, *(axis + 2 for axis in order))
    shape = [0] * len(axes)
    for ours, theirs in enumerate(axes):
        shape[theirs] = layer.shape[ours]
    return layer._replace(
        shape=tuple(shape),
        convert=lambda kernel: layer.convert(kernel.transpose(axes)),
    )


def _list_layers(network: Network, channels: int, outputs: int) -> Iterator[Layer]:
    yield from _list_encoder(network, channels)
    levels = len(network.widths)
    for i, level in enumerate(reversed(range(levels - 1))):
        width = network.widths[level]
        shape = (network.widths[level + 1], width, *network.strides[level])
        yield from make_up_conv(
            f"decoder.transpconvs.{i}", shape, f"upconv{level}", bias=network.conv_bias
        )
        before = 2 * width
        for n in range(network.up[level]):
            key = f"decoder.stages.{i}.convs.{n}"
            sizes = (width, before, *network.kernels[level])
            for layer in _list_conv(network, key, sizes, f"up{level}", n):
                # the upsampled features come first
                first = n == 0 and layer.path.endswith("kernel")
                yield layer._replace(convert=swap_inputs(width)) if first else layer
            before = width
        shape = (outputs, width, *(1,) * len(network.order))
        key = f"decoder.seg_layers.{i}"
        yield from make_conv(key, shape, f"head{level}", bias=True)


def _list_encoder(network: Network, before: int) -> Iterator[Layer]:
    if network.encoder == "residual":
        sizes = (network.widths[0], before, *network.kernels[0])
        yield from _list_conv(network, "encoder.stem.convs.0", sizes, "stem", 0)
        before = network.widths[0]
    for level, width in enumerate(network.widths):
        for i in range(network.down[level]):
            sizes = (width, before, *network.kernels[level])
            if network.encoder == "plain":
                key = f"encoder.stages.{level}.0.convs.{i}"
                yield from _list_conv(network, key, sizes, f"down{level}", i)
            else:
                strided = (
                    i == 0 and level > 0 and set(network.strides[level - 1]) != {1}
                )
                key = f"encoder.stages.{level}.blocks.{i}"
                path = f"down{level}_{i}"
                yield from _list_residual(network, key, sizes, path, strided=strided)
            before = width


def _list_residual(
    network: Network, key: str, sizes: tuple[int, ...], path: str, *, strided: bool
) -> Iterator[Layer]:
    """Yields the layers of a residual block; its shortcut may have no tensors."""
    width, before, *kernel = sizes
    yield from _list_conv(network, f"{key}.conv1", sizes, path, 0)
    second = (width, width, *kernel)
    yield from _list_conv(network, f"{key}.conv2", second, path, 1)
    if before != width:
        inner = f"{key}.skip.{int(strided)}"  # after the pooling, if there is one
        shape = (width, before, *(1,) * len(kernel))
        yield from make_conv(f"{inner}.conv", shape, f"{path}/shortcut", bias=False)
        norm = f"{path}/shortcut_norm"
        yield from make_norm(f"{inner}.norm", width, norm, network.norm)


def _list_conv(
    network: Network, key: str, sizes: tuple[int, ...], path: str, index: int
) -> Iterator[Layer]:
    bias = network.conv_bias
    yield from make_conv(f"{key}.conv", sizes, f"{path}/Conv_{index}", bias=bias)
    norm = f"{path}/Normalization_{index}"
    yield from make_norm(f"{key}.norm", sizes[0], norm, network.norm)
