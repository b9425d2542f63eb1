"""Reads files of `torch.save` and safetensors, without PyTorch or running code.

`torch.save` writes a zip archive with the pickle `data.pkl` and a file for each
storage. Before PyTorch 1.6 it wrote five pickles and the storages one after the other.
Both are read; nothing in them is executed (`unpickling.py`).
"""

import contextlib
import functools
import io
import mmap
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import safetensors

from unet_jax.errors import UserError, prefix_errors
from unet_jax.pytorch.conversions import CONVERSIONS
from unet_jax.pytorch.tensor import STORAGE_TYPES, Storage, Tensor
from unet_jax.pytorch.unpickling import MAX_KEY, Global, unpickle
from unet_jax.text import one_line

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the format before PyTorch 1.6
MAX_PICKLE = 2**28  # bytes of data.pkl; that of a large network has about 2**17
MAX_SHARE = 16  # bytes that all tensors claim, for each byte of the file
SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
# Names under which training programs keep the weights, in order of preference.
WEIGHTS = ("network_weights", "state_dict", "model_state_dict", "model", "net")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")  # of all names
MAX_WRAPPERS = 16  # prefixes that are removed
AGAIN = "copy or download it again"


class Checkpoint(NamedTuple):
    """The content of a file.

    Attributes:
      path: the file.
      tensors: the weights, by their names without a common prefix.
      content: the other values of the file, as plain data.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    content: Mapping[str, Any]


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads the names, shapes and places of all tensors; the numbers are read later.

    Args:
      path: a file of `torch.save` or a safetensors file.

    Raises:
      UserError: the file is of another format, is damaged, or holds more than data.
    """
    with prefix_errors(str(path)):
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                start = file.read(4)
            if start == b"PK\x03\x04":
                content = _read_zip(path, size)
            elif start[:1] == b"\x80":
                content = _read_legacy(path)
            else:
                return Checkpoint(path, _read_safetensors(path), {})
        except OSError as error:
            raise UserError(
                f"cannot be read ({one_line(error)}); name a file that can be read"
            ) from error
        tensors, rest = _find_weights(content)
        _check_claims(tensors, size)
        return Checkpoint(path, tensors, rest)


def _read_zip(path: Path, size: int) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise UserError(
            f"is cut off or damaged ({one_line(error)}); {AGAIN}"
        ) from error
    if packed := [e for e in entries.values() if e.compress_type != zipfile.ZIP_STORED]:
        raise UserError(
            f"has the compressed part {packed[0].filename}, which torch.save never "
            f"writes; {AGAIN}"
        )
    if sum(entry.file_size for entry in entries.values()) > size:
        raise UserError(f"is damaged: its parts claim more bytes than it has; {AGAIN}")
    pickles = [name for name in entries if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise UserError(
            "is a zip archive without data.pkl, so torch.save did not write it; name a "
            "checkpoint"
        )
    folder = pickles[0].removesuffix("data.pkl")
    if entries[pickles[0]].file_size > MAX_PICKLE:
        raise UserError(f"has a pickle of more than {MAX_PICKLE:,} bytes; {AGAIN}")
    order: Literal["<", ">"] = "<"
    if f"{folder}byteorder" in entries:
        big = _read_entry(path, f"{folder}byteorder").strip() == b"big"
        order = ">" if big else "<"

    def load_storage(key: Any) -> Storage:
        kind, name, count = _parse_storage(key)
        part = f"{folder}data/{name}"
        if part not in entries:
            raise UserError(f"is damaged: it lacks {part}; {AGAIN}")
        if entries[part].file_size != count * kind.itemsize:
            raise UserError(f"is damaged: {part} has another size; {AGAIN}")
        return Storage(kind, count, functools.partial(_read_entry, path, part), order)

    pickle = io.BytesIO(_read_entry(path, pickles[0]))
    return unpickle(pickle, CONVERSIONS, load_storage)


def _read_entry(path: Path, name: str) -> bytes:
    """Returns the bytes of a part of a zip archive, whose checksum is verified."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(name)
    except (zipfile.BadZipFile, EOFError, ValueError, RuntimeError) as error:
        raise UserError(f"is damaged ({one_line(error)}); {AGAIN}") from error


def _parse_storage(key: Any) -> tuple[np.dtype, str, int]:
    """Returns the type, the name and the size of a storage by its id in a pickle."""
    match key:
        case ("storage", Global(kind), str(name), _, int(count), *_) if (
            count >= 0 and len(name) <= MAX_KEY
        ):
            short = kind.removeprefix("torch.").removesuffix("Storage")
            if short in STORAGE_TYPES:
                return STORAGE_TYPES[short], name, count
            raise UserError(
                f"has numbers of the type {kind}; convert them to float32 in PyTorch"
            )
    raise UserError(f"is damaged: it refers to something that is no storage; {AGAIN}")


def _read_legacy(path: Path) -> Any:
    """Reads the format before PyTorch 1.6."""
    found: dict[str, tuple[np.dtype, int]] = {}
    starts: dict[str, int] = {}

    def read(name: str) -> bytes:
        kind, count = found[name]
        with path.open("rb") as file:
            file.seek(starts[name])
            return file.read(count * kind.itemsize)

    def load_storage(key: Any) -> Storage:
        kind, name, count = _parse_storage(key)
        if len(key) > 5 and key[5] is not None:
            raise UserError(
                "has a storage that is part of another one; in PyTorch, load it and "
                "save it again with torch.save"
            )
        if found.setdefault(name, (kind, count)) != (kind, count):
            raise UserError(f"is damaged: a storage has two types; {AGAIN}")
        return Storage(kind, count, functools.partial(read, name))

    with _map(path) as file:
        if unpickle(file, {}) != MAGIC:
            raise UserError(
                "is a pickle, but torch.save did not write it; name a checkpoint of "
                "PyTorch"
            )
        for _ in range(2):  # the version of the format, and the sizes of numbers
            unpickle(file, {})
        content = unpickle(file, CONVERSIONS, load_storage)
        names = unpickle(file, {})
        for name in names if isinstance(names, list) else ():
            if not isinstance(name, str) or name not in found:
                raise UserError(f"is damaged: it has an unknown storage; {AGAIN}")
            kind, count = found[name]
            stated = int.from_bytes(file.read(8), "little")
            starts[name] = file.tell()
            end = starts[name] + count * kind.itemsize
            if stated != count or end > file.size():
                raise UserError(f"is cut off or damaged; {AGAIN}")
            file.seek(end)
    if missing := found.keys() - starts.keys():
        raise UserError(f"is damaged: it lacks the storage {min(missing)}; {AGAIN}")
    return content


@contextlib.contextmanager
def _map(path: Path) -> Iterator[Any]:
    """Opens a file whose `read` never allocates more bytes than the file has."""
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        yield content


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        file: Any = safetensors.safe_open(path, "np")
        names = list(file.keys())
        slices = {name: file.get_slice(name) for name in names}
    except safetensors.SafetensorError as error:
        raise UserError(
            f"is neither a checkpoint of PyTorch nor a safetensors file "
            f"({one_line(error)}); name one"
        ) from error
    tensors = {}
    for name, part in slices.items():
        shape, kind = tuple(part.get_shape()), part.get_dtype()
        if kind not in _SAFETENSORS_TYPES:
            raise UserError(
                f"{name} has numbers of the type {kind}; convert them to float32"
            )
        count = int(np.prod(shape, dtype=np.int64))
        strides = tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
        read = functools.partial(_read_slice, path, name)
        storage = Storage(STORAGE_TYPES[_SAFETENSORS_TYPES[kind]], count, read)
        tensors[name] = Tensor(storage, 0, shape, strides)
    return _strip_prefix(tensors)


_SAFETENSORS_TYPES = {
    **{"F64": "Double", "F32": "Float", "F16": "Half", "BF16": "BFloat16"},
    **{"I64": "Long", "I32": "Int", "I16": "Short", "I8": "Char"},
    **{"U8": "Byte", "BOOL": "Bool"},
}


def _read_slice(path: Path, name: str) -> bytes:
    with safetensors.safe_open(path, "np") as file:
        return np.ascontiguousarray(file.get_tensor(name)).tobytes()


def _find_weights(content: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns the state dict of a checkpoint, and the values beside it."""
    if isinstance(content, Mapping):
        inner = {name: _select_tensors(content.get(name)) for name in WEIGHTS}
        for name, tensors in {"": _select_tensors(content), **inner}.items():
            if tensors:
                used = tensors if not name else {name}
                named = ((k, v) for k, v in content.items() if isinstance(k, str))
                rest = {key: value for key, value in named if key not in used}
                return _strip_prefix(tensors), rest
    raise UserError(
        "has no weights; in PyTorch, save them alone: torch.save(model.state_dict(), "
        "FILE)"
    )


def _select_tensors(value: Any) -> dict[str, Tensor]:
    if not isinstance(value, Mapping):
        return {}
    return {
        key: tensor
        for key, tensor in value.items()
        if isinstance(key, str) and isinstance(tensor, Tensor)
    }


def _strip_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Removes what wrappers such as DataParallel put before all names."""
    for _ in range(MAX_WRAPPERS):
        common = (p for p in PREFIXES if all(name.startswith(p) for name in tensors))
        if not tensors or not (prefix := next(common, "")):
            break
        tensors = {name.removeprefix(prefix): t for name, t in tensors.items()}
    return tensors


def _check_claims(tensors: Mapping[str, Tensor], size: int) -> None:
    """Raises UserError if tensors share storages so often that memory would not do."""
    claimed = sum(
        t.storage.dtype.itemsize * int(np.prod(t.shape, dtype=object))
        for t in tensors.values()
    )
    if claimed > MAX_SHARE * size:
        raise UserError(
            f"is damaged: its tensors claim {claimed:,} bytes, and it has {size:,}; "
            f"{AGAIN}"
        )
