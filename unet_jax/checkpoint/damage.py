"""One line for a checkpoint that cannot be read or written, whatever the cause."""

import errno
import functools
import logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from absl import logging as absl_logging

from unet_jax.errors import UserError
from unet_jax.text import one_line

T = TypeVar("T")

DISK_ERRORS = (
    errno.ENOENT,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EIO,
)
TEMPORARY = (  # in the text of an error: the checkpoint itself may be sound
    "MemoryError",
    "RESOURCE_EXHAUSTED",
    *map(os.strerror, (errno.EACCES, errno.EMFILE, errno.ENFILE, errno.ENOMEM)),
)


class DamagedCheckpointError(UserError):
    """A checkpoint that cannot be read, or whose content has changed."""


@functools.cache
def silence_orbax() -> None:
    """Suppresses the logs of Orbax and of the tasks that it abandons after an error.

    Every one of them would report the same damaged file or full disk. The exceptions
    themselves are raised in the thread of the caller.
    """
    before = sys.unraisablehook

    def report_unraisable(unraisable: Any) -> None:
        code = getattr(unraisable.object, "cr_code", None)  # of an abandoned task
        abandoned = code is not None and "orbax" in code.co_filename
        if not abandoned and str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = report_unraisable
    absl_logging.get_absl_logger().addFilter(lambda log: "orbax" not in log.pathname)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "coroutine .* was never awaited")


def load_or_report(part: Path, load: Callable[[], T]) -> T:
    """Returns what a function loads; turns its exceptions, of any type, into one line.

    Args:
      part: the part of a checkpoint that is loaded.
      load: the function.

    Raises:
      DamagedCheckpointError: it raised an exception, and the files are the cause.
      UserError: the memory or a permission is the cause, or the function raised it.
    """
    try:
        return load()
    except UserError:
        raise
    except Exception as error:
        text = f"{type(error).__name__} {error}"
    if reason := next((r for r in TEMPORARY if r in text), ""):
        raise UserError(f"{part} cannot be read now ({reason}); try again later")
    if not part.exists():
        raise DamagedCheckpointError(f"{part} is missing")
    raise DamagedCheckpointError(f"{part} is damaged: its files cannot be read")


def save_or_report(folder: Path, save: Callable[[], T]) -> T:
    """Calls a function that saves; turns its exceptions, of any type, into one line.

    Args:
      folder: the folder of the checkpoints of a run.
      save: the function.

    Raises:
      UserError: the checkpoint cannot be written.
    """
    try:
        return save()
    except UserError:
        raise
    except Exception as error:
        known = map(os.strerror, DISK_ERRORS)  # TensorStore has them in its text
        cause = next((t for t in known if t in str(error)), one_line(error))
    if cause == os.strerror(errno.ENOENT):
        raise UserError(
            f"{folder.parent} was removed or emptied during the run; start it again"
        )
    raise UserError(
        f"{folder}: the checkpoint cannot be written ({cause}); the checkpoints before "
        "it are complete, and the same command resumes the run"
    )
