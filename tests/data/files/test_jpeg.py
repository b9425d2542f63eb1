"""JPEGs that are cut off and closed with an end marker; libjpeg turns the rest grey."""

import io
import os
import time
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from unet_jax.data import files
from unet_jax.data.files.jpeg import pad_scan
from unet_jax.errors import UserError

RNG = np.random.default_rng(0)
SMALL = RNG.integers(0, 256, (12, 10, 3), np.uint8)
COLOUR = np.asarray(Image.fromarray(SMALL).resize((90, 110), Image.Resampling.BICUBIC))
END = b"\xff\xd9"
OPTIONS = {
    "colour": {},
    "best": {"quality": 100, "subsampling": 0},
    "worst": {"quality": 1},
    "restart": {"restart_marker_rows": 1},
    "optimized": {"optimize": True},
}


def encode(array, **options):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "JPEG", **options)
    return stream.getvalue()


def cut(content, share, fill):
    content = content[: int(len(content) * share)]
    return content.rstrip(b"\xff") + fill + END


def read(path):
    with files.open_images(path, axes=2) as file:
        return file.read(0, [slice(0, n) for n in file.shape])


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("array", [COLOUR, COLOUR[..., 0]], ids=["colour", "grey"])
def test_only_a_whole_image_is_read(tmp_path, name, array):
    whole = encode(array, **OPTIONS[name])
    path = tmp_path / "a.jpg"
    for after in (b"", b"\0" * 9, whole, b"\xff"):  # as cameras and copies leave it
        path.write_bytes(whole + after)
        expected = np.asarray(Image.open(io.BytesIO(whole)))
        np.testing.assert_array_equal(read(path).squeeze(), expected)
        np.testing.assert_array_equal(
            files.decode_image(path.read_bytes(), "a").squeeze(), expected
        )
    path.write_bytes(whole[: -len(END)] + b"\xff\xff" + END)  # filled with FF
    np.testing.assert_array_equal(read(path).squeeze(), expected)
    for share, fill in ((0.75, b""), (0.85, b"\xff\xff"), (0.95, b"")):
        content = cut(whole, share, fill)
        lost = np.asarray(Image.open(io.BytesIO(content)))  # without an error
        assert not np.array_equal(lost, expected)
        path.write_bytes(content)
        with pytest.raises(UserError) as error:
            read(path)
        assert str(error.value) == f"{path}: is cut off; copy or save it again"
        # photographs of published data sets are read as other programs do
        known = files.decode_image(content, "a").squeeze()
        np.testing.assert_array_equal(known, lost)


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (9, 7), (16, 16), (17, 33)])
@pytest.mark.parametrize("value", [0, 77, 255])
@pytest.mark.parametrize("quality", [1, 95])
def test_flat_images_are_read(tmp_path, shape, value, quality):
    path = tmp_path / "a.jpg"
    path.write_bytes(encode(np.full(shape, value, np.uint8), quality=quality))
    np.testing.assert_array_equal(read(path)[..., 0], Image.open(path))


def test_a_camera_file_of_several_images(tmp_path):
    first, second = Image.fromarray(COLOUR), Image.fromarray(COLOUR[::-1].copy())
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second])
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.format == "MPO"
        np.testing.assert_array_equal(read(tmp_path / "a.jpg"), image)


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_without_an_end_marker_a_file_is_cut_off(tmp_path, options):
    path = tmp_path / "a.jpg"
    whole = encode(COLOUR, **options)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError) as error:
        read(path)
    assert str(error.value) == f"{path}: is cut off; copy or save it again"


def test_a_progressive_image_is_read(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(encode(COLOUR, progressive=True))
    np.testing.assert_array_equal(read(path), Image.open(path))


def test_files_of_other_kinds_are_not_padded():
    assert pad_scan(encode(COLOUR, progressive=True)) is None
    frame = b"\xff\xc0\0\x11\x08\0\x08\0\x08\x03" + bytes(9)  # three bands, in
    scan = b"\xff\xda\0\x08\x01" + bytes(5) + b"\x12\x34"  # a scan of one band
    assert pad_scan(b"\xff\xd8" + frame + scan + END) is None
    whole = b"\xff\xda\0\x0c\x03" + bytes(9) + b"\x12\x34"  # a scan of three
    assert pad_scan(b"\xff\xd8" + frame + whole + END) is not None
    assert pad_scan(b"\xff\xd8" + frame + whole + scan + END) is None
    for broken in (b"", b"\xff\xd8", b"\xff\xd8\xff\xda", b"\xff\xd8\xff\xc0\0\x02"):
        assert pad_scan(broken) is None
        assert pad_scan(broken + END) is None


@pytest.mark.parametrize(
    "content",
    [b"\xff" * 2**20 + b"\0", b"\xff\xc4\0\x02" * 2**18],
    ids=["fill", "many"],
)
def test_markers_are_found_in_linear_time_and_little_memory(content):
    content = b"\xff\xd8" + content
    start = time.process_time()
    assert pad_scan(content) is None
    assert time.process_time() - start < 1
    content = content[: 2**16]
    tracemalloc.start()
    pad_scan(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**15


def test_a_sparse_file_of_200_gigabytes_takes_little_memory(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(encode(COLOUR))
    with Image.open(path) as image:
        expected = np.asarray(image)
    os.truncate(path, 200 * 10**9)
    tracemalloc.start()
    np.testing.assert_array_equal(read(path), expected)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22
