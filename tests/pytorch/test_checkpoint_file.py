"""Files of torch.save: against torch, and from strangers who mean harm."""

import io
import os
import pickle
import random
import struct
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file

from unet_jax.errors import UserError
from unet_jax.pytorch.checkpoint_file import read_checkpoint

FORMATS = ["zip", "legacy"]


class Call:
    """Calls a function when it is unpickled; this is how pickles do harm."""

    def __init__(self, function, *arguments):
        self.parts = function, arguments

    def __reduce__(self):
        return self.parts


class Stored:
    """A storage, which torch.save leaves out of the pickle."""

    def __init__(self, key):
        self.key = key


class Writer(pickle.Pickler):
    def persistent_id(self, value):
        return value.key if isinstance(value, Stored) else None


class FloatStorage:
    """Stands for the type of PyTorch, whose name `dump` writes."""


def rebuild(*arguments):
    raise AssertionError("nothing of a checkpoint is called")


def dump(value):
    """Pickles a value; `rebuild` becomes the function that rebuilds tensors."""
    file = io.BytesIO()
    Writer(file, 2).dump(value)
    content = file.getvalue()
    for given, name in (
        (f"{__name__}\nrebuild", "torch._utils\n_rebuild_tensor_v2"),
        (f"{__name__}\nFloatStorage", "torch\nFloatStorage"),
    ):
        content = content.replace(given.encode(), name.encode())
    return content


def make_tensor(shape, strides, *, count=4, offset=0, key="0"):
    storage = Stored(("storage", FloatStorage, key, "cpu", count))
    return Call(rebuild, storage, offset, shape, strides, False, {})


def write_zip(path, value, *, data=bytes(16), method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("archive/data.pkl", dump(value))
        archive.writestr("archive/data/0", data)
    return path


def read_all(path):
    return {k: tensor.load() for k, tensor in read_checkpoint(path).tensors.items()}


def refuse(path, words):
    with pytest.raises(UserError, match=words) as caught:
        read_all(path)
    line = str(caught.value)
    assert "\n" not in line
    assert str(path) in line


@pytest.mark.parametrize("kind", FORMATS)
def test_tensors_of_torch(tmp_path, kind):
    torch = pytest.importorskip("torch")
    base = torch.arange(24.0).reshape(4, 6)
    tensors = {
        "plain": base,
        "view": base[1:, 2:],
        "transposed": base.T,
        "half": base.half(),
        "bfloat16": base.bfloat16(),
        "long": base.long(),
        "bool": base > 3,
        "scalar": torch.tensor(7, dtype=torch.int32),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(base),
    }
    path = tmp_path / "x.pth"
    zipped = kind == "zip"
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
    read = read_checkpoint(path)
    assert read.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        got, expected = read.tensors[name].load(), tensor.detach()
        assert got.shape == tuple(expected.shape), name
        assert got.dtype.name == str(expected.dtype).removeprefix("torch.")
        np.testing.assert_array_equal(
            got.astype(np.float64), expected.double().numpy(), err_msg=name
        )


@pytest.mark.parametrize("kind", FORMATS)
def test_the_weights_of_training_programs(tmp_path, kind):
    torch = pytest.importorskip("torch")
    network = torch.nn.DataParallel(torch.nn.Linear(2, 3))
    content = {
        "state_dict": network.state_dict(),
        "epoch": 3,
        "best": np.float64(0.5),
        "curve": np.arange(6.0).reshape(2, 3),
        "device": torch.device("cuda", 0),
        "size": torch.Size([2, 3]),
        "names": {"a", "b"},
    }
    path = tmp_path / "x.ckpt"
    torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    read = read_checkpoint(path)
    assert set(read.tensors) == {"weight", "bias"}  # without 'module.'
    assert read.content["epoch"] == 3
    assert read.content["best"] == 0.5
    np.testing.assert_array_equal(read.content["curve"].value, content["curve"])
    assert read.content["device"] == "cuda/0"


def test_safetensors(tmp_path):
    arrays = {"model.a": np.arange(6.0, dtype="f4").reshape(2, 3)}
    save_file(arrays, tmp_path / "x.safetensors")
    read = read_checkpoint(tmp_path / "x.safetensors")
    np.testing.assert_array_equal(read.tensors["a"].load(), arrays["model.a"])


@pytest.mark.parametrize(
    "value",
    [
        Call(os.system, "touch /tmp/should_not_exist"),
        Call(eval, "1 + 1"),
        {"state_dict": {"a": Call(getattr, "x", "upper")}},
        Call(os.getcwd),
    ],
    ids=["system", "eval", "nested", "getcwd"],
)
@pytest.mark.parametrize("kind", FORMATS)
def test_nothing_is_called(tmp_path, monkeypatch, value, kind):
    called = []
    monkeypatch.setattr(os, "system", called.append)
    path = tmp_path / "x.pth"
    if kind == "zip":
        write_zip(path, value)
    else:
        magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
        path.write_bytes(magic + 2 * pickle.dumps(1, 2) + dump(value))
    refuse(
        path, r"its pickle would call (posix|nt|os|builtins|__builtin__)\.\w+, which"
    )
    assert not called


def test_instructions_that_are_no_data_are_refused(tmp_path):
    for body, words in (
        (
            b"\x80\x02(cos\nsystem\nX\x01\x00\x00\x00ao.",
            "instruction OBJ",
        ),
        (b"\x80\x02\x82\x01.", "instruction EXT1"),
        (b"\x80\x02]}b.", "changes an object that is no dict"),
        (b"\x80\x02}))s.", "a key that is no short text or number"),
        (b"\x80\x02}q\x00", "is cut off|is damaged"),
        (b"\x80\x02h\x07.", "is damaged"),
        (b"\x80\x02.", "is damaged"),
        (b"\x80\x02e.", "is damaged"),
        (b"\x80\x02B\xff\xff\xff\x7fabc.", "is damaged"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.", "is damaged"),
    ):
        path = tmp_path / "x.pth"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", body)
        refuse(path, words)


def test_files_that_claim_too_much_are_refused(tmp_path):
    path = tmp_path / "x.pth"
    torch_like = {"a": make_tensor((2, 2), (2, 1))}
    write_zip(path, torch_like)
    assert read_checkpoint(path).tensors["a"].load().tolist() == [[0, 0], [0, 0]]
    huge = make_tensor((2**40, 2**40), (0, 0))
    refuse(write_zip(path, {"a": huge}), "is larger than its 4 numbers")
    refuse(write_zip(path, {"a": make_tensor((4,), (2,))}), "is larger than its 4")
    refuse(write_zip(path, {"a": make_tensor((-1,), (1,))}), "is no size")
    refuse(write_zip(path, {"a": make_tensor((4,), (1,), offset=1)}), "is larger than")
    refuse(write_zip(path, torch_like, data=bytes(12)), "has another size")
    refuse(write_zip(path, {"a": make_tensor((4,), (1,), key="../0")}), "it lacks")
    many = {f"a{i}": make_tensor((4000,), (1,), count=4000) for i in range(2000)}
    refuse(write_zip(path, many, data=bytes(16000)), "tensors claim 32,000,000 bytes")
    bomb = {"method": zipfile.ZIP_DEFLATED, "data": bytes(10**6)}
    refuse(write_zip(path, torch_like, **bomb), "has the compressed part")


LONG = b"X" + struct.pack("<I", 10**6) + b"a" * 10**6 + b"q\x00"  # memoized
ENCODE = b"c_codecs\nencode\nq\x01X\x06\x00\x00\x00latin1q\x02"


@pytest.mark.parametrize(
    ("start", "again"),
    [
        (b"]q\x00(" + b"N" * 10**6 + b"ec__builtin__\nset\nq\x01", b"h\x01h\x00\x85R"),
        (b"]q\x00(" + b"N" * 10**6 + b"ectorch\nSize\nq\x01", b"h\x01h\x00\x85R"),
        (LONG + ENCODE, b"h\x01h\x00h\x02\x86R"),
        (LONG + b"ctorch\ndevice\nq\x01", b"h\x01h\x00\x85R"),
        (LONG, b"h\x00h\x00\x93"),
    ],
    ids=["set", "size", "bytes", "device", "global"],
)
def test_copies_of_one_object_are_limited(tmp_path, start, again):
    """A few bytes of a pickle copy a million; 50,000 times would need 50 GB."""
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w") as archive:
        body = b"\x80\x04" + start + 50_000 * again
        archive.writestr("archive/data.pkl", body + b".")
    refuse(path, "its pickle copies more than 67,108,864 ")


def test_a_call_with_many_arguments_is_refused(tmp_path):
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w") as archive:
        parts = b"h\x00" * 10**6  # a path of 1 TB
        body = b"\x80\x04" + LONG + b"ctorch\ndevice\n(" + parts + b"tR."
        archive.writestr("archive/data.pkl", body)
    refuse(path, "is damaged")


def test_keys_whose_comparison_is_slow_are_refused(tmp_path):
    """Python hashes an integer modulo 2**61 - 1."""
    path = tmp_path / "x.pth"
    prime = 2**61 - 1
    for keys, words in (
        ([prime * i for i in range(1, 100)], "a key that is no short text or number"),
        ([-(2**60)], "a key that is no short text or number"),
        ([2.0**60], "a key that is no short text or number"),
        (["a" * 10**4], "a key that is no short text or number"),
        ([b"a" * 10**4], "a key that is no short text or number"),
        (range(40_000), "more than 32,768 keys that are numbers"),
    ):
        refuse(write_zip(path, dict.fromkeys(keys, 1)), words)
    body = b"".join(b"Np%d\n" % (prime * i) for i in range(1, 100))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + body + b".")
    refuse(path, "is damaged")
    tensor = make_tensor((4,), (1,))
    kept = {"a": tensor, 0: 1, 140_000_000_000_000: 2, True: 3, 0.5: 4, None: 5}
    assert set(read_checkpoint(write_zip(path, kept)).tensors) == {"a"}


@pytest.mark.parametrize("kind", FORMATS)
def test_values_of_other_types_are_one_line(tmp_path, kind):
    tensor = make_tensor((4,), (1,))
    path = tmp_path / "x.pth"

    def write(value, names=("0",)):
        if kind == "zip":
            return write_zip(path, value)
        magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
        content = magic + 2 * pickle.dumps(1, 2) + dump(value) + dump(list(names))
        path.write_bytes(content + struct.pack("<q", 4) + bytes(16))
        return path

    assert read_all(write({"a": tensor}))["a"].tolist() == [0, 0, 0, 0]
    assert read_checkpoint(write({"a": tensor, 7: 1, "b": 2})).content == {"b": 2}
    nested = {"net." * 5000 + "a": tensor}
    refuse(write(nested), "a key that is no short text or number")
    assert set(read_checkpoint(write({"net." * 1000 + "a": tensor})).tensors)
    refuse(write({"a": tensor, "n": 10**5000}), "a number of more than 1,024 bits")
    refuse(write({"a": tensor, 10**5000: 1}), "a number of more than 1,024 bits")
    refuse(write({"a": make_tensor((1,) * 40, (0,) * 40)}), "a tensor with 40 axes")
    refuse(write({"a": make_tensor([4], [1])}), "is damaged")
    shared = ["x"]
    for _ in range(60):  # its text would have 2**60 characters
        shared = [shared, shared]
    dtype = Call(np.dtype, shared, False, True)
    refuse(write({"a": tensor, "n": dtype}), "is damaged")
    if kind == "legacy":
        refuse(write({"a": tensor}, [["0"]]), "has an unknown storage")
        refuse(write({"a": tensor}, [{}]), "has an unknown storage")


def test_a_checksum_is_verified(tmp_path):
    path = write_zip(tmp_path / "x.pth", {"a": make_tensor((4,), (1,))}, data=b"?" * 16)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"?" * 16, b"!" * 16))
    with pytest.raises(UserError, match="is damaged .*CRC"):
        read_checkpoint(path).tensors["a"].load()


@pytest.mark.parametrize("kind", FORMATS)
def test_any_damage_is_one_line(tmp_path, kind):
    """Every file that is cut off or changed at random is read, or is one line."""
    torch = pytest.importorskip("torch")
    path = tmp_path / "x.pth"
    content = {"state_dict": {"a": torch.arange(8.0), "b": torch.ones(2, 2)}, "n": 1}
    torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    draw = random.Random(0)
    changed = [whole[: len(whole) * i // 60] for i in range(60)]
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(draw.choice((1, 3))):
            data[draw.randrange(len(data))] = draw.randrange(256)
        changed.append(bytes(data))
    lines = []
    for data in changed:
        path.write_bytes(data)
        try:
            read_all(path)
        except UserError as error:
            lines.append(str(error))
    assert len(lines) > 60
    assert not any("\n" in line for line in lines)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "x.pth"
    path.write_bytes(b"")
    refuse(path, "neither a checkpoint of PyTorch nor a safetensors file")
    path.write_bytes(pickle.dumps({"a": 1}))
    refuse(path, "is a pickle, but torch.save did not write it")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "x")
    refuse(path, "zip archive without data.pkl")
    refuse(write_zip(path, {"epoch": 3}), "has no weights")
    header = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,99]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    refuse(path, "neither a checkpoint of PyTorch nor")
