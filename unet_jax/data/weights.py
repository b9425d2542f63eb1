"""How much each pixel counts in the loss: weight maps, made once on the host.

Each function takes a label `i32[*S]` of class ids (negative = ignored) and, where the
data set has them, object ids `i32[*S]` (0 = background). It returns `f32[*S]`, zero on
ignored pixels. Distances are in pixels, whatever a pixel measures along each axis.
"""

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from unet_jax.arrays import components
from unet_jax.specs import NonNegative, Positive

__all__ = ["border", "uniform"]


def uniform(label: np.ndarray, instances: np.ndarray | None = None) -> np.ndarray:
    """Every annotated pixel counts the same: `f32[*S]` of 1, and 0 where ignored."""
    del instances
    return (label >= 0).astype(np.float32)


def border(
    label: np.ndarray,
    instances: np.ndarray | None = None,
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
      w0: the height of the second term.
      sigma: its width in pixels.
      balance: w_c is inverse to the class's share of this image, with mean 1 over its
        annotated pixels (the paper takes shares of the training set); otherwise 1.

    Returns:
      The weight `f32[*S]`.
    """
    cells = components(label) if instances is None else np.maximum(instances, 0)
    nearest, second = _two_distances(cells, reach=5 * sigma)
    term = w0 * np.exp(-((nearest + second) ** 2) / (2 * sigma**2))
    weight = _balance(label) if balance else np.ones(label.shape)
    weight += np.where(label == 0, term, 0)
    return np.where(label >= 0, weight, 0).astype(np.float32)


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
