"""One cause behind many errors of masks: swapped folders, or pages read as colours."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from unet_jax.data import files
from unet_jax.data.dataset_report import Issue, merge_issues
from unet_jax.data.folders.pair import Pair
from unet_jax.data.folders.pairing import FoundPairs
from unet_jax.data.folders.reading import ReadOptions
from unet_jax.data.folders.survey import Page, relative_path
from unet_jax.errors import UserError
from unet_jax.text import listing

SYMPTOMS = ("mask values", "anti-aliased", "JPEG mask", "empty masks", "mask channels")
CONSEQUENCES = (*SYMPTOMS, "class never present")  # dropped, if the cause is found
TRIED = 3  # pairs that are read again
WINDOW = 512  # pixels along each axis that are looked at
FEW = 32  # values of a mask; an image has more
OBJECTS = 32  # an image that was taken for object ids has at least as many values


class _Look(NamedTuple):
    """The number of values of an image, and the share of equal neighbours."""

    values: int
    equal: float


def explain_issues(
    issues: Sequence[Issue],
    found: FoundPairs,
    pages: Sequence[Page],
    options: ReadOptions,
) -> tuple[Issue, ...]:
    """Merges issues; those of masks become one, if one cause explains them.

    Args:
      issues: all issues of the data.
      found: the pairs; also those of JPEG masks, which are not read otherwise.
      pages: the pages of the pairs.
      options: how files are read.
    """
    kinds = {issue.kind for issue in issues if issue.level == "error"}
    cause = None
    if kinds & set(SYMPTOMS):
        pairs = [pair for pair in (*found.refused, *found.pairs) if pair.labelled]
        cause = _find_swapped(pairs, found, options)
        cause = cause or _find_planes(pairs, found.root, options)
    elif not any(pair.masks for pair in found.pairs):
        pairs = [p.pair for p in pages if (p.stats.objects or 0) >= OBJECTS]
        cause = _find_swapped(pairs, found, options, "warning")
    if cause is None:
        return merge_issues(*issues)
    others = (i for i in issues if i.kind not in CONSEQUENCES)
    return merge_issues(cause, *others)


def _find_swapped(
    pairs: Sequence[Pair],
    found: FoundPairs,
    options: ReadOptions,
    level: Literal["error", "warning"] = "error",
) -> Issue | None:
    """Returns an issue if images look like masks, and masks like images.

    A mask has few values, in large areas. Both must hold for each pair that is read.
    """
    read = list(_read_looks(pairs[:TRIED], options))
    if not read or not all(
        image.values <= FEW < mask.values and image.equal > mask.equal
        for _, image, mask in read
    ):
        return None
    pair, image, mask = read[0]
    field = "masks" if pair.masks else "instances"
    names = [
        relative_path(path, found.root) for path in (pair.image, pair.label_files[0])
    ]
    text = (
        f"images and {field} seem to be swapped: {names[0]} has {image.values} values, "
        f"as a mask, and {names[1]} at least {mask.values}, as an image; exchange "
        f"them: --config.data.images='{getattr(found.patterns, field)}' "
        f"--config.data.{field}='{found.patterns.images}'"
    )
    return Issue(level, "swapped", text)


def _find_planes(
    pairs: Sequence[Pair], root: Path, options: ReadOptions
) -> Issue | None:
    """Returns an error if masks are the planes of one RGB image, but not colours."""
    pair = next((pair for pair in pairs if pair.masks), None)
    if options.multilabel or options.coloured or not pair:
        return None
    mask = pair.masks[0]
    if "SEPARATE" not in files.describe_stored(mask):
        return None
    remedy = files.suggest_order(pair.image, mask, options.axes, single=True)
    if not remedy:
        return None
    with files.open_images(mask, axes=options.axes) as file:
        whole = [slice(0, size) for size in file.shape]
        values = listing(np.unique(file.read(0, whole)).tolist())
    text = f"{relative_path(mask, root)}: a mask of {file.channels} planes with the "
    text += f"values {values}, which are no colours; {remedy}"
    return Issue("error", "mask values", text)


def _read_looks(
    pairs: Sequence[Pair], options: ReadOptions
) -> Iterator[tuple[Pair, _Look, _Look]]:
    for pair in pairs:
        try:
            image = _read_look(pair.image, options)
            mask = _read_look(pair.label_files[0], options)
        except UserError:  # reported by the survey
            continue
        yield pair, image, mask


def _read_look(path: Path, options: ReadOptions) -> _Look:
    """Reads the centre of the first image of a file."""
    how = {"axes": options.axes, "tiff_axes": options.tiff_axes}
    with files.open_images(path, indices=True, **how) as file:
        starts = [max(0, (size - WINDOW) // 2) for size in file.shape]
        if options.axes == 3:
            starts[0] = file.shape[0] // 2
        sizes = [1 if i == 0 and options.axes == 3 else WINDOW for i in (0, 1, 2)]
        pairs = zip(starts, sizes, file.shape, strict=False)
        box = [slice(start, min(start + n, size)) for start, n, size in pairs]
        pixels = file.read(0, box)
    flat = pixels.reshape(-1, pixels.shape[-1])
    equal = (pixels[..., 1:, :] == pixels[..., :-1, :]).all(-1)
    return _Look(len(np.unique(flat, axis=0)), float(equal.mean()) if equal.size else 1)
