"""Odd content of JSON files is one line that names the file."""

import os

import pytest

from unet_jax.errors import UserError
from unet_jax.json_file import convert, decode_json, read_json

KIND = dict[str, list[int]]


def test_valid_content_is_returned(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": [1, 2], "b": []}')
    assert read_json(path, KIND, "delete it") == {"a": [1, 2], "b": []}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1]",
        b"null",
        b'{"a": 1}',
        b'{"a": ["1"]}',
        b'{"a": [true]}',
        b'{"a": [1.5]}',
        b'{"a": [NaN]}',
        b'{"a": [1]} {}',
        b'{"\xff": [1]}',
        b'{"\\ud800": [1]}',
        b"[" * 10**6,
        b'{"a":' * 10**5,
        bytes(100),
    ],
)
def test_other_content_is_one_line(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_json(path, KIND, "delete it")
    line = str(error.value)
    assert line.startswith(f"{path} is not valid (")
    assert line.endswith("; delete it")
    assert len(line.splitlines()) == 1


def test_numbers_beyond_floats_are_refused():
    with pytest.raises(UserError, match="out of range"):
        decode_json(b"[1e999]", list[float], "a.json", "delete it")
    with pytest.raises(UserError, match="a.json is not valid .*'float'.*; delete it"):
        convert(["1"], list[float], "a.json", "delete it")


def test_what_is_no_file_is_never_opened(tmp_path):
    """A pipe would make the program wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "missing", "."):
        with pytest.raises(UserError, match="is not a file; delete it"):
            read_json(tmp_path / name, KIND, "delete it")
