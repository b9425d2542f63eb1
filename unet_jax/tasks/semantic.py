"""Classes of pixels: exclusive ones through a softmax, overlapping ones by sigmoids."""

import jax
import numpy as np
from jax.scipy import special as jax_special
from scipy import special

from unet_jax.arrays import Batch, Example
from unet_jax.errors import UserError
from unet_jax.tasks.task import Array, Data, Task


def semantic(data: Data) -> Task:
    """One class for each pixel: a softmax over K classes, the background among them.

    The target is `label i32[*S]`; a prediction is `f32[*S, K]`, K probabilities that
    add up to 1.
    """
    return Task(
        channels=len(data.classes),
        classes=data.classes,
        losses=("label",),
        metrics=("label", "objects"),
        needs=("label",),
        prepare=_check_exclusive,
        targets=_get_targets,
        outputs=lambda output: {"label": output},
        activate=jax.nn.softmax,
        decide=choose_most_likely,
        probabilities=lambda prediction: prediction,
        entropy=lambda p: entr(p).sum(-1),
    )


def multilabel(data: Data) -> Task:
    """Any number of classes for each pixel: a sigmoid for each but the background.

    The target is `label i32[*S, K]` of 0 and 1; class ids `i32[*S]` become channels. A
    prediction is `f32[*S, K]`, one probability for each class.
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
        targets=_get_targets,
        outputs=lambda output: {"label": output},
        activate=jax.nn.sigmoid,
        decide=lambda prediction: (prediction > 0.5).astype(np.uint8),
        probabilities=lambda prediction: prediction,
        entropy=lambda p: (entr(p) + entr(1 - p)).sum(-1),
        overlapping=True,
    )


def choose_most_likely(prediction: Array) -> Array:
    """Returns the id of the largest probability, in 8 bits where they are enough."""
    few = prediction.shape[-1] <= 256
    return prediction.argmax(axis=-1).astype(np.uint8 if few else np.int32)


def entr(p: Array) -> Array:
    """Returns -p log p, and 0 at 0, on the host or on the device."""
    return (special if isinstance(p, np.ndarray) else jax_special).entr(p)


def _get_targets(batch: Batch) -> dict[str, jax.Array]:
    return {"label": batch["label"]}


def _check_exclusive(example: Example) -> Example:
    if example["label"].ndim == example["image"].ndim:
        raise UserError(
            "label has a channel for each class, so that classes can overlap; set "
            "--config.task.name=multilabel"
        )
    return example


def _split_channels(label: np.ndarray, classes: int) -> np.ndarray:
    """`i32[*S]` of 0..K -> `i32[*S, K]` of 0 and 1; a negative id stays in all K."""
    label = label[..., None]
    return np.where(label < 0, label, label == np.arange(1, classes + 1)).astype("i4")
