"""What is found when every record of a data set is read once, before any training."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from unet_jax.arrays import IGNORE
from unet_jax.errors import UserError

# image: ndarray [*S, C], raw: u8, u16 or f32
# label: i32[*S], class ids; or i32[*S, K] of 0 and 1, where classes are independent
#   (all but the background); -1 where nobody annotated
# id: str, the same in every run
# instances: i32[*S], object ids, 0 = background; only where the data set has them
# spacing: tuple of floats, the size of a pixel along each axis; only where it is known
Record = dict[str, Any]

PERCENTS = (0.0, 0.5, 50.0, 99.5, 100.0)
SAMPLE = 2**16  # pixels of an image that its percentiles are taken of, at most
SHOWN = 5  # names in a line about many
PIECE = 2**22  # values that are looked at together
CELLS = {2: 24, 3: 8}  # blocks along each axis of a thumbnail


class Fact(NamedTuple):
    """One record, as it was found.

    Attributes:
      id: of the record.
      split: 'train', 'val' or 'test'; '' before it is in one.
      image, mask: the files, relative to the root; '' where there are none.
      kind: the format: 'png', 'jpg', 'tif', 'nii.gz', 'zarr'; 'array' without a file.
      shape: *S.
      channels: C.
      dtype: of the image: 'uint8'.
      spacing: of a pixel along each axis; () where it is not known.
      intensity: of every channel the `PERCENTS`, of at most `SAMPLE` pixels.
      pixels: how many pixels each class id has, -1 the ignored ones. Where classes
        are independent a pixel may count several times, and the background is 0.
      values: how many pixels each value of the mask file has, as the file has it:
        '255', or '255,0,0' of a colour; empty where there is no file.
      objects: how many there are; None where the data set has no instances.
      digest: the same for images of the same pixels.
      thumbnail: `f32[n, n]`, or with three axes, of mean 0 and length 1: the means of
        blocks; all 0 where the image is flat. Products tell how alike images are.
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


class Fault(NamedTuple):
    """Something that is wrong, or odd.

    Attributes:
      level: an 'error' keeps a run from starting.
      kind: in a word or two, the same for all of one kind: 'size'.
      text: one line that names the file and the remedy.
    """

    level: Literal["error", "warning"]
    kind: str
    text: str


class Account(NamedTuple):
    """All that was found.

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
        """What must be mended first."""
        return tuple(fault for fault in self.faults if fault.level == "error")


def measure(record: Record, split: str = "", **more: Any) -> Fact:
    """Measures a record; `more` are the attributes that only a file knows.

    Without a label, `pixels` are among them.
    """
    image, label = record["image"], record.get("label")
    given = {"image": "", "mask": "", "kind": "array", "values": {}} | more
    if "pixels" not in given:
        given["pixels"] = count(label, independent=label.ndim == image.ndim)
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
        intensity=_intensity(image),
        objects=objects,
        digest=digest(image),
        thumbnail=thumbnail(image),
        **given,
    )


def count(label: np.ndarray, *, independent: bool) -> dict[int, int]:
    """Pixels of each class id that is there, and of -1, the ignored ones."""
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
    """Runs of the first axis of `[*S, ...]`: no copy is then as large as a volume."""
    step = max(PIECE // max(array[:1].size, 1), 1)
    return (array[i : i + step] for i in range(0, len(array), step))


def digest(image: np.ndarray) -> str:
    """A text that two images share if they have the same shape and pixels."""
    total = hashlib.sha1(f"{image.shape} {image.dtype}".encode())
    for piece in pieces(image):
        total.update(np.ascontiguousarray(piece))
    return total.hexdigest()


def thumbnail(image: np.ndarray) -> np.ndarray:
    """The means of blocks of an image `[*S, C]`, of mean 0 and length 1."""
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
    length = np.linalg.norm(grey)
    flat = length <= 1e-6 * math.sqrt(grey.size)
    return (np.zeros_like(grey) if flat else grey / length).astype(np.float32)


def merged(facts: Iterable[Fact]) -> dict[int, int]:
    """The pixels of each class over several records."""
    total: dict[int, int] = {}
    for fact in facts:
        for k, pixels in fact.pixels.items():
            total[k] = total.get(k, 0) + pixels
    return dict(sorted(total.items()))


def _intensity(image: np.ndarray) -> tuple[tuple[float, ...], ...]:
    """The ends are those of all pixels, and what is between of some drawn at random."""
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
    """The faults, of which many that differ in nothing but the file become one."""
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
    """Some names, and how many more there are."""
    each = list(dict.fromkeys(names))
    more = f" and {len(each) - SHOWN} more" if len(each) > SHOWN else ""
    return ", ".join(each[:SHOWN]) + more
