import multiprocessing
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from unet_jax.data import records
from unet_jax.errors import UserError

RNG = np.random.default_rng(0)
ROOT = Path(records.__file__).parents[2]


def record(number=0, shape=(9, 7)):
    label = RNG.integers(-1, 3, shape, np.int32)
    return {
        "image": RNG.integers(0, 256, (*shape, 3), np.uint8),
        "label": label,
        "instances": np.where(label > 0, 70_000, 0).astype(np.int32),
        "id": f"image {number}",
        "spacing": (0.1, 1 / 3),
    }


def assert_same(got, want):
    assert got.keys() == want.keys()
    for key, value in want.items():
        assert type(got[key]) is type(value)
        if isinstance(value, np.ndarray):
            assert got[key].dtype == value.dtype
            assert got[key].shape == value.shape
            assert got[key].tobytes() == value.tobytes()  # NaNs and -0.0 too
        else:
            assert got[key] == value


def written(folder, count=5):
    want = [record(i) for i in range(count)]
    records.write(folder, iter(want), {"classes": ["cell", "none"]})
    return want


def damage(folder, change):
    path = folder / records.DATA
    data = bytearray(path.read_bytes())
    path.write_bytes(change(data))


def test_records_come_back_in_any_order(tmp_path):
    want = written(tmp_path / "deep" / "set")
    about, length, load = records.read(tmp_path / "deep" / "set")
    assert (about, length) == ({"classes": ["cell", "none"]}, 5)
    for i in (3, 0, 4, 4, 1, 2):
        assert_same(load(i), want[i])
    for index in (-1, 5):
        with pytest.raises(IndexError):
            load(index)


@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (2, 3, 4, 5)])
@pytest.mark.parametrize("dtype", ["?", "i1", ">u2", "i4", "u8", "f2", "f4", "f8"])
def test_every_dtype_and_shape_to_the_bit(tmp_path, dtype, shape):
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    noise = RNG.integers(0, 2 if dtype == "?" else 256, size, np.uint8).tobytes()
    array = np.frombuffer(noise, dtype).reshape(shape)
    want = {"image": array, "label": array.T, "id": "\u00e4\n\udcff"}
    records.write(tmp_path / "set", [want], {})
    assert_same(records.read(tmp_path / "set").load(0), want)


@pytest.mark.parametrize(
    ("values", "size"),
    [((0, 255), 1), ((-1, 127), 1), ((-1, 128), 2), ((0, 65535), 2), ((-1, 70000), 4)],
)
def test_integers_are_stored_as_small_as_they_are(values, size):
    stored = records._smallest(np.array(values, np.int32))
    assert stored.dtype.itemsize == size
    np.testing.assert_array_equal(stored.astype(np.int32), values)


def test_what_is_read_may_be_changed_and_is_read_again(tmp_path):
    (want,) = written(tmp_path / "set", count=1)
    load = records.read(tmp_path / "set").load
    load(0)["label"][:] = 9
    assert_same(load(0), want)


def test_threads_read_at_once(tmp_path):
    want = written(tmp_path / "set", count=20)
    load = records.read(tmp_path / "set").load
    order = RNG.integers(0, 20, 400).tolist()
    with ThreadPoolExecutor(8) as pool:
        for i, got in zip(order, pool.map(load, order), strict=True):
            assert_same(got, want[i])


def test_records_stream_through(tmp_path):
    """64 records of 1 MiB, one of which is in memory at a time."""
    images = ({"image": np.full(2**20, i, np.uint8), "id": str(i)} for i in range(64))
    tracemalloc.start()
    records.write(tmp_path / "set", images, {})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 2**20


@pytest.mark.parametrize("error", [RuntimeError, UserError, KeyboardInterrupt])
def test_a_write_that_is_cut_off_leaves_nothing(tmp_path, error):
    def broken():
        yield record()
        raise error("from the source")

    with pytest.raises(error, match="^from the source$"):
        records.write(tmp_path / "set", broken(), {})
    assert not list(tmp_path.iterdir())


def test_a_killed_process_leaves_nothing_that_looks_whole(tmp_path):
    code = f"""
import os, pathlib
from unet_jax.data import records
from tests.data.test_records import record
def some():
    yield from map(record, range(3))
    os._exit(9)
records.write(pathlib.Path({str(tmp_path / "set")!r}), some(), {{}})
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == 9
    assert not records.written(tmp_path / "set")
    want = written(tmp_path / "set")
    assert_same(records.read(tmp_path / "set").load(4), want[4])


def _race(folder, number, ready):
    ready.wait()
    same = [{"image": np.full((64, 64), i, np.uint8), "id": str(i)} for i in range(50)]
    records.write(folder, same, {"by": number})


def test_processes_may_write_the_same_folder(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(2)
    racers = [
        context.Process(target=_race, args=(tmp_path / "set", i, ready))
        for i in range(2)
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert [racer.exitcode for racer in racers] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    about, length, load = records.read(tmp_path / "set")
    assert about["by"] in range(2)
    assert [int(load(i)["image"].max()) for i in range(length)] == list(range(50))


DAMAGED = {
    "cut": lambda data: data[: len(data) // 2],
    "last byte": lambda data: data[:-1],
    "empty": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
}


def test_a_file_that_is_gone_is_refused(tmp_path):
    written(tmp_path / "set")
    (tmp_path / "set" / records.DATA).unlink()
    with pytest.raises(UserError, match=r"set is damaged \(No such file"):
        records.read(tmp_path / "set")


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_refused_when_it_is_opened(tmp_path, kind):
    written(tmp_path / "set")
    damage(tmp_path / "set", DAMAGED[kind])
    with pytest.raises(UserError, match=r"^\S+/set is damaged \(.+\); delete that"):
        records.read(tmp_path / "set")


def test_every_damaged_byte_is_found_or_harmless(tmp_path):
    want = written(tmp_path / "set")
    whole = (tmp_path / "set" / records.DATA).read_bytes()
    texts = []
    for place in range(0, len(whole), max(len(whole) // 300, 1)):
        (tmp_path / "set" / records.DATA).write_bytes(
            whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :]
        )
        try:
            _, length, load = records.read(tmp_path / "set")
            for i in range(length):
                assert_same(load(i), want[i])
        except UserError as error:
            texts.append(str(error))
    assert len(texts) > 5
    assert all(text.startswith(f"{tmp_path / 'set'} is damaged") for text in texts)
    assert all(text.isprintable() for text in texts)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ("{}", "damaged"),
        ('{"version": 0, "length": 5, "about": {}}', "form 0, this is form 1"),
    ],
)
def test_about_is_checked(tmp_path, text, words):
    written(tmp_path / "set")
    (tmp_path / "set" / records.ABOUT).write_text(text)
    with pytest.raises(UserError, match=words):
        records.read(tmp_path / "set")


def test_a_folder_without_records_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no records"):
        records.read(tmp_path)


def test_a_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="set cannot be written"):
        written(tmp_path / "set")
    assert [p.name for p in tmp_path.rglob("*")] == ["set", "thesis.tex"]


def test_a_place_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/set cannot be written \(Not a dir"):
        written(tmp_path / "file" / "set")


def test_a_full_disk_is_one_line(tmp_path):
    code = f"""
import pathlib, resource, signal
from unet_jax.data import records
from tests.data.test_records import record
from unet_jax.errors import UserError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    records.write(
        pathlib.Path({str(tmp_path / "set")!r}),
        (record(i, (99, 99)) for i in range(99)),
        {{}},
    )
except UserError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stderr == ""
    assert "set cannot be written (" in done.stdout
    assert "File too large" in done.stdout
    assert done.stdout.count("\n") == 1
    assert not list(tmp_path.iterdir())
