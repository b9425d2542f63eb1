"""One run of a sweep, in a process of its own, which may crash alone."""

import contextlib
import datetime
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import unet_jax
from unet_jax import logs
from unet_jax.build.overrides import to_flags
from unet_jax.errors import UserError
from unet_jax.parallel import LAUNCHER_VARIABLES
from unet_jax.run import run_folder
from unet_jax.run.sweeping.files import LOGS
from unet_jax.run.sweeping.identity import ORIGIN
from unet_jax.run.sweeping.plan import Plan
from unet_jax.run.sweeping.study import Claim
from unet_jax.text import printable

PROGRAM = (sys.executable, "-P", "-m", "unet_jax")  # -P: not that of this folder
LAST_LINES = 5  # of its log, which a failed run is recorded with
MOST_BYTES = 4000  # of them
STARTS = r"^--- [-\d]{10} [:\d]{8} started$"  # the line of `Trial.note`


def make_command(plan: Plan, claim: Claim, workdir: Path) -> list[str]:
    """Returns the arguments that train a run: those that a user could type."""
    return [
        f"--config={plan.base}",
        f"--workdir={workdir / claim.name}",
        *to_flags(plan.list_fields(claim.fields)),
    ]


class Trial:
    """A run of a sweep and its process.

    Args:
      plan: the sweep.
      claim: the run.
      workdir: the folder of the sweep.
    """

    def __init__(self, plan: Plan, claim: Claim, workdir: Path) -> None:
        self.claim, self.folder = claim, workdir / claim.name
        self.log = workdir / LOGS / f"{claim.name}.txt"
        self.next_check = 0.0
        self.pruned = ""  # the validation after which it was stopped
        self._arguments = make_command(plan, claim, workdir)
        self._environment = {**make_environment(), ORIGIN: plan.origin}
        self._score = f"val/{plan.scores[0].partition('/')[2]}"
        self._process: subprocess.Popen | None = None
        self._size = 0  # of metrics.jsonl

    def start(self) -> bool:
        """Starts the process; returns False if it must wait for another one.

        A process whose worker was killed may still train in the run folder.
        """
        if self.is_in_use():
            return False
        logs.say(f"{self.claim.name}: {logs.program()} {shlex.join(self._arguments)}")
        self.log.parent.mkdir(exist_ok=True)
        self.note("started")
        with self.log.open("ab") as file:
            self._process = subprocess.Popen(
                [*PROGRAM, *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=self._environment,
                start_new_session=True,  # Ctrl-C reaches it once, through `stop`
            )
        return True

    def note(self, event: str) -> None:
        """Writes a line with the time and an event of the run to its log."""
        now = datetime.datetime.now().isoformat(" ", "seconds")
        with contextlib.suppress(OSError), self.log.open("ab+") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            start = b"" if file.read() in (b"", b"\n") else b"\n"
            file.write(start + printable(f"--- {now} {event}").encode() + b"\n")

    def is_in_use(self) -> bool:
        """Returns True if a process that is not this one trains in the run folder."""
        try:
            run_folder.check_unlocked(self.folder)
        except UserError:
            return True
        return False

    def reset(self) -> None:
        """Forgets the process, which has ended, so that another one can be started."""
        self._process = None

    @property
    def started(self) -> bool:
        """True if the process has been started."""
        return self._process is not None

    def poll(self) -> int | None:
        """Returns the exit code of the process; None if it has not ended, or begun."""
        return self._process.poll() if self._process else None

    def stop(self) -> None:
        """Asks the process to save a checkpoint and to end."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def prune(self) -> None:
        """Stops the process, because its last validation was too bad."""
        self.pruned = "no validation"
        for step, score in self._read_scores()[-1:]:
            self.pruned = f"step {step}, {self._score} {score:.4f}"
        self.stop()

    def kill(self) -> None:
        """Ends the process at once."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def read_new_scores(self) -> list[tuple[int, float]]:
        """Returns steps and validation scores, if there are new ones."""
        path = self.folder / logs.METRICS
        size = path.stat().st_size if path.is_file() else 0
        if size == self._size:
            return []
        self._size = size
        return self._read_scores()

    def _read_scores(self) -> list[tuple[int, float]]:
        """Returns all steps with a validation score."""
        rows = logs.read_scalars(self.folder)
        found = [(row["step"], row.get(self._score)) for row in rows]
        return [(step, score) for step, score in found if score is not None]

    def read_minutes(self) -> float | None:
        """Returns the minutes of training."""
        seconds = logs.read_times(self.folder).total
        return None if seconds is None else round(seconds / 60, 3)

    def describe_failure(self, code: int) -> str:
        """Returns the exit code and the last lines of the log."""
        lines = []
        if self.log.is_file():
            text = self.log.read_bytes()[-MOST_BYTES:].decode(errors="replace")
            text = re.split(STARTS, text, flags=re.MULTILINE)[-1]  # of this process
            lines = [printable(line) for line in text.splitlines() if line.strip()]
        cause = f"exit code {code}"
        if code < 0:
            killed = -code == signal.SIGKILL
            memory = ", perhaps because memory ran out" if killed else ""
            cause = f"killed by signal {-code}{memory}"
        return "\n".join([cause, *lines[-LAST_LINES:]])


def make_environment() -> dict[str, str]:
    """Returns the environment of a run: a process alone, that finds this package."""
    environment = {k: v for k, v in os.environ.items() if k not in LAUNCHER_VARIABLES}
    paths = environment.get("PYTHONPATH", "").split(os.pathsep)
    paths.append(str(Path(sys.path[0]).resolve()))  # of functions that the config names
    root = Path(str(unet_jax.__file__)).resolve().parents[1]
    if (root / "main.py").is_file():  # a checkout, which may not be installed
        paths.insert(0, str(root))
    environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, paths)))
    return environment
