"""Corrections of a segmentation after the network, and its division into objects.

A function that corrects is `(segmentation, probabilities, *, <options>) ->
Segmentation`. A function that finds objects is `(label, probabilities, *, <options>) ->
Segmentation`; it serves tasks that do not find objects themselves.

The probabilities are `f32[*S, K]`, for exclusive classes with the background first, for
independent ones without it; independent classes are corrected one by one. Components
are connected through faces, holes too, for any number of axes.

Once objects are found they cover the foreground, every class above 0, and nothing else;
the functions that come later keep it so.
"""

import functools
import inspect
from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from unet_jax import arrays
from unet_jax.arrays import Segmentation
from unet_jax.errors import UserError
from unet_jax.specs import Count, Proportion, Whole

__all__ = ["components", "fill_holes", "largest_component", "remove_small", "watershed"]

LEVELS = 256  # of probability from 0 to 1, at which the water of watershed halts
DRY = np.float32(-np.inf)  # the height of a pixel that is never flooded


Function = Callable[..., Segmentation]


def largest_component(
    segmentation: Segmentation, probabilities: np.ndarray
) -> Segmentation:
    """Keeps the largest component of each class; the rest becomes background.

    Of several of the same size it keeps the first, in the order of the array.
    """

    def largest(sizes: np.ndarray) -> np.ndarray:
        return np.arange(len(sizes)) == sizes.argmax()

    mend = functools.partial(_choose, chosen=largest)
    label = _each_class(mend, segmentation.label, probabilities)
    return _masked(label, segmentation.objects, probabilities)


def remove_small(
    segmentation: Segmentation, probabilities: np.ndarray, *, pixels: Count = 64
) -> Segmentation:
    """Turns what is smaller than `pixels` into background.

    That is the components of each class or, once objects are found, the objects.
    """

    def enough(sizes: np.ndarray) -> np.ndarray:
        return sizes >= pixels

    label, objects = segmentation
    if objects is None:
        mend = functools.partial(_choose, chosen=enough)
        return Segmentation(_each_class(mend, label, probabilities))
    keep = enough(np.bincount(objects.ravel()))[objects]
    label = np.where(keep if label.ndim == keep.ndim else keep[..., None], label, 0)
    return _masked(label, objects, probabilities)


def fill_holes(segmentation: Segmentation, probabilities: np.ndarray) -> Segmentation:
    """Gives the background that one class encloses to that class.

    Background that reaches the edge of the image or touches a second class is no hole.
    What is filled belongs to the nearest object, if objects are found.
    """
    label = _each_class(_fill, segmentation.label, probabilities)
    objects = segmentation.objects
    if objects is not None and objects.any():
        nearest = ndimage.distance_transform_edt(
            objects == 0, return_distances=False, return_indices=True
        )
        objects = objects[tuple(nearest)]
    return _masked(label, objects, probabilities)


def components(label: np.ndarray, probabilities: np.ndarray) -> Segmentation:
    """Makes every component of a class above 0 an object; touching classes stay apart.

    Independent classes may overlap and objects may not: theirs are the components of
    the pixels that have any class.
    """
    kinds = label
    if label.ndim == probabilities.ndim:
        kinds = _foreground(label, probabilities)
    return Segmentation(label, foreground_objects(kinds))


def watershed(
    label: np.ndarray,
    probabilities: np.ndarray,
    *,
    seed: Proportion = 0.8,
    pixels: Count = 16,
    border: Whole = 0,
) -> Segmentation:
    """Parts the foreground into objects where its probability dips between them.

    The objects grow over the foreground from their seeds, the components above `seed`,
    from high probability to low (Beucher and Lantuéjoul 1979) in steps of 1 / 256. Each
    step takes the nearest pixels first; of two objects that reach a pixel at once it
    goes to the one more probable there, then to the one with the lower id. A component
    of the foreground without a seed is one object.

    Args:
      label: `i32[*S]` or `i32[*S, K]`, which stays as it is.
      probabilities: `f32[*S, K]`. That of the foreground is the sum over exclusive
        classes above 0, and the highest of independent ones.
      seed: the probability above which an object is sure.
      pixels: of the smallest seed; a peak that is smaller makes no object.
      border: the class, counted from 1, that the network was taught to see between
        objects; its probability is then taken off that of the others. Its pixels are
        shared out among the objects. 0 if there is none.

    Raises:
      UserError: `border` is no class, or the only one.
    """
    foreground = _foreground(label, probabilities)
    height = _height(probabilities, label.ndim == probabilities.ndim, border)
    sure = foreground & (height > seed)
    sure = _choose(sure.astype(np.int32), lambda sizes: sizes >= pixels) > 0
    parts, count = ndimage.label(foreground)
    seeded = np.zeros(count + 1, bool)
    seeded[parts[sure]] = True
    sure |= foreground & ~seeded[parts]
    seeds, _ = ndimage.label(sure)
    return Segmentation(label, _flood(seeds, np.where(foreground, height, DRY)))


def chain(functions: Sequence[Function]) -> Function:
    """Returns the function that applies all, the first one first.

    The objects that are left are numbered 1, 2, 3, ... in the end.
    """

    def postprocess(
        segmentation: Segmentation, probabilities: np.ndarray
    ) -> Segmentation:
        for function in functions:
            first = segmentation.label if finds_objects(function) else segmentation
            segmentation = function(first, probabilities)
        label, objects = segmentation
        if objects is None:
            return segmentation
        there = np.bincount(objects.ravel(), minlength=1) > 0
        there[0] = False
        return Segmentation(label, (there.cumsum() * there).astype(np.int32)[objects])

    return postprocess


def finds_objects(function: Function) -> bool:
    """True if a function takes a label and finds its objects."""
    return next(iter(inspect.signature(function).parameters)) == "label"


def foreground_objects(label: np.ndarray, *, independent: bool = False) -> np.ndarray:
    """`i32[*S]`: numbers the components of every class above 0 of a label `i32[*S]`.

    They are the objects where nobody asked for others; touching classes stay apart. Of
    independent classes, `i32[*S, K]`, the components are those of any.
    """
    if independent:
        label = (label > 0).any(-1)
    return arrays.label_components(label)


def _foreground(label: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """`bool[*S]`: where there is any class but the background."""
    return (label > 0).any(-1) if label.ndim == probabilities.ndim else label > 0


def _masked(
    label: np.ndarray, objects: np.ndarray | None, probabilities: np.ndarray
) -> Segmentation:
    """The label, and the objects, if any, only where it has foreground."""
    if objects is not None:
        objects = np.where(_foreground(label, probabilities), objects, 0)
    return Segmentation(label, objects)


def _each_class(
    mend: Callable[[np.ndarray], np.ndarray],
    label: np.ndarray,
    probabilities: np.ndarray,
) -> np.ndarray:
    """Mends a label `i32[*S]`, or each of the K labels of independent classes."""
    if label.ndim < probabilities.ndim:
        return mend(label)
    classes = range(label.shape[-1])
    return np.stack([mend(label[..., k]) for k in classes], axis=-1)


def _choose(
    label: np.ndarray, chosen: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Keeps the components of each class that are chosen by their sizes in pixels."""
    kept = np.zeros_like(label)
    for k in np.unique(label[label > 0]):
        parts, _ = ndimage.label(label == k)
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0  # what is not of class k
        kept[chosen(sizes)[parts] & (parts > 0)] = k
    return kept


def _fill(label: np.ndarray) -> np.ndarray:
    """Fills the components of the background that touch one class and no edge."""
    padded = np.pad(label, 1)
    holes, count = ndimage.label(padded == 0)
    owner, owners = np.zeros((2, count + 1), label.dtype)
    for k in np.unique(label[label > 0]):
        beside = np.unique(holes[ndimage.binary_dilation(padded == k)])
        owner[beside] = k
        owners[beside] += 1
    outside = holes.flat[0]
    owner[(owners != 1) | np.isin(np.arange(count + 1), (0, outside))] = 0
    inner = (slice(1, -1),) * label.ndim
    return np.where(label == 0, owner[holes[inner]], label)


def _height(probabilities: np.ndarray, independent: bool, border: int) -> np.ndarray:
    """`f32[*S]` to flood from the top: the foreground, or what is inside its border."""
    classes = probabilities if independent else probabilities[..., 1:]
    if border == 0:
        return classes.max(-1) if independent else classes.sum(-1)
    count = classes.shape[-1]
    if border > count or count == 1:
        raise UserError(
            f"border is {border} and the classes above 0 are 1 to {count}; name one of "
            "two or more, or 0 for none"
        )
    inside = np.delete(classes, border - 1, axis=-1)
    inside = inside.max(-1) if independent else inside.sum(-1)
    return inside - classes[..., border - 1]


def _flood(seeds: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Grows the seeds over faces, a pixel a round, as far down as the water stands.

    A pixel goes to the highest of the neighbours that have an owner.
    """
    nobody = seeds.max(initial=0) + 1
    owner = np.pad(seeds, 1)
    strides = np.array(owner.strides) // owner.itemsize
    around = np.concatenate([-strides, strides])
    shape, owner = owner.shape, owner.ravel()
    height = np.pad(height, 1, constant_values=DRY).ravel()
    level = np.floor(LEVELS * height)

    def shore(pixels: np.ndarray) -> np.ndarray:
        beside = (pixels[:, None] + around).ravel()
        return np.unique(beside[(owner[beside] == 0) & (height[beside] > DRY)])

    waiting = shore(np.flatnonzero(owner))
    water = np.inf
    while waiting.size:
        water = min(water, level[waiting].max())
        wet = level[waiting] >= water
        front, waiting = waiting[wet], waiting[~wet]
        beside = front[:, None] + around
        reach = np.where(owner[beside] > 0, height[beside], DRY)
        best = reach == reach.max(-1, keepdims=True)
        owner[front] = np.where(best, owner[beside], nobody).min(-1)
        waiting = np.union1d(waiting, shore(front))
    return owner.reshape(shape)[(slice(1, -1),) * seeds.ndim]
