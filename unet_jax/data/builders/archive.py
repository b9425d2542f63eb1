"""Published archives: found or downloaded, and read in memory, never extracted."""

import http.client
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from unet_jax.data.builders.unpack import Member, Wanted, untar, unzip, walk
from unet_jax.errors import UserError


class Archive(NamedTuple):
    """An archive as it is published.

    Attributes:
      file: its name, which ends in .zip or .tar.gz.
      url: its address.
      signs: globs, any of which tells its extracted folder from others.
    """

    file: str
    url: str
    signs: tuple[str, ...]

    @property
    def stem(self) -> str:
        """The name of the folder that it is extracted to."""
        return self.file.removesuffix(".zip").removesuffix(".tar.gz")


def find(archive: Archive, dl_manager: Any) -> Path:
    """The archive or its extracted folder: in the manual folder, or else from the net.

    Raises:
      UserError: it is in neither.
    """
    try:
        manual = Path(dl_manager.manual_dir)
    except AssertionError:  # how TFDS says that the folder is missing or empty
        manual = None
    if manual and (manual / archive.file).is_file():
        return manual / archive.file
    for folder in (manual / archive.stem, manual) if manual else ():
        if any(any(folder.glob(sign)) for sign in archive.signs):
            return folder
    return _download(archive, dl_manager, manual)


def members(archive: Archive, path: Path, wanted: Wanted) -> Iterator[Member]:
    """The members that are wanted, one by one, in the order of the archive.

    Args:
      archive: what it should be.
      path: what `find` returned.
      wanted: whether a member is, by its name.

    Raises:
      UserError: it is cut short, damaged, encrypted, too large, or no such archive; or
        an entry would lie outside of it.
    """
    kind = "zip" if archive.file.endswith(".zip") else "tar"
    unpack = walk if path.is_dir() else unzip if kind == "zip" else untar
    seen = set()
    try:
        for name, content in unpack(path, wanted):
            if name in seen:
                raise UserError(f"{path} holds {name} twice; pack the archive again")
            seen.add(name)
            yield name, content
    except (UserError, GeneratorExit):
        raise
    except Exception as error:  # broken files make zipfile and tarfile raise anything
        raise UserError(
            f"{path} is not a whole {kind} file ({line(error)}); delete it and get it "
            f"again from {archive.url}"
        ) from error


def gather(
    archive: Archive, path: Path, wanted: Wanted
) -> tuple[dict[str, bytes], list[str]]:
    """The members that are wanted, by name, and the names of all; see `members`."""
    there = []

    def note(name: str) -> bool:
        there.append(name)
        return wanted(name)

    return dict(members(archive, path, note)), there


def line(error: Exception) -> str:
    """What an exception says, in one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def named(names: list[str]) -> str:
    """The first few of some names, to show what there is instead."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") or "nothing"


def _download(archive: Archive, dl_manager: Any, manual: Path | None) -> Path:
    import tensorflow_datasets as tfds

    try:
        # TFDS would retry for minutes before it says that there is no network.
        urllib.request.urlopen(archive.url, timeout=5).close()
        return Path(dl_manager.download(archive.url))
    except (OSError, http.client.HTTPException, tfds.download.DownloadError) as error:
        raise UserError(
            f"no {archive.file} in {manual or 'manual_dir (not set)'} and no download "
            f"from {archive.url} ({line(error)}); set manual_dir to a folder that "
            "holds the file"
        ) from error
