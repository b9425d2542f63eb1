"""The presence of the workers of a sweep: who is alive, on any machine.

A worker keeps a file in the folder of the sweep. It holds a lock on the file, which
ends with the process, so that other processes of the same machine see at once that it
was killed. Other machines see that the time of the file does not change any more; locks
do not reach them on every network file system. They measure the silence by their own
clocks, because a file system may record the time of the machine that writes.
"""

import contextlib
import fcntl
import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from unet_jax.errors import UserError
from unet_jax.json_file import decode_json
from unet_jax.run.sweeping.files import WORKERS

PARTIAL = ".part"  # ends the name of a file that is being written
RENEWAL = 10.0  # seconds between two renewals
SILENCE = 180.0  # seconds; NFS may show a time that is a minute old
LONG_AGO = 600.0  # seconds; the clocks of machines differ by less
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # Linux


class _Worker(msgspec.Struct):
    """The content of the file of a worker."""

    machine: str
    locked: bool


class _Sight(NamedTuple):
    """The time of the file of another worker, and when it was first seen."""

    renewed: int  # nanoseconds
    since: float  # seconds, of the monotonic clock


class Presence:
    """The presence of this worker, and its view of the others.

    Args:
      workdir: the folder of the sweep.
    """

    def __init__(self, workdir: Path) -> None:
        self._folder = workdir / WORKERS
        host = socket.gethostname().replace(".", "_")
        self._path = self._folder / f"{host}-{os.getpid()}-{secrets.token_hex(2)}"
        self._file: BinaryIO | None = None
        self._renewed = time.monotonic()
        self._seen: dict[str, _Sight] = {}

    @property
    def name(self) -> str:
        """The name of this worker."""
        return self._path.name

    def renew(self) -> None:
        """Shows that this worker is alive; call it often."""
        if time.monotonic() - self._renewed >= RENEWAL:
            with contextlib.suppress(OSError):  # such as a network that is down
                self._renew()
            self._renewed = time.monotonic()

    def _renew(self) -> None:
        try:
            os.utime(self._path)
        except FileNotFoundError:  # others took this worker for dead; it was asleep
            self.appear()

    def appear(self) -> None:
        """Writes and locks the file of this worker."""
        self._folder.mkdir(exist_ok=True)
        self._close()
        partial = self._path.with_suffix(PARTIAL)
        self._file = partial.open("wb")
        worker = _Worker(identify_machine(), locked=_try_lock(self._file))
        self._file.write(msgspec.json.encode(worker))
        self._file.flush()
        partial.rename(self._path)  # others see it only when it is locked and complete

    def disappear(self) -> None:
        """Removes the file of this worker."""
        for path in (self._path, self._path.with_suffix(PARTIAL)):
            path.unlink(missing_ok=True)
        self._close()

    def _close(self) -> None:
        if self._file:
            self._file.close()

    def is_alive(self, name: str) -> bool:
        """Returns True if a worker is alive, or may be."""
        if name == self.name:
            return True
        path = self._folder / name
        try:
            renewed = path.stat().st_mtime_ns
            worker = decode_json(path.read_bytes(), _Worker, str(path), "delete it")
            if worker.machine == identify_machine() and worker.locked:
                return _is_locked(path)
        except (FileNotFoundError, UserError):
            return False
        except OSError:  # such as a network that is down: nothing is known
            return True
        now = time.monotonic()
        sight = self._seen.get(name)
        if sight is None and time.time() - renewed / 1e9 > LONG_AGO:
            sight = _Sight(renewed, now - SILENCE)
        elif sight is None or sight.renewed != renewed:
            sight = _Sight(renewed, now)
        self._seen[name] = sight
        return now - sight.since < SILENCE

    def remove_dead(self) -> None:
        """Removes the files of workers that are not alive."""
        for path in self._folder.iterdir():
            if path.suffix != PARTIAL and not self.is_alive(path.name):
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def announce(workdir: Path) -> Iterator[Presence]:
    """Makes this process a worker of a sweep during the context."""
    presence = Presence(workdir)
    try:
        presence.appear()
        yield presence
    finally:
        presence.disappear()


def identify_machine() -> str:
    """Returns a text that differs between machines, and between their starts."""
    with contextlib.suppress(OSError):
        return BOOT_ID.read_text().strip()
    return socket.gethostname()


def _try_lock(file: BinaryIO) -> bool:
    """Locks a file; returns False on a file system without locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_locked(path: Path) -> bool:
    """Returns True if a process holds the lock on a file."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
