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

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from unet_jax.arrays import IGNORE, cut_chunks
from unet_jax.data.image_stats import ImageStats, measure_image

Record = dict[str, Any]


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
      digest, thumbnail: of the image, from `measure_image`.
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
    measured = _measure(image)
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
        intensity=measured.intensity,
        pixels={},
        values={},
        objects=None,
        digest=measured.digest,
        thumbnail=measured.thumbnail,
    )
    if label is not None:
        known["pixels"] = count_pixels(label, independent=label.ndim == image.ndim)
    if "instances" in record:
        known["objects"] = int((np.unique(record["instances"]) > 0).sum())
    if target is not None:
        known["target_channels"] = target.shape[-1]
        known["target_dtype"] = str(target.dtype)
        known["target_intensity"] = _measure(target).intensity
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


def _measure(image: np.ndarray) -> ImageStats:
    return measure_image([image], image.shape, image.dtype)
