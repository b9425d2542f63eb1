"""Counts of objects that are missed, invented, merged or split."""

from typing import NamedTuple

import numpy as np

from unet_jax.metrics.metric import EvaluatedImage
from unet_jax.metrics.objects import measure_overlaps

MATCH = 0.5  # the smallest IoU of an object that is found


class ObjectErrors(NamedTuple):
    """The numbers of objects and of the errors in them.

    A predicted object *merges* if it covers more than half of each of several true
    objects; a true object is *split* if it contains more than half of each of several
    predicted ones (the majority overlap of Matula et al. 2015, in both directions). An
    object is *missed* or *invented* if no object of the other side has an IoU of at
    least 0.5 with it, and it takes no part in a merge or a split. So one mistake is
    counted once.

    Attributes:
      true: the number of true objects.
      predicted: the number of predicted objects.
      missed: true objects that are not found.
      invented: predicted objects that are no true one.
      merged: predicted objects that merge several true ones.
      split: true objects that are split into several predicted ones.
    """

    true: int
    predicted: int
    missed: int
    invented: int
    merged: int
    split: int


def count_object_errors(image: EvaluatedImage) -> np.ndarray:
    """Counts the objects of an image in annotated pixels, `i64[6]`.

    The numbers are those of `ObjectErrors`, in that order; images can be summed.
    """
    true, predicted, row, column, shared, iou = measure_overlaps(image)
    covered, contained = 2 * shared > true[row], 2 * shared > predicted[column]
    merges = np.bincount(column[covered], minlength=predicted.size) > 1
    splits = np.bincount(row[contained], minlength=true.size) > 1
    explained_row = (iou >= MATCH) | (covered & merges[column])
    explained_column = (iou >= MATCH) | (contained & splits[row])
    found = splits.copy()
    found[row[explained_row]] = True
    real = merges.copy()
    real[column[explained_column]] = True
    return np.array(
        ObjectErrors(
            true=true.size,
            predicted=predicted.size,
            missed=int(np.count_nonzero(~found)),
            invented=int(np.count_nonzero(~real)),
            merged=int(np.count_nonzero(merges)),
            split=int(np.count_nonzero(splits)),
        )
    )
