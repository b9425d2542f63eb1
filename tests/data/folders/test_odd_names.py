"""Files of systems are ignored; names of any Unicode form, with any character, pair."""

import json
import os
import shutil
import unicodedata

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_jax.data import folder

JUNK = (
    *("Thumbs.db", "ehthumbs.db", "desktop.ini", ".DS_Store", "Icon\r", ".gitkeep"),
    *("._3.png", "0.png~", "3.png.tmp", ".~lock.3.png#", "~$3.png", "3.png.part"),
)
JUNK_FOLDERS = (
    *("__MACOSX", ".ipynb_checkpoints", "@eaDir", "$RECYCLE.BIN", ".Trashes"),
    *(".AppleDouble", "System Volume Information", "lost+found"),
)


def litter(path):
    """Puts every kind of junk into a folder; the names are those of the systems."""
    for name in JUNK:
        (path / name).write_bytes(b"\0\5\x16\7" + bytes(60))
    for name in JUNK_FOLDERS:
        (path / name).mkdir()
        Image.fromarray(np.full((24, 20), 9, np.uint8)).save(path / name / "0.png")


def ids(splits):
    assert not splits.report.issues, splits.report.issues
    return sorted(record.id for record in splits.report.records)


def test_files_of_systems_are_ignored_in_every_folder(home):
    shutil.copytree(home / "masks", home / "instances")
    for name in ("images", "masks", "instances", "."):
        litter(home / name)
    assert ids(folder(root=str(home))) == [str(i) for i in range(10)]
    globs = {"images": "images/*", "masks": "masks/*", "instances": "instances/*"}
    assert len(ids(folder(root=str(home), **globs))) == 10
    globs = {"images": "images/**/*.png", "masks": "masks/**/*.png"}
    assert len(ids(folder(root=str(home), **globs))) == 10


def test_files_of_systems_are_ignored_among_splits_and_classes(home):
    for part, of in (("train", range(6)), ("val", range(6, 8)), ("test", range(8, 10))):
        for kind in ("images", "masks/cell"):
            (home / part / kind).mkdir(parents=True)
            for i in of:
                source = home / kind.split("/")[0] / f"{i}.png"
                source.rename(home / part / kind / f"{i}.png")
        for place in (home / part, home / part / "masks", home / part / "masks/cell"):
            litter(place)
    (home / "images").rmdir()
    (home / "masks").rmdir()
    splits = folder(root=str(home))
    assert splits.train.classes == ("background", "cell")
    assert len(ids(splits)) == 10


def test_names_pair_in_both_unicode_forms(home):
    nfc = unicodedata.normalize("NFC", "Zähler été")
    nfd = unicodedata.normalize("NFD", nfc)
    (home / "images/3.png").rename(home / f"images/{nfd}.png")
    (home / "masks/3.png").rename(home / f"masks/{nfc}.png")
    assert nfc in ids(folder(root=str(home)))
    (home / "masks").rename(home / unicodedata.normalize("NFD", "Gewählt"))
    typed = {"images": "images/*.png", "masks": "Gewählt/*.png"}
    assert nfc in ids(folder(root=str(home), **typed))
    assert nfc in ids(folder(root=str(home), masks="Gewählt"))
    typed = {"images": "images/Zähler*.png", "masks": "Gewählt/Zähler*.png"}
    assert len(folder(root=str(home), **typed).report.records) == 1


def test_an_image_in_two_unicode_forms_is_named(home):
    for form in ("NFC", "NFD"):
        name = unicodedata.normalize(form, "é.png")
        shutil.copy(home / "images/3.png", home / "images" / name)
        shutil.copy(home / "masks/3.png", home / "masks" / name)
    texts = [issue.text for issue in folder(root=str(home)).report.errors]
    assert [text.split(": ")[1] for text in texts] == 2 * [
        "two files of one stem, in different Unicode forms (NFC and NFD); rename or "
        "remove one"
    ]


@pytest.mark.parametrize("name", ["names [1] ä", "a*b?", "[!x]"])
def test_only_the_part_after_existing_folders_is_a_glob(home, name, tmp_path_factory):
    odd = tmp_path_factory.mktemp("odd") / name
    for kind in ("images", "masks"):
        (home / kind).rename(odd.parent / kind)
        shutil.copytree(odd.parent / kind, odd / kind)
    everything = [str(i) for i in range(10)]
    assert ids(folder(root=str(odd))) == everything
    assert ids(folder(root=str(odd), images="images/*.png", masks="masks/*.png"))
    for place in (f"{odd}/", f"{name}/"):
        globs = {"images": f"{place}images/*.png", "masks": f"{place}masks/*.png"}
        assert ids(folder(root=str(odd.parent), **globs)) == everything


def test_links_may_not_leave_a_folder_with_brackets(home):
    (home / "a [1]").mkdir()
    for kind in ("images", "masks"):
        (home / kind).rename(home / "a [1]" / kind)
    outside = home / "secret.png"
    (home / "a [1]/images/3.png").rename(outside)
    (home / "a [1]/images/3.png").symlink_to(outside)
    root = home / "a [1]"
    globs = {"images": f"{root}/images/*.png", "masks": f"{root}/masks/*.png"}
    (issue,) = folder(root=str(root), **globs).report.errors
    assert "images/3.png: a link that leaves" in issue.text


def test_brackets_that_match_nothing_are_literal(home):
    for kind in ("images", "masks"):
        for i in range(10):
            (home / kind / f"{i}.png").rename(home / kind / f"x [1] {i}.png")
    globs = {"images": "images/x [1] *.png", "masks": "masks/x [1] *.png"}
    assert ids(folder(root=str(home), **globs)) == [str(i) for i in range(10)]


def test_names_that_are_not_utf8_are_escaped(home):
    for byte, i in ((b"\xff", 0), (b"a\xe4", 1)):
        for kind in ("images", "masks"):
            name = os.fsdecode(byte) + ".png"
            (home / kind / f"{i}.png").rename(home / kind / name)
    tifffile.imwrite(home / "masks" / os.fsdecode(b"\xfe.tif"), np.zeros((2, 2)))
    splits = folder(root=str(home))
    assert {r"\xff", r"a\xe4"} < {record.id for record in splits.report.records}
    (issue,) = splits.report.errors
    assert issue.text.startswith(r"masks/\xfe.tif: a mask without an image")
    for source in splits.sources.values():
        for i in range(source.length):
            assert source.load(i)["image"].shape == (24, 20, 1)
            source.load(i)["id"].encode()
    json.loads(json.dumps(splits.notes).encode())
