import time

import numpy as np
import pytest
from scipy import ndimage

from unet_jax.data import weights
from unet_jax.data.source import Source
from unet_jax.errors import UserError


def formula(label, instances, w0, sigma):
    """Equation 2 as it is written: one whole-image distance for each cell."""
    away = [
        ndimage.distance_transform_edt(instances != i)
        for i in np.unique(instances)
        if i > 0
    ]
    d1, d2 = np.sort(away, axis=0)[:2]
    return np.where(label == 0, w0 * np.exp(-((d1 + d2) ** 2) / (2 * sigma**2)), 0)


def blobs(shape, count, radius, seed):
    rng = np.random.default_rng(seed)
    seeds = np.ones(shape, bool)
    seeds[tuple(rng.integers(0, s, count) for s in shape)] = False
    return (ndimage.distance_transform_edt(seeds) < radius).astype(np.int32)


def test_two_cells_of_one_pixel_by_hand():
    label = np.array([[1, 0, 0, 1]], np.int32)
    between = 10 * np.exp(-(3**2) / (2 * 5**2))  # d1 = 1, d2 = 2
    want = [[1, 1 + between, 1 + between, 1]]  # two pixels a class: w_c = 1
    np.testing.assert_allclose(weights.border(label), want, rtol=1e-6)


def test_touching_instances_are_two_cells():
    label = np.array([1, 1, 1, 1, 0], np.int32)
    ids = np.array([7, 7, 3, 3, 0], np.uint16)
    got = weights.border(label, ids, w0=1.0, sigma=2.0, balance=False)
    want = [1, 1, 1, 1, 1 + np.exp(-((1 + 3) ** 2) / (2 * 2**2))]
    np.testing.assert_allclose(got, want, rtol=1e-6)
    np.testing.assert_array_equal(weights.border(label, balance=False), np.ones(5))


def test_cells_are_components_of_each_class_connected_through_faces():
    far = [[0, 0, 0]]
    diagonal = np.array([[1, 0, 0], [0, 1, 0], *far], np.int32)
    touching = np.array([[1, 2, 0], *far], np.int32)
    for label in (diagonal, touching):
        assert weights.border(label, balance=False)[-1, -1] > 1.0


@pytest.mark.parametrize("shape", [(70, 90), (24, 30, 28)])
@pytest.mark.parametrize("given", [True, False])
def test_border_is_the_formula(shape, given):
    label = blobs(shape, 14, 4, seed=0)
    instances = ndimage.label(label)[0]
    assert instances.max() > 3
    got = weights.border(
        label, instances if given else None, w0=8.0, sigma=3.0, balance=False
    )
    want = 1 + formula(label, instances, 8.0, 3.0)
    np.testing.assert_allclose(got, want, atol=4e-6 * 8.0)


def test_balance_gives_each_class_the_same_sum_and_mean_one():
    label = np.array([0, 0, 0, 0, 0, 1, 1, 2, -1, -1], np.int32)
    weight = weights.border(label, w0=0.0)
    np.testing.assert_allclose(weight[:8], [8 / 15] * 5 + [8 / 6] * 2 + [8 / 3])
    assert weight[label >= 0].mean() == pytest.approx(1)


@pytest.mark.parametrize(
    "function",
    [weights.uniform, weights.border, lambda x: weights.frequency(x, shares=(1, 9))],
)
def test_ignored_pixels_weigh_nothing(function):
    label = np.array([[1, 0, -1, 0, 1]], np.int32)
    weight = function(label)
    assert weight.dtype == np.float32
    np.testing.assert_array_equal(weight > 0, label >= 0)
    assert not function(np.full((3, 3), -1, np.int32)).any()


@pytest.mark.parametrize("cells", [0, 1])
def test_with_fewer_than_two_cells_there_is_no_border(cells):
    label = np.zeros((9, 9), np.int32)
    label[4, 4] = cells
    np.testing.assert_array_equal(weights.border(label, balance=False), 1)


def test_flips_go_with_the_image():
    label = blobs((40, 50), 9, 4, seed=1)
    np.testing.assert_array_equal(
        weights.border(label[::-1, ::-1]), weights.border(label)[::-1, ::-1]
    )


def test_many_cells_are_fast():
    label = np.zeros((512, 512), np.int32)
    label[10::40, 10::40] = 1
    label = ndimage.binary_dilation(label, iterations=12).astype(np.int32)
    assert ndimage.label(label)[1] == 169
    start = time.process_time()
    weights.border(label)
    assert time.process_time() - start < 0.3  # one distance per image and cell: > 1 s


def test_frequencies_by_hand():
    label = np.array([0, 0, 1, 2, -1], np.int32)

    def count():
        return np.array([60, 30, 10])

    got = weights.frequency(label, None, count)
    np.testing.assert_allclose(got, [5 / 9, 5 / 9, 10 / 9, 10 / 3, 0], rtol=1e-6)
    written = weights.frequency(label, shares=(0.6, 0.3, 0.1))
    np.testing.assert_array_equal(written, got)
    np.testing.assert_array_equal(weights.frequency(label, shares=(6, 3, 1)), got)
    even = weights.frequency(label, None, count, power=0.0)
    np.testing.assert_array_equal(even, [1, 1, 1, 1, 0])
    root = weights.frequency(label, None, count, power=0.5)
    np.testing.assert_allclose(root[3] / root[0], np.sqrt(6), rtol=1e-6)
    for weight in (got, root):  # mean 1 over the training set
        assert weight[[0, 2, 3]] @ [0.6, 0.3, 0.1] == pytest.approx(1)


def test_a_class_that_is_never_there_divides_nothing_by_zero():
    label = np.array([0, 1, 2], np.int32)
    with np.errstate(all="raise"):
        got = weights.frequency(label, shares=(0.5, 0.0, 0.5))
    np.testing.assert_array_equal(got, [1, 1, 1])


@pytest.mark.parametrize(
    ("shares", "words"),
    [((0.5, 0.5), "a number for each class, here 3"), ((0.0,) * 3, "all 0")],
)
def test_shares_that_cannot_be_are_refused(shares, words):
    with pytest.raises(UserError, match=words):
        weights.frequency(np.array([0, 2]), shares=shares)


def test_pixels_are_counted_once_and_only_where_nobody_has():
    calls = []
    labels = [np.array([[0, 0, 2]]), np.array([[2, -1, 0]])]

    def load(i):
        calls.append(i)
        return {"image": np.zeros((1, 3, 1)), "label": labels[i], "id": f"r{i}"}

    source = Source("s", ("a", "b", "c"), (), 1, 2, load)
    count = weights.pixel_counter(source)
    assert calls == []
    for _ in range(2):
        np.testing.assert_array_equal(count(), [3, 0, 2])
    assert set(calls) == {0, 1}
    assert len(calls) == 2
    counted = weights.pixel_counter(source._replace(pixels={-1: 9, 0: 5, 2: 7}))
    np.testing.assert_array_equal(counted(), [5, 0, 7])
    channels = [np.array([[[0, 1], [1, 1], [0, 0]]]), np.array([[[-1, -1]] * 3])]
    labels[:] = channels  # shown to the weights as: 1 1 0, and nothing
    counted = weights.pixel_counter(
        source._replace(pixels={0: 1, 1: 1, 2: 2}, independent=True)
    )
    np.testing.assert_array_equal(counted(), [1, 2, 0])
