"""Instance segmentation by vectors that point to the centre of each object.

Stringer et al. 2021 (Cellpose, Nature Methods 18), for images and volumes.

Vectors would have to be rotated with the image in every augmentation. An example
therefore carries a scalar, the potential of `vector_field.py`, which augmentation
treats like an image. The vectors are computed after augmentation: they are the
direction of steepest ascent of the potential, among the pixels of the same object.
After flips, turns, rotations and crops they equal the vectors of the transformed
object. After an elastic deformation they ascend the deformed potential, to the deformed
position of the centre.
"""

import jax
import jax.numpy as jnp
import numpy as np

from unet_jax.arrays import IGNORE, Batch, Example, Segmentation
from unet_jax.specs import Count, Iterations, NonNegative, Proportion
from unet_jax.tasks.activation import Activation, Activations
from unet_jax.tasks.semantic import entr
from unet_jax.tasks.task import Array, Task, TaskData
from unet_jax.tasks.vector_field import (
    compute_potential,
    compute_vectors,
    follow_vectors,
    group_end_points,
)

VECTOR_SCALE = 5  # length of the network's vectors: 5 H and 5 V in the paper's loss


def flow(
    data: TaskData,
    *,
    steps: Iterations = 200,
    probability: Proportion = 0.5,
    pixels: Count = 15,
    flow_threshold: NonNegative = 0.4,
) -> Task:
    """Predicts touching objects of one class: vectors to centres, and a foreground.

    A record must have `instances i32[*S]`. The targets are a label `i32[*S, 1]`, 1 in
    objects, and a value `f32[*S, axes]`, 5 times the unit vectors. A prediction is
    `f32[*S, axes + 1]`: vectors of length about 1, and the probability that a pixel is
    in an object.

    Args:
      data: the properties of the data set. More than two classes are merged into one,
        "object".
      steps: the number of steps for which pixels follow the vectors, about one pixel
        each. Thin objects that extend farther from their centre can be split.
      probability: pixels with a higher probability are in an object.
      pixels: the size of the smallest object; smaller ones become background.
      flow_threshold: the largest mean squared distance between the predicted vectors of
        an object and those computed from its shape. Other objects become background
        (the paper's mask quality threshold). 0 keeps all objects.
    """
    axes = data.axes

    def targets(batch: Batch) -> dict[str, jax.Array]:
        value = compute_vectors(batch["potential"], batch["instances"], axes)
        return {"label": batch["label"][..., None], "value": VECTOR_SCALE * value}

    def decide(prediction: Array) -> Array:
        return (prediction[..., -1] > probability).astype(np.uint8)

    def segment(label: np.ndarray, prediction: np.ndarray) -> Segmentation:
        del label  # it equals `decide(prediction)`
        vectors, inside = prediction[..., :-1], decide(prediction) > 0
        objects = np.zeros(inside.shape, np.int32)
        ends = follow_vectors(vectors, inside, steps)
        objects[inside] = group_end_points(ends, inside.shape)
        objects = _select_objects(objects, np.bincount(objects.ravel()) >= pixels)
        if flow_threshold:
            error = _measure_disagreement(objects, vectors)
            objects = _select_objects(objects, error <= flow_threshold)
        return Segmentation((objects > 0).astype(np.int32), objects)

    return Task(
        channels=axes + 1,
        classes=data.classes if len(data.classes) == 2 else ("background", "object"),
        losses=("label", "value"),
        metrics=("label", "objects"),
        needs=("instances",),
        prepare=_prepare,
        targets=targets,
        outputs=lambda output: {"label": output[..., -1:], "value": output[..., :-1]},
        activate=Activations(
            (
                Activation("identity", axes, 1 / VECTOR_SCALE),
                Activation("sigmoid", 1),
            )
        ),
        vectors=axes,
        decide=decide,
        segment=segment,
        finds_objects=True,
        probabilities=_get_probabilities,
        entropy=lambda p: entr(p).sum(-1),
        background=True,
        fallback=({"name": "l2"},),
    )


def _prepare(example: Example) -> Example:
    """Adds the potential and sets the label to 1 in objects, except where ignored."""
    instances = example["instances"]
    ignored = instances < 0
    if "label" in example:
        label = example["label"]
        if label.ndim > instances.ndim:
            label = label.max(axis=-1)
        ignored = ignored | (label < 0)
    label = np.where(ignored, IGNORE, instances > 0).astype(np.int32)
    return {**example, "label": label, "potential": compute_potential(instances)}


def _get_probabilities(prediction: Array) -> Array:
    p = prediction[..., -1:]
    xp = np if isinstance(p, np.ndarray) else jnp
    return xp.concatenate([1 - p, p], axis=-1)


def _select_objects(objects: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Renumbers the chosen objects as 1, 2, 3, ...; the others become background."""
    chosen[0] = False
    return np.where(chosen, np.cumsum(chosen), 0).astype(np.int32)[objects]


def _measure_disagreement(objects: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Returns each object's mean squared distance from the vectors of its shape."""
    own = compute_vectors(compute_potential(objects), objects, objects.ndim)
    error = ((own - vectors) ** 2).sum(axis=-1)
    size = np.bincount(objects.ravel())
    return np.bincount(objects.ravel(), error.ravel()) / np.maximum(size, 1)
