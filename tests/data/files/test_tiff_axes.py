"""The order of TIFF axes: every order reads the array that numpy would make of it."""

import numpy as np
import pytest
import tifffile

from unet_jax.data import files
from unet_jax.data.files.tiff_axes import check_order, is_order
from unet_jax.errors import UserError

PLANES = {"photometric": "rgb", "planarconfig": "separate"}
GREY = {"photometric": "minisblack"}


def read(path, axes, order):
    with files.open_images(path, axes=axes, tiff_axes=order) as file:
        whole = [slice(0, size) for size in file.shape]
        part = [slice(1, size - 1) for size in file.shape]
        images = np.stack([file.read(i, whole) for i in range(file.count)])
        parts = np.stack([file.read(i, part) for i in range(file.count)])
    inner = (slice(None), *part)
    np.testing.assert_array_equal(parts, images[inner])
    return images


@pytest.mark.parametrize(
    ("shape", "stored", "axes", "order", "expected"),
    [  # expected: the axes of [image, *S, channel] among those of the array
        ((3, 8, 9), PLANES, 2, "", "yxc <- cyx"),
        ((3, 8, 9), PLANES, 2, "ZYX", "zyx <- zyx"),
        ((4, 8, 9), PLANES, 2, "ZYX", "zyx <- zyx"),
        ((4, 8, 9), PLANES, 2, "CYX", "yxc <- cyx"),
        ((3, 8, 9), PLANES, 3, "ZYX", "zyx <- zyx"),
        ((5, 8, 9), GREY, 2, "CYX", "yxc <- cyx"),
        ((8, 9, 5), GREY, 2, "YXC", "yxc <- yxc"),
        ((2, 8, 9, 5), GREY, 2, "TYXC", "tyxc <- tyxc"),
        ((4, 8, 9, 5), GREY, 3, "ZYXC", "zyxc <- zyxc"),
        ((2, 5, 8, 9), GREY, 2, "TCYX", "tyxc <- tcyx"),
        ((5, 4, 8, 9), GREY, 3, "CZYX", "zyxc <- czyx"),
        ((8, 9), GREY, 2, "CYX", "yx <- yx"),  # another number of axes: not used
        ((8, 9, 3), {"photometric": "rgb"}, 2, "CYX", "yxc <- yxc"),  # samples stay
    ],
)
def test_every_order(tmp_path, shape, stored, axes, order, expected):
    array = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", array, **stored)
    got, given = expected.split(" <- ")
    wanted = np.einsum(f"{given}->{got}", array)
    images = read(tmp_path / "a.tif", axes, order)
    np.testing.assert_array_equal(np.squeeze(images), np.squeeze(wanted))


def test_orders():
    for order in ("", "YX", "CYX", "YXC", "TZCYX", "ZYXC"):
        assert is_order(order)
    for order in ("XY", "CYXC", "QYX", "YCX", "cyx", "ZZYX"):
        assert not is_order(order)
        with pytest.raises(UserError, match="must name each axis once"):
            check_order(order)


def test_an_order_is_suggested_for_channels(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((3, 8, 9), np.uint8), **PLANES)
    assert files.suggest_channels(path, 2, 1).endswith("tiff_axes=ZYX")
    assert files.suggest_channels(path, 2, 2) == ""
    assert files.suggest_channels(tmp_path / "a.png", 2, 1) == ""
