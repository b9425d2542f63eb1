"""The data of a page, as plain records. A field that is empty or None is left out."""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

Number = float | None  # None where a score is not defined
Colour = Sequence[int]  # red, green, blue in 0 to 255
Legend = Sequence[tuple[str, Colour]]


class MetricInfo(NamedTuple):
    """A metric, and how to read its score.

    Attributes:
      name: such as 'dice'.
      reduction: the score of a set in words: 'over all pixels', 'mean over images'.
      lower: True if lower is better.
      unit: such as 'pixels'; empty for a plain number.
    """

    name: str
    reduction: str = ""
    lower: bool = False
    unit: str = ""


class ReliabilityBins(NamedTuple):
    """Bins of confidence, of equal width from 0 to 1; each array is `[bins]`."""

    predictions: np.ndarray  # i64, their number
    confidence: np.ndarray  # f64, the mean of it; NaN in an empty bin
    accuracy: np.ndarray  # f64, the fraction that is correct; NaN in an empty bin


class ScoredExample(NamedTuple):
    """A test image with its scores and pictures."""

    reason: str  # why it is shown: 'worst'
    name: str
    scores: Sequence[tuple[str, Number]]
    pictures: Sequence[tuple[str, bytes]]  # titles and PNG files: image, truth, error


class Provenance(NamedTuple):
    """The commands, programs and machines that made a run.

    Attributes:
      facts: names and values: the network, the hardware, the versions.
      sessions: the processes that trained and evaluated: what each did, when it
        started, its duration in seconds, and its command.
      config_file: the config file of the run; empty if it is unknown.
      changes: the fields that differ from the config file: name, value in the file,
        value in the run. None if they are unknown.
      warnings: the warnings that were given.
    """

    facts: Sequence[tuple[str, str]]
    sessions: Sequence[tuple[str, str, float, str]]
    config_file: str
    changes: Sequence[tuple[str, str, str]] | None
    warnings: Sequence[str]


class Report(NamedTuple):
    """The contents of the report of a run.

    Attributes:
      title: the name of the run.
      facts: names and values below the title: step, checkpoint, number of images.
      step: the step of the checkpoint, marked on the learning curves.
      history: rows of `metrics.jsonl`: `{'step': 10, 'train/loss': 0.5}`, and in some
        'val/loss', 'val/dice', 'val/dice/cell'.
      metrics: the metrics in order; images are ranked by the first.
      classes: names of the K outputs.
      scores: `{'test/dice': 0.9, 'test/dice/cell': 0.8}`.
      images: `{'id': 'test-0001', 'dice': 0.9, 'dice/cell': 0.8}` of each image, with
        `objects`, as below, if they were counted.
      objects: the number of objects and of each kind of error in them: `{'true': 9,
        'predicted': 8, 'missed': 1, 'invented': 0, 'merged': 0, 'split': 0}`.
      reliability: confidence and accuracy of the predictions.
      confusion: pixels of each true class (rows) and predicted class (columns),
        `int[K, K]`, or `int[K, 2, 2]` of no and yes for independent classes.
      examples: the images that are shown.
      legend: names and colours of the classes and errors in the pictures.
      provenance: the commands, programs and machines that made the run.
      folds: the scores of the folds of a cross-validation; None for another run.
    """

    title: str
    facts: Sequence[tuple[str, str]] = ()
    step: int | None = None
    history: Sequence[Mapping[str, Any]] = ()
    metrics: Sequence[MetricInfo] = ()
    classes: Sequence[str] = ()
    scores: Mapping[str, Number] = MappingProxyType({})
    images: Sequence[Mapping[str, Any]] = ()
    objects: Mapping[str, int] | None = None
    reliability: ReliabilityBins | None = None
    confusion: np.ndarray | None = None
    examples: Sequence[ScoredExample] = ()
    legend: Legend = ()
    provenance: Provenance | None = None
    folds: "FoldScores | None" = None


class ComparedRun(NamedTuple):
    """One run of a comparison.

    Attributes:
      name: a short name, different from that of the other runs.
      state: 'finished', or what is missing.
      finished: True if the run has test scores.
      history: rows of `metrics.jsonl`, as in `Report`.
      picture: a PNG file of example images; None if there is none.
    """

    name: str
    state: str
    finished: bool
    history: Sequence[Mapping[str, Any]] = ()
    picture: bytes | None = None


class FoldScores(NamedTuple):
    """The scores of the folds of a cross-validation.

    Attributes:
      runs: the run of each fold.
      scores: the scores of each fold, by name: 'test/dice'.
      mean, deviation: the mean over the folds and the standard deviation, by name.
    """

    runs: Sequence[ComparedRun]
    scores: Sequence[Mapping[str, Number]]
    mean: Mapping[str, Number]
    deviation: Mapping[str, Number]


class ComparedScore(NamedTuple):
    """One score of all runs.

    Attributes:
      metric: how to read it; its name may have a class: 'dice/cell'.
      values: the value of each run; None where it is undefined or missing.
      best: the places of the best values; empty if they cannot be compared.
      direction: 'higher is better', 'lower is better', or empty if it is unknown.
    """

    metric: MetricInfo
    values: Sequence[Number]
    best: Collection[int]
    direction: str


class Comparison(NamedTuple):
    """The contents of the page that compares runs. Rows have a cell for each run.

    Attributes:
      runs: the runs, in order.
      warnings: reasons why scores cannot be compared.
      scores: the test scores.
      changes: the config fields that differ, with their values.
      facts: other properties: the classes, the steps, the versions.
    """

    runs: Sequence[ComparedRun]
    warnings: Sequence[str]
    scores: Sequence[ComparedScore]
    changes: Sequence[tuple[str, Sequence[str]]]
    facts: Sequence[tuple[str, Sequence[str]]]


# The records of an inspection. inspect.json has their field names as keys.


class Spread(NamedTuple):
    """The minimum, the median and the maximum of some numbers."""

    least: float
    median: float
    most: float


class ClassStatistics(NamedTuple):
    """The pixels of one class in one split, and the images that contain it."""

    name: str
    pixels: int
    share: Number  # of the annotated pixels; None if no pixel is annotated
    images: int


class SplitStatistics(NamedTuple):
    """The statistics of one split.

    Attributes:
      name: 'train', 'val' or 'test', or 'all' for the splits together.
      images: the number of images.
      formats, shapes, channels, dtypes, spacings: the number of images with each, the
        most frequent first.
      sizes: the spread along every axis.
      classes: the statistics of each class; None if the classes of the mask values
        are unknown.
      ignored: the fraction of pixels without annotation.
      empty: ids of the images with nothing but background; None without a background,
        without annotated pixels, or if the classes are unknown.
      objects: the number of objects in each image; empty without instances.
    """

    name: str
    images: int
    formats: Mapping[str, int]
    shapes: Mapping[tuple[int, ...], int]
    channels: Mapping[int, int]
    dtypes: Mapping[str, int]
    spacings: Mapping[tuple[float, ...], int]
    sizes: Sequence[Spread]
    classes: Sequence[ClassStatistics] | None
    ignored: Number
    empty: Sequence[str] | None
    objects: Sequence[int]


class MaskValue(NamedTuple):
    """A value of the mask files and its class; None if it has no class."""

    value: str
    id: int | None
    name: str | None
    pixels: int


class IntensityRange(NamedTuple):
    """The intensities of one channel of one image."""

    split: str
    name: str
    low: float  # the 0.5th percentile
    middle: float
    high: float  # the 99.5th percentile
    times: float  # high - low, divided by its median over the data set
    odd: bool  # an outlier: `times` is far from 1


class ChannelStatistics(NamedTuple):
    """The intensities of one channel in all images.

    Attributes:
      percentiles: the lowest value, the medians over images of the 0.5th, 50th and
        99.5th percentile, and the highest value.
      ranges: one for each image.
    """

    percentiles: Sequence[float]
    ranges: Sequence[IntensityRange]


class DatasetExample(NamedTuple):
    """A picture of an image of the data set."""

    split: str
    reason: str  # why it is shown: 'most foreground'; may be empty
    name: str
    caption: str
    png: bytes


class DuplicatePair(NamedTuple):
    """Two similar images of different splits; identical if all pixels are equal."""

    identical: bool
    first: DatasetExample
    second: DatasetExample


class PlanSummary(NamedTuple):
    """A training plan."""

    choices: Sequence[tuple[str, str, str]]  # field, value and reason
    memory: int  # bytes of the compiled step; 0 if unknown
    seconds: float  # of 1000 steps
    device: str  # of the measurement
    command: str  # that trains it


class Inspection(NamedTuple):
    """The contents of the page of an inspection.

    Attributes:
      title: the name of the data set.
      issues: level ('error', 'warning'), kind and text of each.
      decisions: automatic decisions, one line each.
      splits: the statistics of each split, then of all together.
      mask_values: the values of the mask files.
      channels: the intensities of each channel.
      examples: images with their classes on top.
      legend: names and colours of the classes.
      duplicates: similar images of different splits.
      plan: the training plan.
    """

    title: str
    issues: Sequence[tuple[str, str, str]] = ()
    decisions: Sequence[str] = ()
    splits: Sequence[SplitStatistics] = ()
    mask_values: Sequence[MaskValue] = ()
    channels: Sequence[ChannelStatistics] = ()
    examples: Sequence[DatasetExample] = ()
    legend: Legend = ()
    duplicates: Sequence[DuplicatePair] = ()
    plan: PlanSummary | None = None
