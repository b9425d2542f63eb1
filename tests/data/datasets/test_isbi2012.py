import io
import shutil
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile

import unet_jax
from unet_jax import data
from unet_jax.data.datasets import isbi2012, prepared
from unet_jax.errors import UserError
from unet_jax.specs import bind

ZIP = "ISBI-2012-challenge.zip"
REAL = Path(unet_jax.__file__).parents[2] / "shared" / "data" / "isbi2012"


def stacks(slices=10):
    rng = np.random.default_rng(0)
    shape = (slices, 32, 32)
    return {
        "train-volume.tif": rng.integers(0, 256, shape, np.uint8),
        "train-labels.tif": rng.integers(0, 2, shape, np.uint8) * np.uint8(255),
        "test-volume.tif": rng.integers(0, 256, shape, np.uint8),
    }


def pack(folder, members, root="ISBI-2012-challenge/"):
    """Writes the archive as the challenge has it, a multi-page TIFF a stack."""
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / ZIP, "w") as archive:
        for name, stack in members.items():
            tiff = io.BytesIO()
            tifffile.imwrite(tiff, stack)
            archive.writestr(root + name, tiff.getvalue())
    return str(folder)


@pytest.fixture
def offline(monkeypatch):
    """Moves the address of the archive to a port that refuses connections."""
    nowhere = isbi2012.ARCHIVE._replace(url=f"http://127.0.0.1:9/{ZIP}")
    monkeypatch.setattr(isbi2012, "ARCHIVE", nowhere)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    place = tmp_path_factory.mktemp("tiny")
    manual = pack(place / "manual", stacks())
    return {"manual_dir": manual, "data_dir": str(place / "prepared")}


def ids(source):
    return [source.load(i)["id"] for i in range(source.length)]


def test_records_are_the_slices_of_the_stack(tiny):
    given, splits = stacks(), data.isbi2012(**tiny)
    assert splits.test.name == "isbi2012/test"
    assert splits.test.classes == ("membrane", "cell")
    assert not splits.test.background  # membranes count like cells
    assert data.isbi2012(background=True, **tiny).test.background
    assert ids(splits.test) == ["train-00", "train-05"]
    record = splits.test.load(1)
    np.testing.assert_array_equal(record["image"][..., 0], given["train-volume.tif"][5])
    np.testing.assert_array_equal(record["label"], given["train-labels.tif"][5] == 255)
    assert record["image"].shape == (32, 32, 1)
    assert record["image"].dtype == np.uint8
    assert record["label"].dtype == np.int32
    assert "instances" not in record


def test_folds_are_interleaved_and_partition_the_slices(tiny):
    every = [f"train-{i:02d}" for i in range(10)]
    tested = []
    for fold in range(5):
        train, val, test = map(ids, data.isbi2012(fold=fold, **tiny)[:3])
        assert sorted(train + val + test) == every
        assert test == every[fold::5]
        assert val == every[(fold + 1) % 5 :: 5]
        tested += test
    assert sorted(tested) == every


@pytest.mark.parametrize(
    ("labelled", "kept"),
    [
        (1, ["train-07"]),
        (2, ["train-03", "train-08"]),
        (3, [f"train-0{i}" for i in (3, 7, 9)]),
    ],
)
def test_few_of_the_training_slices_may_keep_their_labels(labelled, kept, tiny):
    """Of 2, 3, 4, 7, 8, 9 those in the middle of equal parts."""
    whole, splits = data.isbi2012(**tiny), data.isbi2012(labelled=labelled, **tiny)
    assert ids(splits.train) == kept
    assert splits.train.name == "isbi2012/train"
    others = [name for name in ids(whole.train) if name not in kept]
    assert ids(splits.unlabelled) == others
    assert splits.unlabelled.length == len(others)
    assert splits.unlabelled.name == "isbi2012/unlabelled"
    record, images = splits.unlabelled.load(0), map(whole.train.load, range(6))
    assert record.keys() == {"image", "id"}
    same = next(image for image in images if image["id"] == record["id"])
    np.testing.assert_array_equal(record["image"], same["image"])
    assert "label" in splits.train.load(0)
    for name in ("val", "test"):
        assert ids(getattr(splits, name)) == ids(getattr(whole, name))


@pytest.mark.parametrize("labelled", [0, 6])
def test_all_training_slices_keep_their_labels_unless_told(labelled, tiny):
    splits = data.isbi2012(labelled=labelled, **tiny)
    assert splits.train.length == 6
    assert splits.unlabelled is None


def test_the_challenge_volume_is_all_ignored(tiny):
    builder = prepared.prepare(isbi2012.DATASET, **tiny)
    source = prepared.read_source(builder, "test")
    assert source.length == 10
    np.testing.assert_array_equal(source.load(3)["label"], -1)


def test_a_prepared_data_set_is_used_as_it_is(tiny, tmp_path):
    empty = {**tiny, "manual_dir": str(tmp_path)}
    data.isbi2012(**tiny)
    before = {f: f.stat().st_mtime_ns for f in Path(tiny["data_dir"]).rglob("*")}
    data.isbi2012(**empty)
    assert {f: f.stat().st_mtime_ns for f in before} == before


def test_the_extracted_folder_will_do(tmp_path, offline):
    manual = Path(pack(tmp_path / "manual", stacks()))
    with zipfile.ZipFile(manual / ZIP) as archive:
        archive.extractall(manual)
    (manual / ZIP).unlink()
    for where in (manual, manual / "ISBI-2012-challenge"):
        splits = data.isbi2012(manual_dir=str(where), data_dir=str(tmp_path / "out"))
        assert splits.train.length == 6
        shutil.rmtree(tmp_path / "out")


def test_threads_load_the_same_records(tiny):
    source = data.isbi2012(**tiny).train
    with ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(source.load, list(range(source.length)) * 8))
    for i, record in enumerate(loaded):
        want = source.load(i % source.length)
        np.testing.assert_array_equal(record["image"], want["image"])


def truncated(folder):
    whole = Path(pack(folder, stacks()), ZIP)
    whole.write_bytes(whole.read_bytes()[:-3000])


def flipped(folder):
    whole = Path(pack(folder, stacks()), ZIP)
    content = bytearray(whole.read_bytes())
    content[len(content) // 2] ^= 255
    whole.write_bytes(content)


def foreign(folder):
    pack(folder, {"cats.tif": np.zeros((2, 4, 4), np.uint8)})


def unlike(folder):
    members = stacks()
    pack(folder, {**members, "train-labels.tif": members["train-labels.tif"][:9]})


def grey(folder):
    labels = stacks()["train-labels.tif"]
    labels[3, 4, :2] = 1, 254
    pack(folder, {**stacks(), "train-labels.tif": labels})


def not_tiff(folder):
    pack(folder, stacks())
    with zipfile.ZipFile(folder / ZIP) as archive:
        archive.extractall(folder)
    (folder / ZIP).unlink()
    (folder / "ISBI-2012-challenge" / "test-volume.tif").write_bytes(b"tiff?")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (truncated, [ZIP, "not a complete zip"]),
        (flipped, [ZIP, "not a complete zip", "train-labels.tif"]),
        (foreign, [ZIP, "train-volume.tif", "cats.tif"]),
        (unlike, [ZIP, "train-labels.tif", "(9, 32, 32)", "(10, 32, 32)"]),
        (grey, [ZIP, "train-labels.tif", "1, 254"]),
        (not_tiff, ["ISBI-2012-challenge", "test-volume.tif", "cannot be read"]),
    ],
)
def test_a_bad_archive_is_refused_and_leaves_nothing(spoil, words, tmp_path):
    spoil(tmp_path / "manual")
    place = {"manual_dir": str(tmp_path / "manual"), "data_dir": str(tmp_path / "out")}
    with pytest.raises(UserError) as caught:
        data.isbi2012(**place)
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == []
    assert not any(f.is_file() for f in (tmp_path / "out").rglob("*"))
    shutil.rmtree(tmp_path / "manual")
    pack(tmp_path / "manual", stacks())
    assert data.isbi2012(**place).train.length == 6


@pytest.mark.parametrize(
    ("number", "line"),
    [
        ({"fold": -1}, "config.data.fold must be a whole number of 0 or more"),
        ({"fold": 5}, "fold must be 0 to 4"),
        ({"folds": 2}, "config.data.folds must be a whole number of 3 or more"),
        ({"folds": 11}, "at least 3 and at most 10, the number of records; it is 11"),
        ({"labelled": 7}, "labelled must be 0 to 6, not 7"),
    ],
)
def test_folds_out_of_range(number, line, tiny):
    with pytest.raises(UserError, match=line):
        bind(data, {"name": "isbi2012", **tiny, **number}, "config.data")()


def test_a_manual_folder_that_is_not_there(tmp_path):
    gone = str(tmp_path / "gone")
    with pytest.raises(UserError, match=f"manual_dir: there is no folder {gone}"):
        data.isbi2012(manual_dir=gone, data_dir=str(tmp_path))


def test_without_file_and_network_it_says_at_once_what_to_put_where(tmp_path, offline):
    (tmp_path / "notes.txt").touch()
    start = time.monotonic()
    for manual, named in (("", "manual_dir"), (str(tmp_path), str(tmp_path))):
        with pytest.raises(UserError, match=f"no {ZIP} in {named} .*127.0.0.1") as e:
            data.isbi2012(manual_dir=manual, data_dir=str(tmp_path / "out"))
        assert "\n" not in str(e.value)
    assert time.monotonic() - start < 5


def test_a_data_folder_that_cannot_be_written(tiny, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"data_dir: .*{tmp_path}/file"):
        data.isbi2012(manual_dir=tiny["manual_dir"], data_dir=str(tmp_path / "file"))


def test_a_half_written_folder_is_written_anew(tiny, tmp_path):
    half = tmp_path / "isbi2012" / "1.0.0"
    half.mkdir(parents=True)
    (half / "isbi2012-train.array_record-00000-of-00001").write_bytes(b"half")
    (tmp_path / "isbi2012" / "incomplete.ABCDEF_1.0.0").mkdir()
    splits = data.isbi2012(manual_dir=tiny["manual_dir"], data_dir=str(tmp_path))
    assert splits.train.load(0)["id"] == "train-02"


def test_damaged_records_are_named(tiny, tmp_path):
    shutil.copytree(tiny["data_dir"], tmp_path, dirs_exist_ok=True)
    for records in tmp_path.rglob("*train.array_record*"):
        records.write_bytes(records.read_bytes()[:100])
    with pytest.raises(UserError, match=f"{tmp_path}/.*delete that folder"):
        data.isbi2012(manual_dir=tiny["manual_dir"], data_dir=str(tmp_path))


@pytest.mark.slow
def test_two_runs_may_prepare_at_once(tiny, tmp_path):
    arguments = {**tiny, "data_dir": str(tmp_path)}
    program = (
        "import unet_jax.data as d, sys; "
        f"print(d.isbi2012(**{arguments!r}).train.load(5)['id']); "
        "assert 'tensorflow' not in sys.modules"
    )
    command = [sys.executable, "-W", "error", "-c", program]
    root = Path(unet_jax.__file__).parents[1]
    runs = [
        subprocess.Popen(
            command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    answers = [run.communicate(timeout=120) for run in runs]
    assert answers == [(b"train-09\n", b"")] * 2


def test_what_is_known_of_the_set_is_stored_with_it(tiny):
    import tensorflow_datasets as tfds

    data.isbi2012(**tiny)
    folder = Path(tiny["data_dir"], "isbi2012", "1.0.0")
    info = tfds.builder_from_directory(folder).info
    assert "ISBI 2012 challenge" in info.description
    assert info.citation.startswith("@article{cardona2010integrated,")
    assert info.release_notes == {"1.0.0": "The sections in the order of the stack."}
    assert info.supervised_keys == ("image", "label")
    assert info.features["label"].names == ["membrane", "cell"]
    assert "tensorflow" not in sys.modules


@pytest.mark.skipif(not (REAL / ZIP).exists(), reason=f"no {ZIP} beside the repository")
def test_the_real_archive(tmp_path):
    splits = data.isbi2012(manual_dir=str(REAL), data_dir=str(tmp_path))
    assert [split.length for split in splits[:3]] == [18, 6, 6]
    records = [split.load(i) for split in splits[:3] for i in range(split.length)]
    assert {record["image"].shape for record in records} == {(512, 512, 1)}
    membrane = np.mean([record["label"] == 0 for record in records])
    assert membrane == pytest.approx(0.220, abs=5e-4)


def test_a_wrong_manual_dir_is_refused_although_the_data_are_prepared(tiny, tmp_path):
    data.isbi2012(**tiny)
    wrong = tiny | {"manual_dir": str(tmp_path / "gone")}
    with pytest.raises(UserError, match="manual_dir: there is no folder"):
        data.isbi2012(**wrong)
    with pytest.raises(UserError, match="manual_dir: there is no folder"):
        data.tfds(dataset="isbi2012", **wrong)
