"""A PyTorch U-Net of the usual kind: batch norm, zero padding, 16 to 256 channels."""

from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from contender import Prepared, Trained
from torch import nn  # pyright: ignore[reportMissingImports]

from peers import torch_loop

WIDTHS = (16, 32, 64, 128, 256)


def make_block(before: int, width: int) -> nn.Sequential:
    """Returns two convolutions, each with batch norm and ReLU."""
    layers: list[nn.Module] = []
    for channels in (before, width):
        conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """The U-Net with batch norm, max-pooling and transposed convolutions."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        pairs = list(zip(WIDTHS, WIDTHS[1:], strict=False))
        befores = zip((channels, *WIDTHS), WIDTHS, strict=False)
        self.down = nn.ModuleList(
            make_block(before, width) for before, width in befores
        )
        self.rise = nn.ModuleList(
            nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in pairs
        )
        self.up = nn.ModuleList(make_block(2 * fine, fine) for fine, _ in pairs)
        self.head = nn.Conv2d(WIDTHS[0], classes, 1)

    def forward(self, x: Any) -> Any:
        """Maps `[B, C, H, W]` to logits `[B, K, H, W]`."""
        skips = []
        for level, block in enumerate(self.down):
            x = block(nn.functional.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for level in reversed(range(len(self.up))):
            x = self.up[level](torch.cat([skips[level], self.rise[level](x)], 1))
        return self.head(x)


def train(prepared: Prepared) -> Trained:
    """Trains the network for the steps of the budget."""
    return train_network(prepared, UNet)


def train_network(prepared: Prepared, make_network: Any) -> Trained:
    """Trains a network in the usual loop, channels last.

    Args:
      prepared: the data and the budget.
      make_network: makes a network from the numbers of channels and of classes.
    """
    torch_loop.set_threads()
    torch.manual_seed(prepared.seed)
    data, budget = prepared.data, prepared.budget
    network = make_network(data.channels, len(data.classes))
    network = network.to(memory_format=torch.channels_last)
    torch_loop.fit(network, data, budget, prepared.seed)
    predict = torch_loop.make_predictor(torch_loop.predict_whole(network))
    return Trained(predict)
