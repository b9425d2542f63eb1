"""Views, against NumPy and the definition of a group."""

import numpy as np
import pytest

from unet_jax import views
from unet_jax.views import View

ALL = [getattr(views, name) for name in views.__all__]


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("shape", [(4, 6), (3, 4, 5)])
def test_every_view_can_be_undone_and_no_two_are_the_same(make, shape):
    image = np.random.default_rng(0).normal(size=(2, *shape, 1)).astype("f4")
    copies = [np.asarray(views.apply_view(image, view)) for view in make(len(shape))]
    for view, copy in zip(make(len(shape)), copies, strict=True):
        np.testing.assert_array_equal(views.invert_view(copy, view), image)
    np.testing.assert_array_equal(copies[0], image)
    assert len({(copy.shape, copy.tobytes()) for copy in copies}) == len(copies)


def test_the_number_of_views():
    counts = {make.__name__: len(make(2)) for make in ALL}
    assert counts == {"none": 1, "flips": 4, "rot4": 4, "d4": 8, "paper": 7}
    assert len(views.flips(3)) == 8


def test_a_turn_and_a_mirror_by_hand():
    image = np.array([[1, 2], [3, 4]])[None, ..., None]
    turned = views.apply_view(image, View(turns=1))[0, ..., 0]
    np.testing.assert_array_equal(turned, [[2, 4], [1, 3]])  # counter-clockwise
    mirrored = views.apply_view(image, View(turns=1, mirrored=(1,)))[0, ..., 0]
    np.testing.assert_array_equal(mirrored, [[4, 2], [3, 1]])


def test_d4_is_a_group():
    """Two views, one after the other, are a third view."""
    image = np.arange(9).reshape(1, 3, 3, 1)
    copies = {
        np.asarray(views.apply_view(image, view)).tobytes() for view in views.d4(2)
    }
    for first in views.d4(2):
        for second in views.d4(2):
            both = np.asarray(views.apply_view(views.apply_view(image, first), second))
            assert both.tobytes() in copies


@pytest.mark.parametrize("shape", [(6, 6), (5, 6, 6)])
def test_vectors_turn_with_the_image(shape):
    """The gradient of a turned potential is the turned gradient of the potential."""
    axes = len(shape)
    potential = np.random.default_rng(0).normal(size=shape).astype("f4")

    def field(array):
        return np.stack(np.gradient(array), axis=-1)

    for view in {*views.d4(axes), *views.flips(axes)}:
        turned = np.asarray(views.apply_view(potential[None, ..., None], view))
        channels = np.concatenate([field(turned[0, ..., 0]), turned[0]], axis=-1)
        back = np.asarray(views.invert_view(channels[None], view, vectors=axes))[0]
        np.testing.assert_allclose(back[..., :axes], field(potential), atol=1e-5)
        np.testing.assert_array_equal(back[..., axes], potential)
