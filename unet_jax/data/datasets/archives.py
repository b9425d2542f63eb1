"""Published archives: found or downloaded, and read in memory.

Archives are never extracted. Most have no published checksum, so the reader limits the
sizes that an entry, a header or the whole archive may inflate to.
"""

import gzip
import io
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from unet_jax.data import files
from unet_jax.errors import UserError
from unet_jax.text import listing, one_line

LARGEST_MEMBER = 2**28  # bytes of one inflated member
LARGEST_ARCHIVE = 2**31  # bytes of all members; the largest set has 0.8 GB
TIMEOUT = (5, 60)  # seconds to connect, and to wait for data

SAFE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # other methods inflate without limit
GZIP = b"\x1f\x8b"

Member = tuple[str, bytes]  # the name, with '/', and the content
Wanted = Callable[[str], bool]  # True for the name of a member to read
Key = TypeVar("Key")


class Archive(NamedTuple):
    """An archive as it is published.

    Attributes:
      file: its name, which ends in .zip or .tar.gz.
      url: its address.
      contents: globs; a match of any of them identifies the extracted folder.
      sha256: its checksum; '' if none is known.
    """

    file: str
    url: str
    contents: tuple[str, ...]
    sha256: str = ""


def find_archive(archive: Archive, manual: Path | None, downloads: Path) -> Path:
    """Returns the path of an archive, or of its extracted folder.

    Args:
      archive: the archive.
      manual: a folder to look in first; None if there is none.
      downloads: the folder to download to. A file that is there is used again.

    Raises:
      UserError: the archive is in neither folder, and cannot be downloaded.
    """
    if manual and (manual / archive.file).is_file():
        return manual / archive.file
    stem = archive.file.removesuffix(".zip").removesuffix(".tar.gz")
    for folder in (manual / stem, manual) if manual else ():
        if any(any(folder.glob(pattern)) for pattern in archive.contents):
            return folder
    try:
        return _download(archive, downloads)
    except (OSError, ValueError) as error:  # ValueError: a wrong checksum
        import requests

        offline = isinstance(error, requests.ConnectionError)
        reason = "no connection" if offline else one_line(error)
        raise UserError(
            f"no {archive.file} in {manual or 'manual_dir (not set)'} and no download "
            f"from {archive.url} ({reason}); set manual_dir to a folder that holds the "
            "file"
        ) from error


def read_members(archive: Archive, path: Path, wanted: Wanted) -> Iterator[Member]:
    """Yields members one by one, in the order of the archive.

    Args:
      archive: the archive.
      path: from `find_archive`.
      wanted: selects members by name.

    Raises:
      UserError: the archive is damaged, too large, or of another format.
    """
    kind = "zip" if archive.file.endswith(".zip") else "tar"
    read = _read_folder if path.is_dir() else _read_zip if kind == "zip" else _read_tar

    def selected(name: str) -> bool:
        return not any(map(files.is_system_file, name.split("/"))) and wanted(name)

    try:
        yield from read(path, selected)
    except (UserError, GeneratorExit):
        raise
    except Exception as error:  # damaged files raise exceptions of many types
        raise UserError(
            f"{path} is not a complete {kind} file ({one_line(error)}); delete it and "
            f"download it again from {archive.url}"
        ) from error


def read_archive(
    archive: Archive,
    path: Path,
    find_key: Callable[[str], Key | None],
    find_missing: Callable[[dict[Key, bytes]], Sequence[str]],
) -> dict[Key, bytes]:
    """Returns the content of all members that have a key; see `read_members`.

    Args:
      archive: the archive.
      path: from `find_archive`.
      find_key: returns the key of a member's name; None if it is not read.
      find_missing: returns the names of members that are missing in the result.

    Raises:
      UserError: as `read_members` does, or a member is missing.
    """
    keys: dict[str, Key | None] = {}

    def wanted(name: str) -> bool:
        keys[name] = find_key(name)
        return keys[name] is not None

    contents: dict[Any, bytes] = {
        keys[name]: content for name, content in read_members(archive, path, wanted)
    }
    if missing := find_missing(contents):
        raise UserError(
            f"{path} has no {', '.join(missing)}; it holds "
            f"{listing(keys) or 'nothing'}; get {archive.file} from {archive.url}"
        )
    return contents


def _download(archive: Archive, folder: Path) -> Path:
    import pooch

    pooch.get_logger().setLevel("WARNING")
    downloader = pooch.HTTPDownloader(timeout=TIMEOUT, progressbar=sys.stderr.isatty())
    known_hash = f"sha256:{archive.sha256}" if archive.sha256 else None
    path = pooch.retrieve(
        archive.url, known_hash, archive.file, folder, downloader=downloader
    )
    return Path(path)


def _read_folder(folder: Path, wanted: Wanted) -> Iterator[Member]:
    """Yields the files of an extracted folder, sorted by name."""
    inside = folder.resolve()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and wanted(name):
            if not path.resolve().is_relative_to(inside):
                raise UserError(
                    f"{path} is a link that leaves {folder}; copy the file into it"
                )
            _check_size(folder, name, path.stat().st_size)
            yield name, path.read_bytes()


def _read_zip(path: Path, wanted: Wanted) -> Iterator[Member]:
    with zipfile.ZipFile(path) as file:
        entries = [e for e in file.infolist() if not e.is_dir() and wanted(e.filename)]
        _check_total(path, sum(entry.file_size for entry in entries))
        for entry in entries:
            _check_size(path, entry.filename, entry.file_size)
            if entry.compress_type not in SAFE:
                raise UserError(
                    f"{path}: {entry.filename} is not compressed by deflate; pack the "
                    "archive again"
                )
            with file.open(entry) as stream:
                # one byte more than the stated size shows whether that is wrong
                content = stream.read(entry.file_size + 1)
            if len(content) != entry.file_size:
                raise zipfile.BadZipFile(f"{entry.filename} is cut off")
            yield entry.filename, content


def _read_tar(path: Path, wanted: Wanted) -> Iterator[Member]:
    with path.open("rb") as start:
        opener = gzip.open if start.read(len(GZIP)) == GZIP else open
    with opener(path, "rb") as stream:
        bounded: Any = _BoundedStream(path, stream)
        with tarfile.open(fileobj=bounded, mode="r:") as file:
            for entry in file:
                if entry.isreg() and not entry.issparse() and wanted(entry.name):
                    _check_size(path, entry.name, entry.size)
                    content = file.extractfile(entry)
                    yield entry.name, content.read() if content else b""
        while bounded.read(2**16):  # gzip checks its content only at the end
            pass


class _BoundedStream:
    """A stream for tarfile that only moves forward, and not beyond the limits."""

    def __init__(self, path: Path, stream: io.BufferedIOBase) -> None:
        self._path = path
        self._stream = stream

    def tell(self) -> int:
        """Returns the number of inflated bytes so far."""
        return self._stream.tell()

    def seek(self, position: int, whence: int = 0) -> int:
        """Skips bytes; a header that points back would make tarfile loop."""
        if whence or position < self.tell():
            raise tarfile.ReadError("a header points back")
        _check_total(self._path, position)
        return self._stream.seek(position)

    def read(self, size: int = -1) -> bytes:
        """Reads bytes, at most as many as a member may have."""
        if size < 0:
            raise tarfile.ReadError("a header has a negative size")
        _check_size(self._path, "a header", size)
        _check_total(self._path, self.tell() + size)
        return self._stream.read(size)


def _check_size(path: Path, name: str, size: int) -> None:
    if not 0 <= size <= LARGEST_MEMBER:
        raise UserError(
            f"{path}: {name} has {size} bytes, but at most {LARGEST_MEMBER} are "
            "expected; get the archive again"
        )


def _check_total(path: Path, size: int) -> None:
    if size > LARGEST_ARCHIVE:
        raise UserError(
            f"{path} inflates to {size} bytes or more, but at most {LARGEST_ARCHIVE} "
            "are expected; get it again"
        )
