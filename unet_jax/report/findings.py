"""What an inspection tells, as plain data; a part that is empty or None is left out."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from unet_jax.report.contents import Colour, Number


class Range(NamedTuple):
    """Of some numbers the least, the median and the most."""

    least: float
    median: float
    most: float


class Share(NamedTuple):
    """What a split has of one class.

    Attributes:
      name: of the class.
      pixels: how many there are.
      share: of the pixels that are annotated; None where none is.
      images: how many of them have it.
    """

    name: str
    pixels: int
    share: Number
    images: int


class Part(NamedTuple):
    """One split; what is counted is images, the most frequent first.

    Attributes:
      name: 'train', 'val' or 'test'.
      images: how many there are.
      formats, shapes, channels, dtypes, spacings: how many have each.
      sizes: along every axis.
      classes: what there is of each.
      ignored: the share of pixels that nobody annotated.
      empty: ids of images with nothing but background.
      objects: how many there are in each image; () where the data set has none.
    """

    name: str
    images: int
    formats: Mapping[str, int]
    shapes: Mapping[tuple[int, ...], int]
    channels: Mapping[int, int]
    dtypes: Mapping[str, int]
    spacings: Mapping[tuple[float, ...], int]
    sizes: Sequence[Range]
    classes: Sequence[Share]
    ignored: Number
    empty: Sequence[str]
    objects: Sequence[int]


class Value(NamedTuple):
    """A value of the mask files, and the class that it becomes; None: it has none."""

    value: str
    id: int | None
    name: str
    pixels: int


class Span(NamedTuple):
    """How bright an image is in one channel: from its 0.5th to its 99.5th percentile.

    Attributes:
      split, name: of which image.
      low, middle, high: the 0.5th, 50th and 99.5th percentile.
      times: its range over the median range of the set.
      odd: whether that is far from 1.
    """

    split: str
    name: str
    low: float
    middle: float
    high: float
    times: float
    odd: bool


class Channel(NamedTuple):
    """One channel over the whole set.

    Attributes:
      percentiles: the lowest value, the medians over images of the 0.5th, 50th and
        99.5th percentile, and the highest value.
      spans: one for each image.
    """

    percentiles: Sequence[float]
    spans: Sequence[Span]


class Example(NamedTuple):
    """An image that is shown: why, which, what is to be said of it, and a PNG file."""

    split: str
    rank: str
    name: str
    says: str
    png: bytes


class Pair(NamedTuple):
    """Two images of different splits that are alike, or the same."""

    same: bool
    first: Example
    second: Example


class Advice(NamedTuple):
    """A plan.

    Attributes:
      choices: field, value and reason of each.
      memory: bytes of the compiled step.
      seconds: of a thousand steps.
      device: on which they were measured.
      command: that trains it.
    """

    choices: Sequence[tuple[str, str, str]]
    memory: int
    seconds: float
    device: str
    command: str


class Inspection(NamedTuple):
    """All that an inspection tells.

    Attributes:
      title: the name of the data.
      faults: level ('error', 'warning'), kind and text of each.
      said: decisions that were taken for the user, one line each.
      parts: the splits.
      values: of the mask files.
      channels: intensities.
      examples: images under their classes.
      legend: names and colours of those.
      pairs: images that are in two splits, or nearly.
      advice: what to train.
    """

    title: str
    faults: Sequence[tuple[str, str, str]] = ()
    said: Sequence[str] = ()
    parts: Sequence[Part] = ()
    values: Sequence[Value] = ()
    channels: Sequence[Channel] = ()
    examples: Sequence[Example] = ()
    legend: Sequence[tuple[str, Colour]] = ()
    pairs: Sequence[Pair] = ()
    advice: Advice | None = None
