"""One shape for every data set: a named, counted thing that loads its i-th record."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

# image: ndarray [*S, C], raw: u8, u16 or f32
# label: i32[*S], class ids; or i32[*S, K] of 0 and 1, where classes are independent
#   (all but the background); -1 where nobody annotated
# id: str, the same in every run
# instances: i32[*S], object ids, 0 = background; only where the data set has them
# spacing: tuple of floats, the size of a pixel along each axis; only where it is known
Record = dict[str, Any]


class Source(NamedTuple):
    """Some records and what is known about them without loading one."""

    name: str  # 'isbi2012/test'
    classes: tuple[str, ...]  # the name of class id k
    colours: tuple[tuple[int, int, int], ...]  # its red, green and blue in pictures
    channels: int  # C of every image
    length: int  # how many records
    load: Callable[[int], Record]  # pure: same index, same record; any thread


class Splits(NamedTuple):
    """What to learn from, what to choose by and what to report."""

    train: Source
    val: Source
    test: Source


def subset(source: Source, indices: Sequence[int], name: str) -> Source:
    """The records of `source` at `indices`, in that order, under a new name."""
    chosen = tuple(indices)
    return source._replace(
        name=name, length=len(chosen), load=lambda i: source.load(chosen[i])
    )
