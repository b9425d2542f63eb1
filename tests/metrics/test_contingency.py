import numpy as np

from unet_jax.metrics.contingency import cross_tabulate, renumber


def test_a_contingency_table_by_hand():
    truth, prediction = np.array([0, 2, 2, 2, 0]), np.array([1, 1, 0, 1, 0])
    np.testing.assert_array_equal(
        cross_tabulate(truth, prediction).toarray(), [[1, 1], [0, 0], [1, 2]]
    )
    nothing = np.zeros(0, int)
    assert cross_tabulate(nothing, nothing).shape == (0, 0)


def test_ids_are_renumbered_in_order():
    ids = np.array([[10**9, 0], [7, 10**9]])
    np.testing.assert_array_equal(renumber(ids), [[2, 0], [1, 2]])
