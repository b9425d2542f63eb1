import numpy as np
import pytest
from scipy import ndimage

from unet_jax import metrics
from unet_jax.metrics.warping import _RING, _SIMPLE, warp_towards

CORNERS = np.ones((3, 3))


def count_errors(image):
    """Returns the numbers of wrong and of annotated pixels."""
    return metrics.warping_error().measure(image).tolist()


def test_simple_points_by_their_definition():
    """It touches one cell by a face, and one background by a face or a corner."""
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


def count_components(mask):
    """Returns the numbers of cells and of backgrounds, including that outside."""
    mask = np.pad(mask, 1)
    return ndimage.label(mask)[1], ndimage.label(~mask, CORNERS)[1]


@pytest.mark.parametrize("seed", range(8))
def test_a_warp_keeps_the_topology_and_goes_as_far_as_it_can(seed):
    rng = np.random.default_rng(seed)
    source, target = (
        ndimage.gaussian_filter(rng.random((30, 31)), sigma) > 0.5 for sigma in (2, 1)
    )
    warped = warp_towards(source, target)
    assert count_components(warped) == count_components(source)
    assert (warped != source).any()
    assert not ((warped != source) & (warped != target)).any()
    for point in np.argwhere(warped != target):
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
    """Returns 9 x 9 pixels with background in the given rows."""
    mask = np.ones((9, 9), int)
    mask[border] = 0
    return mask


@pytest.mark.parametrize(
    ("truth", "prediction", "wrong"),
    [
        pytest.param(two_cells([4]), two_cells([3]), 0, id="a shifted border"),
        pytest.param(two_cells([4]), two_cells([2]), 10, id="a border too far away"),
        pytest.param(two_cells([4]), two_cells([2, 3, 4, 5]), 0, id="a wide border"),
        pytest.param(two_cells([4]), two_cells([]), 9, id="a merger"),
        pytest.param(two_cells([3, 4]), two_cells([]), 9, id="a merger, thinned"),
        pytest.param(two_cells([]), two_cells([4]), 1, id="a split, all but a bridge"),
        pytest.param(two_cells(range(9)), two_cells([4]), 72, id="two false cells"),
        pytest.param(two_cells([4]), two_cells(range(9)), 2, id="two missed cells"),
    ],
)
def test_costs_of_errors(make_image, truth, prediction, wrong):
    assert count_errors(make_image(truth, prediction)) == [wrong, 81]


def test_holes(make_image):
    """A false hole costs all its pixels, a missed hole costs one."""
    whole = np.ones((9, 9), int)
    holed = whole.copy()
    holed[3:6, 2:6] = 0
    assert count_errors(make_image(whole, holed)) == [12, 81]
    assert count_errors(make_image(holed, whole)) == [1, 81]


def test_pixels_without_an_annotation_are_not_counted(make_image):
    truth = two_cells([4])
    truth[4, 3:5] = -1
    assert count_errors(make_image(truth, two_cells([]))) == [7, 79]
