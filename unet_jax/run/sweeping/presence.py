"""The presence of the workers of a sweep: who is alive, on any machine.

A worker keeps a file in the folder of the sweep. It holds a lock on the file, which
ends with the process, so that other processes of the same machine see at once that it
was killed. Other machines see that the time of the file is no longer renewed; locks do
not reach them on every network file system.
"""

import contextlib
import fcntl
import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from unet_jax.errors import UserError
from unet_jax.json_file import read_json
from unet_jax.run.sweeping.files import WORKERS

PARTIAL = ".part"  # ends the name of a file that is being written
RENEWAL = 10.0  # seconds between two renewals
SILENCE = 180.0  # seconds; NFS may show a time that is a minute old
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # Linux


class _Worker(msgspec.Struct):
    """The content of the file of a worker."""

    machine: str
    locked: bool


class Presence:
    """The presence of this worker, and its view of the others.

    Args:
      workdir: the folder of the sweep.
      path: the file of this worker.
    """

    def __init__(self, workdir: Path, path: Path) -> None:
        self._folder, self._path = workdir / WORKERS, path
        self._renewed = time.monotonic()

    @property
    def name(self) -> str:
        """The name of this worker."""
        return self._path.name

    def renew(self) -> None:
        """Shows that this worker is alive; call it often."""
        if time.monotonic() - self._renewed >= RENEWAL:
            with contextlib.suppress(OSError):  # such as a network that is down
                os.utime(self._path)
            self._renewed = time.monotonic()

    def is_alive(self, name: str) -> bool:
        """Returns True if a worker is alive, or may be."""
        if name == self.name:
            return True
        path = self._folder / name
        try:
            worker = read_json(path, _Worker, "delete it")
            if worker.machine == identify_machine() and worker.locked:
                return _is_locked(path)
            os.utime(self._path)  # the same clock, that of the file server, for both
            age = self._path.stat().st_mtime - path.stat().st_mtime
        except (OSError, UserError):
            return False
        return age < SILENCE

    def remove_dead(self) -> None:
        """Removes the files of workers that are not alive."""
        for path in self._folder.iterdir():
            if path.suffix != PARTIAL and not self.is_alive(path.name):
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def announce(workdir: Path) -> Iterator[Presence]:
    """Makes this process a worker of a sweep during the context."""
    folder = workdir / WORKERS
    folder.mkdir(exist_ok=True)
    host = socket.gethostname().replace(".", "_")
    path = folder / f"{host}-{os.getpid()}-{secrets.token_hex(2)}"
    with contextlib.ExitStack() as stack:
        stack.callback(path.unlink, missing_ok=True)
        partial = path.with_suffix(PARTIAL)
        stack.callback(partial.unlink, missing_ok=True)
        file = stack.enter_context(partial.open("xb"))
        worker = _Worker(identify_machine(), locked=_try_lock(file))
        file.write(msgspec.json.encode(worker))
        file.flush()
        partial.rename(path)  # others see it only when it is locked and complete
        yield Presence(workdir, path)


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
