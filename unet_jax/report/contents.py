"""What a report tells, as plain data; a part that is empty or None is left out."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

Number = float | None  # None where a score is not defined
Colour = Sequence[int]  # red, green, blue in 0 to 255


class Measure(NamedTuple):
    """A score, and how to read it.

    Attributes:
      name: 'dice'.
      reduction: what the score of a set is: 'over all pixels', 'mean over images'.
      lower: whether lower is better.
      unit: such as 'pixels'; empty for a plain number.
    """

    name: str
    reduction: str = ""
    lower: bool = False
    unit: str = ""


class Reliability(NamedTuple):
    """Bins of confidence, of equal width from 0 to 1, each array `[bins]`."""

    count: np.ndarray  # i64, how many answers
    confidence: np.ndarray  # f64, their mean confidence; NaN in an empty bin
    accuracy: np.ndarray  # f64, the fraction of them that is right; likewise


class Case(NamedTuple):
    """An image that is shown.

    Attributes:
      rank: why it is shown: 'worst'.
      name: its id.
      scores: names and values, for the caption.
      pictures: titles and PNG files: image, truth, prediction, error, uncertainty.
    """

    rank: str
    name: str
    scores: Sequence[tuple[str, Number]]
    pictures: Sequence[tuple[str, bytes]]


class Report(NamedTuple):
    """All that a report tells.

    Attributes:
      title: the name of the run.
      facts: names and values below the title: step, checkpoint, number of images.
      step: the step of the checkpoint, marked on the learning curves.
      history: rows of `metrics.jsonl`: `{'step': 10, 'train/loss': 0.5}`, and in some
        'val/loss', 'val/dice', 'val/dice/cell'.
      split: what the names of `scores` begin with.
      measures: the scores in order; images are ranked by the first.
      classes: names of the K outputs.
      scores: `{'test/dice': 0.9, 'test/dice/cell': 0.8}`.
      images: `{'id': 'test-0001', 'dice': 0.9, 'dice/cell': 0.8}` of each image.
      reliability: how sure the network was, and how often right.
      confusion: pixels of each truth (rows) and prediction (columns), `int[K, K]`, or
        `int[K, 2, 2]` of no and yes for independent classes.
      cases: the images that are shown.
      legend: names and colours of what the pictures show.
    """

    title: str
    facts: Sequence[tuple[str, str]] = ()
    step: int | None = None
    history: Sequence[Mapping[str, Number]] = ()
    split: str = "test"
    measures: Sequence[Measure] = ()
    classes: Sequence[str] = ()
    scores: Mapping[str, Number] = MappingProxyType({})
    images: Sequence[Mapping[str, str | Number]] = ()
    reliability: Reliability | None = None
    confusion: np.ndarray | None = None
    cases: Sequence[Case] = ()
    legend: Sequence[tuple[str, Colour]] = ()
