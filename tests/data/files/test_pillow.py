import numpy as np
import pytest
from PIL import Image

from unet_jax.data import files
from unet_jax.errors import UserError

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (9, 11, 3), np.uint8)
GREY = RNG.integers(0, 256, (9, 11, 1), np.uint8)
GREY_16 = RNG.integers(0, 2**16, (9, 11, 1), np.uint16)
ALPHA = GREY


def read(path, box=(slice(0, 9), slice(0, 11))):
    with files.open_images(path, axes=2) as file:
        block = file.read(0, box)
        assert (file.kind, file.count, file.shape) == ("image", 1, (9, 11))
        assert (file.channels, file.dtype) == (block.shape[-1], block.dtype)
        return block


@pytest.mark.parametrize("ending", ["png", "bmp"])
@pytest.mark.parametrize("array", [GREY, COLOUR], ids=["grey", "colour"])
def test_what_was_saved_is_read(tmp_path, ending, array):
    path = tmp_path / f"a.{ending}"
    Image.fromarray(array.squeeze()).save(path)
    np.testing.assert_array_equal(read(path), array)
    box = (slice(2, 5), slice(3, 11))
    np.testing.assert_array_equal(read(path, box), array[box])


def test_sixteen_bits_stay(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(GREY_16[..., 0]).save(path)
    np.testing.assert_array_equal(read(path), GREY_16)


def test_alpha_is_dropped(tmp_path):
    path = tmp_path / "a.png"
    for array in (GREY, COLOUR):
        Image.fromarray(np.concatenate([array, ALPHA], -1)).save(path)
        np.testing.assert_array_equal(read(path), array)


def test_palettes_become_colours_and_bits_become_0_and_255(tmp_path):
    path = tmp_path / "a.png"
    few = Image.fromarray(COLOUR).quantize(5)
    for options in ({}, {"transparency": 0}):
        few.save(path, **options)
        np.testing.assert_array_equal(read(path), np.asarray(few.convert("RGB")))
    bits = GREY[..., 0] > 99
    Image.fromarray(bits).save(path)
    np.testing.assert_array_equal(read(path)[..., 0], bits * 255)


def test_channels_by_hand(tmp_path):
    """Luma of (10, 22, 50): 2.990 + 12.914 + 5.700 = 21.604."""
    path = tmp_path / "a.png"
    Image.fromarray(np.full((9, 11, 3), (10, 22, 50), np.uint8)).save(path)
    box = [slice(0, 2), slice(0, 3)]
    with files.open_images(path, axes=2) as file:
        assert files.convert_channels(file, 3, convert=False) is file
        grey = files.convert_channels(file, 1, convert=True)
        assert grey.channels == 1
        block = grey.read(0, box)
        np.testing.assert_array_equal(block, np.full((2, 3, 1), 22, np.uint8))
        assert block.dtype == np.uint8
        back = files.convert_channels(grey, 3, convert=True).read(0, box)
        np.testing.assert_array_equal(back, np.full((2, 3, 3), 22))
        with pytest.raises(UserError, match=r"a\.png: has 3 channels, .* takes 1; "):
            files.convert_channels(file, 1, convert=False)
        with pytest.raises(UserError, match=r"a\.png: has 3 channels, .* takes 2; "):
            files.convert_channels(file, 2, convert=True)


def test_white_stays_white(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.full((9, 11, 3), 255, np.uint8)).save(path)
    with files.open_images(path, axes=2) as file:
        grey = files.convert_channels(file, 1, convert=True)
        assert (grey.read(0, [slice(0, 9), slice(0, 11)]) == 255).all()
