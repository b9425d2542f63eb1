"""The record of functions that defines the meaning of a network's output."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from unet_jax.arrays import Batch, Example, Segmentation
from unet_jax.specs import Spec

Kind = Literal["label", "value", "objects"]
Array = Any  # a NumPy array on the host, a JAX array on the device
ClassFunction = Any  # a function of an Array that returns one; None without classes


class TaskData(NamedTuple):
    """The properties of a data set that a task depends on.

    Attributes:
      classes: the names of the class ids, the background first.
      axes: the number of spatial axes.
      channels: the number of channels of an image.
      target_channels: the number of channels of a target image; 0 without targets.
      background: True if class 0 is the background.
    """

    classes: tuple[str, ...]
    axes: int
    channels: int
    target_channels: int = 0
    background: bool = True


class Task(NamedTuple):
    """The meaning of a network's output, from the training target to the result.

    The network returns `f32[B, *S, channels]`. `activate` and then `finish` convert it
    to a *prediction* of the same shape. What is averaged over tiles, views and ensemble
    members is the result of `activate`.

    Attributes:
      channels: the number of channels of the output and of a prediction.
      classes: the names of the K classes that are scored; () for tasks without classes.
      losses: the kinds of target that losses can read: 'label', 'value' or both.
      metrics: the kinds of result that metrics can read: 'label', 'objects', 'value'.
      needs: the keys that every labelled record must have.
      prepare: `example -> example` on the host, once for each image. It adds the
        spatial arrays from which `targets` is computed, and raises UserError if that is
        impossible.
      targets: `batch -> {kind: array}` on the device, after augmentation.
      outputs: `output -> {kind: array}`, the parts of the output that losses of each
        kind compare with `targets`: logits for 'label', numbers for 'value'.
      activate: from the output to what is averaged, usually the prediction; an
        `Activations` if it can be exported to other programs.
      vectors: the number of leading channels of a prediction that are the components of
        a vector, one per spatial axis. They are rotated with the image. 0 for none.
      decide: `prediction -> label` of each pixel, `u8` or `i32`; None without classes.
      segment: `(label i32, prediction) -> Segmentation` of a whole image on the host;
        None if the label of each pixel is the result.
      finds_objects: True if `segment` finds objects.
      probabilities: `prediction -> f32[..., K]`; None without classes.
      truth: converts the label of an example to the label that is scored, `i32[*S]` or
        `i32[*S, K]`.
      entropy: `probabilities -> f32[...]`, their entropy in nats; None without classes.
      overlapping: True if a pixel can have several classes.
      background: True if class 0 of `classes` is the background.
      fallback: specs of losses for the kinds of target that `config.loss` does not
        read.
      units: the units of predicted values: 'image' (of the input image), 'own' (of the
        target files) or '' for tasks without values.
      finish: from the mean of activated outputs to the prediction; None if they are the
        same. NumPy arrays are converted on the host, JAX arrays on the device.
    """

    channels: int
    classes: tuple[str, ...]
    losses: tuple[Kind, ...]
    metrics: tuple[Kind, ...]
    needs: tuple[str, ...]
    prepare: Callable[[Example], Example]
    targets: Callable[[Batch], dict[str, jax.Array]]
    outputs: Callable[[jax.Array], dict[str, jax.Array]]
    activate: Callable[[jax.Array], jax.Array]
    vectors: int = 0
    decide: ClassFunction = None
    segment: Callable[[np.ndarray, np.ndarray], Segmentation] | None = None
    finds_objects: bool = False
    probabilities: ClassFunction = None
    truth: Callable[[np.ndarray], np.ndarray] = lambda label: label
    entropy: ClassFunction = None
    overlapping: bool = False
    background: bool = False
    fallback: tuple[Spec, ...] = ()
    units: Literal["", "image", "own"] = ""
    finish: Callable[[Array], Array] | None = None

    def predict(self, output: jax.Array) -> jax.Array:
        """Converts an output, or a mean of outputs, to the prediction."""
        return self.complete(self.activate(output))

    def complete(self, mean: Array) -> Array:
        """Converts a mean of activated outputs to the prediction."""
        return self.finish(mean) if self.finish else mean
