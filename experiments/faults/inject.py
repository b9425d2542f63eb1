"""Injects faults into small runs, and counts what happens: see README.md.

Each fault happens to a real process of main.py. Afterwards the same command runs again,
and the final state must be that of a run that nothing happened to, to the bit.
"""

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
MAIN = [sys.executable, str(ROOT / "main.py")]
RUN = [
    "--config=configs/quickstart.py",
    "--config.model.widths=(4, 8)",
    "--config.crop=(32, 32)",
    "--config.batch_size=2",
    "--config.data.train=6",
    "--config.data.val=2",
    "--config.data.test=2",
    "--config.data.shape=(64, 64)",
    "--config.log_every=1",
    "--config.checkpoint_every=2",
    "--config.eval_every=50",
]
STEPS = 200
TIMEOUT = 300  # seconds for one process
EXIT_CODES = (0, 1, 130, 143, -signal.SIGTERM, -signal.SIGINT, -signal.SIGKILL)
HUNG = -1000


class Outcome(NamedTuple):
    """The outcome of one fault.

    Attributes:
      named: a line of the output names the fault.
      recovered: a later start ends in the state of an undisturbed run.
      wrong: a process ended with success and other results, without a word.
      traceback: a process printed a traceback, or hung.
    """

    named: bool = False
    recovered: bool = False
    wrong: bool = False
    traceback: bool = False


class Process(NamedTuple):
    """A finished process: its exit code, and its output of both streams."""

    code: int
    output: str

    @property
    def failed_badly(self) -> bool:
        """True for a traceback, a crash, a hanging process or a silent failure."""
        lines = "Traceback (most recent call last)" in self.output
        silent = self.code == 1 and not self.complains
        return lines or silent or self.code not in EXIT_CODES

    @property
    def complains(self) -> bool:
        """True if a line of the output is an error or a warning."""
        return bool(re.search(r"^(error|warning): ", self.output, re.MULTILINE))


def main() -> None:
    """Runs all faults and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--signals", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    enter_namespace()
    random.seed(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(home / "cache")
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        sound = home / "sound"
        expect(start(sound), 0)
        half = home / "half"
        stop_at_step(STEPS // 2, half)
        rows = {
            "kill": kill(home, sound, arguments.kills),
            "SIGTERM or Ctrl-C": interrupt(home, sound, arguments.signals),
            "damaged file, finished run": damage_files(
                home, find_best(sound), sound, may_differ=True
            ),
            "damaged file, unfinished run": damage_files(
                home, find_newest(half), sound
            ),
            "full disk": fill_disk(home, sound),
            "two starts": start_twice(home, sound),
        }
    print("| fault | tried | named | recovered | wrong | traceback |")
    print("|---|---|---|---|---|---|")
    for name, outcomes in rows.items():
        counts = map(sum, zip(*outcomes, strict=True))
        print("|", " | ".join(map(str, (name, len(outcomes), *counts))), "|")
    bad = any(o.wrong or o.traceback for outcomes in rows.values() for o in outcomes)
    sys.exit(bad)


def enter_namespace() -> None:
    """Starts this program again in a namespace in which it may mount a small disk."""
    if "FAULTS_NAMESPACE" not in os.environ:
        os.environ["FAULTS_NAMESPACE"] = "1"
        unshare = ["unshare", "--map-root-user", "--mount"]
        os.execvp(unshare[0], [*unshare, sys.executable, *sys.argv])


def command(workdir: Path, *flags: str) -> list[str]:
    """Returns the command of a run."""
    return [*MAIN, *RUN, f"--config.steps={STEPS}", f"--workdir={workdir}", *flags]


def start(workdir: Path, *flags: str) -> Process:
    """Runs a process to its end."""
    return finish(launch(workdir, *flags))


def launch(workdir: Path, *flags: str) -> subprocess.Popen[str]:
    """Starts a process."""
    return subprocess.Popen(
        command(workdir, *flags),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def stop_at_step(step: int, workdir: Path) -> None:
    """Stops a run after a step, as a user does."""
    process = launch(workdir)
    assert process.stdout
    for line in process.stdout:
        if line.startswith(f"step {step} "):
            break
    process.send_signal(signal.SIGINT)
    expect(finish(process), 128 + signal.SIGINT)


def finish(process: subprocess.Popen[str], before: str = "") -> Process:
    """Waits for a process; kills it if it hangs."""
    try:
        output, _ = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        return Process(HUNG, before + output)
    return Process(process.returncode, before + output)


def expect(process: Process, code: int) -> None:
    """Stops the program if a process without faults fails."""
    if process.code != code or process.failed_badly:
        sys.exit(f"a process without faults failed:\n{process.output}")


def equal_results(one: Path, other: Path) -> bool:
    """Returns True if two finished runs have the same state and scores."""
    newest = [read_checksums(workdir) for workdir in (one, other)]
    scores = [read_scores(workdir) for workdir in (one, other)]
    return newest[0] == newest[1] and scores[0] == scores[1]


def read_checksums(workdir: Path) -> dict[str, int]:
    """Returns the checksums of the arrays of the last checkpoint."""
    path = workdir / f"checkpoints/{STEPS}/_CHECKPOINT_METADATA"
    sums = json.loads(path.read_text())["custom_metadata"]["checksums"]
    return {name: sums[name] for name in ("variables", "training")}


def read_scores(workdir: Path) -> dict[str, float]:
    """Returns the test scores of a run."""
    scores = json.loads((workdir / "scores.json").read_text())
    return {name: value for name, value in scores.items() if name.startswith("test/")}


def judge(
    processes: list[Process],
    workdir: Path,
    sound: Path,
    *,
    must_name: bool = False,
    may_differ: bool = False,
) -> Outcome:
    """Judges the processes that met a fault, and the last one, which met none.

    Prints the output of processes that failed badly or were wrong.

    Args:
      processes: in their order.
      workdir: their run folder.
      sound: the folder of a run without faults.
      must_name: True if the first process must name the fault.
      may_differ: True if the results may be those of another checkpoint, if a line of
        the output says so.
    """
    named = any(process.complains for process in processes)
    ended = processes[-1].code == 0
    right = ended and equal_results(workdir, sound)
    explained = may_differ and named
    silent = must_name and not processes[0].complains
    outcome = Outcome(
        named=named,
        recovered=right or (ended and explained),
        wrong=silent or (ended and not right and not explained),
        traceback=any(process.failed_badly for process in processes),
    )
    if outcome.wrong or outcome.traceback:
        for process in processes:
            print(f"--- exit code {process.code}\n{process.output}", file=sys.stderr)
    return outcome


def disturb(
    home: Path, sound: Path, count: int, send: Callable[[subprocess.Popen[str]], None]
) -> list[Outcome]:
    """Stops runs at random times and resumes them, `count` times in all."""
    outcomes: list[Outcome] = []
    while len(outcomes) < count:
        workdir = Path(tempfile.mkdtemp(dir=home))
        processes: list[Process] = []
        while len(outcomes) + len(processes) < count:
            process = launch(workdir)
            before = wait_for_step(process)
            time.sleep(random.uniform(0, 1.5))
            send(process)
            processes.append(finish(process, before))
            if processes[-1].code == 0:  # it ended before the signal
                break
        last = start(workdir)
        outcome = judge([*processes, last], workdir, sound)
        outcomes += [outcome] * len(processes)
        shutil.rmtree(workdir)
    return outcomes


def wait_for_step(process: subprocess.Popen[str]) -> str:
    """Reads the output until the first step, or until a random earlier line."""
    assert process.stdout
    early = random.random() < 0.2
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("step ") or (early and len(lines) > 1):
            break
    return "".join(lines)


def kill(home: Path, sound: Path, count: int) -> list[Outcome]:
    """Sends SIGKILL at random times, also while a checkpoint is written."""
    return disturb(home, sound, count, lambda process: process.kill())


def interrupt(home: Path, sound: Path, count: int) -> list[Outcome]:
    """Sends SIGTERM or Ctrl-C at random times."""
    signals = (signal.SIGTERM, signal.SIGINT)
    return disturb(
        home, sound, count, lambda process: process.send_signal(random.choice(signals))
    )


def damage_files(
    home: Path, checkpoint: Path, sound: Path, *, may_differ: bool = False
) -> list[Outcome]:
    """Damages every file of a checkpoint in four ways, then starts the run again.

    An unfinished run goes on to its end. A finished one is scored again.
    """
    run = checkpoint.parents[1]
    files = [path.relative_to(run) for path in checkpoint.rglob("*") if path.is_file()]
    outcomes = []
    for file in files:
        for damage in (truncate, zero, flip, Path.unlink):
            workdir = home / "damaged"
            shutil.copytree(run, workdir)
            damage(workdir / file)
            done = start(workdir)
            outcomes.append(judge([done], workdir, sound, may_differ=may_differ))
            shutil.rmtree(workdir)
    return outcomes


def find_best(workdir: Path) -> Path:
    """Returns the best checkpoint of a finished run."""
    return workdir / json.loads((workdir / "scores.json").read_text())["checkpoint"]


def find_newest(workdir: Path) -> Path:
    """Returns the newest checkpoint of a run."""
    return max((workdir / "checkpoints").iterdir(), key=lambda path: int(path.name))


def truncate(path: Path) -> None:
    """Removes the second half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zero(path: Path) -> None:
    """Replaces all bytes of a file by zeros."""
    path.write_bytes(bytes(path.stat().st_size))


def flip(path: Path) -> None:
    """Flips one bit of a file."""
    content = bytearray(path.read_bytes())
    if content:
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    path.write_bytes(content)


def fill_disk(home: Path, sound: Path) -> list[Outcome]:
    """Fills the disk of a run folder, frees it, and starts again."""
    outcomes = []
    for spare in (0, 2**12, 2**14, 2**16, 2**18):  # bytes that are left
        disk = Path(tempfile.mkdtemp(dir=home))
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(disk)], check=True
        )
        process = launch(disk / "run")
        before = wait_for_step(process)
        block = disk / "block"
        with block.open("wb") as file, contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - spare)
        full = finish(process, before)
        block.unlink()
        last = start(disk / "run")
        outcomes.append(judge([full, last], disk / "run", sound))
        subprocess.run(["umount", str(disk)], check=True)
    return outcomes


def start_twice(home: Path, sound: Path) -> list[Outcome]:
    """Starts a second process in the folder of a run."""
    outcomes = []
    for _ in range(3):
        workdir = Path(tempfile.mkdtemp(dir=home))
        first = launch(workdir)
        before = wait_for_step(first)
        second = start(workdir)
        processes = [second, finish(first, before)]
        outcomes.append(judge(processes, workdir, sound, must_name=True))
    return outcomes


if __name__ == "__main__":
    main()
