"""The records of a metric and of one judged image.

A metric measures every image by an array of fixed shape; the arrays of several images
add up, over processes too, and the sum is scored once. So a set has one score that
depends on no batch size, and the score of an image is that of its own array.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluatedImage:
    """One image with its truth and its prediction; all arrays on the host.

    A task with classes fills in the first five, a task of values the last two; the
    others are None.

    Attributes:
      spacing: the size of a pixel along each axis; 1 where it is not known.
      truth: `i32[*S]` of 0..K-1, or `i32[*S, K]` of 0 and 1 for independent classes;
        negative where there is no annotation.
      prediction: the same shape, without negatives.
      probabilities: `f32[*S, K]`.
      true_objects: `i32[*S]`, object ids, 0 = background; negative is ignored.
      objects: `i32[*S]`, the predicted ones.
      target: `f32[*S, C]`, the true values, in the units of the target files.
      value: `f32[*S, C]`, the predicted ones.
    """

    spacing: tuple[float, ...]
    truth: np.ndarray | None = None
    prediction: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    true_objects: np.ndarray | None = None
    objects: np.ndarray | None = None
    target: np.ndarray | None = None
    value: np.ndarray | None = None

    @property
    def num_classes(self) -> int:
        """K."""
        return self.probabilities.shape[-1]

    @property
    def independent(self) -> bool:
        """True if the classes are independent (sigmoid), not exclusive (softmax)."""
        return self.truth.ndim == self.probabilities.ndim

    @functools.cached_property
    def annotated(self) -> np.ndarray:
        """`bool`, of the shape of `truth`: the annotated pixels."""
        return self.truth >= 0


class Score(NamedTuple):
    """A score of the whole set and, if it has them, of each class; NaN is undefined."""

    mean: float
    classes: np.ndarray | None = None  # f64[K]


class Metric(NamedTuple):
    """How a metric measures an image, and what the sum over images is worth.

    Attributes:
      measure: one image's `f64` or `i64` array, of the same shape for every image.
      score: a sum of such arrays, to a score.
      reduction: what the score of a set is, in words: 'over all pixels', 'mean over
        images'.
      lower: True if lower is better.
      unit: 'distance', in the units of `EvaluatedImage.spacing`, or '', a plain number.
      kind: of the result that it reads: 'label', 'objects' or 'value'.
    """

    measure: Callable[[EvaluatedImage], np.ndarray]
    score: Callable[[np.ndarray], Score]
    reduction: str
    lower: bool = False
    unit: Literal["", "distance"] = ""
    kind: Literal["label", "objects", "value"] = "label"
