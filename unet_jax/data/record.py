"""Records, as data sets load them, and measurements of one record.

A record is a dict. It always has
  image: ndarray [*S, C], the raw pixels, in any integer or float type
  id: str, the same in every run
and, where the data set provides them,
  label: i32[*S] of class ids, or i32[*S, K] of 0 and 1 for independent classes (all but
    the background); -1 where a pixel is not annotated
  instances: i32[*S] of object ids, 0 = background
  target: ndarray [*S, C'], the raw pixels of an image to restore or to predict
  spacing: tuple of floats, the size of a pixel along each axis
A data set may add other keys.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from unet_jax.arrays import IGNORE, cut_chunks

Record = dict[str, Any]

PERCENTS = (0.0, 0.5, 50.0, 99.5, 100.0)
PERCENTILE_PIXELS = 2**16  # pixels of an image that percentiles are computed from
THUMBNAIL_SIZE = {2: 24, 3: 8}  # of each axis, by the number of axes
THUMBNAIL_MAX = 127


class RecordStats(NamedTuple):
    """Measurements of one record.

    Attributes:
      id: of the record.
      split: 'train', 'val', 'test' or 'unlabelled'; '' before it is assigned to one.
      image, mask: the files, relative to the root; '' if there are none.
      kind: the file format: 'png', 'jpg', 'tif', 'nii.gz', 'zarr'; 'array' if there is
        no file.
      shape: *S.
      channels: C.
      dtype: of the image: 'uint8'.
      spacing: the size of a pixel along each axis; () if it is unknown.
      intensity: the `PERCENTS` of every channel.
      pixels: pixels of each class id; -1 counts the ignored pixels. If classes are
        independent, a pixel may count several times, and 0 counts the pixels of no
        class. Empty without a label.
      values: pixels of each value in the mask file: '255', or '255,0,0' for a colour;
        empty without a file.
      objects: the number of objects; None without instances.
      digest: a hash of the image's pixels.
      thumbnail: from `make_thumbnail`.
      target: the file, relative to the root; '' if there is none.
      target_channels: C' of the target; 0 without a target.
      target_dtype: of the target; '' without a target.
      target_intensity: the `PERCENTS` of every channel of the target.
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


def measure_record(record: Record, split: str = "", **known: Any) -> RecordStats:
    """Measures a record.

    Args:
      record: with at least `image` and `id`.
      split: the split of the record.
      **known: attributes of the result that do not follow from the record.
    """
    image, label, target = record["image"], record.get("label"), record.get("target")
    stats = RecordStats(
        id=record["id"],
        split=split,
        image="",
        mask="",
        kind="array",
        shape=tuple(image.shape[:-1]),
        channels=image.shape[-1],
        dtype=str(image.dtype),
        spacing=tuple(record.get("spacing", ())),
        intensity=measure_intensity(image),
        pixels={},
        values={},
        objects=None,
        digest=hash_pixels(image),
        thumbnail=make_thumbnail(image),
    )
    if label is not None:
        known["pixels"] = count_pixels(label, independent=label.ndim == image.ndim)
    if "instances" in record:
        known["objects"] = int((np.unique(record["instances"]) > 0).sum())
    if target is not None:
        known["target_channels"] = target.shape[-1]
        known["target_dtype"] = str(target.dtype)
        known["target_intensity"] = measure_intensity(target)
    return stats._replace(**known)


def count_pixels(label: np.ndarray, *, independent: bool) -> dict[int, int]:
    """Counts the pixels of each class id, and of -1 for ignored pixels.

    The label is `i32[*S]`, or `i32[*S, K]` if the classes are independent.
    """
    total: Counter[int] = Counter()
    for chunk in cut_chunks(label):
        if independent:
            ignored, any_class = (chunk < 0).all(-1), (chunk > 0).any(-1)
            each = (chunk > 0).sum(tuple(range(chunk.ndim - 1)))
            counts = [ignored.sum(), (~ignored & ~any_class).sum(), *each]
        else:
            counts = np.bincount(np.maximum(chunk, IGNORE).ravel() - IGNORE)
        total.update(dict(enumerate(map(int, counts), IGNORE)))
    return {k: pixels for k, pixels in sorted(total.items()) if pixels}


def measure_intensity(image: np.ndarray) -> tuple[tuple[float, ...], ...]:
    """Computes the `PERCENTS` of every channel of an image `[*S, C]`.

    The minimum and the maximum are exact. The other percentiles are those of
    `PERCENTILE_PIXELS` random pixels if the image has more.
    """
    image = image.view(np.uint8) if image.dtype == bool else image
    flat = image.reshape(-1, image.shape[-1])
    lowest, highest = flat.min(0), flat.max(0)
    if len(flat) > PERCENTILE_PIXELS:
        rng = np.random.default_rng(0)
        flat = flat[rng.integers(0, len(flat), PERCENTILE_PIXELS)]
    percentiles = np.percentile(flat, PERCENTS, axis=0)
    percentiles[0], percentiles[-1] = lowest, highest
    return tuple(map(tuple, percentiles.T.tolist()))


def hash_pixels(image: np.ndarray) -> str:
    """Returns a hash of the shape, the type and the pixels of an image."""
    digest = hashlib.sha1(f"{image.shape} {image.dtype}".encode())
    for chunk in cut_chunks(image):
        buffer: Any = np.ascontiguousarray(chunk)
        digest.update(buffer)
    return digest.hexdigest()


def make_thumbnail(image: np.ndarray) -> np.ndarray:
    """Shrinks an image `[*S, C]` to `i8[n, n]` or `i8[n, n, n]`, the means of blocks.

    The mean of the image is subtracted and the largest difference becomes 127, so that
    thumbnails do not depend on brightness and contrast. A constant image becomes 0.
    """
    means = image
    axes = image.ndim - 1
    blocks = THUMBNAIL_SIZE.get(axes, 4)
    for axis, size in enumerate(image.shape[:-1]):
        # if the axis has fewer pixels than blocks, several blocks share a pixel
        starts = np.arange(blocks) * size // blocks
        widths = np.maximum(np.diff(starts, append=size), 1)
        sums = np.add.reduceat(means, starts, axis, dtype=np.float64)
        means = sums / widths.reshape(-1, *[1] * (axes - axis))
    grey = means.mean(-1)
    grey -= grey.mean()
    if np.linalg.norm(grey) <= 1e-6 * math.sqrt(grey.size):
        return np.zeros(grey.shape, np.int8)
    return np.rint(THUMBNAIL_MAX * (grey / np.abs(grey).max())).astype(np.int8)
