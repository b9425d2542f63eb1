import gzip
import itertools
import tracemalloc

import numpy as np
import pytest

from unet_jax.data import files
from unet_jax.data.files import nifti
from unet_jax.errors import UserError

RNG = np.random.default_rng(0)
AFFINE = np.array([[0, 0.5, 0, 3], [-0.5, 0, 0, 4], [0, 0, 2, 5], [0, 0, 0, 1.0]])
BOX = (slice(1, 4), slice(0, 6), slice(2, 3))


@pytest.fixture
def nibabel():
    return pytest.importorskip("nibabel")


def save(nibabel, path, array, kind="Nifti1Image", dtype=None):
    image = getattr(nibabel, kind)(array, AFFINE, dtype=dtype)
    image.header.set_xyzt_units("mm", "sec")
    image.header["cal_max"] = 9
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize(
    ("ending", "dtype", "kind"),
    [
        *itertools.product(["nii", "nii.gz"], ["u1", "i2", "f4"], ["Nifti1Image"]),
        ("nii.gz", ">i2", "Nifti1Image"),
        ("nii", "u2", "Nifti2Image"),
    ],
)
def test_slices_come_first(nibabel, tmp_path, ending, dtype, kind):
    array = RNG.integers(0, 100, (5, 6, 4)).astype(dtype)
    path = save(nibabel, tmp_path / f"a.{ending}", array, kind)
    with files.open_images(path, axes=3) as file:
        assert (file.kind, file.count, file.shape) == ("nifti", 1, (4, 6, 5))
        assert file.spacing == (2.0, 0.5, 0.5)
        np.testing.assert_array_equal(file.affine, AFFINE)
        block = file.read(0, BOX)
        np.testing.assert_array_equal(block[..., 0], array.T[BOX])
        assert block.dtype == file.dtype == np.dtype(dtype).newbyteorder("=")


def test_a_fourth_axis_holds_channels(nibabel, tmp_path):
    array = RNG.integers(0, 100, (5, 6, 4, 2)).astype(np.int16)
    path = save(nibabel, tmp_path / "a.nii", array)
    with files.open_images(path, axes=3) as file:
        assert (file.shape, file.channels) == ((4, 6, 5), 2)
        turned = array.transpose(2, 1, 0, 3)
        np.testing.assert_array_equal(file.read(0, BOX), turned[BOX])


def test_scaled_pixels_are_float32(nibabel, tmp_path):
    array = np.linspace(-1, 1, 120).reshape(5, 6, 4)
    path = save(nibabel, tmp_path / "a.nii.gz", array, dtype=np.int16)
    with files.open_images(path, axes=3) as file:
        block = file.read(0, BOX)
        assert block.dtype == file.dtype == np.float32
        np.testing.assert_allclose(block[..., 0], array.T[BOX], atol=1e-4)


def test_axes_that_the_network_does_not_take(nibabel, tmp_path):
    volume = save(nibabel, tmp_path / "a.nii", np.zeros((5, 6, 4), np.uint8))
    image = save(nibabel, tmp_path / "b.nii", np.zeros((5, 6), np.uint8))
    slab = save(nibabel, tmp_path / "c.nii", np.zeros((5, 6, 1), np.uint8))
    for path, axes in ((volume, 2), (image, 3)):
        with (
            pytest.raises(UserError, match=path.name),
            files.open_images(path, axes=axes),
        ):
            pass
    for path in (image, slab):
        with files.open_images(path, axes=2) as file:
            assert file.shape == (6, 5)
            assert file.read(0, [slice(0, 5), slice(1, 3)]).shape == (5, 2, 1)
            with files.write_images(tmp_path, "out", file, "u1") as writer:
                writer.write(np.ones((6, 5), np.uint8))
        written = nibabel.load(writer.path)
        assert written.shape == nibabel.load(path).shape


def test_labels_of_independent_classes_have_a_fourth_axis(nibabel, tmp_path):
    path = save(nibabel, tmp_path / "a.nii", np.zeros((5, 6, 4), np.uint8))
    labels = RNG.integers(0, 2, (4, 6, 5, 3)).astype(np.uint8)
    with (
        files.open_images(path, axes=3) as file,
        files.write_images(tmp_path, "b", file, "u1", channels=3) as writer,
    ):
        writer.write(labels)
    written = nibabel.load(writer.path)
    np.testing.assert_array_equal(written.affine, AFFINE)
    np.testing.assert_array_equal(
        np.asarray(written.dataobj), labels.transpose(2, 1, 0, 3)
    )


@pytest.mark.parametrize("kind", ["Nifti1Image", "Nifti2Image"])
@pytest.mark.parametrize("dtype", ["u1", "u4"])
def test_labels_keep_their_place(nibabel, tmp_path, kind, dtype):
    array = np.linspace(-1, 1, 120).reshape(5, 6, 4)
    path = save(nibabel, tmp_path / "a.nii", array, kind, dtype=np.int16)
    labels = RNG.integers(0, 9, (4, 6, 5)).astype(dtype)
    with (
        files.open_images(path, axes=3) as file,
        files.write_images(tmp_path, "b", file, dtype) as writer,
    ):
        writer.write(labels[:2])
        writer.write(labels[2:])
    written = nibabel.load(writer.path)
    assert writer.path.name == "b.nii.gz"
    assert type(written).__name__ == kind
    assert written.get_data_dtype() == np.dtype(dtype)
    np.testing.assert_array_equal(np.asarray(written.dataobj), labels.T)
    np.testing.assert_array_equal(written.affine, AFFINE)
    assert written.header.get_xyzt_units() == ("mm", "sec")
    assert written.header["cal_max"] == 0
    assert written.header.get_zooms()[:3] == (0.5, 0.5, 2.0)


def test_what_claims_too_much_is_not_held(nibabel, tmp_path, monkeypatch):
    path = save(nibabel, tmp_path / "a.nii.gz", np.zeros((64, 64, 64), np.uint8))
    monkeypatch.setattr(nifti, "LIMIT", 64**3 - 1)
    with pytest.raises(UserError, match=r"a\.nii\.gz: .*save it as \.nii"):
        read_all(path)


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_an_absurd_header_takes_no_memory(nibabel, tmp_path, ending):
    """32767 voxels along each of three axes, and no pixels."""
    header = nibabel.Nifti1Header()
    header.set_data_shape((32767,) * 3)
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    path = tmp_path / f"a.{ending}"
    data = header.binaryblock + bytes(4)
    path.write_bytes(gzip.compress(data) if ending == "nii.gz" else data)
    tracemalloc.start()
    with (
        pytest.raises(UserError, match=r"a\.nii"),
        files.open_images(path, axes=3) as file,
    ):
        file.read(0, [slice(0, 8)] * 3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**24


def test_without_nibabel_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    path = tmp_path / "a.nii"
    path.write_bytes(b"0")
    with (
        pytest.raises(UserError, match=r"a\.nii.*pip install nibabel"),
        files.open_images(path, axes=3),
    ):
        pass


def read_all(path):
    with files.open_images(path, axes=3) as file:
        return file.read(0, [slice(0, n) for n in file.shape])
