import os
import stat

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_jax.data import files
from unet_jax.data.files import write, write_tiff
from unet_jax.data.files.image_file import ImageFile
from unet_jax.errors import UserError

RNG = np.random.default_rng(0)


def image_file(kind, count, *shape):
    stack = (("Z" if len(shape) == 2 else "T", count),) if count > 1 else ()
    return ImageFile(None, kind, count, shape, 1, np.dtype(np.uint8), None, stack=stack)


def paint(folder, file, dtype, channels=0, step=3):
    """Writes random numbers in pieces; returns them, the file and its writer."""
    tail = (channels,) if channels else ()
    array = RNG.integers(0, 250, (file.count, *file.shape, *tail)).astype(dtype)
    with files.write_images(
        folder / "new", "a", file, dtype, channels=channels
    ) as writer:
        for image in array:
            for start in range(0, len(image), step):
                writer.write(image[start : start + step])
        assert not writer.path.exists()
    assert os.listdir(folder / "new") == [writer.path.name]
    return array, writer.path


@pytest.mark.parametrize("kind", ["image", "tiff"])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_a_flat_label_is_a_png(tmp_path, kind, dtype):
    array, path = paint(tmp_path, image_file(kind, 1, 7, 9), dtype)
    assert path.name == "a.png"
    read = np.asarray(Image.open(path))
    assert read.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(read, array[0])


@pytest.mark.parametrize(
    ("kind", "shape", "dtype", "samples", "axes"),
    [
        ("image", (1, 7, 9), "u4", 0, "YX"),
        ("image", (1, 7, 9), "f4", 3, "CYX"),
        ("image", (1, 3, 4), "f4", 1, "YX"),
        ("tiff", (5, 7, 9), "u1", 0, "ZYX"),
        ("tiff", (5, 7, 9), "u4", 0, "ZYX"),
        ("tiff", (5, 7, 9), "f4", 2, "ZCYX"),
        ("tiff", (1, 5, 7, 9), "u2", 0, "ZYX"),
        ("tiff", (1, 5, 7, 9), "f4", 2, "ZCYX"),
        ("tiff", (2, 5, 7, 9), "i4", 0, "TZYX"),
        ("tiff", (2, 5, 7, 9), "f4", 3, "TZCYX"),
        ("nifti", (1, 7, 9), "f4", 0, "YX"),
    ],
)
@pytest.mark.parametrize("step", [1, 4, 9])
def test_all_else_is_a_tiff_with_its_axes(
    tmp_path, kind, shape, dtype, samples, axes, step
):
    array, path = paint(tmp_path, image_file(kind, *shape), dtype, samples, step)
    expected = np.moveaxis(array, -1, -3) if samples else array
    with tifffile.TiffFile(path) as file:
        assert file.series[0].axes == axes
        assert file.series[0].dtype == np.dtype(dtype)
        assert len(file.pages) == expected.size // (shape[-1] * shape[-2])
        np.testing.assert_array_equal(file.asarray(), expected.squeeze())
    if len(shape) - 1 == 3 or shape[0] > 1:  # and what was written can be read again
        with files.open_images(path, axes=len(shape) - 1) as again:
            last = again.read(shape[0] - 1, [slice(0, n) for n in shape[1:]])
            np.testing.assert_array_equal(last.squeeze(), array[-1].squeeze())


def test_a_large_label_is_a_tiff(tmp_path, monkeypatch):
    monkeypatch.setattr(write, "PNG_PIXELS", 62)
    _, path = paint(tmp_path, image_file("image", 1, 7, 9), "u1")
    assert path.name == "a.tif"


def test_what_is_too_large_for_imagej_is_a_bigtiff(tmp_path, monkeypatch):
    monkeypatch.setattr(write_tiff, "IMAGEJ_BYTES", 100)
    array, path = paint(tmp_path, image_file("tiff", 5, 7, 9), "u1")
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff
        assert file.series[0].axes == "ZYX"
        np.testing.assert_array_equal(file.asarray(), array)


@pytest.mark.parametrize("shape", [(1, 7, 9), (5, 7, 9)])
def test_an_exception_leaves_nothing_and_keeps_what_was_there(tmp_path, shape):
    old = tmp_path / ("a.png" if shape[0] == 1 else "a.tif")
    old.write_text("old")
    block = np.zeros(shape[1:], np.uint8)

    def start(then):
        with files.write_images(
            tmp_path, "a", image_file("tiff", *shape), "u1"
        ) as writer:
            writer.write(block[:3])
            if then:
                raise then

    with pytest.raises(KeyboardInterrupt):
        start(then=KeyboardInterrupt)
    with pytest.raises(AssertionError, match="rows were written"):
        start(then=None)
    assert os.listdir(tmp_path) == [old.name]
    assert old.read_text() == "old"


def test_an_error_of_the_caller_is_not_blamed_on_the_folder(tmp_path):
    with (
        pytest.raises(FileNotFoundError),
        files.write_images(tmp_path, "a", image_file("tiff", 5, 7, 9), "u1"),
    ):
        raise FileNotFoundError


def test_a_folder_that_cannot_be_written_names_the_flag(tmp_path):
    (tmp_path / "file").touch()
    folders = [tmp_path / "file", tmp_path / "file" / "inner"]
    if os.geteuid() != 0:  # root may write everywhere
        (tmp_path / "locked").mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
        folders.append(tmp_path / "locked")
    for folder in folders:
        for count in (1, 5):
            with pytest.raises(UserError, match="--output: .*(file|locked)") as raised:
                fill(folder, image_file("tiff", count, 1, 1))
            assert "\n" not in str(raised.value)


def fill(folder, file):
    with files.write_images(folder, "a", file, "u1") as writer:
        for _ in range(file.count):
            writer.write(np.zeros(file.shape, np.uint8))


@pytest.mark.parametrize("shape", [(7, 9), (5, 7, 9)])  # a PNG, a TIFF
def test_results_are_not_written_through_a_link(tmp_path, shape):
    (tmp_path / "new").mkdir()
    (tmp_path / "other").write_text("unchanged")
    for ending in ("png", "tif"):
        (tmp_path / f"new/a.{ending}.part").symlink_to(tmp_path / "other")
    with files.write_images(
        tmp_path / "new", "a", image_file("tiff", 1, *shape), "u1"
    ) as writer:
        writer.write(np.zeros(shape, np.uint8))
    assert (tmp_path / "other").read_text() == "unchanged"
    assert not writer.path.is_symlink()
