"""The parts that the PyTorch contenders share: a training loop and eight views."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from budget import Budget, decay_cosine
from data import Data, Sample, normalize

CROP, BATCH = 192, 4
RATE, DECAY = 1e-3, 0.01  # AdamW
MULTIPLE = 32  # of the sizes that the networks take


def set_threads() -> None:
    """Lets PyTorch use all cores of this process."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))


def fit(network: Any, data: Data, budget: Budget, seed: int) -> None:
    """Trains with cross-entropy on random crops, flipped and turned, by AdamW.

    Args:
      network: maps `[B, C, H, W]` to logits `[B, K, H, W]`.
      data: to train on.
      budget: the learning rate decays along half a cosine to its end.
      seed: of the crops.
    """
    rng = np.random.default_rng(seed)
    pairs = [(normalize(sample.image), sample.label) for sample in data.train]
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    network.train()
    for progress in budget:
        for group in optimizer.param_groups:
            group["lr"] = RATE * decay_cosine(progress)
        crops = [draw_crop(pairs, rng) for _ in range(BATCH)]
        parts = zip(*crops, strict=True)
        image, label = (torch.from_numpy(np.stack(part)) for part in parts)
        image = image.contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad(set_to_none=True)
        logits = network(image)
        torch.nn.functional.cross_entropy(logits, label.long()).backward()
        optimizer.step()


def draw_crop(
    pairs: list[tuple[np.ndarray, np.ndarray]], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Returns a random crop `f32[C, CROP, CROP]` and its label, in a random view."""
    image, label = pairs[rng.integers(len(pairs))]
    missing = [(0, max(0, CROP - size)) for size in label.shape]
    if any(after for _, after in missing):
        image = np.pad(image, ((0, 0), *missing), "symmetric")
        label = np.pad(label, missing, "symmetric")
    top, left = (rng.integers(size - CROP + 1) for size in label.shape)
    box = slice(top, top + CROP), slice(left, left + CROP)
    view = int(rng.integers(4)), bool(rng.integers(2))
    return (
        np.ascontiguousarray(apply_view(image[:, *box], *view)),
        np.ascontiguousarray(apply_view(label[box], *view)),
    )


def predict_whole(network: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that predicts a whole image, mirrored at its border.

    It maps `f32[C, H, W]` to probabilities `f32[K, H, W]`.
    """
    network.eval()

    def predict(image: np.ndarray) -> np.ndarray:
        height, width = image.shape[1:]
        pads = [(0, -size % MULTIPLE) for size in (height, width)]
        padded = np.pad(image, ((0, 0), *pads), "symmetric")
        with torch.inference_mode():
            batch = torch.from_numpy(padded[None])
            logits = network(batch.contiguous(memory_format=torch.channels_last))
            return logits.softmax(1)[0, :, :height, :width].numpy()

    return predict


def average_views(
    predict: Callable[[np.ndarray], np.ndarray], image: np.ndarray
) -> np.ndarray:
    """Returns the mean prediction of the quarter turns, without and with a mirror.

    Args:
      predict: maps `[C, H, W]` to `[K, H, W]`.
      image: `[C, H, W]`.
    """
    views = [(turns, mirrored) for mirrored in (False, True) for turns in range(4)]
    total: Any = 0
    for turns, mirrored in views:
        seen = np.ascontiguousarray(apply_view(image, turns, mirrored))
        back = predict(seen)
        back = back[..., ::-1] if mirrored else back
        total = total + np.rot90(back, -turns, (-2, -1))
    return (total / len(views)).astype(np.float32)


def apply_view(image: np.ndarray, turns: int, mirrored: bool) -> np.ndarray:
    """Turns the last two axes by quarters, then mirrors the last one."""
    image = np.rot90(image, turns, (-2, -1))
    return image[..., ::-1] if mirrored else image


def make_predictor(
    predict: Callable[[np.ndarray], np.ndarray],
) -> Callable[[Sample, bool], np.ndarray]:
    """Returns the function of `Trained.predict`, with the eight views of this file.

    Args:
      predict: maps a normalised image `[C, H, W]` to probabilities `[K, H, W]`.
    """

    def run(sample: Sample, views: bool) -> np.ndarray:
        image = normalize(sample.image)
        answer = average_views(predict, image) if views else predict(image)
        return np.moveaxis(answer, 0, -1)

    return run
