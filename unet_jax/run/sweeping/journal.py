"""The journal of a sweep: the file in which Optuna records its runs, line by line."""

import contextlib
import os
from pathlib import Path
from typing import Any

from unet_jax.errors import UserError
from unet_jax.logs import warn
from unet_jax.text import one_line

BLOCK = 4096  # bytes that are read at a time, from the end


def open_journal(optuna: Any, path: Path) -> Any:
    """Opens or creates a journal, and returns its storage of Optuna.

    Args:
      optuna: the package.
      path: the file.

    Raises:
      UserError: a line of the file cannot be read.
    """
    journal = optuna.storages.journal
    # Optuna's default lock is a symbolic link to the journal, which a machine that
    # knows the folder by another path cannot break after a crash. This one can be
    # broken everywhere; it needs NFS of version 3 or later.
    lock = AppendLock(journal.JournalFileOpenLock(str(path)), path)
    backend = journal.JournalFileBackend(str(path), lock_obj=lock)
    try:
        return optuna.storages.JournalStorage(backend)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is damaged ({one_line(error)}); restore it, or choose another "
            "--workdir"
        ) from error


class AppendLock:
    """The lock under which lines are appended; it removes an incomplete last line.

    Such a line is left by a write that a full disk or a power failure interrupted. The
    next line would be joined to it, and nothing after it could be read.

    Args:
      lock: a lock of Optuna.
      path: the journal.
    """

    def __init__(self, lock: Any, path: Path) -> None:
        self._lock, self._path = lock, path

    def acquire(self) -> bool:
        """Waits for the lock, and takes it."""
        taken = self._lock.acquire()
        try:
            removed = remove_incomplete_line(self._path)
        except BaseException:
            with contextlib.suppress(RuntimeError):  # it was held for too long
                self._lock.release()
            raise
        if removed:
            warn(
                f"{self._path}: removed an incomplete record at its end; what "
                "it recorded is done again"
            )
        return taken

    def release(self) -> None:
        """Gives the lock back."""
        self._lock.release()


def remove_incomplete_line(path: Path) -> bool:
    """Removes what follows the last line break of a journal.

    Returns:
      True if there was something to remove.

    Raises:
      UserError: it is not the beginning of a record.
    """
    with path.open("rb+") as file:
        begin = size = file.seek(0, os.SEEK_END)
        blocks, found = [], -1
        while begin and found < 0:
            end, begin = begin, max(0, begin - BLOCK)
            file.seek(begin)
            blocks.insert(0, file.read(end - begin))
            found = blocks[0].rfind(b"\n")
        line = b"".join(blocks)[found + 1 :]
        if not line:
            return False
        if line.strip(b"\0")[:1] not in (b"", b"{"):  # some disks leave zeros
            raise UserError(
                f"{path} is damaged (its last line is no record); restore it, or "
                "choose another --workdir"
            )
        if file.seek(0, os.SEEK_END) > size:  # the lock was lost, and others appended
            return False
        file.truncate(size - len(line))
    return True
