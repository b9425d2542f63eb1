"""The Unet of segmentation-models-pytorch at its defaults, in the usual loop.

The default encoder is a ResNet-34. Its default weights are those of ImageNet, which
must be downloaded; here it starts at random (`encoder_weights=None`).
"""

from typing import Any

import segmentation_models_pytorch  # pyright: ignore[reportMissingImports]
from contender import Prepared, Trained

from peers.plain_torch import train_network


def train(prepared: Prepared) -> Trained:
    """Trains the network for the steps of the budget."""
    return train_network(prepared, _make_network)


def _make_network(channels: int, classes: int) -> Any:
    return segmentation_models_pytorch.Unet(
        encoder_weights=None, in_channels=channels, classes=classes
    )
