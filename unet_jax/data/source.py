"""One shape for every data set: a named, counted thing that loads its i-th record."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from unet_jax.data.account import Account, Record


class Source(NamedTuple):
    """Some records and what is known about them without loading one."""

    name: str  # 'isbi2012/test'
    classes: tuple[str, ...]  # the name of class id k
    colours: tuple[tuple[int, int, int], ...]  # its red, green and blue in pictures
    channels: int  # C of every image
    length: int  # how many records
    load: Callable[[int], Record]  # pure: same index, same record; any thread
    convert: bool = False  # whether grey and RGB files were brought to one count
    independent: bool = False  # whether labels have a class axis: classes may overlap
    spacing: tuple[float, ...] = ()  # of pixels of files that do not say theirs
    pixels: Mapping[int, int] | None = None  # of each class, where they were counted


class Splits(NamedTuple):
    """What to learn from, what to choose by and what to report.

    Attributes:
      train, val, test: records, none of which is in two of them.
      account: what was found when the data were read through; None of a data set that
        is known to be sound. With errors in it there may be no records at all.
      notes: JSON data for the run folder, by file name: what a run that goes on must
        find as it was.
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
        """The three by name."""
        return {"train": self.train, "val": self.val, "test": self.test}


def subset(source: Source, indices: Sequence[int], name: str) -> Source:
    """The records of `source` at `indices`, in that order, under a new name."""
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
