"""Incomplete PNG files, and other files that end too early, are refused."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_jax.data import files
from unet_jax.errors import UserError

IMAGE = np.random.default_rng(0).integers(1, 256, (64, 50), np.uint8)
PASSES = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2),
          (0, 1, 2, 2), (1, 0, 2, 1)]  # fmt: skip


def rows(image, interlaced):
    passes = PASSES if interlaced else [(0, 0, 1, 1)]
    parts = (image[y::dy, x::dx] for y, x, dy, dx in passes)
    return b"".join(b"\0" + row.tobytes() for part in parts for row in part)


def chunk(name, data):
    checksum = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)


def png(*data, interlaced=0, shape=IMAGE.shape):
    header = struct.pack(">IIBBBBB", shape[1], shape[0], 8, 0, 0, 0, interlaced)
    parts = [chunk(b"IHDR", header), *(chunk(b"IDAT", part) for part in data)]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IEND", b"")])


def read(path, content):
    path.write_bytes(content)
    with files.open_images(path, axes=2) as file:
        return file.read(0, [slice(0, n) for n in file.shape])[..., 0]


@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize("image", [IMAGE, IMAGE * 0, np.triu(IMAGE)])
def test_whole_images_are_read(tmp_path, interlaced, image):
    packed = zlib.compress(rows(image, interlaced))
    for content in (
        png(packed, interlaced=interlaced),
        png(packed[:9], b"", packed[9:], interlaced=interlaced),
        png(packed, interlaced=interlaced) + b"more",
    ):
        np.testing.assert_array_equal(read(tmp_path / "a.png", content), image)


@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize("kept", [0, 1, 10, 32, 63])
@pytest.mark.parametrize("end", ["row", "inside", "stream"])
def test_missing_rows_are_refused(tmp_path, interlaced, kept, end):
    """The pixels end early; every chunk is whole, and its checksum is right."""
    raw = rows(IMAGE, interlaced)
    short = raw[: len(raw) * kept // 64] if end == "inside" else raw[: 51 * kept]
    if interlaced and end == "row":  # whole passes only
        sizes = np.cumsum([0, *(((50 - x - 1) // dx + 2) * ((64 - y - 1) // dy + 1)
                                for y, x, dy, dx in PASSES)])  # fmt: skip
        short = raw[: sizes[min(kept, 6)]]
    packed = zlib.compress(short)
    if end == "stream":
        packed = zlib.compress(raw)[: len(zlib.compress(raw)) * kept // 64]
    content = png(packed, interlaced=interlaced)
    with pytest.raises(UserError, match=r"a\.png: .*(cut off|truncated|too short)"):
        read(tmp_path / "a.png", content)
    with pytest.raises(UserError, match="^a: "):
        files.decode_image(content, "a")


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99, -1, -4, -8, -12, -13, -16])
def test_a_file_that_ends_early_is_refused(tmp_path, part):
    whole = png(zlib.compress(rows(IMAGE, 0)))
    end = int(part * len(whole)) if part > 0 else part
    with pytest.raises(UserError, match=r"a\.png: .*cut off"):
        read(tmp_path / "a.png", whole[:end])


@pytest.mark.parametrize("at", [-1, -14, 60, 30, 8 + 25 + 8 + 1])
def test_a_wrong_bit_is_found_by_the_checksum(tmp_path, at):
    damaged = bytearray(png(zlib.compress(rows(IMAGE, 0))))
    damaged[at] ^= 1
    with pytest.raises(UserError, match=r"a\.png: "):
        read(tmp_path / "a.png", bytes(damaged))


FORMATS = {
    "a.bmp": {},
    "b.jpg": {},
    "c.jpg": {"progressive": True},
    "d.tif": {},
    "e.tif": {"compression": "tiff_lzw"},
    "f.tif": {"compression": "tiff_deflate"},
    "g.tif": {"compression": "packbits"},
    "h.gif": {},
    "i.webp": {"lossless": True},
    "j.webp": {},
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("part", [0.2, 0.5, 0.8, 0.95])
def test_other_formats_that_end_early_are_refused(tmp_path, name, part):
    Image.fromarray(IMAGE).save(path := tmp_path / name, **FORMATS[name])
    whole = path.read_bytes()
    decode = files.decode_tiff if path.suffix == ".tif" else files.decode_image
    assert decode(whole, name).size in (IMAGE.size, 3 * IMAGE.size)
    cut = whole[: int(part * len(whole))]
    with pytest.raises(UserError, match=f"^{name}: "):
        decode(cut, name)
    if path.suffix not in (".gif", ".webp"):
        with pytest.raises(UserError, match=f"/{name}: "):
            read(path, cut)


def test_a_strip_that_ends_early_is_refused(tmp_path):
    """Its length is right, and it inflates to half of its pixels."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, IMAGE, compression="zlib", photometric="minisblack")
    packed = zlib.compress(IMAGE[:32].tobytes())
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["StripByteCounts"].overwrite(len(packed))
        file.filehandle.seek(file.pages[0].dataoffsets[0])
        file.filehandle.write(packed)
    with pytest.raises(UserError, match=r"a\.tif: "):
        read(path, path.read_bytes())


def test_a_row_of_zeros_is_no_missing_row(tmp_path):
    black = Image.new("P", (300, 200))
    black.putpalette([0, 0, 0, 255, 255, 255])
    stream = io.BytesIO()
    black.save(stream, "PNG", bits=1)
    assert read(tmp_path / "a.png", stream.getvalue()).shape == (200, 300)


def test_a_jpeg_in_a_tiff_that_ends_early_is_refused(tmp_path):
    """libtiff would fill the missing rows with grey."""
    path = tmp_path / "a.tif"
    Image.fromarray(IMAGE).save(path, compression="jpeg")
    assert read(path, path.read_bytes()).shape == (64, 50)
    with tifffile.TiffFile(path, mode="r+b") as file:
        (count,) = file.pages[0].databytecounts
        file.pages[0].tags["StripByteCounts"].overwrite(count // 2)
    with pytest.raises(UserError, match=r"a\.tif: .*cut off"):
        read(path, path.read_bytes())
