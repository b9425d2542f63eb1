import itertools

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from unet_jax import colours
from unet_jax.colours import BLACK, OKABE_ITO, add_colours, choose_colours


def differences(chosen):
    """The smallest CIEDE2000 of two of the first n colours, for every n, by skimage."""
    lab = rgb2lab(np.array(chosen)[None] / 255)[0]
    pairs = np.array(list(itertools.combinations(range(len(lab)), 2)))
    each = deltaE_ciede2000(lab[pairs[:, 0]], lab[pairs[:, 1]])
    return {n: each[pairs[:, 1] < n].min() for n in range(2, len(lab) + 1)}


@pytest.mark.parametrize("background", [True, False])
def test_colours_of_2_to_64_classes_differ_visibly(background):
    chosen = choose_colours(64, background=background)
    smallest = differences(chosen)
    assert min(smallest[n] for n in range(2, 17)) > 20
    assert min(smallest[n] for n in range(17, 33)) > 15
    assert min(smallest.values()) > 10
    assert (BLACK in chosen) == background
    assert all(isinstance(value, int) for colour in chosen for value in colour)
    for count in (0, 1, 2, 8, 11):
        assert choose_colours(count, background=background) == chosen[:count]


def test_the_first_colours_are_published_ones_and_300_differ():
    assert choose_colours(8) == (BLACK, *OKABE_ITO)
    assert len(set(choose_colours(300))) == 300
    lab = rgb2lab(np.array(choose_colours(300)[1:])[None] / 255)[0]
    assert np.hypot(lab[:, 1], lab[:, 2]).min() > 19.9  # none is grey
    assert lab[:, 0].min() > 29.9  # none is nearly black


def test_added_colours_differ_from_the_given_ones():
    given = ((9, 9, 250), (250, 250, 250), (255, 0, 0))
    added = add_colours(given, 5)
    assert added[:3] == given
    assert len(added) == 8
    assert min(differences(added).values()) > 20


def test_greys_become_colours_that_no_other_class_has():
    own = ((0, 0, 0), (235, 235, 235), (9, 9, 250), (128, 128, 120))
    replaced = colours.replace_greys(own)
    assert (replaced[0], replaced[2]) != (own[0], own[1])
    assert replaced[2] == own[2]
    assert min(differences(replaced).values()) > 20
    assert colours.replace_greys(choose_colours(20)[1:]) == choose_colours(20)[1:]


def test_the_difference_of_two_colours_is_ciede2000():
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (2, 4000, 3))
    rgb[0, :100] = rgb[0, :100, :1]  # greys have no hue
    expected = rgb2lab(rgb / 255)
    np.testing.assert_allclose(colours.convert_to_lab(rgb), expected, atol=0.02)
    np.testing.assert_allclose(
        colours.measure_difference(*expected), deltaE_ciede2000(*expected), atol=1e-9
    )
    # Sharma et al. 2005, table 1, pairs 1, 7, 13 and 25
    pairs = [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 0, 0), (50, -1, 2), 2.3669),
        ((50, -0.001, 2.49), (50, 0.0009, -2.49), 4.8045),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ]
    for one, other, value in pairs:
        measured = colours.measure_difference(np.array(one), np.array(other))
        assert float(measured) == pytest.approx(value, abs=1e-4)
