"""Data sets in one form: named, counted sources that load their i-th record."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from unet_jax.data.account import Account, Record


class Source(NamedTuple):
    """Records, and what is known about them before one is loaded.

    Attributes:
      name: for messages: 'isbi2012/test'.
      classes: the name of each class id; () where records have no label.
      colours: red, green and blue of each class in pictures.
      channels: C of every image.
      length: the number of records.
      load: returns the i-th record. Pure: the same index gives the same record, in any
        thread.
      convert: True if grey and RGB files were brought to one number of channels.
      independent: True if labels have a class axis, so that classes may overlap.
      spacing: the size of a pixel along each axis, of files that do not state theirs.
      pixels: how many pixels each class has, where they were counted.
      target_channels: C' of every target; 0 where records have none.
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


class Splits(NamedTuple):
    """The records to train on, to choose the best checkpoint by, and to report.

    Attributes:
      train, val, test: sources that share no record.
      account: facts and faults, if the data were read through; None for a data set that
        is known to be sound. With errors in it the sources may be empty.
      notes: JSON data for the run folder, by file name: the split that a resumed run
        uses again, and what spares it to read the files again.
      unlabelled: images without labels, for semi-supervised training; None where there
        are none. Its records have `image`, `id` and, where it is known, `spacing`.
    """

    train: Source
    val: Source
    test: Source
    account: Account | None = None
    notes: Mapping[str, Any] = MappingProxyType({})
    unlabelled: Source | None = None

    @property
    def sources(self) -> dict[str, Source]:
        """The sources of train, val and test, by these names."""
        return {"train": self.train, "val": self.val, "test": self.test}


def subset(source: Source, indices: Sequence[int], name: str) -> Source:
    """Selects the records of `source` at `indices`, in that order, under a new name."""
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
    """Divides a source into records that keep their labels and images without any.

    Args:
      source: records with labels.
      labelled: the indices of those that keep them.
      name: of the source of the other records, which have `image`, `id` and, where it
        is known, `spacing`.
    """
    others = [i for i in range(source.length) if i not in set(labelled)]
    rest = subset(source, others, name)

    def load(index: int) -> Record:
        record = rest.load(index)
        return {k: record[k] for k in ("image", "id", "spacing") if k in record}

    return subset(source, labelled, source.name), rest._replace(load=load)
