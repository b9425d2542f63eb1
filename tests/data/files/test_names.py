from pathlib import Path

import pytest

from unet_jax.data import files
from unet_jax.errors import UserError


@pytest.fixture
def folder(tmp_path):
    for name in ("b.TIF", "a.png", "c.txt", "d.nii.gz", ".e.png", "[f].png"):
        (tmp_path / name).touch()
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "g.png").touch()
    for name, mark in (("x.ome.zarr", ".zattrs"), ("y", "zarr.json")):
        (tmp_path / name).mkdir()
        (tmp_path / name / mark).touch()
    return tmp_path


def test_find(folder):
    everything = ["[f].png", "a.png", "b.TIF", "d.nii.gz", "x.ome.zarr", "y"]
    for pattern, expected in (
        ("", everything),
        ("*", everything),
        ("*.png", ["[f].png", "a.png"]),
        ("[f].png", ["[f].png"]),
        ("c.txt", ["c.txt"]),  # named, so it is for `opened` to refuse
        ("x.ome.zarr", ["x.ome.zarr"]),
        ("y", ["y"]),
        ("**/g.png", ["g.png"]),
    ):
        assert [p.name for p in files.find_images(str(folder / pattern))] == expected


def test_files_of_systems_are_no_images(tmp_path):
    home = tmp_path / "new [1] ä"
    for name in ("a.png", "._a.png", "a.png~", "@eaDir/a.png", "__MACOSX/b.png"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).touch()
    for name in ("Thumbs.db", "desktop.ini", "notes.txt"):
        (home / name).touch()
    for pattern in ("", "*", "*.png", "**/*.png", "[a].png"):
        found = files.find_images(str(home / pattern))
        assert found == [home / "a.png"]
    (home / "b.png").mkdir()  # a folder that is named like an image
    (home / "sub").mkdir()
    (home / "link").symlink_to("gone")
    others = [home / name for name in ("b.png", "link", "notes.txt")]
    assert files.other_files(str(home), found) == others
    hidden = tmp_path / ".cache/a.png"  # a hidden folder that is named is read
    hidden.parent.mkdir()
    hidden.touch()
    assert files.find_images(f"{tmp_path}/.cache/*.png") == [hidden]


@pytest.mark.parametrize("pattern", ["none.png", "*.jpg", "*.txt", "z"])
def test_nothing_found_names_the_endings(folder, pattern):
    (folder / "z").mkdir()
    with pytest.raises(UserError, match=r"\.ome\.zarr") as raised:
        files.find_images(str(folder / pattern))
    assert str(folder / pattern) in str(raised.value)


def test_stem(folder):
    for name, expected in (
        ("a.nii.gz", "a"),
        ("a.b.tif", "a.b"),
        ("b.ome.tiff", "b"),
        ("c.PNG", "c"),
        ("x.ome.zarr", "x"),
        ("y", "y"),
        (".tif", ".tif"),
    ):
        assert files.stem(folder / name) == expected


def test_stems_are_all_different(folder):
    paths = ["a.png", "a.tif", "B.png", "b.nii.gz", "c.png", "k/d.png", "l/d.png"]
    expected = ["a_png", "a_tif", "B_png", "b_nii_gz", "c", "d_png_6", "d_png_7"]
    assert files.unique_stems([Path(p) for p in paths]) == expected
    awkward = files.unique_stems([Path(p) for p in ("a.png", "a.tif", "a_png.bmp")])
    assert len(set(awkward)) == 3
