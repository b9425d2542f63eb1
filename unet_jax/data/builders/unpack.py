"""Members of a folder, a zip or a tar, read in memory by a reader that trusts none.

An archive is a stranger's file. An entry that points out of it, a link, and more bytes
than any of the data sets has are refused, whether the entry is wanted or not.
"""

import contextlib
import gzip
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from unet_jax.errors import UserError

MEMBER = 2**28  # bytes of one member, inflated, at most
TOTAL = 2**31  # of all of them together; the largest archive here has 0.8 GB

PLAIN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others inflate without bound
ENCRYPTED = 1  # a flag of a zip entry
GZIP = b"\x1f\x8b"

Member = tuple[str, bytes]  # its name, with '/', and what it holds
Wanted = Callable[[str], bool]


def walk(folder: Path, wanted: Wanted) -> Iterator[Member]:
    """The files below an extracted folder, in the order of their names.

    Raises:
      UserError: one is a link out of the folder, or too large.
    """
    inside = folder.resolve()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and wanted(name):
            if not path.resolve().is_relative_to(inside):
                raise UserError(
                    f"{path} is a link that leaves {folder}; put the file there itself"
                )
            _check_size(folder, name, path.stat().st_size)
            yield name, path.read_bytes()


def unzip(path: Path, wanted: Wanted) -> Iterator[Member]:
    """The members of a zip; what zipfile raises at a broken one passes through.

    Raises:
      UserError: an entry would lie outside, is a link, encrypted or too large.
    """
    with zipfile.ZipFile(path) as file:
        entries = [entry for entry in file.infolist() if not entry.is_dir()]
        for entry in entries:
            _check_name(path, entry.filename, _is_link(entry))
            _check_size(path, entry.filename, entry.file_size)
            if entry.flag_bits & ENCRYPTED or entry.compress_type not in PLAIN:
                raise UserError(
                    f"{path}: {entry.filename} is encrypted, or compressed in another "
                    "way than deflate; pack the archive again"
                )
        _check_total(path, sum(entry.file_size for entry in entries))
        for entry in entries:
            if wanted(entry.filename):
                with file.open(entry) as stream:
                    # One byte more than was declared: that is where a lie would show.
                    content = stream.read(entry.file_size + 1)
                if len(content) != entry.file_size:
                    raise zipfile.BadZipFile(f"{entry.filename} is cut short")
                yield entry.filename, content


def untar(path: Path, wanted: Wanted) -> Iterator[Member]:
    """The members of a tar, plain or gzipped; else as `unzip`."""
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(path.open("rb"))
        if stream.read(len(GZIP)) == GZIP:
            stream = stack.enter_context(gzip.open(path))
        stream.seek(0)
        forward: Any = _Forward(path, stream)
        file = stack.enter_context(tarfile.open(fileobj=forward, mode="r:"))
        for entry in file:
            if entry.isdir():
                continue
            strange = not entry.isreg() or entry.issparse()
            _check_name(path, entry.name, strange)
            _check_size(path, entry.name, entry.size)
            if wanted(entry.name):
                content = file.extractfile(entry)
                yield entry.name, content.read() if content else b""
        forward.finish()


class _Forward:
    """A stream for tarfile that never goes back and ends at the limits."""

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self._path = path
        self._stream = stream

    def tell(self) -> int:
        """Bytes so far, inflated."""
        return self._stream.tell()

    def seek(self, position: int, whence: int = 0) -> int:
        """Skips; a header that sends tarfile back would have it read for ever."""
        if whence or position < self.tell():
            raise tarfile.ReadError("a header points back")
        _check_total(self._path, position)
        return self._stream.seek(position)

    def read(self, size: int = -1) -> bytes:
        """Reads, not more than a member may have."""
        if size < 0:
            raise tarfile.ReadError("a header has a negative size")
        _check_size(self._path, "a header", size)
        _check_total(self._path, self.tell() + size)
        return self._stream.read(size)

    def finish(self) -> None:
        """Reads the rest: gzip knows only at its end whether all was right."""
        while self.read(2**16):
            pass


def _is_link(entry: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(entry.external_attr >> 16)


def _check_name(path: Path, name: str, strange: bool) -> None:
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or name[1:2] == ":":
        raise UserError(
            f"{path}: its entry {name!r} would lie outside of it; do not trust this "
            "file, and get it again"
        )
    if strange:
        raise UserError(
            f"{path}: its entry {name!r} is a link, or no ordinary file; pack the "
            "archive again without it"
        )


def _check_size(path: Path, name: str, size: int) -> None:
    if not 0 <= size <= MEMBER:
        raise UserError(
            f"{path}: {name} has {size} bytes, where at most {MEMBER} are expected; "
            "get the archive again"
        )


def _check_total(path: Path, size: int) -> None:
    if size > TOTAL:
        raise UserError(
            f"{path} inflates to {size} bytes or more, where at most {TOTAL} are "
            "expected; get it again"
        )
