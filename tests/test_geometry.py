"""Derived sizes of a network whose axes differ, against values by hand."""

from unet_jax.geometry import Geometry


def valid_shape(shape):
    """Allows multiples of 4 along axis 0, and 6, 11, 16, ... along axis 1."""
    first, second = shape
    return -(-first // 4) * 4, max(-(-(second - 1) // 5) * 5 + 1, 6)


def test_multiple_and_context():
    geometry = Geometry(((1, 1), (4, 5)), (0, 2), (9, 7), valid_shape, strict=True)
    assert geometry.multiple == (4, 5)
    assert geometry.context == (9, 2)  # the margin if there is one, else the halo
    assert geometry._replace(halo=None).context == (0, 2)


def test_legal_sizes_of_one_axis():
    geometry = Geometry(((1, 1), (4, 5)), (0, 2), None, valid_shape, strict=True)
    assert geometry.valid_size(13, axis=0) == 16
    assert geometry.valid_size(13, axis=1) == 16
    assert geometry.valid_size_below(13, axis=0) == 12
    assert geometry.valid_size_below(13, axis=1) == 11
    assert geometry.valid_size_below(16, axis=1) == 16
    assert geometry.valid_size_below(5, axis=1) is None
