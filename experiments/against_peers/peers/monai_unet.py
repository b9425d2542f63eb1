"""MONAI's BasicUNet with MONAI's transforms, loss and sliding windows.

The network has the default features, instance norm and leaky ReLU. The recipe is that
of MONAI's 2-D tutorials (Adam at 1e-3, random crops, flips, turns and intensities),
with DiceCELoss and a cosine schedule. Channels first, because channels last is slower
with its instance norm on a CPU.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from budget import decay_cosine
from contender import Prepared, Trained
from data import Sample
from monai import transforms  # pyright: ignore[reportMissingImports]
from monai.data import CacheDataset, DataLoader  # pyright: ignore[reportMissingImports]
from monai.inferers import (  # pyright: ignore[reportMissingImports]
    SlidingWindowInferer,
)
from monai.losses import DiceCELoss  # pyright: ignore[reportMissingImports]
from monai.networks.nets import BasicUNet  # pyright: ignore[reportMissingImports]
from monai.utils import set_determinism  # pyright: ignore[reportMissingImports]

from peers import torch_loop
from peers.torch_loop import BATCH, CROP, RATE

BOTH = ("image", "label")


def train(prepared: Prepared) -> Trained:
    """Trains the network for the steps of the budget."""
    torch_loop.set_threads()
    set_determinism(prepared.seed)
    data, budget = prepared.data, prepared.budget
    network: Any = BasicUNet(2, data.channels, len(data.classes))
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    loss = DiceCELoss(to_onehot_y=True, softmax=True)
    batches = _repeat(_make_loader(data.train))
    network.train()
    for progress in budget:
        for group in optimizer.param_groups:
            group["lr"] = RATE * decay_cosine(progress)
        batch = next(batches)
        optimizer.zero_grad(set_to_none=True)
        logits = network(batch["image"].as_tensor())
        loss(logits, batch["label"].as_tensor()).backward()
        optimizer.step()
    network.eval()
    infer = SlidingWindowInferer((CROP, CROP), BATCH, mode="gaussian")

    def predict(image: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            logits: Any = infer(torch.from_numpy(image[None]), network)
            return logits.softmax(1)[0].numpy()

    return Trained(torch_loop.make_predictor(predict))


def _repeat(loader: Any) -> Iterator[Any]:
    """Yields the batches of one epoch after the other."""
    while True:
        yield from loader


def _make_loader(samples: list[Sample]) -> Any:
    """Returns a loader of random crops; what is not random is computed once."""
    transform = transforms.Compose(
        [
            transforms.EnsureChannelFirstd(["image"], channel_dim=-1),
            transforms.EnsureChannelFirstd(["label"], channel_dim="no_channel"),
            transforms.NormalizeIntensityd(["image"], channel_wise=True),
            transforms.SpatialPadd(BOTH, (CROP, CROP), mode="symmetric"),
            transforms.RandSpatialCropd(BOTH, (CROP, CROP), random_size=False),
            transforms.RandFlipd(BOTH, prob=0.5, spatial_axis=0),
            transforms.RandFlipd(BOTH, prob=0.5, spatial_axis=1),
            transforms.RandRotate90d(BOTH, prob=0.75, max_k=3),
            transforms.RandScaleIntensityd(["image"], factors=0.1, prob=0.5),
            transforms.RandShiftIntensityd(["image"], offsets=0.1, prob=0.5),
        ]
    )
    items = [
        {"image": sample.image.astype(np.float32), "label": sample.label}
        for sample in samples
    ]
    cached = CacheDataset(items, transform, progress=False)
    return DataLoader(cached, batch_size=BATCH, shuffle=True, drop_last=True)
