"""The pixels of a pair of files: every page of them once, or one as a record."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from unet_jax.data import files
from unet_jax.data.account import Record
from unet_jax.data.files import Grid
from unet_jax.data.folders import values
from unet_jax.data.folders.pairs import Pair
from unet_jax.errors import UserError, naming

FEW = 16  # of what may be channels


class Raw(NamedTuple):
    """One image as it lies on the disk, with what was drawn on it.

    Attributes:
      image: `[*S, C]`.
      mask: `[*S, C']`, of independent classes one channel each; None without masks.
      instances: `[*S]` of whole numbers; None without them.
      spacing: of a pixel along each axis; () where the file does not say.
    """

    image: np.ndarray
    mask: np.ndarray | None
    instances: np.ndarray | None
    spacing: tuple[float, ...]


class Way(NamedTuple):
    """How raw images become records.

    Attributes:
      axes: 2 of images, 3 of volumes.
      channels: that every image is brought to.
      multilabel: whether each channel of a mask is a class of its own.
      coloured: whether masks with a palette mean its colours, and not its numbers.
      ignore: the mask value that nobody annotated; '' if there is none.
      ids: class ids by mask value; of no use where there are no masks.
      spacing: of files that do not say theirs; () if it is not known.
    """

    axes: int
    channels: int = 0
    multilabel: bool = False
    coloured: bool = False
    ignore: str = ""
    ids: Mapping[str, int] = MappingProxyType({})
    spacing: tuple[float, ...] = ()


class Opened(NamedTuple):
    """The files of a pair; the pixels are not yet read."""

    image: Grid
    masks: tuple[Grid, ...]
    instances: Grid | None


@contextlib.contextmanager
def opened(pair: Pair, way: Way) -> Iterator[Opened]:
    """Opens the files of a pair.

    Raises:
      UserError: one cannot be read.
    """
    with contextlib.ExitStack() as stack:

        def grid(path: Path, *, indices: bool) -> Grid:
            opening = files.opened(path, axes=way.axes, indices=indices)
            return stack.enter_context(opening)

        yield Opened(
            grid(pair.image, indices=False),
            tuple(grid(path, indices=not way.coloured) for path in pair.masks),
            grid(pair.instances, indices=True) if pair.instances else None,
        )


def misfit(found: Opened) -> str:
    """What does not fit together, in one line; '' if all does."""
    image = found.image
    drawn = [*found.masks, *([found.instances] if found.instances else [])]
    for grid in drawn:
        if grid.shape != image.shape:
            pages = _pages(grid) or _pages(image)
            remedy = pages or "save it with the size of the image"
            return (
                f"{grid.path}: the mask is {by(grid.shape)}, its image "
                f"{by(image.shape)}; {remedy}"
            )
        if grid.count != image.count:
            return (
                f"{grid.path}: {grid.count} pages, where its image has {image.count}; "
                "save one for each"
            )
    if found.instances and found.instances.channels != 1:
        return (
            f"{found.instances.path}: object ids in {found.instances.channels} "
            "channels; save them as whole numbers in one"
        )
    return ""


def raw(found: Opened, page: int) -> Raw:
    """Reads one page of all files of a pair.

    Raises:
      UserError: a file is damaged, or its object ids are no whole numbers.
    """
    box = [slice(0, size) for size in found.image.shape]
    masks = [grid.read(page, box) for grid in found.masks]
    mask = np.concatenate(masks, axis=-1) if masks else None
    instances = None
    if found.instances:
        with naming(str(found.instances.path)):
            instances = values.codes(found.instances.read(page, box))
    spacing = found.image.spacing or ()
    return Raw(found.image.read(page, box), mask, instances, tuple(spacing))


def record(pair: Pair, page: int, name: str, way: Way) -> Record:
    """Loads a record.

    Raises:
      UserError: a file has changed since it was found to be sound.
    """
    with opened(pair, way) as found:
        if fault := misfit(found):
            raise UserError(fault)
        read = raw(found, page)
    change = files.conversion(read.image.shape[-1], way.channels, convert=True)
    made: Record = {"id": name, "image": change(read.image), "label": label(read, way)}
    if read.instances is not None:
        made["instances"] = np.maximum(read.instances, 0).astype(np.int32)
    if spacing := read.spacing or way.spacing:
        made["spacing"] = spacing
    return made


def label(read: Raw, way: Way) -> np.ndarray:
    """What a mask means: `i32[*S]` of class ids, or `i32[*S, K]` of 0 and 1.

    Raises:
      UserError: a value has no meaning.
    """
    if read.mask is None:
        return (read.instances > 0).astype(np.int32)
    if way.multilabel:
        return values.channels(read.mask, way.ignore)
    return values.classes(read.mask, way.ids)


def _pages(grid: Grid) -> str:
    """What to say of a TIFF whose channels were taken for the width of pages."""
    if grid.count == 1 or grid.shape[-1] > FEW:
        return ""
    return (
        f"{grid.path.name} is read as {grid.count} pages of {by(grid.shape)}: if its "
        "last axis is channels, save it with metadata={'axes': 'YXC'}"
    )


def by(sizes: Sequence[float]) -> str:
    """`'512 x 512'`."""
    return " x ".join(f"{size:g}" for size in sizes)
