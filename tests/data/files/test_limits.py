"""Files that ask for too much are refused by their header; large ones are read."""

import errno
import gzip
import json
import os
import socket
import struct
import tracemalloc
import zlib

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.data.files import test_fuzz
from tests.data.files.conftest import refuse_stat
from tests.data.files.test_zarr import save as save_zarr
from unet_jax.data import files
from unet_jax.data.files.limits import format_size
from unet_jax.errors import UserError

KILOBYTES_875 = bytes(875 * 1024)


def open_and_read(path, axes=2):
    with files.open_images(path, axes=axes) as file:
        return file.read(0, [slice(0, n) for n in file.shape])


def sparse_zarr(path):
    save_zarr(path, np.ones((4, 4), np.uint8), "yx", "0.4")
    metadata = json.loads((path / "0" / ".zarray").read_text())
    (path / "0" / ".zarray").write_text(
        json.dumps(metadata | {"shape": [10**6, 10**6]})
    )


def striped_tiff(path):
    """30000 x 30000 in strips of 256 rows, most of which are the same bytes."""
    strip = zlib.compress(bytes(256 * 30_000), 9)
    count = -(-30_000 // 256)
    where = 8 + 2 + 12 * 8 + 4
    data = where + 8 * count
    tags = [(256, 1, 30_000), (257, 1, 30_000), (258, 1, 8), (259, 1, 8), (262, 1, 1)]
    tags += [(273, count, where), (278, 1, 256), (279, count, where + 4 * count)]
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    head += b"".join(struct.pack("<HHII", tag, 4, n, v) for tag, n, v in tags)
    lists = struct.pack(f"<{2 * count}I", *[data] * count, *[len(strip)] * count)
    path.write_bytes(head + bytes(4) + lists + strip)


BOMBS = {  # and what the message says of the size
    "tiny.png": (
        lambda p: p.write_bytes(test_fuzz.png((13_000, 13_000))),
        "too short for its 13000 x 13000 pixels",
    ),
    "huge.png": (
        lambda p: p.write_bytes(test_fuzz.png((60_000, 60_000))),
        "3600000000 pixels, above the limit of 178956970",
    ),
    "strip.tif": (
        lambda p: p.write_bytes(test_fuzz.tiff(KILOBYTES_875, side=30_000)),
        r"858 MiB .*30000 x 30000.* has 875 KiB; more than 512 MiB is read only from a "
        "file of at least 1/200 of that size: cut it into smaller images",
    ),
    "strips.tif": (striped_tiff, r"858 MiB .*30000 x 30000"),
    "million.zarr": (sparse_zarr, r"931 GiB .*1000000 x 1000000.*more than 512 MiB is"),
    "a.bmp": (
        lambda p: p.write_bytes(
            b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 13_000, 13_000, 1,
                                24, 0, 0, 0, 0, 0, 0)
        ),
        "too short for its 13000 x 13000 pixels",
    ),
    "volume.nii.gz": (
        lambda p: p.write_bytes(
            gzip.compress(test_fuzz.nifti((900, 900, 900)) + os.urandom(2**20))
            + bytes(2**20)
        ),
        r"1.36 GiB .*900 x 900 x 900",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_memory_is_taken(tmp_path, name):
    write, text = BOMBS[name]
    write(tmp_path / name)
    tracemalloc.start()
    with pytest.raises(UserError, match=f"^{tmp_path}/{name}: .*{text}") as raised:
        open_and_read(tmp_path / name, axes=3 if ".nii" in name else 2)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**23
    assert "; " in str(raised.value)  # and what to do
    assert "\n" not in str(raised.value)


def test_an_empty_mask_of_a_large_image_is_read(tmp_path):
    """8192 x 8192 zeros, packed 1000:1."""
    Image.new("L", (8192, 8192)).save(tmp_path / "a.png", compress_level=9)
    assert (tmp_path / "a.png").stat().st_size < 2**26 / 900
    assert open_and_read(tmp_path / "a.png").shape == (8192, 8192, 1)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.gif", b"GIF89a" + struct.pack("<HHBBB", 13_000, 13_000, 0, 0, 0)
         + b"," + struct.pack("<HHHHB", 0, 0, 13_000, 13_000, 0) + b"\x02\x00;"),
        ("a.webp", b"RIFF\x1a\0\0\0WEBPVP8L\x0e\0\0\0/" + b"\xff" * 3 + b"\x0f" * 11),
        ("a.png", test_fuzz.png((13_000, 13_000))),
    ],
)  # fmt: skip
def test_bombs_of_published_archives_are_refused(name, content):
    with pytest.raises(UserError, match=f"^{name}: "):
        files.decode_image(content, name)


@pytest.mark.parametrize("options", [{}, {"tile": (512, 512)}, {"compression": "zlib"}])
def test_a_large_tiff_is_read_in_bands_in_little_memory(tmp_path, options):
    """16384 x 4096 of RGB, really stored: 192 MiB."""
    band = np.random.default_rng(0).integers(0, 256, (64, 4096, 3), np.uint8)
    image = np.broadcast_to(band, (256, *band.shape)).reshape(-1, 4096, 3)
    level = {"compressionargs": {"level": 0}} if "compression" in options else {}
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, image, photometric="rgb", **options, **level)
    del image
    tracemalloc.start()
    with files.open_images(path, axes=2) as file:
        for rows, block in files.read_bands(file, 0, 2**24):
            assert (block == np.resize(band, (len(block), *band.shape[1:]))).all()
            assert rows.start % 64 == 0
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**27.4


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.tif")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "socket.png"))
        for name, noun in (("pipe.tif", "a named pipe"), ("socket.png", "a socket")):
            with pytest.raises(UserError, match=f"{name}: is {noun}, not an image"):
                open_and_read(tmp_path / name)
            with pytest.raises(UserError, match=f"{name}: is {noun}, not an image"):
                files.find_images(str(tmp_path / name))
    os.symlink("/dev/zero", tmp_path / "device.png")
    for path in (tmp_path / "device.png", "/dev/zero"):
        with pytest.raises(UserError, match=r"(device.png|/dev/zero): is a device"):
            files.find_images(str(path))


@pytest.mark.parametrize("ending", ["png", "tif", "nii", "ome.zarr", "xyz"])
def test_a_link_to_nothing_names_its_target(tmp_path, ending):
    path = tmp_path.resolve() / f"a.{ending}"
    path.symlink_to("gone.tif")
    words = f"{path}: is a link that leads nowhere: {path.parent}/gone.tif does not"
    with pytest.raises(UserError, match=words):
        open_and_read(path)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_link_that_cannot_be_followed_is_not_called_broken(
    tmp_path, monkeypatch, code
):
    path = tmp_path / "a.png"
    path.symlink_to("/mnt/b.png")
    refuse_stat(monkeypatch, path, code)
    reason = os.strerror(code)
    assert files.find_fault(path) == f"cannot be read ({reason}); check its permissions"
    with pytest.raises(UserError) as error:
        open_and_read(path)
    assert str(error.value).startswith(f"{path}: cannot be read (")
    assert reason in str(error.value)


def test_other_files_of_an_ome_tiff_are_not_opened(tmp_path):
    """A pipe that the metadata name would block tifffile."""
    os.mkfifo(tmp_path / "other.ome.tif")
    ome = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        'UUID="urn:uuid:1"><Image ID="Image:0"><Pixels DimensionOrder="XYZCT" '
        'ID="Pixels:0" SizeX="4" SizeY="4" SizeZ="2" SizeC="1" SizeT="1" '
        'Type="uint8"><TiffData IFD="0" FirstZ="0" PlaneCount="1"><UUID '
        'FileName="a.ome.tif">urn:uuid:1</UUID></TiffData><TiffData IFD="0" '
        'FirstZ="1" PlaneCount="1"><UUID FileName="other.ome.tif">urn:uuid:2</UUID>'
        "</TiffData></Pixels></Image></OME>"
    )
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, np.ones((4, 4), np.uint8), description=ome, metadata=None)
    with pytest.raises(UserError, match=r"a\.ome\.tif: is one of several files"):
        open_and_read(path)


def test_a_label_volume_that_packs_well_is_read(tmp_path):
    """200 x 300 x 300 of float64, 137 MiB of which a thousandth is stored."""
    volume = nibabel.Nifti1Image(np.zeros((300, 300, 200)), np.eye(4))
    nibabel.save(volume, tmp_path / "a.nii.gz")
    assert open_and_read(tmp_path / "a.nii.gz", axes=3).shape == (200, 300, 300, 1)


def test_sizes_in_words():
    assert [format_size(n) for n in (7, 875 * 2**10, 900_000_000, 10**12)] == [
        "7 bytes",
        "875 KiB",
        "858 MiB",
        "931 GiB",
    ]


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "tif", "nii", "nii.gz"])
def test_an_empty_file_is_called_empty(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    path.touch()
    with pytest.raises(UserError, match=r"is empty; copy or save it again$"):
        open_and_read(path)
