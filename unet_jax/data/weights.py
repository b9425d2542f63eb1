"""How much each pixel counts in the loss: weight maps, made once on the host.

Each function takes a label `i32[*S]` of class ids (negative = ignored), where the data
set has them object ids `i32[*S]` (0 = background), and a function that counts the
pixels of each class in the training set. It returns `f32[*S]`, zero on ignored pixels.
Distances are in pixels, whatever a pixel measures along each axis.
"""

import functools
import threading
from collections.abc import Callable, Iterator

import numpy as np
from scipy import ndimage

from unet_jax.arrays import label_components
from unet_jax.data.account import Record
from unet_jax.data.source import Source
from unet_jax.errors import UserError
from unet_jax.specs import NonNegative, Positive

__all__ = ["border", "frequency", "uniform"]

Count = Callable[[], np.ndarray]  # -> [K]


def uniform(
    label: np.ndarray,
    instances: np.ndarray | None = None,
    count: Count | None = None,
) -> np.ndarray:
    """Every annotated pixel counts the same: `f32[*S]` of 1, and 0 where ignored."""
    del instances, count
    return (label >= 0).astype(np.float32)


def frequency(
    label: np.ndarray,
    instances: np.ndarray | None = None,
    count: Count | None = None,
    *,
    power: NonNegative = 1.0,
    shares: tuple[NonNegative, ...] = (),
) -> np.ndarray:
    """Rare classes count more, by their share of the whole training set.

    `w_k = s_k^-power / sum_j s_j^(1 - power)`, which has mean 1 over the training set.
    With power 1 every class has the same sum, w_c of Ronneberger et al. 2015,
    equation 2; with 1/2 the rare ones are lifted half as far, on a log scale; with 0
    all pixels count the same. A class that the training set lacks has weight 1.

    Args:
      label: class ids `i32[*S]`.
      instances: of no use here.
      count: counts the pixels of each class in the training set.
      power: how strongly.
      shares: the s_k, by class id, in place of a count; only their ratios matter.

    Raises:
      UserError: there is no share for a class, or all are 0.
    """
    del instances
    if not shares and count is None:
        raise UserError("frequency needs shares, such as (0.9, 0.1)")
    total = np.asarray(shares or count(), np.float64)
    most = label.max(initial=0)
    if most >= len(total):
        raise UserError(f"shares must have a number for each class, here {most + 1}")
    if not total.any():
        raise UserError("shares are all 0: no pixel of the training set is annotated")
    weight = _inverse(total / total.sum(), power)[np.maximum(label, 0)]
    return np.where(label >= 0, weight, 0).astype(np.float32)


def border(
    label: np.ndarray,
    instances: np.ndarray | None = None,
    count: Count | None = None,
    *,
    w0: NonNegative = 10.0,
    sigma: Positive = 5.0,
    balance: bool = True,
) -> np.ndarray:
    """Asks for the background between two cells: Ronneberger et al. 2015, equation 2.

    `w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2))`, where d1 and d2 are the
    distances to the nearest and the second nearest cell. The paper leaves d1 open
    inside a cell; its figure 3d is flat there, so the second term is for background
    only. A pixel next to a cell is 1 away from it.

    Args:
      label: class ids `i32[*S]`; without `instances`, the cells are the components of
        each class above 0, connected through faces: a background line one pixel wide,
        even a diagonal one, parts two cells.
      instances: object ids `i32[*S]`; cells that touch stay two.
      count: of no use here.
      w0: the height of the second term.
      sigma: its width in pixels.
      balance: w_c is inverse to the class's share of this image, with mean 1 over its
        annotated pixels (the paper takes shares of the training set); otherwise 1.

    Returns:
      The weight `f32[*S]`.
    """
    del count
    cells = label_components(label) if instances is None else np.maximum(instances, 0)
    nearest, second = _two_distances(cells, reach=5 * sigma)
    term = w0 * np.exp(-((nearest + second) ** 2) / (2 * sigma**2))
    weight = _balance(label) if balance else np.ones(label.shape)
    weight += np.where(label == 0, term, 0)
    return np.where(label >= 0, weight, 0).astype(np.float32)


def shown(label: np.ndarray, axes: int) -> np.ndarray:
    """The class ids `i32[*S]` that weights are made of.

    Of a label with a class axis, `i32[*S, K]`: 1 where any class is, -1 where all are
    ignored.
    """
    if label.ndim == axes:
        return label
    ignored = (label < 0).all(axis=-1)
    return np.where(ignored, -1, (label > 0).any(axis=-1)).astype(np.int32)


def _label(record: Record) -> np.ndarray:
    """The label of a record; without one its objects are of class 1."""
    label = record.get("label")
    return np.asarray(record["instances"] > 0 if label is None else label, np.int32)


def counter(source: Source) -> Count:
    """What counts the pixels, `i64[K]`, of the class ids that all records show.

    Where the source has not counted them itself, every label is loaded, once, when
    they are first asked for. The pixels are those of the files.
    """
    classes = len(source.classes)
    lock = threading.Lock()  # threads that ask at once shall not all count

    @functools.cache
    def count() -> np.ndarray:
        first = source.load(0)
        exclusive = _label(first).ndim < first["image"].ndim
        if source.pixels is not None and exclusive:
            return np.array([source.pixels.get(k, 0) for k in range(classes)])
        total = np.zeros(classes, np.int64)
        for record in map(source.load, range(source.length)):
            ids = shown(_label(record), record["image"].ndim - 1)
            total += np.bincount(ids[ids >= 0], minlength=classes)[:classes]
        return total

    def counted() -> np.ndarray:
        with lock:
            return count()

    return counted


def _inverse(shares: np.ndarray, power: float) -> np.ndarray:
    """`f64[K]` of shares `f64[K]`; 1 where the share is 0."""
    there = shares > 0
    weight = np.ones(len(shares))
    weight[there] = shares[there] ** -power
    weight[there] /= (shares[there] * weight[there]).sum()
    return weight


def _two_distances(cells: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """The distances to the nearest and the second nearest cell, inf beyond `reach`.

    One cell is seen only in its bounding box and `reach` around it, which costs its
    own size and not the image's; at 5 sigma the term is below 4e-6 w0.
    """
    nearest = np.full(cells.shape, np.inf)
    second = nearest.copy()
    for number, box in _boxes(cells, int(np.ceil(reach))):
        distance = ndimage.distance_transform_edt(cells[box] != number)
        loser = np.maximum(nearest[box], distance)
        second[box] = np.minimum(second[box], loser)
        nearest[box] = np.minimum(nearest[box], distance)
    return nearest, second


def _boxes(cells: np.ndarray, pad: int) -> Iterator[tuple[int, tuple[slice, ...]]]:
    """Each cell's number and its bounding box, padded within the image."""
    for number, box in enumerate(ndimage.find_objects(cells), start=1):
        if box is not None:
            yield number, tuple(slice(max(s.start - pad, 0), s.stop + pad) for s in box)


def _balance(label: np.ndarray) -> np.ndarray:
    """`f64[*S]` with the same sum over every class that is there, and mean 1."""
    weight = np.zeros(label.shape)
    classes, counts = np.unique(label[label >= 0], return_counts=True)
    for k, count in zip(classes, counts, strict=True):
        weight[label == k] = counts.sum() / (len(classes) * count)
    return weight
