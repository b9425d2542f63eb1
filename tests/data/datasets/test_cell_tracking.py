import functools
import hashlib
import http.server
import sys
import threading

import numpy as np
import pytest

from tests.data import archives
from unet_jax import data
from unet_jax.data.datasets import cell_tracking
from unet_jax.errors import UserError

NAMES = list(archives.TRACKED)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    place = tmp_path_factory.mktemp("tracked")
    archives.every(place)
    return {"manual_dir": str(place), "data_dir": str(place / "prepared")}


def ids(source):
    return [source.load(i)["id"] for i in range(source.length)]


@pytest.mark.parametrize("name", NAMES)
def test_one_video_is_tested_and_the_end_of_the_other_validates(name, tiny):
    splits = getattr(data, name)(**tiny)
    assert splits.test.name == f"{name}/test"
    assert ids(splits.train) == ["01-t000", "01-t001", "01-t003"]
    assert ids(splits.val) == ["01-t005"]
    assert ids(splits.test) == ["02-t000", "02-t001", "02-t003", "02-t005"]
    other = getattr(data, name)(sequence=1, **tiny)
    assert ids(other.test) == [*ids(splits.train), *ids(splits.val)]
    assert ids(other.train) + ids(other.val) == ids(splits.test)


def test_records_are_the_files_of_a_frame(tiny):
    test = data.dic_hela(**tiny).test
    record, members = test.load(0), archives.tracked("DIC-C2DH-HeLa")
    assert record["image"].shape == (56, 48, 1)
    assert record["image"].dtype == np.uint8
    image = archives.tiff(record["image"][..., 0])
    assert image == members["DIC-C2DH-HeLa/02/t000.tif"]
    ids, pixels = np.unique(record["instances"], return_counts=True)
    assert dict(zip(ids, pixels, strict=True))[7] == 64
    assert list(ids) == [0, 7, 9]
    np.testing.assert_array_equal(record["label"], record["instances"] > 0)
    assert record["label"].dtype == record["instances"].dtype == np.int32


@pytest.mark.parametrize(
    ("sequence", "ignored"),
    [(1, (slice(21, 31), slice(20, 30))), (2, (slice(24, 26), slice(24, 26)))],
)
def test_a_cell_that_gold_leaves_out_is_ignored(sequence, ignored, tiny):
    """Silver truth (video 1) or else the marker (video 2) shows such a cell."""
    record = data.phc_u373(sequence=sequence, **tiny).test.load(1)  # an odd frame
    assert set(np.unique(record["instances"])) == {0, 7}
    want = np.zeros((56, 48), np.int32)
    want[4:12, 5:13] = 1  # the row by which silver differs from gold stays background
    want[ignored] = -1
    np.testing.assert_array_equal(record["label"], want)


def test_half_covered_is_not_drawn():
    gold, known = np.zeros((2, 1, 8), np.uint16)
    gold[0, :5], known[0, :4], known[0, 4:6], known[0, 6:] = 3, 1, 2, 9
    label = cell_tracking.ignore_missing_cells(gold, [known])
    assert label.tolist() == [[1, 1, 1, 1, 1, -1, -1, -1]]


@pytest.mark.parametrize("name", NAMES)
def test_the_extracted_folder_will_do(name, tmp_path):
    public = archives.TRACKED[name]
    archives.unpack(tmp_path, archives.tracked(public))
    for where in (tmp_path, tmp_path / public):
        out = str(tmp_path / "out" / where.name)
        splits = getattr(data, name)(manual_dir=str(where), data_dir=out)
        assert splits.train.length == 3


def missing_gold(members):
    return {k: v for k, v in members.items() if "02_GT/SEG" not in k}


def missing_frame(members):
    return {k: v for k, v in members.items() if not k.endswith("02/t003.tif")}


def missing_markers(members):
    return {k: v for k, v in members.items() if "man_track003" not in k}


def foreign(members):
    return {"cats/1.jpg": b"cat"}


def deep(members):
    frame = archives.tiff(np.zeros((56, 48), np.uint16))
    return members | {"DIC-C2DH-HeLa/01/t001.tif": frame}


def shallow(members):
    gold = archives.tiff(np.zeros((56, 47), np.uint16))
    return members | {"DIC-C2DH-HeLa/01_GT/SEG/man_seg001.tif": gold}


def text(members):
    return members | {"DIC-C2DH-HeLa/01_GT/SEG/man_seg001.tif": b"tiff?"}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (missing_gold, ["no 02_GT/SEG/man_seg", "readme.txt", "http"]),
        (missing_frame, ["02-t003", "frame", "missing"]),
        (missing_markers, ["02-t003", "GT/TRA", "ST/SEG"]),
        (foreign, ["cats/1.jpg", "DIC-C2DH-HeLa.zip", "http"]),
        (deep, ["01-t001", "8-bit", "uint16"]),
        (shallow, ["01-t001", "GT/SEG", "(56, 48)", "(56, 47)"]),
        (text, ["01-t001", "cannot be read"]),
    ],
)
def test_a_bad_archive_is_refused_and_leaves_nothing(spoil, words, tmp_path):
    members = spoil(archives.tracked("DIC-C2DH-HeLa"))
    archives.pack_zip(tmp_path / "DIC-C2DH-HeLa.zip", members)
    with pytest.raises(UserError) as caught:
        data.dic_hela(manual_dir=str(tmp_path), data_dir=str(tmp_path / "out"))
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in ["DIC-C2DH-HeLa.zip", *words] if word not in message] == []
    assert not any(f.is_file() for f in (tmp_path / "out").rglob("*"))


def test_a_video_of_one_frame_cannot_train_and_validate(tmp_path):
    members = archives.tracked("DIC-C2DH-HeLa", gold=(2,))
    archives.pack_zip(tmp_path / "DIC-C2DH-HeLa.zip", members)
    with pytest.raises(UserError, match="sequence 1 has 1 frame"):
        data.dic_hela(manual_dir=str(tmp_path), data_dir=str(tmp_path / "out"))


@pytest.mark.parametrize("name", NAMES)
def test_without_file_and_network_it_says_what_to_put_where(
    name, tmp_path, monkeypatch
):
    nowhere = cell_tracking.ARCHIVES[name]._replace(url="http://127.0.0.1:9/x.zip")
    monkeypatch.setitem(cell_tracking.ARCHIVES, name, nowhere)
    with pytest.raises(UserError, match=f"no {archives.TRACKED[name]}.zip in .*127"):
        getattr(data, name)(data_dir=str(tmp_path))


def test_the_archive_is_downloaded_where_there_is_a_network(tmp_path, monkeypatch):
    (tmp_path / "site").mkdir()
    path = tmp_path / "site/x.zip"
    archives.pack_zip(path, archives.tracked("DIC-C2DH-HeLa"))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    handler = functools.partial(Quiet, directory=tmp_path / "site")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/x.zip"
        archive = cell_tracking.ARCHIVES["dic_hela"]._replace(url=url, sha256=sha256)
        monkeypatch.setitem(cell_tracking.ARCHIVES, "dic_hela", archive)
        assert data.dic_hela(data_dir=str(tmp_path / "out")).train.length == 3
        server.shutdown()
    assert (tmp_path / "out/downloads/DIC-C2DH-HeLa.zip").is_file()
    assert "tensorflow" not in sys.modules


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass
