import numpy as np
import pytest
from scipy import ndimage

from unet_jax import metrics
from unet_jax.metrics.warping import _RING, _SIMPLE, warp_towards

CORNERS = np.ones((3, 3))


def error(image):
    """The wrong pixels and the annotated ones."""
    return metrics.warping_error().measure(image).tolist()


def test_simple_points_by_their_definition():
    """One cell touches the pixel by a face and one background touches it at all."""
    for code, simple in enumerate(_SIMPLE):
        ring = np.zeros((3, 3), bool)
        for bit, (row, column) in enumerate(_RING):
            ring[1 + row, 1 + column] = code >> bit & 1
        cells, _ = ndimage.label(ring)
        touching = {cells[0, 1], cells[1, 0], cells[1, 2], cells[2, 1]} - {0}
        outside = ~ring
        outside[1, 1] = False
        _, backgrounds = ndimage.label(outside, CORNERS)
        assert simple == (len(touching) == 1 and backgrounds == 1), f"{code:08b}"


def topology(mask):
    """How many cells, and how many backgrounds, with that beyond the image."""
    mask = np.pad(mask, 1)
    return ndimage.label(mask)[1], ndimage.label(~mask, CORNERS)[1]


@pytest.mark.parametrize("seed", range(8))
def test_a_warp_keeps_the_topology_and_goes_as_far_as_it_can(seed):
    rng = np.random.default_rng(seed)
    source, target = (
        ndimage.gaussian_filter(rng.random((30, 31)), sigma) > 0.5 for sigma in (2, 1)
    )
    warped = warp_towards(source, target)
    assert topology(warped) == topology(source)
    assert (warped != source).any()
    assert not ((warped != source) & (warped != target)).any()
    for point in np.argwhere(warped != target):
        turned = warped.copy()
        turned[tuple(point)] ^= True
        around = np.pad(warped, 1)[point[0] : point[0] + 3, point[1] : point[1] + 3]
        code = sum(
            int(around[1 + row, 1 + column]) << bit
            for bit, (row, column) in enumerate(_RING)
        )
        assert not _SIMPLE[code]


def test_a_volume_is_warped_slice_by_slice():
    rng = np.random.default_rng(0)
    source, target = ndimage.gaussian_filter(rng.random((2, 4, 15, 16)), (0, 0, 1, 1))
    source, target = source > 0.5, target > 0.5
    slices = [warp_towards(s, t) for s, t in zip(source, target, strict=True)]
    np.testing.assert_array_equal(warp_towards(source, target), slices)


def two_cells(border):
    """9 x 9 pixels, two cells, and rows of background between them."""
    mask = np.ones((9, 9), int)
    mask[border] = 0
    return mask


@pytest.mark.parametrize(
    ("truth", "prediction", "wrong"),
    [
        pytest.param(two_cells([4]), two_cells([3]), 0, id="a shifted border"),
        pytest.param(two_cells([4]), two_cells([2]), 10, id="one too far away"),
        pytest.param(two_cells([4]), two_cells([2, 3, 4, 5]), 0, id="a wide one"),
        pytest.param(two_cells([4]), two_cells([]), 9, id="a merger"),
        pytest.param(two_cells([3, 4]), two_cells([]), 9, id="a merger, thinned"),
        pytest.param(two_cells([]), two_cells([4]), 1, id="a split, all but a bridge"),
        pytest.param(two_cells(range(9)), two_cells([4]), 72, id="two cells made up"),
        pytest.param(two_cells([4]), two_cells(range(9)), 2, id="two cells missed"),
    ],
)
def test_what_a_mistake_costs(case, truth, prediction, wrong):
    assert error(case(truth, prediction)) == [wrong, 81]


def test_holes(case):
    """A hole that is made up costs its pixels, and one that is missed its last."""
    whole = np.ones((9, 9), int)
    holed = whole.copy()
    holed[3:6, 2:6] = 0
    assert error(case(whole, holed)) == [12, 81]
    assert error(case(holed, whole)) == [1, 81]


def test_pixels_that_nobody_annotated_are_not_counted(case):
    truth = two_cells([4])
    truth[4, 3:5] = -1
    assert error(case(truth, two_cells([]))) == [7, 79]
