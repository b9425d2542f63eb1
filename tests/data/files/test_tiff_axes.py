"""The order of TIFF axes: every order reads the array that numpy would make of it."""

import re

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


@pytest.mark.parametrize(
    ("shape", "how", "flags"),
    [
        ((60, 70, 2), {}, "YXC ZYX"),
        ((60, 70, 1), {"metadata": None}, "YXC ZYX"),
        ((60, 70, 2), {"metadata": None}, "YXC ZYX"),
        ((60, 70, 3), GREY, "YXC ZYX"),
        ((5, 60, 70, 2), {}, "TYXC TZYX"),
    ],
)
@pytest.mark.parametrize("axes", [2, 3])
def test_a_short_last_axis_without_a_name_is_refused(tmp_path, shape, how, flags, axes):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros(shape, np.uint8), **how)
    with pytest.raises(UserError) as raised:
        read(path, axes, "")
    text = str(raised.value)
    assert text.startswith(f"{path}: is stored as {' x '.join(map(str, shape))} ")
    assert re.findall(r"--config\.data\.tiff_axes=(\w+)", text) == flags.split()
    with files.open_images(path, axes=2, tiff_axes=flags.split()[0]) as file:
        assert (file.shape, file.channels) == ((60, 70), shape[-1])
    with files.open_images(path, axes=2, tiff_axes=flags.split()[1]) as file:
        assert (file.shape, file.channels) == ((70, shape[-1]), 1)


@pytest.mark.parametrize(
    ("shape", "how"),
    [
        ((60, 70, 5), {}),
        ((3, 70, 2), GREY),
        ((60, 2), {}),
        ((60, 70, 2), {"metadata": {"axes": "ZYX"}}),
        ((60, 70, 2), {"imagej": True, "metadata": {"axes": "ZYX"}}),
        ((60, 70, 2), {"ome": True, "metadata": {"axes": "TYX"}}),
        ((60, 70, 3), {"photometric": "rgb"}),
    ],
)
def test_other_narrow_images_are_read(tmp_path, shape, how):
    array = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", array, **how)
    with files.open_images(tmp_path / "a.tif", axes=2) as file:
        whole = [slice(0, size) for size in file.shape]
        images = np.stack([file.read(i, whole) for i in range(file.count)])
    np.testing.assert_array_equal(images.squeeze(), array)
