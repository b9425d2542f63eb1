import multiprocessing
import pickle
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgpack
import numpy as np
import pytest

from unet_jax.data import record_file
from unet_jax.errors import UserError

RNG = np.random.default_rng(0)
ROOT = Path(record_file.__file__).parents[2]


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
    record_file.write_records(folder, iter(want), {"classes": ["cell", "none"]})
    return want


def damage(folder, change):
    path = folder / record_file.DATA
    data = bytearray(path.read_bytes())
    path.write_bytes(change(data))


def test_records_come_back_in_any_order(tmp_path):
    want = written(tmp_path / "deep" / "set")
    about, length, load = record_file.open_records(tmp_path / "deep" / "set")
    assert (about, length) == ({"classes": ["cell", "none"]}, 5)
    for i in (3, 0, 4, 4, 1, 2):
        assert_same(load(i), want[i])
    for index in (-1, 5):
        with pytest.raises(IndexError):
            load(index)


@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (2, 3, 4, 5)])
@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "i4", "u8", "f2", "f4", "f8"])
def test_every_dtype_and_shape_to_the_bit(tmp_path, dtype, shape):
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    noise = RNG.integers(0, 2 if dtype == "?" else 256, size, np.uint8).tobytes()
    array = np.frombuffer(noise, dtype).reshape(shape)
    want = {"image": array, "label": array.T, "id": "\u00e4\n\udcff"}
    record_file.write_records(tmp_path / "set", [want], {})
    assert_same(record_file.open_records(tmp_path / "set").load(0), want)


def test_arrays_come_back_in_the_byte_order_of_this_machine(tmp_path):
    array = np.arange(6, dtype=">u2").reshape(2, 3)
    record_file.write_records(tmp_path / "set", [{"image": array}], {})
    image = record_file.open_records(tmp_path / "set").load(0)["image"]
    assert image.dtype.isnative
    np.testing.assert_array_equal(image, array)


def test_what_is_read_may_be_changed_and_is_read_again(tmp_path):
    (want,) = written(tmp_path / "set", count=1)
    load = record_file.open_records(tmp_path / "set").load
    load(0)["label"][:] = 9
    assert_same(load(0), want)


def test_threads_read_at_once(tmp_path):
    want = written(tmp_path / "set", count=20)
    load = record_file.open_records(tmp_path / "set").load
    order = RNG.integers(0, 20, 400).tolist()
    with ThreadPoolExecutor(8) as pool:
        for i, got in zip(order, pool.map(load, order), strict=True):
            assert_same(got, want[i])


def test_records_stream_through(tmp_path):
    """64 records of 1 MiB, one of which is in memory at a time."""
    images = ({"image": np.full(2**20, i, np.uint8), "id": str(i)} for i in range(64))
    tracemalloc.start()
    record_file.write_records(tmp_path / "set", images, {})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 2**20


@pytest.mark.parametrize("error", [RuntimeError, UserError, KeyboardInterrupt])
def test_a_write_that_is_cut_off_leaves_nothing(tmp_path, error):
    def broken():
        yield record()
        raise error("from the source")

    with pytest.raises(error, match="^from the source$"):
        record_file.write_records(tmp_path / "set", broken(), {})
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_killed_process_leaves_nothing_that_looks_whole(tmp_path):
    code = f"""
import os, pathlib
from unet_jax.data import record_file
from tests.data.test_record_file import record
def some():
    yield from map(record, range(3))
    os._exit(9)
record_file.write_records(pathlib.Path({str(tmp_path / "set")!r}), some(), {{}})
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == 9
    assert not record_file.is_complete(tmp_path / "set")
    want = written(tmp_path / "set")
    assert_same(record_file.open_records(tmp_path / "set").load(4), want[4])


def _race(folder, number, ready):
    ready.wait()
    same = [{"image": np.full((64, 64), i, np.uint8), "id": str(i)} for i in range(50)]
    record_file.write_records(folder, same, {"by": number})


@pytest.mark.slow
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
    about, length, load = record_file.open_records(tmp_path / "set")
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
    (tmp_path / "set" / record_file.DATA).unlink()
    with pytest.raises(UserError, match=r"set is damaged \(No such file"):
        record_file.open_records(tmp_path / "set")


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_refused_when_it_is_opened(tmp_path, kind):
    written(tmp_path / "set")
    damage(tmp_path / "set", DAMAGED[kind])
    with pytest.raises(UserError, match=r"^\S+/set is damaged \(.+\); delete that"):
        record_file.open_records(tmp_path / "set")


def test_every_damaged_byte_is_found_or_harmless(tmp_path):
    want = written(tmp_path / "set")
    whole = (tmp_path / "set" / record_file.DATA).read_bytes()
    texts = []
    for place in range(0, len(whole), max(len(whole) // 300, 1)):
        (tmp_path / "set" / record_file.DATA).write_bytes(
            whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :]
        )
        try:
            _, length, load = record_file.open_records(tmp_path / "set")
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
        ("{", "about.json is not valid"),
        ("[]", "about.json is not valid"),
        ("{}", "missing required field 'version'"),
        (
            '{"version": 1, "length": 5, "about": {}}',
            "version 1, but version 2 is needed",
        ),
    ],
)
def test_about_is_checked(tmp_path, text, words):
    written(tmp_path / "set")
    (tmp_path / "set" / record_file.ABOUT).write_text(text)
    with pytest.raises(UserError, match=words):
        record_file.open_records(tmp_path / "set")


def array(dtype, shape, content):
    """An array as flax packs it, of anything."""
    return msgpack.ExtType(1, msgpack.packb((shape, dtype, content)))


HOSTILE = {
    "no dict": msgpack.packb([1, 2]),
    "other keys": msgpack.packb({"image": b"x"}),
    "no arrays": msgpack.packb({"values": "{}", "arrays": {"image": "text"}}),
    "objects": msgpack.packb(
        {"values": "{}", "arrays": {"image": array("O", [1], bytes(8))}}
    ),
    "text": msgpack.packb(
        {"values": "{}", "arrays": {"image": array("U2", [1], bytes(8))}}
    ),
    "too short": msgpack.packb(
        {"values": "{}", "arrays": {"image": array("u1", [2**40], bytes(8))}}
    ),
    "no json": msgpack.packb({"values": "import os", "arrays": {}}),
    "a list": msgpack.packb({"values": "[1]", "arrays": {}}),
    "deep json": msgpack.packb({"values": '{"a":' + 10_000 * "[", "arrays": {}}),
    "long list": b"\xdd\xff\xff\xff\xff",
    "deep": b"\x91" * 100_000,
    "pickle": pickle.dumps({"values": "{}", "arrays": {}}),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_record_that_is_none_is_refused(tmp_path, kind):
    written(tmp_path / "set", count=1)
    from array_record.python import array_record_module as library

    path = str(tmp_path / "set" / record_file.DATA)
    writer = library.ArrayRecordWriter(path, record_file.WRITER_OPTIONS)
    writer.write(HOSTILE[kind])
    writer.close()
    load = record_file.open_records(tmp_path / "set").load
    tracemalloc.start()
    with pytest.raises(UserError, match=r"set is damaged \(") as caught:
        load(0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22
    assert "\n" not in str(caught.value)


def test_a_folder_without_records_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no records"):
        record_file.open_records(tmp_path)


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


@pytest.mark.slow
def test_a_full_disk_is_one_line(tmp_path):
    code = f"""
import pathlib, resource, signal
from unet_jax.data import record_file
from tests.data.test_record_file import record
from unet_jax.errors import UserError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    record_file.write_records(
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
