"""Pixels of a pair of files: every page of them once, or one as a record."""

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
from unet_jax.errors import UserError, prefix_errors

FEW = 16  # of what may be channels


class Raw(NamedTuple):
    """One page of the files of a pair, as stored.

    Attributes:
      image: `[*S, C]`.
      mask: `[*S, K]`, of independent classes one channel each; None without masks.
      instances: `[*S]` of whole numbers; None without them.
      target: `[*S, C']`; None without one.
      spacing: of a pixel along each axis; () where the file does not state it.
    """

    image: np.ndarray
    mask: np.ndarray | None
    instances: np.ndarray | None
    target: np.ndarray | None
    spacing: tuple[float, ...]


class ReadOptions(NamedTuple):
    """Options for reading files, and for turning pixels into records.

    Attributes:
      axes: 2 of images, 3 of volumes.
      multilabel: True if each channel of a mask is a class of its own.
      coloured: True if a mask with a palette means its colours, and not its indices.
      ignore: the mask value of pixels that are not annotated; '' if there is none.
      spacing: of files that do not state theirs; () if it is not known.
      channels: that every image is converted to.
      target_channels: that every target is converted to.
      ids: class ids by mask value; empty where there are no masks.
    """

    axes: int
    multilabel: bool = False
    coloured: bool = False
    ignore: str = ""
    spacing: tuple[float, ...] = ()
    channels: int = 0
    target_channels: int = 0
    ids: Mapping[str, int] = MappingProxyType({})


class Opened(NamedTuple):
    """The open files of a pair; their pixels are not yet read."""

    image: Grid
    masks: tuple[Grid, ...]
    instances: Grid | None
    target: Grid | None


@contextlib.contextmanager
def opened(pair: Pair, options: ReadOptions) -> Iterator[Opened]:
    """Opens the files of a pair.

    Raises:
      UserError: one cannot be read.
    """
    with contextlib.ExitStack() as stack:

        def grid(path: Path | None, *, indices: bool = False) -> Grid | None:
            if path is None:
                return None
            opening = files.opened(path, axes=options.axes, indices=indices)
            return stack.enter_context(opening)

        yield Opened(
            grid(pair.image),
            tuple(grid(path, indices=not options.coloured) for path in pair.masks),
            grid(pair.instances, indices=True),
            grid(pair.target),
        )


def mismatch(found: Opened) -> str:
    """Returns an error message if the files do not fit together, else ''."""
    image = found.image
    others = [("mask", grid) for grid in (*found.masks, found.instances) if grid]
    others += [("target", found.target)] if found.target else []
    for noun, grid in others:
        if grid.shape != image.shape:
            pages = _pages(grid) or _pages(image)
            remedy = pages or "save it with the size of the image"
            return (
                f"{grid.path}: the {noun} is {by(grid.shape)}, its image "
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
        with prefix_errors(str(found.instances.path)):
            instances = values.codes(found.instances.read(page, box))
    target = found.target.read(page, box) if found.target else None
    spacing = tuple(found.image.spacing or ())
    return Raw(found.image.read(page, box), mask, instances, target, spacing)


def record(pair: Pair, page: int, name: str, options: ReadOptions) -> Record:
    """Loads a record.

    Args:
      pair: its files.
      page: of these.
      name: the id of the record.
      options: with the channels and the class ids that the survey has found.

    Raises:
      UserError: a file has changed since it was found to be sound.
    """
    with opened(pair, options) as found:
        if text := mismatch(found):
            raise UserError(text)
        read = raw(found, page)
    made: Record = {"id": name, "image": _converted(read.image, options.channels)}
    if (ids := label(read, options)) is not None:
        made["label"] = ids
    if read.instances is not None:
        made["instances"] = np.maximum(read.instances, 0).astype(np.int32)
    if read.target is not None:
        made["target"] = _converted(read.target, options.target_channels)
    if spacing := read.spacing or options.spacing:
        made["spacing"] = spacing
    return made


def label(read: Raw, options: ReadOptions) -> np.ndarray | None:
    """Returns the label: `i32[*S]` of class ids, or `i32[*S, K]` of 0 and 1.

    Object ids without a mask are one class. Without either there is no label.

    Raises:
      UserError: a value has no meaning.
    """
    if read.mask is None:
        return None if read.instances is None else (read.instances > 0).astype(np.int32)
    if options.multilabel:
        return values.channels(read.mask, options.ignore)
    return values.classes(read.mask, options.ids)


def by(sizes: Sequence[float]) -> str:
    """Returns sizes as text: `'512 x 512'`."""
    return " x ".join(f"{size:g}" for size in sizes)


def _converted(image: np.ndarray, channels: int) -> np.ndarray:
    return files.conversion(image.shape[-1], channels, convert=True)(image)


def _pages(grid: Grid) -> str:
    """Returns a remedy for a TIFF whose channels were taken for the width of pages."""
    if grid.count == 1 or grid.shape[-1] > FEW:
        return ""
    return (
        f"{grid.path.name} is read as {grid.count} pages of {by(grid.shape)}: if its "
        "last axis is channels, save it with metadata={'axes': 'YXC'}"
    )
