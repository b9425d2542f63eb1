import io
import logging

import numpy as np
import pytest
from PIL import Image

from tests.data import archives
from unet_jax.data.builders import storage
from unet_jax.errors import UserError

RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 2**16, (20, 30)).astype(np.uint16)


def test_a_tiff_is_read_whatever_its_compression():
    """The challenges' masks may be packed by LZW, which tifffile alone cannot undo."""
    for compression in (None, "tiff_lzw", "tiff_deflate"):
        stream = io.BytesIO()
        Image.fromarray(IDS).save(stream, "TIFF", compression=compression)
        got = storage.decoded_tiff("x", stream.getvalue())
        np.testing.assert_array_equal(got, IDS[None])
    stack = RNG.integers(0, 255, (5, 20, 30)).astype(np.uint8)
    np.testing.assert_array_equal(
        storage.decoded_tiff("x", archives.tiff(stack)), stack
    )


def test_a_palette_is_colours_in_an_image_and_indices_in_a_mask():
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "L")
    image.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
    stream = io.BytesIO()
    image.save(stream, "PNG")
    mask = storage.indices("x", stream.getvalue())
    assert mask.tolist() == [[0, 1], [2, 1]]
    colours = storage.decoded("x", stream.getvalue())
    assert colours[1].tolist() == [[0, 200, 0], [200, 0, 0]]


def test_more_pixels_than_there_should_be_are_not_decoded(monkeypatch):
    monkeypatch.setattr(storage, "PIXELS", 20 * 30 - 1)
    grey = archives.picture(IDS.astype(np.uint8))
    for read, content in (
        (storage.decoded, grey),
        (storage.indices, grey),
        (storage.decoded_tiff, archives.tiff(IDS)),
    ):
        with pytest.raises(UserError, match=r"^set.zip, 7 .*600 pixels"):
            read("set.zip, 7", content)


@pytest.mark.parametrize("kind", ["tiff", "png", "jpeg"])
def test_hundreds_of_broken_images_are_read_or_refused(kind, caplog):
    caplog.set_level(logging.CRITICAL)
    if kind == "tiff":
        whole, read = archives.tiff(IDS), storage.decoded_tiff
    else:
        grey = RNG.integers(0, 255, (20, 30)).astype(np.uint8)
        whole, read = archives.picture(grey, kind), storage.decoded
    refused = 0
    for _ in range(500):
        broken = bytearray(whole)
        for _ in range(3):
            broken[RNG.integers(min(len(broken), 400))] = RNG.integers(256)
        try:
            read("x", bytes(broken[: RNG.integers(1, 2 * len(broken))]))
        except UserError as error:
            refused += "\n" not in str(error)
    assert refused > 100
