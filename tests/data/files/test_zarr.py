import json
import os
import re

import numpy as np
import pytest
import tensorstore

from unet_jax.data import files
from unet_jax.data.files import limits
from unet_jax.errors import UserError

RNG = np.random.default_rng(0)


def save(folder, array, axes, version, chunks=None, names=None):
    """An OME-Zarr of one level, as the specification describes it."""
    chunks = list(chunks or array.shape)
    kind = array.dtype.str if version == "0.4" else array.dtype.name
    metadata = {"shape": list(array.shape)}
    if version == "0.4":
        driver = "zarr"
        metadata |= {"chunks": chunks, "dtype": kind, "compressor": {"id": "zlib"}}
    else:
        driver = "zarr3"
        file = {"name": "regular", "configuration": {"chunk_shape": chunks}}
        metadata |= {"chunk_grid": file, "data_type": kind}
    store = tensorstore.open(
        {
            "driver": driver,
            "kvstore": {"driver": "file", "path": str(folder / "0")},
            "metadata": metadata,
        },
        create=True,
    ).result()
    store.write(array).result()
    scale = [{"t": 1.0, "c": 1.0, "z": 2.0, "y": 0.5, "x": 0.25}.get(a) for a in axes]
    transforms = [{"type": "scale", "scale": scale}]
    multiscale = {
        "axes": [{"name": a} for a in names or axes],
        "datasets": [{"path": "0", "coordinateTransformations": transforms}],
    }
    attributes = {"multiscales": [multiscale]}
    if version == "0.4":
        (folder / ".zattrs").write_text(json.dumps(attributes))
    else:
        attributes = {"attributes": {"ome": {"version": "0.5"} | attributes}}
        (folder / "zarr.json").write_text(json.dumps(attributes))
    return folder


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(
    ("axes", "order", "expected"),
    [
        (2, "yx", "yx"),
        (2, "cyx", "yxc"),
        (2, "tczyx", "tzyxc"),
        (3, "zyx", "zyx"),
        (3, "tczyx", "tzyxc"),
    ],
)
def test_windows_of_every_order(tmp_path, version, axes, order, expected):
    sizes = {"t": 2, "c": 3, "z": 4, "y": 7, "x": 9}
    array = RNG.integers(0, 2**16, [sizes[a] for a in order], np.uint16)
    path = save(tmp_path / "a.ome.zarr", array, order, version, [2] * len(order))
    shape = [sizes[a] for a in "zyx"[-axes:]]
    channels = 3 if "c" in order else 1
    array = np.einsum(f"{order}->{expected}", array).reshape(-1, *shape, channels)
    with files.open_images(path, axes=axes) as file:
        assert (file.kind, file.count, file.shape) == ("zarr", len(array), tuple(shape))
        assert (file.channels, file.dtype) == (channels, np.uint16)
        assert file.spacing == (2.0, 0.5, 0.25)[-axes:]
        box = (*[slice(1, 4)] * (axes - 1), slice(2, 9))
        for image in range(file.count):
            np.testing.assert_array_equal(file.read(image, box), array[(image, *box)])


def test_big_endian_comes_out_native(tmp_path):
    array = np.arange(12, dtype=">u2").reshape(3, 4)
    with files.open_images(
        save(tmp_path / "a.zarr", array, "yx", "0.4"), axes=2
    ) as file:
        block = file.read(0, [slice(0, 3), slice(0, 4)])
    assert block.dtype.isnative
    np.testing.assert_array_equal(block[..., 0], array)


def test_what_cannot_be_read_is_told_in_a_line(tmp_path, monkeypatch):
    array = np.ones((4, 5), np.uint8)
    (tmp_path / "empty.zarr").mkdir()
    strange = save(tmp_path / "strange.zarr", array, "yx", "0.4", names=["row", "x"])
    flat = save(tmp_path / "flat.zarr", array, "yx", "0.5")
    gone = save(tmp_path / "gone.zarr", array, "yx", "0.4")
    (gone / "0" / ".zarray").unlink()
    broken = save(tmp_path / "broken.zarr", array, "yx", "0.4")
    (broken / "0" / "0.0").write_bytes(b"no zlib")
    text = save(tmp_path / "text.zarr", array, "yx", "0.4")
    (text / ".zattrs").write_text("{")
    for path, axes in (
        (tmp_path / "empty.zarr", 2),
        (strange, 2),
        (flat, 3),
        (gone, 2),
        (broken, 2),
        (text, 2),
    ):
        with (
            pytest.raises(UserError) as raised,
            files.open_images(path, axes=axes) as file,
        ):
            file.read(0, [slice(0, n) for n in file.shape])
        assert path.name in str(raised.value)
        assert "\n" not in str(raised.value)
    monkeypatch.setattr(limits, "SEGMENT_BYTES", 19)
    with pytest.raises(UserError, match="20 bytes"), files.open_images(flat, axes=2):
        pass


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (".zattrs", "{", "is not valid"),
        (".zattrs", "[]", "Expected 'object', got 'array'"),
        (".zattrs", '{"multiscales": {}}', "Expected 'array', got 'object'"),
        (".zattrs", '{"multiscales": [{"axes": ["y", "x"]}]}', "missing .* 'datasets'"),
        (
            ".zattrs",
            '{"multiscales": [{"axes": [1], "datasets": [{"path": "0"}]}]}',
            "got 'int'",
        ),
        (
            ".zattrs",
            '{"multiscales": [{"axes": ["y", "x"], "datasets": [{"path": 0}]}]}',
            "Expected 'str', got 'int'",
        ),
        ("zarr.json", '{"attributes": []}', "Expected 'object', got 'array'"),
        ("zarr.json", '{"attributes": ' + 10_000 * "[", "is not valid"),
        (
            ".zattrs",
            '{"multiscales": [{"axes": ["y", "x"], "datasets": []}]}',
            "length >= 1",
        ),
    ],
)
def test_metadata_of_another_type_is_one_line(tmp_path, name, content, words):
    folder = tmp_path / "a.zarr"
    folder.mkdir()
    (folder / name).write_text(content)
    line = rf"a\.zarr: .*{name} is not valid \(.*\); check the file, or save it again"
    with (
        pytest.raises(UserError, match=line) as raised,
        files.open_images(folder, axes=2),
    ):
        pass
    assert re.search(words, str(raised.value))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_glob_finds_the_image_and_not_its_levels(tmp_path, version):
    path = save(tmp_path / "deep.zarr", np.zeros((4, 5), np.uint8), "yx", version)
    assert files.find_images(f"{tmp_path}/**/*") == [path]


@pytest.mark.parametrize("side", [2**20, 2**14])
def test_missing_chunks_are_zero_within_the_limit(tmp_path, side):
    """A million squared is 1 TiB; 16,384 squared is 256 MiB, read in windows."""
    folder = save(tmp_path / "a.zarr", np.ones((4, 4), np.uint8), "yx", "0.4")
    metadata = json.loads((folder / "0" / ".zarray").read_text())
    metadata["shape"] = [side, side]
    (folder / "0" / ".zarray").write_text(json.dumps(metadata))
    if side > 2**14:
        with pytest.raises(UserError, match=r"a\.zarr: asks for 1 TiB of pixels"):
            files.open_images(folder, axes=2).__enter__()
        return
    with files.open_images(folder, axes=2) as file:
        corner = file.read(0, [slice(0, 5), slice(0, 5)])
        np.testing.assert_array_equal(corner[..., 0], np.pad(np.ones((4, 4)), (0, 1)))


def test_a_time_series_of_missing_chunks_is_refused(tmp_path):
    folder = save(tmp_path / "a.zarr", np.ones((1, 4, 4), np.uint8), "tyx", "0.4")
    metadata = json.loads((folder / "0" / ".zarray").read_text())
    metadata["shape"] = [2**20, 2**10, 2**10]
    (folder / "0" / ".zarray").write_text(json.dumps(metadata))
    with pytest.raises(UserError, match=r"a\.zarr: .* \(1048576 images of 1024 x 1024"):
        files.open_images(folder, axes=2).__enter__()


def test_a_pipe_among_the_chunks_does_not_block(tmp_path):
    folder = save(tmp_path / "a.zarr", np.ones((4, 4), np.uint8), "yx", "0.4")
    (folder / "0" / "0.0").unlink()
    os.mkfifo(folder / "0" / "0.0")
    with pytest.raises(UserError, match=r"a\.zarr: .*named pipe"):
        files.open_images(folder, axes=2).__enter__()
