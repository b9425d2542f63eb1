"""The contingency table of a true and a predicted segmentation."""

import numpy as np
from scipy import sparse


def cross_tabulate(truth: np.ndarray, prediction: np.ndarray) -> sparse.csr_array:
    """Counts the pixels of each pair of a true and a predicted id.

    Args:
      truth: `int[N]`, ids of 0 or more.
      prediction: `int[N]`, ids of 0 or more.

    Returns:
      A sparse `i64[1 + max(truth), 1 + max(prediction)]`.
    """
    ones = np.ones(truth.size, np.int64)
    shape = (truth.max(initial=-1) + 1, prediction.max(initial=-1) + 1)
    pairs = sparse.coo_array((ones, (truth, prediction)), shape=shape).tocsr()
    pairs.sum_duplicates()
    return pairs


def renumber(ids: np.ndarray) -> np.ndarray:
    """Replaces the ids, 0 included, by 0, 1, 2, ... in the same order."""
    return np.unique(ids, return_inverse=True)[1].reshape(ids.shape)
