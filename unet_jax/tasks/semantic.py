"""Semantic segmentation with exclusive or with independent classes."""

from typing import Literal

import numpy as np
from jax.scipy import special as jax_special
from scipy import special

from unet_jax.arrays import Example
from unet_jax.errors import UserError
from unet_jax.tasks.activation import Activation, Activations
from unet_jax.tasks.task import Array, Task, TaskData


def semantic(
    data: TaskData, *, average: Literal["probabilities", "logits"] = "probabilities"
) -> Task:
    """Predicts one class per pixel, by a softmax over all K classes of the data set.

    The target is `label i32[*S]`. A prediction is `f32[*S, K]`, K probabilities with a
    sum of 1. They are averaged over tiles, views and runs; with average="logits" the
    outputs are averaged before the softmax, as in nnU-Net.
    """
    count = len(data.classes)
    softmax, identity = (
        Activations((Activation(function, count),))
        for function in ("softmax", "identity")
    )
    return Task(
        channels=count,
        classes=data.classes,
        losses=("label",),
        metrics=("label", "objects"),
        needs=("label",),
        prepare=_check_exclusive,
        targets=lambda batch: {"label": batch["label"]},
        outputs=lambda output: {"label": output},
        activate=identity if average == "logits" else softmax,
        finish=softmax if average == "logits" else None,
        decide=choose_most_likely,
        probabilities=lambda prediction: prediction,
        entropy=lambda p: entr(p).sum(-1),
        background=data.background,
    )


def multilabel(data: TaskData) -> Task:
    """Predicts any number of classes for each pixel, by a sigmoid per foreground class.

    The target is `label i32[*S, K]` of 0 and 1; a label of class ids `i32[*S]` is
    converted to channels. A prediction is `f32[*S, K]`, one probability per class.
    Class 0 is the absence of the others and has no channel.
    """
    classes = data.classes[1:]

    def prepare(example: Example) -> Example:
        label = example["label"]
        if label.ndim == example["image"].ndim:
            return example
        return {**example, "label": _split_channels(label, len(classes))}

    return Task(
        channels=len(classes),
        classes=classes,
        losses=("label",),
        metrics=("label", "objects"),
        needs=("label",),
        prepare=prepare,
        targets=lambda batch: {"label": batch["label"]},
        outputs=lambda output: {"label": output},
        activate=Activations((Activation("sigmoid", len(classes)),)),
        decide=lambda prediction: (prediction > 0.5).astype(np.uint8),
        probabilities=lambda prediction: prediction,
        entropy=lambda p: (entr(p) + entr(1 - p)).sum(-1),
        overlapping=True,
    )


def choose_most_likely(prediction: Array) -> Array:
    """Returns the class id of the largest probability: `u8`, or `i32` if K > 256."""
    few = prediction.shape[-1] <= 256
    return prediction.argmax(axis=-1).astype(np.uint8 if few else np.int32)


def entr(p: Array) -> Array:
    """Computes -p log p, which is 0 at p = 0, as SciPy's function of this name does.

    NumPy arrays are computed on the host, JAX arrays on the device.
    """
    return (special if isinstance(p, np.ndarray) else jax_special).entr(p)


def _check_exclusive(example: Example) -> Example:
    if example["label"].ndim == example["image"].ndim:
        raise UserError(
            "the label has one channel per class, so classes can overlap; set "
            "--config.task.name=multilabel"
        )
    return example


def _split_channels(label: np.ndarray, classes: int) -> np.ndarray:
    """Converts `i32[*S]` of 0..K to `i32[*S, K]` of 0 and 1; keeps negative ids."""
    label = label[..., None]
    return np.where(label < 0, label, label == np.arange(1, classes + 1)).astype("i4")
