"""The journal of a sweep: the file in which Optuna records its runs, line by line."""

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from unet_jax.build.sweep_file import check_names
from unet_jax.errors import UserError, prefix_errors
from unet_jax.json_file import convert
from unet_jax.logs import warn
from unet_jax.run.sweeping.files import RESERVED
from unet_jax.text import one_line

BLOCK = 4096  # bytes that are read at a time, from the end
REMEDY = "restore it, or choose another --workdir"


class _Record(msgspec.Struct):
    """The part of a line that every line of a journal has."""

    op_code: int
    worker_id: str


class _Known(msgspec.Struct):
    """The facts that a sweep records about one of its runs."""

    name: str = ""
    point: str = ""
    seed: int | None = None
    fields: dict[str, str] = {}
    worker: str = ""
    scores: dict[str, float | None] = {}
    minutes: float | None = None
    skipped: int = 0
    reason: str = ""


def open_journal(optuna: Any, path: Path) -> Any:
    """Opens or creates a journal, and returns its storage of Optuna.

    Args:
      optuna: the package.
      path: the file.

    Raises:
      UserError: a line of the file cannot be read.
    """
    journal = optuna.storages.journal
    if path.exists():
        check_records(path)
    lock = AppendLock(Lock(optuna, path), path)
    backend = journal.JournalFileBackend(str(path), lock_obj=lock)
    try:
        return optuna.storages.JournalStorage(backend)
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged ({one_line(error)}); {REMEDY}") from error


def check_records(path: Path) -> None:
    """Reads the complete lines of a journal, before anything is appended to it.

    Raises:
      UserError: a line is no record.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.endswith(b"\n"):
                place = f"{path}, line {number}"
                try:
                    record = json.loads(line)  # msgspec does not read Infinity
                except (RecursionError, ValueError) as error:
                    reason = f"{place} is damaged ({one_line(error)}); {REMEDY}"
                    raise UserError(reason) from error
                convert(record, _Record, place, REMEDY)


def check_trials(trials: Sequence[Any], path: Path) -> None:
    """Checks what a journal, which may be a stranger's, says about its runs.

    Args:
      trials: of the study.
      path: the journal, for errors.

    Raises:
      UserError: a value has another type, or a name is not that of a file or folder in
        the folder of the sweep.
    """
    for trial in trials:
        place = f"{path}, trial {trial.number}"
        known = convert(trial.user_attrs, _Known, place, REMEDY)
        for name in filter(None, (known.name, known.worker)):
            with prefix_errors(place):
                check_names([name])
            if name in RESERVED:
                raise UserError(f"{place} has the name {name!r}; {REMEDY}")


class Lock:
    """A lock between the workers of a sweep, on all machines.

    Another worker may break it if it is held for half a minute. Then it is not this
    worker's any more, and is left alone.

    Args:
      optuna: the package.
      path: what is locked; the lock is a file beside it.
    """

    def __init__(self, optuna: Any, path: Path) -> None:
        # Optuna's default lock is a symbolic link to the journal, which a machine that
        # knows the folder by another path cannot break after a crash. This one can be
        # broken everywhere; it needs NFS of version 3 or later.
        self._lock = optuna.storages.journal.JournalFileOpenLock(str(path))
        self._path = path.with_name(f"{path.name}.lock")
        self._mine: tuple[int, int] | None = None

    def acquire(self) -> bool:
        """Waits for the lock, and takes it."""
        taken = self._lock.acquire()
        self._mine = self._identify()
        return taken

    def release(self) -> None:
        """Gives the lock back."""
        if self._mine and self._identify() == self._mine:
            with contextlib.suppress(RuntimeError):  # it is broken at this moment
                self._lock.release()

    def _identify(self) -> tuple[int, int] | None:
        """Returns what differs between two files of the lock; None without one."""
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns


class AppendLock:
    """The lock under which lines are appended; it removes an incomplete last line.

    Such a line is left by a write that a full disk or a power failure interrupted. The
    next line would be joined to it, and nothing after it could be read.

    Args:
      lock: a lock.
      path: the journal.
    """

    def __init__(self, lock: Lock, path: Path) -> None:
        self._lock, self._path = lock, path

    def acquire(self) -> bool:
        """Waits for the lock, and takes it."""
        taken = self._lock.acquire()
        try:
            removed = remove_incomplete_line(self._path)
        except BaseException:
            self._lock.release()
            raise
        if removed:
            warn(
                f"{self._path}: removed an incomplete record at its end; what it "
                "recorded is done again"
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
            raise UserError(f"{path} is damaged (its last line is no record); {REMEDY}")
        if file.seek(0, os.SEEK_END) > size:  # the lock was lost, and others appended
            return False
        file.truncate(size - len(line))
    return True
