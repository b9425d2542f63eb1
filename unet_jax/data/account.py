"""Facts about a data set, and its faults: the result of reading every record once."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from unet_jax.arrays import IGNORE
from unet_jax.errors import UserError

# Always there:
#   image: ndarray [*S, C], raw: u8, u16 or f32
#   id: str, the same in every run
# Only where the data set has them:
#   label: i32[*S], class ids; or i32[*S, K] of 0 and 1, where classes are independent
#     (all but the background); -1 where nobody annotated
#   instances: i32[*S], object ids, 0 = background
#   target: ndarray [*S, C'], raw, of any dtype: an image to be restored or predicted
#   spacing: tuple of floats, the size of a pixel along each axis
# A data set may add more, under keys of its own.
Record = dict[str, Any]

PERCENTS = (0.0, 0.5, 50.0, 99.5, 100.0)
SAMPLE = 2**16  # pixels of an image that its percentiles are taken of, at most
SHOWN = 5  # names in a line about many
PIECE = 2**22  # values that are looked at together
CELLS = {2: 24, 3: 8}  # blocks along each axis of a thumbnail
DEEPEST = 127  # the largest value of a thumbnail


class Fact(NamedTuple):
    """Measurements of one record.

    Attributes:
      id: of the record.
      split: 'train', 'val', 'test' or 'unlabelled'; '' before it is in one.
      image, mask: the files, relative to the root; '' where there are none.
      kind: the format: 'png', 'jpg', 'tif', 'nii.gz', 'zarr'; 'array' without a file.
      shape: *S.
      channels: C.
      dtype: of the image: 'uint8'.
      spacing: of a pixel along each axis; () where it is not known.
      intensity: of every channel the `PERCENTS`, of at most `SAMPLE` pixels.
      pixels: how many pixels each class id has, -1 the ignored ones. Where classes
        are independent a pixel may count several times, and the background is 0.
        Empty where there is no label.
      values: how many pixels each value of the mask file has, as the file has it:
        '255', or '255,0,0' of a colour; empty where there is no file.
      objects: how many there are; None where the data set has no instances.
      digest: the same for images of the same pixels.
      thumbnail: `i8[n, n]`, or with three axes: the means of blocks, around the mean of
        the image and scaled to 127; all 0 where the image is constant.
      target: the file, relative to the root; '' where there is none.
      target_channels: C' of the target; 0 where there is none.
      target_dtype: of the target; '' where there is none.
      target_intensity: the same as `intensity`, of the target.
    """

    id: str
    split: str
    image: str
    mask: str
    kind: str
    shape: tuple[int, ...]
    channels: int
    dtype: str
    spacing: tuple[float, ...]
    intensity: tuple[tuple[float, ...], ...]
    pixels: Mapping[int, int]
    values: Mapping[str, int]
    objects: int | None
    digest: str
    thumbnail: np.ndarray
    target: str = ""
    target_channels: int = 0
    target_dtype: str = ""
    target_intensity: tuple[tuple[float, ...], ...] = ()

    @property
    def labelled(self) -> bool:
        """True if the record has a label."""
        return bool(self.pixels or self.values)


class Fault(NamedTuple):
    """A thing that is wrong with the data, or odd.

    Attributes:
      level: an 'error' keeps a run from starting.
      kind: in a word or two, the same for all of one kind: 'size'.
      text: one line that names the file and the remedy.
    """

    level: Literal["error", "warning"]
    kind: str
    text: str


class Account(NamedTuple):
    """Facts and faults of a data set.

    Attributes:
      root: the folder, or the name of the data set.
      classes: their names, by id.
      mapping: how values of mask files become class ids: ('255', 1), ('0', 0).
      facts: of every record that could be read.
      faults: of those that could not, and of the set.
      said: decisions that were taken for the user, one line each.
    """

    root: str
    classes: tuple[str, ...]
    mapping: tuple[tuple[str, int], ...] = ()
    facts: tuple[Fact, ...] = ()
    faults: tuple[Fault, ...] = ()
    said: tuple[str, ...] = ()

    @property
    def errors(self) -> tuple[Fault, ...]:
        """The faults that keep a run from starting."""
        return tuple(fault for fault in self.faults if fault.level == "error")


def measure(record: Record, split: str = "", **more: Any) -> Fact:
    """Measures a record.

    Args:
      record: of any keys beside `image` and `id`.
      split: that it is in.
      **more: attributes that only its file knows. `pixels` are counted from the label
        unless they are among them.
    """
    image, label, target = (record.get(key) for key in ("image", "label", "target"))
    given = {"image": "", "mask": "", "kind": "array", "values": {}} | more
    if label is None:
        given = {"pixels": {}} | given
    elif "pixels" not in given:
        given["pixels"] = count(label, independent=label.ndim == image.ndim)
    if target is not None:
        given |= {
            "target_channels": target.shape[-1],
            "target_dtype": str(target.dtype),
            "target_intensity": intensity(target),
        }
    objects = None
    if "instances" in record:
        ids = np.unique(record["instances"])
        objects = int((ids > 0).sum())
    return Fact(
        id=record["id"],
        split=split,
        shape=tuple(image.shape[:-1]),
        channels=image.shape[-1],
        dtype=str(image.dtype),
        spacing=tuple(record.get("spacing", ())),
        intensity=intensity(image),
        objects=objects,
        digest=digest(image),
        thumbnail=thumbnail(image),
        **given,
    )


def count(label: np.ndarray, *, independent: bool) -> dict[int, int]:
    """Counts the pixels of each class id, and of -1, the ignored ones."""
    total: Counter[int] = Counter()
    for piece in pieces(label):
        if independent:
            ignored, anything = (piece < 0).all(-1), (piece > 0).any(-1)
            each = (piece > 0).sum(tuple(range(piece.ndim - 1)))
            found = [ignored.sum(), (~ignored & ~anything).sum(), *each]
        else:
            found = np.bincount(np.maximum(piece, IGNORE).ravel() - IGNORE)
        total.update(dict(enumerate(map(int, found), IGNORE)))
    return {k: pixels for k, pixels in sorted(total.items()) if pixels}


def pieces(array: np.ndarray) -> Iterator[np.ndarray]:
    """Cuts `[*S, ...]` along the first axis, to be copied piece by piece."""
    step = max(PIECE // max(array[:1].size, 1), 1)
    return (array[i : i + step] for i in range(0, len(array), step))


def digest(image: np.ndarray) -> str:
    """Returns a text that images share if they have the same shape and pixels."""
    total = hashlib.sha1(f"{image.shape} {image.dtype}".encode())
    for piece in pieces(image):
        total.update(np.ascontiguousarray(piece))
    return total.hexdigest()


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Shrinks an image `[*S, C]` to `i8[n, ...]`, the means of n blocks per axis.

    The mean over the image is taken away and the largest difference becomes 127, so
    that neither brightness nor contrast count. 8 bits suffice to compare images, and
    keep the survey of a large folder small. A constant image becomes 0.
    """
    means = image
    axes = image.ndim - 1
    cells = CELLS.get(axes, 4)
    for axis, size in enumerate(image.shape[:-1]):
        # of an axis that is shorter than that, some pixels make two blocks
        starts = np.arange(cells) * size // cells
        widths = np.maximum(np.diff(starts, append=size), 1)
        sums = np.add.reduceat(means, starts, axis, dtype=np.float64)
        means = sums / widths.reshape(-1, *[1] * (axes - axis))
    grey = means.mean(-1)
    grey -= grey.mean()
    if np.linalg.norm(grey) <= 1e-6 * math.sqrt(grey.size):
        return np.zeros(grey.shape, np.int8)
    return np.rint(DEEPEST * (grey / np.abs(grey).max())).astype(np.int8)


def merged(facts: Iterable[Fact]) -> dict[int, int]:
    """Sums the pixels of each class over several records."""
    total: dict[int, int] = {}
    for fact in facts:
        for k, pixels in fact.pixels.items():
            total[k] = total.get(k, 0) + pixels
    return dict(sorted(total.items()))


def intensity(image: np.ndarray) -> tuple[tuple[float, ...], ...]:
    """Returns the `PERCENTS` of every channel of `[*S, C]`.

    The lowest and the highest are those of all pixels. The others are those of `SAMPLE`
    pixels, drawn at random, where there are more.
    """
    image = image.view(np.uint8) if image.dtype == bool else image
    flat = image.reshape(-1, image.shape[-1])
    ends = flat.min(0), flat.max(0)
    if len(flat) > SAMPLE:
        flat = flat[np.random.default_rng(0).integers(0, len(flat), SAMPLE)]
    found = np.percentile(flat, PERCENTS, axis=0)
    found[0], found[-1] = ends
    return tuple(map(tuple, found.T.tolist()))


def refuse(account: Account) -> None:
    """Raises UserError with every error of an account, one line each, if there are."""
    lines = [fault.text for fault in account.errors]
    if len(lines) > 1:
        lines.insert(0, f"{len(lines)} mistakes in {account.root}, all to be mended:")
    if lines:
        raise UserError("\n  ".join(lines))


def together(*faults: Fault) -> tuple[Fault, ...]:
    """Merges faults of which more than `SHOWN` differ in nothing but the file."""
    files: dict[Fault, list[str]] = {}
    for fault in dict.fromkeys(faults):
        file, _, rest = fault.text.partition(": ")
        files.setdefault(fault._replace(text=rest), []).append(file)
    return tuple(
        rest._replace(text=f"{name}: {rest.text}" if rest.text else name)
        for rest, names in files.items()
        for name in ([listed(names)] if len(names) > SHOWN else names)
    )


def listed(names: Sequence[str]) -> str:
    """Joins at most `SHOWN` names, and says how many more there are."""
    each = list(dict.fromkeys(names))
    more = f" and {len(each) - SHOWN} more" if len(each) > SHOWN else ""
    return ", ".join(each[:SHOWN]) + more
