"""Weight maps: the weight of each pixel in the loss, made once on the host.

Each function takes a label `i32[*S]` of class ids (negative = ignored), object ids
`i32[*S]` (0 = background) if the data set has them, and a function that counts the
pixels of each class in the training set. It returns `f32[*S]`, zero on ignored pixels.
Distances are in pixels; the spacing is not used.
"""

import functools
import threading
from collections.abc import Callable

import numpy as np
from scipy import ndimage

from unet_jax.arrays import label_components
from unet_jax.data.record import Record
from unet_jax.data.source import Source
from unet_jax.errors import UserError
from unet_jax.specs import NonNegative, Positive

__all__ = ["border", "frequency", "uniform"]

CountPixels = Callable[[], np.ndarray]  # -> pixels of each class, [K]


def uniform(
    label: np.ndarray,
    instances: np.ndarray | None = None,
    count: CountPixels | None = None,
) -> np.ndarray:
    """Gives every annotated pixel the weight 1, and ignored pixels 0: `f32[*S]`."""
    del instances, count
    return (label >= 0).astype(np.float32)


def frequency(
    label: np.ndarray,
    instances: np.ndarray | None = None,
    count: CountPixels | None = None,
    *,
    power: NonNegative = 1.0,
    shares: tuple[NonNegative, ...] = (),
) -> np.ndarray:
    """Gives rare classes a larger weight, from their shares of the training set.

    `w_k = s_k^-power / sum_j s_j^(1 - power)`, which has mean 1 over the training set.
    With power 1 every class has the same total weight, w_c of Ronneberger et al. 2015,
    equation 2; with power 0 all pixels have weight 1; 1/2 is halfway between them on a
    log scale. A class that is not in the training set has weight 1.

    Args:
      label: class ids `i32[*S]`.
      instances: not used.
      count: counts the pixels of each class in the training set.
      power: the exponent of the inverse shares.
      shares: the s_k, by class id, instead of a count; only their ratios matter.

    Returns:
      The weight `f32[*S]`.

    Raises:
      UserError: a class has no share, or all shares are 0.
    """
    del instances
    if shares:
        total = np.asarray(shares, np.float64)
    elif count is None:
        raise UserError("frequency needs shares, such as (0.9, 0.1)")
    else:
        total = np.asarray(count(), np.float64)
    most = label.max(initial=0)
    if most >= len(total):
        raise UserError(f"shares must have a number for each class, here {most + 1}")
    if not total.any():
        raise UserError("shares are all 0: no pixel of the training set is annotated")
    share = total / total.sum()
    there, of_class = share > 0, np.ones(len(share))
    of_class[there] = share[there] ** -power
    of_class[there] /= (share[there] * of_class[there]).sum()
    return np.where(label >= 0, of_class[np.maximum(label, 0)], 0).astype(np.float32)


def border(
    label: np.ndarray,
    instances: np.ndarray | None = None,
    count: CountPixels | None = None,
    *,
    w0: NonNegative = 10.0,
    sigma: Positive = 5.0,
    balance: bool = True,
) -> np.ndarray:
    """Gives the background between two cells a larger weight.

    `w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2))`, Ronneberger et al. 2015,
    equation 2, where d1 and d2 are the distances to the nearest and the second nearest
    cell. The paper does not define d1 inside a cell; its figure 3d is flat there, so
    the second term is used for background only. A pixel next to a cell has distance 1.

    Args:
      label: class ids `i32[*S]`. Without `instances`, the cells are the components of
        each class above 0, connected through faces: a background line of one pixel,
        even a diagonal one, separates two cells.
      instances: object ids `i32[*S]`; cells that touch stay separate.
      count: not used.
      w0: the height of the second term.
      sigma: its width in pixels.
      balance: True makes w_c inverse to the share of the class in this image, with mean
        1 over annotated pixels (the paper uses shares of the training set); False makes
        it 1.

    Returns:
      The weight `f32[*S]`.
    """
    del count
    cells = label_components(label) if instances is None else np.maximum(instances, 0)
    nearest, second = _two_distances(cells, reach=5 * sigma)
    border_term = w0 * np.exp(-((nearest + second) ** 2) / (2 * sigma**2))
    weight = _balance(label) if balance else np.ones(label.shape)
    weight += np.where(label == 0, border_term, 0)
    return np.where(label >= 0, weight, 0).astype(np.float32)


def exclusive_ids(label: np.ndarray, axes: int) -> np.ndarray:
    """Returns the class ids `i32[*S]` from which weights are made.

    A label with a class axis, `i32[*S, K]`, becomes 1 in pixels of any class, and -1
    where all classes are ignored.

    Args:
      label: `i32[*S]` or `i32[*S, K]`.
      axes: the number of spatial axes.
    """
    if label.ndim == axes:
        return label
    ignored = (label < 0).all(axis=-1)
    return np.where(ignored, -1, (label > 0).any(axis=-1)).astype(np.int32)


def _label(record: Record) -> np.ndarray:
    """Returns the label of a record; without one, its objects are of class 1."""
    label = record.get("label")
    return np.asarray(record["instances"] > 0 if label is None else label, np.int32)


def pixel_counter(source: Source) -> CountPixels:
    """Returns a function that counts the pixels of each class, `i64[K]`.

    If the source has not counted them, the function loads every label at its first
    call. Pixels are those of the files, before resampling.
    """
    classes = len(source.classes)
    lock = threading.Lock()  # so that only one of several threads counts

    @functools.cache
    def count() -> np.ndarray:
        if source.pixels is not None and not source.independent:
            return np.array([source.pixels.get(k, 0) for k in range(classes)])
        total = np.zeros(classes, np.int64)
        for record in map(source.load, range(source.length)):
            ids = exclusive_ids(_label(record), record["image"].ndim - 1)
            total += np.bincount(ids[ids >= 0], minlength=classes)[:classes]
        return total

    def counted() -> np.ndarray:
        with lock:
            return count()

    return counted


def _two_distances(cells: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns distances to the nearest and second nearest cell, inf beyond `reach`.

    The distances to a cell are computed in its bounding box padded by `reach`, so that
    the cost depends on the cell's size and not on the image's. At 5 sigma the second
    term is below 4e-6 w0.
    """
    nearest = np.full(cells.shape, np.inf)
    second, pad = nearest.copy(), int(np.ceil(reach))
    for number, tight in enumerate(ndimage.find_objects(cells), start=1):
        if tight is None:
            continue
        box = tuple(slice(max(s.start - pad, 0), s.stop + pad) for s in tight)
        distance = ndimage.distance_transform_edt(cells[box] != number)
        loser = np.maximum(nearest[box], distance)
        second[box] = np.minimum(second[box], loser)
        nearest[box] = np.minimum(nearest[box], distance)
    return nearest, second


def _balance(label: np.ndarray) -> np.ndarray:
    """Returns `f64[*S]` with the same sum over every present class, and mean 1."""
    weight = np.zeros(label.shape)
    classes, counts = np.unique(label[label >= 0], return_counts=True)
    for k, count in zip(classes, counts, strict=True):
        weight[label == k] = counts.sum() / (len(classes) * count)
    return weight
