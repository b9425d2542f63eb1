"""Rebuilds an exported network in PyTorch, from model.json and weights.safetensors.

    network = load("exported/")
    logits = network(torch.from_numpy(image))  # normalised, f32[B, C, *S]

For networks with a plain encoder, pooling and transposed convolutions. S is a legal
size: multiples of the strides, or 16 k + 60 for the network of the paper.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from safetensors.numpy import load_file
from torch.nn import functional as F  # pyright: ignore[reportMissingImports]

KINDS = {
    "name": ("UNet",),
    "encoder": ("plain",),
    "downsample": ("pool",),
    "upsample": ("transpose",),
    "residual": (False,),
    "attention": (False,),
    "time_features": (0,),
    "head_kernel": (1,),
    "upsample_conv": (True,),
    "norm": ("none", "batch", "instance"),
    "activation": ("relu", "leaky_relu"),
}
READ = {"widths", "padding", "conv_bias", "negative_slope", "strides", "kernels"}
READ |= {"encoder_depths", "decoder_depths", "dropout", "deep_supervision", "remat"}


def load(folder: str | Path) -> Callable:
    """Returns the network, `f32[B, C, *S] -> f32[B, K, *S']`, in inference."""
    model = json.loads((Path(folder) / "model.json").read_text())["config"]["model"]
    for field, value in model.items():
        default = value in ([], ()) or value in KINDS.get(field, ())
        if field not in READ and not default:
            raise SystemExit(f"model.{field}={value!r} is not rebuilt here")
    arrays = load_file(Path(folder) / "weights.safetensors")
    arrays = {name: torch.from_numpy(np.array(a)) for name, a in arrays.items()}
    slope = model.get("negative_slope", 0.01)
    kinds = {"relu": F.relu, "leaky_relu": lambda x: F.leaky_relu(x, slope)}
    activate, levels = kinds[model["activation"]], len(model["widths"])

    def apply_block(x: torch.Tensor, path: str) -> torch.Tensor:
        i = 0
        while (kernel := arrays.get(f"params.{path}.Conv_{i}.kernel")) is not None:
            bias = arrays.get(f"params.{path}.Conv_{i}.bias")
            zeros = [n // 2 * (model["padding"] == "SAME") for n in kernel.shape[:-2]]
            x = convolve(x, kernel, bias, zeros)
            x = activate(normalize(x, arrays, f"{path}.Normalization_{i}"))
            i += 1
        return x

    def run(x: torch.Tensor) -> torch.Tensor:
        strides = [list(map(int, s)) for s in model["strides"]]
        strides = [(s * (x.ndim - 2))[: x.ndim - 2] for s in strides]
        strides = strides * (levels - 1) if len(strides) == 1 else strides
        skips = []
        for level in range(levels):
            x = pool(x, strides[level - 1]) if level else x
            skips.append(x := apply_block(x, f"down{level}"))
        for level in reversed(range(levels - 1)):
            kernel = arrays[f"params.upconv{level}.kernel"]
            kernel = kernel.reshape(len(kernel), *strides[level], -1).movedim(-1, 1)
            up = F.conv_transpose2d if x.ndim == 4 else F.conv_transpose3d
            bias = arrays[f"params.upconv{level}.bias"]
            x = up(x, kernel, bias, stride=strides[level])
            x = apply_block(torch.cat([crop(skips[level], x), x], 1), f"up{level}")
        kernel, bias = (arrays[f"params.head0.{name}"] for name in ("kernel", "bias"))
        return convolve(x, kernel, bias, 0)

    return run


def pool(x: torch.Tensor, stride: list[int]) -> torch.Tensor:
    """Returns the maximum of blocks."""
    return (F.max_pool2d if x.ndim == 4 else F.max_pool3d)(x, stride)


def convolve(x: torch.Tensor, kernel: torch.Tensor, bias, zeros) -> torch.Tensor:
    """Convolves with a kernel `[*K, C, F]`."""
    convolution = F.conv2d if x.ndim == 4 else F.conv3d
    return convolution(x, kernel.movedim((-1, -2), (0, 1)), bias, padding=zeros)


def normalize(x: torch.Tensor, arrays: dict, path: str) -> torch.Tensor:
    """Applies batch norm, or instance norm: a group norm with one channel a group."""
    if (scale := arrays.get(f"params.{path}.BatchNorm_0.scale")) is not None:
        mean, var = (
            arrays[f"batch_stats.{path}.BatchNorm_0.{k}"] for k in ("mean", "var")
        )
        return F.batch_norm(
            x, mean, var, scale, arrays[f"params.{path}.BatchNorm_0.bias"]
        )
    if (scale := arrays.get(f"params.{path}.GroupNorm_0.scale")) is not None:
        bias = arrays[f"params.{path}.GroupNorm_0.bias"]
        return F.group_norm(x, len(scale), scale, bias)
    return x


def crop(skip: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Returns the middle of a skip, of the size of x."""
    for axis in range(2, x.ndim):
        start = (skip.shape[axis] - x.shape[axis]) // 2
        skip = skip.narrow(axis, start, x.shape[axis])
    return skip
