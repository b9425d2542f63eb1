"""The records of a metric and of an image that metrics measure.

A metric measures every image by an array of fixed shape. The arrays of several images
are summed, also over processes, and the sum is converted to a score once. So the score
of a data set does not depend on the batch size, and the score of an image follows from
its own array.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

ImageArray = Any  # a NumPy array, or None if the task has no such result

# The values of `Metric.reduction`.
OVER_PIXELS = "over all pixels"
OVER_OBJECTS = "over all objects"
OVER_IMAGES = "mean over images"


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluatedImage:
    """One image with its ground truth and its prediction. All arrays are on the host.

    Tasks with classes set the fields up to `objects`, regression tasks set `target` and
    `value`. The other fields are None.

    Attributes:
      spacing: the size of a pixel along each axis; 1 if it is unknown.
      truth: `i32[*S]` of 0..K-1 for exclusive classes, or `i32[*S, K]` of 0 and 1 for
        independent classes; negative where there is no annotation.
      prediction: like `truth`, without negative values.
      probabilities: `f32[*S, K]`.
      true_objects: `i32[*S]`, object ids; 0 is background, negative is ignored.
      objects: `i32[*S]`, the ids of the predicted objects; 0 is background.
      target: `f32[*S, C]`, the true values, in the units of the target files.
      value: `f32[*S, C]`, the predicted values, in the same units.
      background: True if class 0 of exclusive classes is the background, which has no
        surface.
    """

    spacing: tuple[float, ...]
    truth: ImageArray = None
    prediction: ImageArray = None
    probabilities: ImageArray = None
    true_objects: ImageArray = None
    objects: ImageArray = None
    target: ImageArray = None
    value: ImageArray = None
    background: bool = True

    @property
    def num_classes(self) -> int:
        """The number of classes, K."""
        return self.probabilities.shape[-1]

    @property
    def independent(self) -> bool:
        """True for independent classes (sigmoid), False for exclusive (softmax)."""
        return self.truth.ndim == self.probabilities.ndim

    @functools.cached_property
    def annotated(self) -> np.ndarray:
        """The mask of annotated pixels, `bool`, shaped like `truth`."""
        return self.truth >= 0

    # The foreground as one mask: every class above 0, or any independent class. Unless
    # all classes of a pixel are annotated, it is background in truth and prediction
    # alike, and so changes no score.

    @property
    def fully_annotated(self) -> np.ndarray:
        """The mask of pixels where all classes are annotated, `bool[*S]`."""
        annotated = self.annotated
        return np.asarray(annotated.all(axis=-1)) if self.independent else annotated

    @property
    def true_foreground(self) -> np.ndarray:
        """The true foreground, `bool[*S]`."""
        return self._merge_classes(self.truth > 0)

    @property
    def predicted_foreground(self) -> np.ndarray:
        """The predicted foreground, `bool[*S]`."""
        return self._merge_classes(self.prediction > 0)

    @property
    def foreground_probability(self) -> np.ndarray:
        """1 - p(background), or the largest p of independent classes, `f32[*S]`."""
        p = self.probabilities
        p = p.max(axis=-1) if self.independent else 1 - p[..., 0]
        return np.where(self.fully_annotated, p, 0)

    def _merge_classes(self, present: np.ndarray) -> np.ndarray:
        some = np.asarray(present.any(axis=-1)) if self.independent else present
        return self.fully_annotated & some


class Score(NamedTuple):
    """The score of a data set or an image; NaN where it is undefined.

    Attributes:
      overall: the score of all classes together; None if it is the mean over the
        classes, which `scores.average_classes` computes.
      classes: the score of each class, `f64[K]`; None without classes.
    """

    overall: float | None = None
    classes: np.ndarray | None = None


class Metric(NamedTuple):
    """The functions and properties of a metric.

    Attributes:
      measure: measures one image, as an `f64` or `i64` array whose shape is the same
        for every image.
      score: converts a sum of such arrays to a score.
      reduction: describes the score of a data set, such as 'over all pixels' or 'mean
        over images'.
      lower: True if lower scores are better.
      unit: 'distance' for scores in units of `EvaluatedImage.spacing`, '' for plain
        numbers.
      kind: the kind of result that the metric reads: 'label', 'objects' or 'value'.
    """

    measure: Callable[[EvaluatedImage], np.ndarray]
    score: Callable[[np.ndarray], Score]
    reduction: str
    lower: bool = False
    unit: Literal["", "distance"] = ""
    kind: Literal["label", "objects", "value"] = "label"
