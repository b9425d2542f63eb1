"""Links, pipes and folders in the place of an image are reported with a remedy."""

import errno
import os
import shutil

import numpy as np
import pytest

from tests.data.files.conftest import refuse_stat
from tests.data.folders.conftest import save
from unet_jax.data import files, folder
from unet_jax.errors import UserError


def dangling(path):
    path.symlink_to("gone.png")


def dangling_outside(path):
    path.symlink_to("/gone/6.png")


def loop(path):
    path.symlink_to(path.name)


def named_folder(path):
    save(path / "a.png", np.zeros((24, 20)))


def pipe(path):
    os.mkfifo(path)  # whoever opened it would wait forever


def device(path):
    path.symlink_to("/dev/zero")


FAULTS = {
    dangling: "is a link that leads nowhere: {home}/{kind}/gone.png does not exist; "
    "restore it, or remove the link",
    dangling_outside: "is a link that leads nowhere: /gone/6.png does not exist; "
    "restore it, or remove the link",
    loop: "is a link that leads back to itself; replace it, or remove the link",
    named_folder: "is a folder that is named like an image; rename it, or remove it",
    pipe: "is a named pipe, not an image file; remove it",
    device: "is a device, not an image file; remove it",
}
GLOBS = {"images": "images/*.png", "masks": "masks/*.png"}


@pytest.mark.parametrize("make", FAULTS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("kind", ["images", "masks"])
@pytest.mark.parametrize("options", [{}, {"links": True}, GLOBS])
@pytest.mark.parametrize("name", ["6.png", "new.png"])  # new.png has no partner
def test_it_is_named_with_a_remedy(home, kind, make, options, name):
    home = home.resolve()
    (home / kind / name).unlink(missing_ok=True)
    make(home / kind / name)
    (error,) = folder(root=str(home), **options).report.errors
    text = FAULTS[make].format(home=home, kind=kind)
    assert error.text == f"{kind}/{name}: {text}"


@pytest.mark.parametrize("kind", ["images", "masks", "unlabelled"])
@pytest.mark.parametrize("make", [pipe, device])
def test_a_pipe_of_any_name_is_named(home, kind, make):
    (home / kind).mkdir(exist_ok=True)
    make(home / kind / "notes.txt")
    (error,) = folder(root=str(home)).report.errors
    assert error.text == f"{kind}/notes.txt: {FAULTS[make]}"


def test_an_image_and_its_mask_may_both_be_pipes(home):
    for kind in ("images", "masks"):
        (home / f"{kind}/3.png").unlink()
        pipe(home / f"{kind}/3.png")
    errors = folder(root=str(home)).report.errors
    assert [e.text.partition(":")[0] for e in errors] == ["images/3.png", "masks/3.png"]


@pytest.mark.parametrize("kind", ["images", "masks", "targets"])
@pytest.mark.parametrize("make", [dangling, loop])
@pytest.mark.parametrize("place", ["", "train"])
def test_a_folder_that_is_a_link_to_nothing(home, kind, make, place):
    if place:
        (home / place).mkdir()
        for each in ("images", "masks"):
            (home / each).rename(home / place / each)
    shutil.rmtree(home / place / kind, ignore_errors=True)
    make(home / place / kind)
    words = "leads nowhere" if make is dangling else "leads back to itself"
    words = f"{kind}: is a link that {words}"
    if kind == "images":
        with pytest.raises(UserError, match=f"/{words}"):
            folder(root=str(home))
    else:
        (error,) = folder(root=str(home)).report.errors
        assert words in error.text


@pytest.mark.parametrize("place", ["val", "val/images"])
def test_a_split_that_is_a_link_to_nothing(home, place):
    (home / "train").mkdir()
    for kind in ("images", "masks"):
        (home / kind).rename(home / "train" / kind)
    (home / place).parent.mkdir(exist_ok=True)
    dangling(home / place)
    (error,) = folder(root=str(home)).report.errors
    assert error.text.startswith(f"{place}: is a link that leads nowhere: ")
    shutil.rmtree(home / "train")
    with pytest.raises(UserError, match=f"/{place}: is a link that leads nowhere: "):
        folder(root=str(home))


@pytest.mark.parametrize("links", [False, True])
@pytest.mark.parametrize("kind", ["images", "masks"])
def test_an_image_that_cannot_be_reached_is_reported(home, monkeypatch, kind, links):
    path = home / kind / "6.png"
    path.unlink()
    path.symlink_to("/mnt/6.png")
    refuse_stat(monkeypatch, path, errno.EACCES)
    (error,) = folder(root=str(home), links=links).report.errors
    reason = "cannot be read (Permission denied); check its permissions"
    assert error.text == f"{kind}/6.png: {reason}"


@pytest.mark.parametrize("place", ["", "images"])
def test_a_folder_that_cannot_be_reached_is_reported(home, monkeypatch, place):
    path = home / place if place else home
    refuse_stat(monkeypatch, path, errno.EACCES)
    with pytest.raises(UserError) as error:
        folder(root=str(home))
    reason = "cannot be read (Permission denied); check its permissions"
    assert str(error.value).endswith(f"{path}: {reason}")
    with pytest.raises(UserError, match=reason.replace("(", ".").replace(")", ".")):
        files.find_images(str(path))


@pytest.mark.parametrize("inside", ["", "images"])
def test_a_split_that_is_a_link_to_outside_matters_if_it_has_images(
    home, tmp_path_factory, inside
):
    for kind in ("images", "masks"):
        for split, numbers in (("train", range(6)), ("val", range(6, 10))):
            (home / split / kind).mkdir(parents=True)
            for i in numbers:
                (home / f"{kind}/{i}.png").rename(home / f"{split}/{kind}/{i}.png")
        (home / kind).rmdir()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    save(elsewhere / inside / "a.png", np.zeros((24, 20)))
    (home / "test").symlink_to(elsewhere)
    texts = [error.text for error in folder(root=str(home)).report.errors]
    reason = f"a link that leaves {home}; copy the files there, or allow links: "
    reason += "--config.data.links=True"
    kinds = ["images", "masks", "instances", "targets"] if inside else []
    assert texts == [f"test/{kind}: {reason}" for kind in kinds]


def test_folders_of_tiles_may_be_named_like_their_image(home):
    for kind in ("images", "masks"):
        for i in range(10):
            (home / f"{kind}/{i}.png").rename(home / f"{kind}/tile.png")
            (home / f"{kind}/slide{i}.tif").mkdir()
            (home / f"{kind}/tile.png").rename(home / f"{kind}/slide{i}.tif/a.png")
    globs = {"images": "images/**/*", "masks": "masks/**/*"}
    report = folder(root=str(home), **globs).report
    assert not report.errors
    assert len(report.records) == 10
    (home / "images/empty.tif").mkdir()
    (error,) = folder(root=str(home), **globs).report.errors
    assert error.text.startswith("images/empty.tif: is a folder that is named like")


def test_names_of_targets_are_escaped(home):
    (home / "images/9.png").unlink()
    (home / "images/9.png").symlink_to("a\x1b[2Jb.png")
    (error,) = folder(root=str(home)).report.errors
    assert "\x1b" not in error.text
