"""Post-processing of a segmentation: corrections, and the search for objects.

A function that corrects is `(segmentation, probabilities, *, <options>) ->
Segmentation`. A function that finds objects is `(label, probabilities, *, <options>) ->
Segmentation`; it is for tasks that do not find objects themselves.

The probabilities are `f32[*S, K]`. With exclusive classes, the background is the first
channel. With independent classes it has no channel, and each class is corrected
separately. The pixels of a component, or of a hole, are connected through faces.

Objects cover exactly the foreground, that is every class above 0. The functions that
run after the objects are found preserve this.
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

LEVELS = 256  # steps of the watershed between the probabilities 0 and 1
OUTSIDE = np.float32(-np.inf)  # the height of a pixel that the watershed never reaches

Function = Callable[..., Segmentation]


def largest_component(
    segmentation: Segmentation, probabilities: np.ndarray
) -> Segmentation:
    """Keeps the largest component of each class; the rest becomes background.

    Of several components with the same size, the first in the array is kept.
    """

    def is_largest(sizes: np.ndarray) -> np.ndarray:
        return np.arange(len(sizes)) == sizes.argmax()

    correct = functools.partial(_keep_components, keep=is_largest)
    label = _apply_per_class(correct, segmentation.label, probabilities)
    return _mask_objects(label, segmentation.objects, probabilities)


def remove_small(
    segmentation: Segmentation, probabilities: np.ndarray, *, pixels: Count = 64
) -> Segmentation:
    """Turns small objects into background.

    If the objects have not been found yet, it removes the small components of each
    class.

    Args:
      segmentation: to correct.
      probabilities: `f32[*S, K]`.
      pixels: the size of the smallest object or component that is kept.
    """

    def is_large(sizes: np.ndarray) -> np.ndarray:
        return sizes >= pixels

    label, objects = segmentation
    if objects is None:
        correct = functools.partial(_keep_components, keep=is_large)
        return Segmentation(_apply_per_class(correct, label, probabilities))
    kept = is_large(np.bincount(objects.ravel()))[objects]
    label = np.where(kept if label.ndim == kept.ndim else kept[..., None], label, 0)
    return _mask_objects(label, objects, probabilities)


def fill_holes(segmentation: Segmentation, probabilities: np.ndarray) -> Segmentation:
    """Fills holes: background that one class encloses becomes that class.

    A hole touches neither the edge of the image nor a second class. If the objects have
    been found, its pixels become part of the nearest object.
    """
    label = _apply_per_class(_fill_label, segmentation.label, probabilities)
    objects = segmentation.objects
    if objects is not None and objects.any():
        nearest = ndimage.distance_transform_edt(
            objects == 0, return_distances=False, return_indices=True
        )
        objects = objects[tuple(nearest)]
    return _mask_objects(label, objects, probabilities)


def components(label: np.ndarray, probabilities: np.ndarray) -> Segmentation:
    """Makes an object of each component of each class above 0.

    Independent classes may overlap, and objects may not. So with independent classes,
    the objects are the components of the union of all classes.
    """
    independent = label.ndim == probabilities.ndim
    return Segmentation(label, find_foreground_objects(label, independent=independent))


def watershed(
    label: np.ndarray,
    probabilities: np.ndarray,
    *,
    seed: Proportion = 0.8,
    pixels: Count = 16,
    border: Whole = 0,
) -> Segmentation:
    """Divides the foreground into objects where its probability is low between them.

    The objects grow from their seeds, the components with a probability above `seed`,
    over the foreground. They grow from high probability to low (Beucher and Lantuéjoul
    1979), in steps of 1 / 256, and within a step one pixel at a time. If two objects
    reach a pixel at once, it belongs to the one with the higher probability beside the
    pixel, then to the one with the lower id. A component of the foreground without a
    seed becomes one object.

    Args:
      label: `i32[*S]` or `i32[*S, K]`; it is returned unchanged.
      probabilities: `f32[*S, K]`. The probability of the foreground is the sum over the
        exclusive classes above 0, or the maximum over independent classes.
      seed: the probability above which a pixel is part of a seed.
      pixels: the size of the smallest seed. Smaller peaks make no object.
      border: the id of a class that marks borders between objects; 0: there is none.
        Its probability is subtracted from that of the other classes, and its pixels are
        divided among the objects.

    Raises:
      UserError: `border` is not a class, or it is the only one.
    """
    foreground = _find_foreground(label, probabilities)
    height = _compute_height(probabilities, label.ndim == probabilities.ndim, border)
    seeds = (foreground & (height > seed)).astype(np.int32)
    is_seed = _keep_components(seeds, lambda sizes: sizes >= pixels) > 0
    parts, count = ndimage.label(foreground)
    has_seed = np.zeros(count + 1, bool)
    has_seed[parts[is_seed]] = True
    is_seed |= foreground & ~has_seed[parts]
    seeds, _ = ndimage.label(is_seed)
    return Segmentation(label, _flood(seeds, np.where(foreground, height, OUTSIDE)))


def chain_functions(functions: Sequence[Function]) -> Function:
    """Returns the function that applies all of these, the first one first.

    At the end, the remaining objects are numbered 1, 2, 3, ...
    """

    def postprocess(
        segmentation: Segmentation, probabilities: np.ndarray
    ) -> Segmentation:
        for function in functions:
            argument = segmentation.label if finds_objects(function) else segmentation
            segmentation = function(argument, probabilities)
        label, objects = segmentation
        if objects is None:
            return segmentation
        exists = np.bincount(objects.ravel(), minlength=1) > 0
        exists[0] = False
        numbers = (exists.cumsum() * exists).astype(np.int32)
        return Segmentation(label, numbers[objects])

    return postprocess


def finds_objects(function: Function) -> bool:
    """Returns True if a function finds the objects of a label."""
    return next(iter(inspect.signature(function).parameters)) == "label"


def find_foreground_objects(
    label: np.ndarray, *, independent: bool = False
) -> np.ndarray:
    """Returns object ids `i32[*S]`: the components of each class above 0.

    Args:
      label: `i32[*S]`, or `i32[*S, K]` of independent classes.
      independent: True for independent classes. Their objects are the components of the
        union of all classes.
    """
    if independent:
        label = np.asarray((label > 0).any(-1))
    return arrays.label_components(label)


def _find_foreground(label: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Returns `bool[*S]`: True for every class but the background."""
    foreground = label > 0
    independent = label.ndim == probabilities.ndim
    return np.asarray(foreground.any(-1)) if independent else foreground


def _mask_objects(
    label: np.ndarray, objects: np.ndarray | None, probabilities: np.ndarray
) -> Segmentation:
    """Returns the label with the objects, if any, restricted to its foreground."""
    if objects is not None:
        objects = np.where(_find_foreground(label, probabilities), objects, 0)
    return Segmentation(label, objects)


def _apply_per_class(
    correct: Callable[[np.ndarray], np.ndarray],
    label: np.ndarray,
    probabilities: np.ndarray,
) -> np.ndarray:
    """Corrects a label `i32[*S]`, or each of the K channels of independent classes."""
    if label.ndim < probabilities.ndim:
        return correct(label)
    classes = range(label.shape[-1])
    return np.stack([correct(label[..., k]) for k in classes], axis=-1)


def _keep_components(
    label: np.ndarray, keep: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Keeps the components for which `keep`, given the sizes of all, is True."""
    kept = np.zeros_like(label)
    for k in np.unique(label[label > 0]):
        parts, _ = ndimage.label(label == k)
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0  # the pixels of other classes
        kept[keep(sizes)[parts] & (parts > 0)] = k
    return kept


def _fill_label(label: np.ndarray) -> np.ndarray:
    """Fills the components of the background that touch one class and no edge."""
    padded = np.pad(label, 1)
    holes, count = ndimage.label(padded == 0)
    neighbour, neighbours = np.zeros((2, count + 1), label.dtype)
    for k in np.unique(label[label > 0]):
        touched = np.unique(holes[ndimage.binary_dilation(padded == k)])
        neighbour[touched] = k
        neighbours[touched] += 1
    outside = holes.flat[0]
    neighbour[(neighbours != 1) | np.isin(np.arange(count + 1), (0, outside))] = 0
    inner = (slice(1, -1),) * label.ndim
    return np.where(label == 0, neighbour[holes[inner]], label)


def _compute_height(
    probabilities: np.ndarray, independent: bool, border: int
) -> np.ndarray:
    """Returns `f32[*S]`: the probability of the foreground, less that of the border."""
    classes = probabilities if independent else probabilities[..., 1:]
    if border == 0:
        return classes.max(-1) if independent else classes.sum(-1)
    count = classes.shape[-1]
    if border > count or count == 1:
        raise UserError(
            f"border={border} must be a class from 1 to {count}, and not the only one; "
            "set it to 0 if no class marks borders"
        )
    inside = np.delete(classes, border - 1, axis=-1)
    inside = inside.max(-1) if independent else inside.sum(-1)
    return inside - classes[..., border - 1]


def _flood(seeds: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Grows the seeds through faces, one pixel a round, from high to low.

    A round takes the pixels that border on an object and whose height is not below the
    current level. The level falls when there are none. A pixel gets the object of its
    highest neighbour.
    """
    no_object = seeds.max(initial=0) + 1
    objects = np.pad(seeds, 1)
    strides = np.array(objects.strides) // objects.itemsize
    offsets = np.concatenate([-strides, strides])  # to neighbours in the flat array
    shape, objects = objects.shape, objects.ravel()
    height = np.pad(height, 1, constant_values=OUTSIDE).ravel()
    levels = np.floor(LEVELS * height)

    def find_neighbours(pixels: np.ndarray) -> np.ndarray:
        beside = (pixels[:, None] + offsets).ravel()
        return np.unique(beside[(objects[beside] == 0) & (height[beside] > OUTSIDE)])

    waiting = find_neighbours(np.flatnonzero(objects))
    level = np.inf
    while waiting.size:
        level = min(level, levels[waiting].max())
        reached = levels[waiting] >= level
        front, waiting = waiting[reached], waiting[~reached]
        beside = front[:, None] + offsets
        reach = np.where(objects[beside] > 0, height[beside], OUTSIDE)
        best = reach == reach.max(-1, keepdims=True)
        objects[front] = np.where(best, objects[beside], no_object).min(-1)
        waiting = np.union1d(waiting, find_neighbours(front))
    return objects.reshape(shape)[(slice(1, -1),) * seeds.ndim]
