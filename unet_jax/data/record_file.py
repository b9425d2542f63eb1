"""Records in one array_record file, from which each record is read by its index.

Decoding the PNG files of a large folder takes longer than everything else that is done
to an example. Here a record is stored as its arrays, in flax's msgpack format, which
holds no code; array_record compresses each record with zstd.
"""

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from flax import serialization
from msgspec import Meta

from unet_jax.data.record import Record
from unet_jax.errors import UserError
from unet_jax.json_file import read_json
from unet_jax.text import one_line

VERSION = 2  # of the format
ABOUT, DATA = "about.json", "records.array_record"
WRITER_OPTIONS = "group_size:1,zstd:1"  # each record can be read by itself
READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"
BUFFER = 2**15  # bytes that the reader buffers besides the record


class _Note(msgspec.Struct):
    """The content of about.json."""

    version: int
    length: Annotated[int, Meta(ge=0, le=2**40)]
    about: dict[str, Any]


class StoredRecords(NamedTuple):
    """The records of a folder.

    Attributes:
      about: the data that was given to `write_records`.
      length: the number of records.
      load: returns the i-th record, in any thread. Raises UserError if the file is
        damaged.
    """

    about: dict[str, Any]
    length: int
    load: Callable[[int], Record]


def is_complete(folder: Path) -> bool:
    """Returns True if `write_records` has finished writing this folder."""
    return (folder / ABOUT).is_file()


def write_records(
    folder: Path, records: Iterable[Record], about: Mapping[str, Any]
) -> None:
    """Writes records one by one; the folder appears when all are written.

    If several processes write the same folder, the result of the first is kept.

    Args:
      folder: the folder to create.
      records: arrays of numbers, of any shape, and JSON values. Lists come back as
        tuples, and arrays in the byte order of the machine that reads them.
      about: JSON data to store with the records.

    Raises:
      UserError: the disk is full, or the folder exists or cannot be written.
    """
    from array_record.python import array_record_module

    part = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}.part")
    count = 0
    try:
        with _naming_unwritable(folder):
            part.mkdir(parents=True)
            path = str(part / DATA)
            writer = array_record_module.ArrayRecordWriter(path, WRITER_OPTIONS)
        try:
            for record in records:
                packed = _pack(record)
                with _naming_unwritable(folder):
                    writer.write(packed)
                count += 1
        except BaseException:
            with contextlib.suppress(RuntimeError):  # the same error again
                writer.close()
            raise
        note = {"version": VERSION, "length": count, "about": dict(about)}
        with _naming_unwritable(folder):
            writer.close()
            (part / ABOUT).write_text(json.dumps(note, default=np.generic.item))
            try:
                os.rename(part, folder)
            except OSError:
                if not is_complete(folder):  # another process may have written it
                    raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def open_records(folder: Path) -> StoredRecords:
    """Opens a folder that `write_records` wrote.

    Raises:
      UserError: the folder has no records, is damaged, or has another version.
    """
    from array_record.python import array_record_module

    if not is_complete(folder):
        raise UserError(f"{folder} holds no records (it has no {ABOUT}); write them")
    with _naming_damaged(folder):
        note = read_json(folder / ABOUT, _Note, "delete that folder and run again")
        version, length, about = note.version, note.length, note.about
    if version != VERSION:
        raise UserError(
            f"{folder} has records of version {version}, but version {VERSION} is "
            "needed; delete that folder and run again"
        )
    with _naming_damaged(folder):
        open(folder / DATA, "rb").close()  # has clearer errors than the reader
        reader = array_record_module.ArrayRecordReader(
            str(folder / DATA), READER_OPTIONS, file_reader_buffer_size=BUFFER
        )
        if reader.num_records() != length:  # 0 if the file is cut off, or missing
            raise ValueError(f"it has {reader.num_records()} of {length} records")

    def load(index: int) -> Record:
        if not 0 <= index < length:
            raise IndexError(index)
        with _naming_damaged(folder):
            return _unpack(reader.read([int(index)])[0])

    return StoredRecords(about, length, load)


def _pack(record: Record) -> bytes:
    """Returns a record as msgpack: its arrays, and its other values as JSON text."""
    arrays, values = {}, {}
    for name, value in record.items():
        if isinstance(value, np.ndarray):
            arrays[name] = value.astype(value.dtype.newbyteorder("="), copy=False)
        else:
            values[name] = value
    text = json.dumps(values, default=np.generic.item)
    return serialization.msgpack_serialize({"values": text, "arrays": arrays})


def _unpack(packed: bytes) -> Record:
    """Returns the record; raises an exception of any type if the bytes hold none."""
    stored: Any = serialization.msgpack_restore(packed)
    # not `json_file`, which refuses the lone surrogates of names that are not UTF-8
    values = json.loads(stored["values"])
    if not isinstance(values, dict):
        raise ValueError("its values are not a JSON object")
    record = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    for name, array in stored["arrays"].items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biufc":
            raise ValueError(f"{name} is not an array of numbers")
        record[name] = array.copy()  # which may be changed, unlike the buffer
    return record


@contextlib.contextmanager
def _naming_damaged(folder: Path) -> Iterator[None]:
    try:
        yield
    except (MemoryError, UserError):
        raise
    except Exception as error:  # damaged files raise exceptions of many types
        raise UserError(
            f"{folder} is damaged ({one_line(error)}); delete that folder and run again"
        ) from error


@contextlib.contextmanager
def _naming_unwritable(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:  # array_record raises RuntimeErrors
        reason = one_line(error).partition(";")[0]
        raise UserError(
            f"{folder} cannot be written ({reason}); name a folder on a disk with "
            "space that you may write to"
        ) from error
