"""Images in memory are decoded as images in files are read."""

import io
import logging

import numpy as np
import pytest
from PIL import Image

from tests.data import archives
from unet_jax.data import files
from unet_jax.data.files import read
from unet_jax.errors import UserError

RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 2**16, (20, 30)).astype(np.uint16)
COLOURS = [9, 9, 9, 200, 0, 0, 0, 200, 0]
GREYS = [9, 9, 9, 200, 200, 200, 0, 0, 0]


def test_a_tiff_is_read_whatever_its_compression():
    """The challenges' masks may be packed by LZW, which tifffile alone cannot undo."""
    for compression in (None, "tiff_lzw", "tiff_deflate"):
        stream = io.BytesIO()
        Image.fromarray(IDS).save(stream, "TIFF", compression=compression)
        got = files.decode_tiff(stream.getvalue(), "x")
        np.testing.assert_array_equal(got[..., 0], IDS[None])
    stack = RNG.integers(0, 255, (5, 20, 30)).astype(np.uint8)
    got = files.decode_tiff(archives.tiff(stack), "x")
    np.testing.assert_array_equal(got[..., 0], stack)


@pytest.mark.parametrize("kind", ["png", "bmp", "gif", "tif"])
@pytest.mark.parametrize("palette", [COLOURS, GREYS], ids=["colours", "greys"])
@pytest.mark.parametrize("indices", [False, True])
def test_a_palette_is_applied_unless_the_indices_of_its_colours_are_asked_for(
    kind, palette, indices, tmp_path
):
    """In a file and in memory; the greys of a palette are always applied."""
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "L")
    image.putpalette(palette)
    path = tmp_path / f"a.{kind}"
    image.save(path)
    if indices and palette is COLOURS:
        expected = np.array([[0, 1], [2, 1]])[..., None]
    else:
        expected = np.array(palette).reshape(3, 3)[[[0, 1], [2, 1]]]
    if kind != "gif":
        with files.open_images(path, axes=2, indices=indices) as file:
            got = file.read(0, [slice(0, 2), slice(0, 2)])
            assert file.channels == got.shape[-1]
        np.testing.assert_array_equal(got, expected)
    if kind == "tif":
        if not indices:
            got = files.decode_tiff(path.read_bytes(), "x")
            np.testing.assert_array_equal(got[0], expected)
        return
    got = files.decode_image(path.read_bytes(), "x", indices=indices)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("mode", "kind"), [("1", "png"), ("L", "png"), ("LA", "png"), ("RGBA", "png")]
)
def test_memory_and_file_give_the_same_pixels(mode, kind, tmp_path):
    rgba = RNG.integers(0, 255, (9, 7, 4)).astype(np.uint8)
    path = tmp_path / f"a.{kind}"
    Image.fromarray(rgba).convert(mode).save(path)
    with files.open_images(path, axes=2) as file:
        whole = file.read(0, [slice(0, 9), slice(0, 7)])
    got = files.decode_image(path.read_bytes(), "x")
    np.testing.assert_array_equal(got, whole)
    assert got.shape[-1] == (3 if mode == "RGBA" else 1)


def test_more_pixels_than_there_should_be_are_not_decoded(monkeypatch):
    monkeypatch.setattr(read, "DECODED_PIXELS", 20 * 30 - 1)
    grey = archives.picture(IDS.astype(np.uint8))
    for decode, content in (
        (files.decode_image, grey),
        (files.decode_tiff, archives.tiff(IDS)),
    ):
        with pytest.raises(UserError, match=r"^set.zip, 7: has 600 pixels"):
            decode(content, "set.zip, 7")


@pytest.mark.parametrize("kind", ["tiff", "png", "jpeg"])
def test_hundreds_of_broken_images_are_read_or_refused(kind, caplog):
    caplog.set_level(logging.CRITICAL)
    if kind == "tiff":
        whole, decode = archives.tiff(IDS), files.decode_tiff
    else:
        grey = RNG.integers(0, 255, (20, 30)).astype(np.uint8)
        whole, decode = archives.picture(grey, kind), files.decode_image
    messages = []
    for _ in range(500):
        broken = bytearray(whole)
        for _ in range(3):
            broken[RNG.integers(min(len(broken), 400))] = RNG.integers(256)
        try:
            decode(bytes(broken[: RNG.integers(1, 2 * len(broken))]), "x")
        except UserError as error:
            messages.append(str(error))
    assert len(messages) > 100
    assert all(message.startswith("x: ") for message in messages)
    assert not any("\n" in message or "BytesIO" in message for message in messages)
