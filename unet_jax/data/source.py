"""Data sets in one form: sources that load records by index, in three splits."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from unet_jax.data.dataset_report import DatasetReport
from unet_jax.data.record import Record


class Source(NamedTuple):
    """Records, and what is known about all of them before one is loaded.

    Attributes:
      name: for messages: 'isbi2012/test'.
      classes: the name of each class id; () if records have no label.
      colours: red, green and blue of each class in pictures.
      channels: C of every image.
      length: the number of records.
      load: returns the i-th record. It is pure: the same index gives the same record,
        in any thread.
      convert: True if grey and RGB files were converted to one number of channels.
      independent: True if labels have a class axis, so that classes may overlap.
      spacing: the size of a pixel along each axis, for files that do not state theirs.
      pixels: pixels of each class id, if they were counted.
      target_channels: C' of every target; 0 if records have none.
      background: True if class 0 is the background, which is left out of the mean of a
        score over the classes.
    """

    name: str
    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    channels: int
    length: int
    load: Callable[[int], Record]
    convert: bool = False
    independent: bool = False
    spacing: tuple[float, ...] = ()
    pixels: Mapping[int, int] | None = None
    target_channels: int = 0
    background: bool = True


class Splits(NamedTuple):
    """Sources to train on, to choose the best checkpoint with, and to test on.

    Attributes:
      train, val, test: sources that share no record.
      report: measurements and problems, if all records were read; None for a data set
        that needs no check. If it has errors, the sources may be empty.
      notes: JSON data for files of the run folder, by file name. A resumed run uses
        them to split the data in the same way and to read files only once.
      unlabelled: images without labels, for semi-supervised training; None if there
        are none. Its records have `image`, `id` and, if it is known, `spacing`.
    """

    train: Source
    val: Source
    test: Source
    report: DatasetReport | None = None
    notes: Mapping[str, Any] = MappingProxyType({})
    unlabelled: Source | None = None

    @property
    def sources(self) -> dict[str, Source]:
        """The sources for training, validation and testing, by the split's name."""
        return {"train": self.train, "val": self.val, "test": self.test}


def subset(source: Source, indices: Sequence[int], name: str) -> Source:
    """Selects the records at `indices`, in that order, under a new name."""
    chosen = tuple(indices)
    return source._replace(
        name=name,
        length=len(chosen),
        load=lambda i: source.load(chosen[i]),
        pixels=None,
    )


def withhold_labels(
    source: Source, labelled: Sequence[int], name: str
) -> tuple[Source, Source]:
    """Divides a source into records with labels and images without labels.

    Args:
      source: records with labels.
      labelled: the indices of the records that keep their labels.
      name: the name of the source of the other records, which have `image`, `id` and,
        if it is known, `spacing`.
    """
    others = [i for i in range(source.length) if i not in set(labelled)]
    rest = only_images(subset(source, others, name))
    return subset(source, labelled, source.name), rest


def only_images(source: Source) -> Source:
    """Returns a source whose records have `image`, `id` and, if known, `spacing`."""

    def load(index: int) -> Record:
        record = source.load(index)
        return {k: record[k] for k in ("image", "id", "spacing") if k in record}

    return source._replace(load=load)
