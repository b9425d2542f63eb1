"""A data set written once to array_record, from where any record is read at once.

Decoding the PNG files of a large folder costs more than anything else that is done to
an example. Here a record is the raw bytes of its arrays behind a line of JSON, and
array_record squeezes each with zstd: as small as zlib makes it, and faster to read.
"""

import contextlib
import importlib
import json
import math
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from unet_jax.data.account import Record
from unet_jax.errors import UserError

__all__ = ["Records", "read", "write", "written"]

VERSION = 1  # of the form of the files
ABOUT, DATA = "about.json", "records.array_record"
SINGLY = "group_size:1,zstd:1"  # each record can be read without its neighbours
AT_RANDOM = "readahead_buffer_size:0,max_parallelism:0"
BUFFER = 2**15  # bytes that are read at a time, besides what a record takes
INTEGERS = ("u1", "i1", "u2", "i2", "u4", "i4")  # the smallest that fits is stored
HEAD = 4  # bytes of the length of a record's line of JSON


class Records(NamedTuple):
    """What a folder holds.

    Attributes:
      about: what `write` was told.
      length: how many records.
      load: the i-th, as it was written, to the bit; any thread. Raises UserError where
        the file is damaged.
    """

    about: dict[str, Any]
    length: int
    load: Callable[[int], Record]


def written(folder: Path) -> bool:
    """Whether `write` has put all of its records there."""
    return (folder / ABOUT).is_file()


def write(folder: Path, records: Iterable[Record], about: Mapping[str, Any]) -> None:
    """Writes records one by one; the folder appears when the last of them is there.

    Of several processes that write the same folder, the first to end provides it.

    Args:
      folder: where to; what it is in is made if it is not there.
      records: of arrays of any shape and any dtype but object, and of values that JSON
        knows, of which lists come back as tuples.
      about: what to know of them all, as JSON has it.

    Raises:
      UserError: there is no space, or the folder is in use or may not be written.
    """
    part = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with _writing(folder):
            part.mkdir(parents=True)
        count = _write(part / DATA, records, folder)
        note = {"version": VERSION, "length": count, "about": dict(about)}
        with _writing(folder):
            (part / ABOUT).write_text(json.dumps(note, default=np.generic.item))
            _move(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def read(folder: Path) -> Records:
    """Opens what `write` wrote.

    Raises:
      UserError: there is nothing, it is damaged, or another version wrote it.
    """
    if not written(folder):
        raise UserError(f"{folder} holds no records (it has no {ABOUT}); write them")
    with _reading(folder):
        note = json.loads((folder / ABOUT).read_text())
        version, length, about = note["version"], note["length"], note["about"]
    if version != VERSION:
        raise UserError(
            f"{folder} was written in form {version}, this is form {VERSION}; delete "
            "that folder and run again"
        )
    with _reading(folder):
        open(folder / DATA, "rb").close()  # says more of what is wrong than the reader
        reader = _library().ArrayRecordReader(
            str(folder / DATA), AT_RANDOM, file_reader_buffer_size=BUFFER
        )
        if reader.num_records() != length:  # 0 where the file is cut short, or gone
            raise ValueError(f"{reader.num_records()} of {length} records are there")

    def load(index: int) -> Record:
        if not 0 <= index < length:
            raise IndexError(index)
        with _reading(folder):
            return _unpack(reader.read([int(index)])[0])

    return Records(about, length, load)


def _write(path: Path, records: Iterable[Record], folder: Path) -> int:
    """Writes the records to a file and returns how many there were."""
    library, count = _library(), 0
    with _writing(folder):
        writer = library.ArrayRecordWriter(str(path), SINGLY)
    try:
        for record in records:
            packed = _pack(record)
            with _writing(folder):
                writer.write(packed)
            count += 1
    except BaseException:
        with contextlib.suppress(RuntimeError):  # the same that is on its way
            writer.close()
        raise
    with _writing(folder):
        writer.close()
    return count


def _move(part: Path, folder: Path) -> None:
    try:
        os.rename(part, folder)
    except OSError:
        if not written(folder):  # else another process has put the same there first
            raise


def _pack(record: Record) -> bytes:
    """A line of JSON with its length before it, and the bytes of the arrays."""
    arrays = {k: v for k, v in record.items() if isinstance(v, np.ndarray)}
    stored = {k: _smallest(v) for k, v in arrays.items()}
    assert all(v.dtype.kind in "biufc" for v in stored.values()), "arrays of numbers"
    head = {
        "values": {k: v for k, v in record.items() if k not in arrays},
        "arrays": [
            (k, arrays[k].dtype.str, v.dtype.str, v.shape) for k, v in stored.items()
        ],
    }
    line = json.dumps(head, default=np.generic.item).encode()
    length = len(line).to_bytes(HEAD, "little")
    return b"".join([length, line, *(v.tobytes() for v in stored.values())])


def _unpack(packed: bytes) -> Record:
    start = HEAD + int.from_bytes(packed[:HEAD], "little")
    head = json.loads(packed[HEAD:start])
    values = head["values"].items()
    record = {k: tuple(v) if isinstance(v, list) else v for k, v in values}
    for name, dtype, stored, shape in head["arrays"]:
        end = start + math.prod(shape) * np.dtype(stored).itemsize
        array = np.frombuffer(packed[start:end], stored).reshape(shape)
        record[name] = array.astype(dtype)
        start = end
    return record


def _smallest(array: np.ndarray) -> np.ndarray:
    """The same integers in as few bytes as hold them all: labels are small numbers."""
    if array.dtype.kind not in "iu" or not array.size:
        return array
    low, high = int(array.min()), int(array.max())
    for name in INTEGERS:
        dtype, limits = np.dtype(name), np.iinfo(name)
        if dtype.itemsize >= array.dtype.itemsize:
            break
        if limits.min <= low and high <= limits.max:
            return array.astype(dtype)
    return array


def _library() -> ModuleType:
    try:
        return importlib.import_module("array_record.python.array_record_module")
    except ImportError as error:
        raise UserError(
            "records on disk need array_record, which there is for Linux and macOS; "
            "pip install array_record"
        ) from error


@contextlib.contextmanager
def _reading(folder: Path) -> Iterator[None]:
    try:
        yield
    except (MemoryError, UserError):
        raise
    except Exception as error:  # whatever is made of a file that is not whole
        words = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise UserError(
            f"{folder} is damaged ({words}); delete that folder and run again"
        ) from error


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Says what keeps a file from being written; array_record's are RuntimeErrors."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        words = getattr(error, "strerror", None) or str(error).partition(";")[0]
        raise UserError(
            f"{folder} cannot be written ({words}); name a folder with space that you "
            "may write to"
        ) from error
