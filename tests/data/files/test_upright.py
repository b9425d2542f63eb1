"""The EXIF orientation, against arrays that Pillow, and the TIFF standard, turn."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_jax.data import files
from unet_jax.data.files.upright import NOTE

UPRIGHT = np.arange(5 * 8 * 3, dtype=np.uint8).reshape(5, 8, 3) * 2
STORED = {  # how a camera stores UPRIGHT: its row 0 and column 0 are at ..., by hand
    1: UPRIGHT,  # the top and the left
    2: np.fliplr(UPRIGHT),  # the top and the right
    3: np.rot90(UPRIGHT, 2),  # the bottom and the right
    4: np.flipud(UPRIGHT),  # the bottom and the left
    5: UPRIGHT.transpose(1, 0, 2),  # the left and the top
    6: np.rot90(UPRIGHT, 1),  # the right and the top: turn it clockwise
    7: np.rot90(UPRIGHT, 2).transpose(1, 0, 2),  # the right and the bottom
    8: np.rot90(UPRIGHT, -1),  # the left and the bottom: turn it counter-clockwise
}
STORES = {
    "png": lambda p, a, n: save(p, a, n),
    "tif": lambda p, a, n: tifffile.imwrite(p, a, extratags=[(274, 3, 1, n, True)]),
    "tiled.tif": lambda p, a, n: tifffile.imwrite(
        p, a, tile=(16, 16), compression="zlib", extratags=[(274, 3, 1, n, True)]
    ),
    "lzw.tif": lambda p, a, n: Image.fromarray(a).save(
        p, compression="tiff_lzw", tiffinfo={274: n}
    ),
}  # fmt: skip


def save(path, array, orientation, **options):
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(np.ascontiguousarray(array)).save(path, exif=exif, **options)


def read(path, box=None):
    with files.open_images(path, axes=2) as file:
        block = file.read(0, box or [slice(0, n) for n in file.shape])
        assert (file.shape, file.channels) == ((5, 8), 3)
        return block, file


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", STORES)
def test_images_are_turned_upright(tmp_path, kind, orientation):
    path = tmp_path / f"a.{kind}"
    STORES[kind](path, np.ascontiguousarray(STORED[orientation]), orientation)
    block, file = read(path)
    np.testing.assert_array_equal(block, UPRIGHT)
    assert block.flags.c_contiguous
    assert file.orientation == orientation
    assert file.notes == ((NOTE,) if orientation > 1 else ())
    box = (slice(1, 3), slice(2, 7))
    np.testing.assert_array_equal(read(path, box)[0], UPRIGHT[box])
    if kind == "png":  # in memory, it comes from a published data set
        decoded = files.decode_image(path.read_bytes(), "a.png")
        np.testing.assert_array_equal(decoded, STORED[orientation])


@pytest.mark.parametrize("orientation", STORED)
def test_a_photograph_is_upright(tmp_path, orientation):
    """A smooth picture, for JPEG; the expected one is turned by nothing."""
    rows, columns = np.mgrid[:40, :64]
    upright = np.stack([rows * 3, columns * 2, rows + columns], -1).astype(np.uint8)
    path = tmp_path / "a.jpg"
    store = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    save(path, store(upright), orientation, quality=97)
    with files.open_images(path, axes=2) as file:
        assert file.shape == (40, 64)
        block = file.read(0, [slice(0, 40), slice(0, 64)])
    np.testing.assert_allclose(block, upright.astype(int), atol=9)


def test_a_stack_and_volume_are_turned_in_their_planes(tmp_path):
    stack = np.stack([UPRIGHT[..., 0], UPRIGHT[..., 1]])
    path = tmp_path / "a.tif"
    stored = np.rot90(stack, 1, axes=(1, 2))
    tag = [(274, 3, 1, 6, True)]
    tifffile.imwrite(path, stored, photometric="minisblack", extratags=tag)
    box = [slice(0, 5), slice(0, 8)]
    with files.open_images(path, axes=2) as file:
        pages = np.stack([file.read(i, box) for i in range(2)])
    np.testing.assert_array_equal(pages[..., 0], stack)
    with files.open_images(path, axes=3) as file:
        volume = file.read(0, [slice(1, 2), slice(1, 4), slice(0, 8)])
    np.testing.assert_array_equal(volume[..., 0], stack[1:2, 1:4])


def test_exif_behind_the_pixels_of_a_png_counts(tmp_path):
    path = tmp_path / "a.png"
    save(path, STORED[6], 6)
    data = path.read_bytes()
    at = data.index(b"eXIf") - 4
    end = at + 12 + int.from_bytes(data[at : at + 4], "big")
    last = data.index(b"IEND") - 4
    path.write_bytes(data[:at] + data[end:last] + data[at:end] + data[last:])
    np.testing.assert_array_equal(read(path)[0], UPRIGHT)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_unknown_orientation_is_none(tmp_path, value):
    save(tmp_path / "a.png", UPRIGHT, value)
    block, file = read(tmp_path / "a.png")
    np.testing.assert_array_equal(block, UPRIGHT)
    assert file.notes == ()


def test_damaged_exif_does_not_harm_the_pixels(tmp_path):
    Image.fromarray(UPRIGHT).save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\xff\xff")
    np.testing.assert_array_equal(read(tmp_path / "a.png")[0], UPRIGHT)
