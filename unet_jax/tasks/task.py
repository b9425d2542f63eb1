"""The record of functions that says what the output of a network means."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from unet_jax.arrays import Batch, Example, Segmentation
from unet_jax.specs import Spec

Kind = Literal["label", "value", "objects"]
Array = Any  # a NumPy array on the host, a JAX array on the device


class Data(NamedTuple):
    """The facts about a data set that a task depends on.

    Attributes:
      classes: names of the class ids, the background first.
      axes: the number of spatial axes.
      channels: of an image.
      target_channels: of a target image; 0 where the data set has none.
    """

    classes: tuple[str, ...]
    axes: int
    channels: int
    target_channels: int = 0


class Task(NamedTuple):
    """The meaning of a network's output, from the training target to the result.

    The network gives `f32[B, *S, channels]`. `activate` turns it into a *prediction* of
    the same shape. Tiles, views and members of an ensemble are averaged as predictions.

    Attributes:
      channels: of the network's output and of a prediction.
      classes: names of the K classes that are scored; () where there are none.
      losses: the kinds of target that losses can read: 'label', 'value' or both.
      metrics: the kinds of result that metrics can read: 'label', 'objects', 'value'.
      needs: keys that every labelled record must have.
      prepare: `example -> example` on the host, once for each image: adds the spatial
        arrays from which `targets` is computed. Raises UserError if it cannot be done.
      targets: `batch -> {kind: array}` on the device, after augmentation.
      outputs: network output -> `{kind: array}`, the parts that the losses of each
        kind compare with `targets`: logits for 'label', numbers for 'value'.
      activate: network output -> prediction.
      vectors: the first so many channels of a prediction are the components of a
        vector, one for each spatial axis; they turn with the image. 0: none.
      decide: prediction -> label of each pixel, `u8`, `i32`; None without classes.
      segment: `(label i32, prediction) -> Segmentation` of a whole image on the host.
      finds_objects: True if `segment` finds objects; it then needs the whole image.
      probabilities: prediction -> `f32[..., K]`; None without classes.
      truth: label of an example -> label that is scored, `i32[*S]` or `i32[*S, K]`.
      entropy: probabilities -> their entropy in nats, `f32[...]`; None without classes.
      overlapping: True if a pixel may have several classes.
      fallback: specs of losses, for kinds of target that `config.loss` does not read.
      units: of the values of a prediction: 'image' (those of the input image), 'own'
        (those of the target files) or '' where there are no values.
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
    decide: Callable[[Array], Array] | None = None
    segment: Callable[[np.ndarray, np.ndarray], Segmentation] | None = None
    finds_objects: bool = False
    probabilities: Callable[[Array], Array] | None = None
    truth: Callable[[np.ndarray], np.ndarray] = lambda label: label
    entropy: Callable[[Array], Array] | None = None
    overlapping: bool = False
    fallback: tuple[Spec, ...] = ()
    units: Literal["", "image", "own"] = ""
