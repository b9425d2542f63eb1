"""Bad files: each is one line that names it, and nothing is shown besides."""

import os
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_jax.data import files
from unet_jax.errors import UserError

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (64, 64), np.uint8)
GREY = {"photometric": "minisblack"}


def png(path, size=(64, 64), bits=8, colour=0, data=99):
    """A PNG by hand, of zeros, that need not be as many as it says."""
    header = struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(data))), (b"IEND", b""))
    chunks = [
        struct.pack(">I", len(data))
        + name
        + data
        + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def cut(path, write, part):
    write()
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])


def change_tag(path, name, value):
    tifffile.imwrite(path, IMAGE, **GREY)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags[name].overwrite(value)


def pages_of_two_sizes(path):
    with tifffile.TiffWriter(path) as writer:
        writer.write(IMAGE, metadata=None, **GREY)
        writer.write(IMAGE[:9], metadata=None, **GREY)


def circle(path):
    """The second page is followed by the second page."""
    pages_of_two_sizes(path)
    with tifffile.TiffFile(path) as file:
        second = file.pages[1]
        end = second.offset + 2 + 12 * len(second.tags)
        data = bytearray(path.read_bytes())
        data[end : end + 4] = struct.pack("<I", second.offset)
    path.write_bytes(data)


def damage(path):
    """Deflated strips, one of them overwritten."""
    tifffile.imwrite(path, IMAGE, compression="zlib", rowsperstrip=8, **GREY)
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].dataoffsets[5]
    data = bytearray(path.read_bytes())
    data[offset : offset + 20] = bytes(20)
    path.write_bytes(data)


def animation(path):
    first, second = Image.fromarray(IMAGE), Image.fromarray(IMAGE.T)
    first.save(path, save_all=True, append_images=[second])


BAD = {
    "gone.png": lambda path: None,
    "empty.png": lambda path: path.touch(),
    "empty.tif": lambda path: path.touch(),
    "empty.nii": lambda path: path.touch(),
    "text.png": lambda path: path.write_text("no image"),
    "text.jpg": lambda path: path.write_text("no image"),
    "text.tif": lambda path: path.write_text("no image"),
    "text.nii.gz": lambda path: path.write_text("no image"),
    "text.txt": lambda path: path.write_text("no image"),
    "noise.tif": lambda path: path.write_bytes(b"II*\0" + RNG.bytes(999)),
    "folder": lambda path: path.mkdir(),
    "folder.tif": lambda path: path.mkdir(),
    "really_tiff.png": lambda path: Image.fromarray(IMAGE).save(path, format="TIFF"),
    "cmyk.jpg": lambda path: Image.fromarray(IMAGE).convert("CMYK").save(path),
    "animation.png": animation,
    "sixteen.png": lambda path: png(path, (4, 4), 16, 2, 4 * (1 + 4 * 6)),
    "bomb.png": lambda path: png(path, (2**20, 2**20)),
    "no_rows.png": lambda path: png(path, (64, 0)),
    "short.png": png,
    "cut.png": lambda p: cut(p, lambda: Image.fromarray(IMAGE).save(p), 0.5),
    "cut.jpg": lambda p: cut(p, lambda: Image.fromarray(IMAGE).save(p), 0.7),
    "cut.bmp": lambda p: cut(p, lambda: Image.fromarray(IMAGE).save(p), 0.7),
    "cut.tif": lambda p: cut(p, lambda: tifffile.imwrite(p, IMAGE, **GREY), 0.9),
    "cut_pages.tif": lambda p: cut(
        p, lambda: tifffile.imwrite(p, [IMAGE] * 3, metadata=None, **GREY), 0.9
    ),
    "cut_strips.tif": lambda p: cut(
        p,
        lambda: tifffile.imwrite(p, IMAGE, compression="zlib", rowsperstrip=8, **GREY),
        0.9,
    ),
    "cut_lzw.tif": lambda p: cut(
        p, lambda: Image.fromarray(IMAGE).save(p, compression="tiff_lzw"), 0.5
    ),
    "circle.tif": circle,
    "damaged.tif": damage,
    "complex.tif": lambda p: tifffile.imwrite(p, IMAGE.astype(np.complex64), **GREY),
    "wide.tif": lambda path: change_tag(path, "ImageWidth", 65535),
    "odd.tif": lambda path: change_tag(path, "Compression", 12345),
    "lab.tif": lambda path: change_tag(path, "PhotometricInterpretation", 8),
    "two_sizes.tif": pages_of_two_sizes,
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_line(tmp_path, name, capfd):
    path = tmp_path / name
    BAD[name](path)
    with pytest.raises(UserError) as raised:
        read(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < len(str(path)) * 2 + 300
    assert capfd.readouterr() == ("", "")


def test_what_is_cut_short_is_found_on_opening(tmp_path):
    path = tmp_path / "a.tif"
    BAD["cut.tif"](path)
    with pytest.raises(UserError, match="cut off"), files.open_images(path, axes=2):
        pass


def read(path, axes=2):
    with files.open_images(path, axes=axes) as file:
        for image in range(file.count):
            file.read(image, [slice(0, n) for n in file.shape])


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_an_image_is_no_volume(tmp_path, name):
    path = tmp_path / name
    Image.fromarray(IMAGE).save(path)
    with pytest.raises(UserError, match=f"{name}: is an image of 2 axes"):
        read(path, axes=3)


def test_a_file_that_may_not_be_read(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    path = tmp_path / "a.png"
    Image.fromarray(IMAGE).save(path)
    path.chmod(0)
    with pytest.raises(UserError, match=r"a\.png: cannot be read \(Permission denied"):
        read(path)


def test_an_error_of_the_caller_is_not_blamed_on_the_file(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(IMAGE).save(path)
    with pytest.raises(KeyError), files.open_images(path, axes=2):
        raise KeyError


@pytest.mark.parametrize("band", [1, 64 * 3, 64 * 3 * 300, 2**26])
def test_bands_are_the_whole_image(tmp_path, band):
    image = RNG.integers(0, 256, (1000, 64, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", image, compression="zlib", photometric="rgb")
    with files.open_images(tmp_path / "a.tif", axes=2) as file:
        bands = list(files.read_bands(file, 0, band))
    np.testing.assert_array_equal(np.concatenate([b for _, b in bands]), image)
    rows = [rows.stop - rows.start for rows, _ in bands]
    assert rows[0] == {1: 1, 192: 1, 57600: 256, 2**26: 1000}[band]
