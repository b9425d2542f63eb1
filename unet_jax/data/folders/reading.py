"""The files of a pair: opened and compared, and one page read as a record."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from unet_jax.data import files
from unet_jax.data.dataset_report import Issue
from unet_jax.data.files import ImageFile
from unet_jax.data.folders.pair import Pair
from unet_jax.data.label_map import apply_label_map, channels_to_label, value_codes
from unet_jax.data.record import Record
from unet_jax.errors import UserError, prefix_errors
from unet_jax.text import dimensions

TOLERANCE = 1e-2  # of a pixel, between two affine maps that mean the same


class ReadOptions(NamedTuple):
    """Options for reading files, and for converting pixels to records.

    Attributes:
      axes: 2 for images, 3 for volumes.
      multilabel: True if each channel of a mask is a class of its own.
      coloured: True reads the colours of a mask with a palette, and not its indices.
      ignore_value: the mask value of pixels that are not annotated; '' for none.
      spacing: of files that do not state theirs; () if it is unknown.
      tiff_axes: the order of the axes of TIFF files; '' for what they state.
      channels: of every image, after conversion.
      target_channels: of every target, after conversion.
      ids: the class id of each mask value; empty without masks.
    """

    axes: int
    multilabel: bool = False
    coloured: bool = False
    ignore_value: str = ""
    spacing: tuple[float, ...] = ()
    tiff_axes: str = ""
    channels: int = 0
    target_channels: int = 0
    ids: Mapping[str, int] = MappingProxyType({})


class PairFiles(NamedTuple):
    """The open files of a pair; no pixels are read yet."""

    image: ImageFile
    masks: tuple[ImageFile, ...]
    instances: ImageFile | None
    target: ImageFile | None


class PagePixels(NamedTuple):
    """One page of the files of a pair, as stored.

    Attributes:
      image: `[*S, C]`.
      mask: `[*S, K]`, one channel for each independent class; None without masks.
      instances: `[*S]` of whole numbers; None without instances.
      target: `[*S, C']`; None without a target.
      spacing: the size of a pixel along each axis; () if the file does not state it.
    """

    image: np.ndarray
    mask: np.ndarray | None
    instances: np.ndarray | None
    target: np.ndarray | None
    spacing: tuple[float, ...]


@contextlib.contextmanager
def open_pair(pair: Pair, options: ReadOptions) -> Iterator[PairFiles]:
    """Opens the files of a pair.

    Raises:
      UserError: a file cannot be read.
    """
    with contextlib.ExitStack() as stack:

        def opened(path: Path, *, indices: bool = False) -> ImageFile:
            how = {"axes": options.axes, "tiff_axes": options.tiff_axes}
            file = files.open_images(path, indices=indices, **how)
            return stack.enter_context(file)

        yield PairFiles(
            opened(pair.image),
            tuple(opened(path, indices=not options.coloured) for path in pair.masks),
            pair.instances and opened(pair.instances, indices=True),
            pair.target and opened(pair.target),
        )


def find_size_error(pair: PairFiles) -> str:
    """Returns an error message if the sizes of the files differ, else ''."""
    image = pair.image
    others = [("mask", file) for file in (*pair.masks, pair.instances)]
    for noun, file in (*others, ("target", pair.target)):
        if file is None:
            continue
        if file.shape != image.shape:
            if text := _drawn_as_stored(file, image, noun):
                return text
            remedy = _suggest_order(image, file, "save it with the size of the image")
            return (
                f"{file.path}: the {noun} is {dimensions(file.shape)}, its image "
                f"{dimensions(image.shape)}; {remedy}"
            )
        if file.count != image.count:
            return (
                f"{file.path}: {file.count} pages, where its image has {image.count}; "
                f"{_suggest_order(image, file, 'save one for each')}"
            )
    if pair.instances and pair.instances.channels != 1:
        remedy = "save them as whole numbers in one"
        remedy = _suggest_order(image, pair.instances, remedy, single=True)
        return (
            f"{pair.instances.path}: object ids in {pair.instances.channels} "
            f"channels; {remedy}"
        )
    return ""


def find_alignment_issue(pair: PairFiles) -> Issue | None:
    """Returns an issue if the files disagree about the size or the place of pixels."""
    image = pair.image
    for file in (*pair.masks, pair.target):
        if file is None:
            continue
        if image.affine is not None and file.affine is not None:
            if orientation(image) != orientation(file):
                text = f"{file.path}: its axes point to {orientation(file)}, those of "
                text += f"its image to {orientation(image)}; resample it to the image"
                return Issue("error", "orientation", text)
            assert image.spacing is not None  # NIfTI states it with the affine map
            offset = np.abs(file.affine - image.affine).max()
            if offset > TOLERANCE * min(image.spacing):
                text = f"{file.path}: its affine map differs from that of its image; "
                return Issue("warning", "place", text + "the affine maps are ignored")
        elif image.spacing and file.spacing:
            if np.allclose(image.spacing, file.spacing, rtol=1e-3):
                continue
            text = f"{file.path}: its pixels measure {dimensions(file.spacing)}, those "
            text += f"of its image {dimensions(image.spacing)}; the image's spacing is "
            return Issue("warning", "spacing", text + "used")
    return None


def orientation(file: ImageFile) -> str:
    """Returns the orientation of a NIfTI file: 'RAS' is right, anterior, superior."""
    if file.affine is None:
        return ""
    letters = []
    for column in np.asarray(file.affine)[:3, :3].T:
        axis = int(np.argmax(np.abs(column)))
        letters.append(("LR", "PA", "IS")[axis][int(column[axis] > 0)])
    return "".join(letters)


def read_page(pair: PairFiles, page: int) -> PagePixels:
    """Reads one page of all files of a pair.

    Raises:
      UserError: a file is damaged, or its object ids are not whole numbers.
    """
    box = [slice(0, size) for size in pair.image.shape]
    masks = [file.read(page, box) for file in pair.masks]
    instances = None
    if pair.instances:
        with prefix_errors(str(pair.instances.path)):
            instances = value_codes(pair.instances.read(page, box))
    return PagePixels(
        image=pair.image.read(page, box),
        mask=np.concatenate(masks, axis=-1) if masks else None,
        instances=instances,
        target=pair.target.read(page, box) if pair.target else None,
        spacing=tuple(pair.image.spacing or ()),
    )


def load_record(pair: Pair, page: int, name: str, options: ReadOptions) -> Record:
    """Loads one page of a pair as a record with the id `name`.

    The options have the channels and class ids that the survey found.

    Raises:
      UserError: a file has changed since the survey and is now wrong.
    """
    with open_pair(pair, options) as opened:
        if text := find_size_error(opened):
            raise UserError(text)
        pixels = read_page(opened, page)
    record: Record = {"id": name, "image": _converted(pixels.image, options.channels)}
    if (label := make_label(pixels, options)) is not None:
        record["label"] = label
    if pixels.instances is not None:
        record["instances"] = np.maximum(pixels.instances, 0).astype(np.int32)
    if pixels.target is not None:
        record["target"] = _converted(pixels.target, options.target_channels)
    if spacing := pixels.spacing or options.spacing:
        record["spacing"] = spacing
    return record


def make_label(pixels: PagePixels, options: ReadOptions) -> np.ndarray | None:
    """Returns the label: `i32[*S]` of class ids, or `i32[*S, K]` of 0 and 1.

    Without a mask, objects are of class 1. Without either there is no label.

    Raises:
      UserError: a mask value has no class.
    """
    if pixels.mask is None:
        instances = pixels.instances
        return None if instances is None else (instances > 0).astype(np.int32)
    if options.multilabel:
        return channels_to_label(pixels.mask, options.ignore_value)
    return apply_label_map(pixels.mask, options.ids)


def _converted(image: np.ndarray, channels: int) -> np.ndarray:
    return files.channel_converter(image.shape[-1], channels, convert=True)(image)


def _drawn_as_stored(file: ImageFile, image: ImageFile, noun: str) -> str:
    """Returns an error message if two files fit only without their orientation."""
    turned = [one for one in (image, file) if one.orientation > 4]
    swapped = (*file.shape[:-2], file.shape[-1], file.shape[-2])
    if len(turned) != 1 or swapped != image.shape:
        return ""
    (one,) = turned
    other = f"the {noun}" if one is image else "its image"
    return (
        f"{file.path}: the {noun} is {dimensions(file.shape)}, its image "
        f"{dimensions(image.shape)}, and they agree only without the EXIF orientation "
        f"({one.orientation}) of {one.path}, which turns it upright; if {other} fits "
        f"the pixels as stored, remove that tag: exiftool -Orientation= {one.path.name}"
    )


def _suggest_order(
    image: ImageFile, other: ImageFile, otherwise: str, *, single: bool = False
) -> str:
    """Returns the flag with which two files agree, or what else can be done."""
    paths = (Path(str(file.path)) for file in (image, other))
    hint = files.suggest_order(*paths, axes=len(image.shape), single=single)
    return f"{otherwise}; {hint}" if hint.startswith("or, ") else hint or otherwise
