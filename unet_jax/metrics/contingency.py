"""How many pixels each true segment shares with each predicted one."""

import numpy as np
from scipy import sparse


def cross_tabulate(truth: np.ndarray, prediction: np.ndarray) -> sparse.csr_array:
    """Counts the pairs of ids at the same pixel: a sparse `i64[1 + max, 1 + max]`.

    Args:
      truth: `int[N]` of 0 or more.
      prediction: the same.
    """
    ones = np.ones(truth.size, np.int64)
    shape = (truth.max(initial=-1) + 1, prediction.max(initial=-1) + 1)
    pairs = sparse.coo_array((ones, (truth, prediction)), shape=shape).tocsr()
    pairs.sum_duplicates()
    return pairs


def renumber(ids: np.ndarray) -> np.ndarray:
    """Renumbers ids of any size, 0 as well, to 0, 1, 2, ... in the same order."""
    return np.unique(ids, return_inverse=True)[1].reshape(ids.shape)
