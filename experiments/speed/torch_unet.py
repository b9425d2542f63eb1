"""The same U-Net and training step in PyTorch, with a copy of the weights.

Two convolutions a level, max-pooling, transposed convolutions and concatenation, all
from `torch.nn`, as most public implementations have it.
"""

from typing import Any

import networks
import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from cases import OUTPUTS, Case
from networks import Contender
from torch import nn  # pyright: ignore[reportMissingImports]

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

CONV = {2: nn.Conv2d, 3: nn.Conv3d}
UP_CONV = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
BATCH_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE_NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


def make_norm(kind: str, width: int, axes: int) -> nn.Module:
    """Returns a norm with the epsilon and the momentum of `unet_jax`."""
    if kind == "batch":
        # the momentum of PyTorch weighs the new value, that of Flax the old one
        return BATCH_NORM[axes](width, eps=1e-5, momentum=0.1)
    if kind == "instance":
        return INSTANCE_NORM[axes](width, eps=1e-6, affine=True)
    return nn.Identity()


class Block(nn.Sequential):
    """Two convolutions, each with a norm and ReLU."""

    def __init__(self, before: int, width: int, case: Case) -> None:
        layers: list[nn.Module] = []
        zeros, bias = int(case.padding == "SAME"), case.norm == "none"
        for channels in (before, width):
            conv = CONV[case.axes](channels, width, 3, padding=zeros, bias=bias)
            norm = make_norm(case.norm, width, case.axes)
            layers += [conv, norm, nn.ReLU(inplace=True)]
        super().__init__(*layers)


class UNet(nn.Module):
    """The U-Net of a case, for one channel."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        widths, axes = case.widths, case.axes
        pairs = list(zip(widths, widths[1:], strict=False))
        self.down = nn.ModuleList(
            Block(before, width, case)
            for before, width in zip((1, *widths), widths, strict=False)
        )
        self.upconv = nn.ModuleList(
            UP_CONV[axes](coarse, fine, 2, stride=2) for fine, coarse in pairs
        )
        self.up = nn.ModuleList(Block(2 * fine, fine, case) for fine, _ in pairs)
        self.head = CONV[axes](widths[0], OUTPUTS, 1)
        self.pool = POOL[axes](2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps `[B, 1, *S]` to logits `[B, OUTPUTS, *S']`."""
        skips = []
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x)
            skips.append(x)
        skips.pop()
        for level in reversed(range(len(skips))):
            x = self.upconv[level](x)
            skip = _crop(skips[level], x.shape[2:])
            x = self.up[level](torch.cat([skip, x], dim=1))
        return self.head(x)


def _crop(x: torch.Tensor, shape: Any) -> torch.Tensor:
    starts = [(old - new) // 2 for old, new in zip(x.shape[2:], shape, strict=True)]
    ends = zip(starts, shape, strict=True)
    return x[(..., *(slice(start, start + size) for start, size in ends))]


def copy_weights(network: Any, params: Any) -> None:
    """Copies the parameters of `unet_jax.models.UNet` into the PyTorch network.

    Args:
      network: the PyTorch network.
      params: the parameters of the same network in Flax, with NumPy arrays.
    """
    axes = network.head.weight.ndim - 2
    for level, block in enumerate(network.down):
        _copy_block(block, params[f"down{level}"], axes)
    for level, block in enumerate(network.up):
        _copy_block(block, params[f"up{level}"], axes)
        kernel = np.asarray(params[f"upconv{level}"]["kernel"])  # [C, strides, K]
        kernel = kernel.reshape(len(kernel), *[2] * axes, -1)
        _copy(network.upconv[level].weight, np.moveaxis(kernel, -1, 1))
        _copy(network.upconv[level].bias, params[f"upconv{level}"]["bias"])
    _copy_conv(network.head, params["head0"], axes)


def _copy_block(block: Any, params: Any, axes: int) -> None:
    for i in range(2):
        _copy_conv(block[3 * i], params[f"Conv_{i}"], axes)
        norm = block[3 * i + 1]
        if not isinstance(norm, nn.Identity):
            (affine,) = params[f"Normalization_{i}"].values()
            _copy(norm.weight, affine["scale"])
            _copy(norm.bias, affine["bias"])


def _copy_conv(conv: Any, params: Any, axes: int) -> None:
    _copy(conv.weight, np.transpose(params["kernel"], (-1, -2, *range(axes))))
    if conv.bias is not None:
        _copy(conv.bias, params["bias"])


def _copy(parameter: Any, values: Any) -> None:
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.array(values, np.float32)))


def make_torch(case: Case, compiled: bool = False) -> Contender:
    """Returns a PyTorch network with the same weights, channels last.

    Args:
      case: the network and the batch.
      compiled: True for `torch.compile`.
    """
    torch.compiler.reset()
    torch.backends.cudnn.benchmark = True  # XLA times its algorithms, too
    batch = networks.draw_batch(case)
    layout = {2: torch.channels_last, 3: torch.channels_last_3d}[case.axes]
    network = UNet(case)
    copy_weights(network, networks.draw_variables(case)["params"])
    network.to(DEVICE, memory_format=layout)  # pyright: ignore[reportCallIssue]
    # unet_jax exempts biases and norms from weight decay, so PyTorch decays nothing
    optimizer = torch.optim.AdamW(
        network.parameters(), networks.LEARNING_RATE, weight_decay=0.0, fused=True
    )
    image = torch.from_numpy(np.moveaxis(batch["image"], -1, 1)).to(
        DEVICE, memory_format=layout
    )
    label = torch.from_numpy(batch["label"]).long().to(DEVICE)
    # a second size would otherwise be compiled for any size, which is slower
    run = torch.compile(network, dynamic=False) if compiled else network
    low = case.dtype == "bfloat16"

    def forward() -> torch.Tensor:
        with torch.autocast(DEVICE, torch.bfloat16, enabled=low):
            return run(image)

    def train(count: int) -> list[float]:
        network.train()
        values = []
        for _ in range(count):
            optimizer.zero_grad(set_to_none=True)
            loss = torch.nn.functional.cross_entropy(forward().float(), label)
            loss.backward()
            optimizer.step()
            values.append(loss.detach())
        return [float(value) for value in values]

    def infer(count: int) -> np.ndarray:
        network.eval()
        with torch.inference_mode():
            logits = [forward() for _ in range(count)][-1]
        return np.moveaxis(logits.float().cpu().numpy(), 1, -1)

    return Contender(train, infer)
