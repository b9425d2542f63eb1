"""Trains every contender for the same minutes on one machine, and scores it.

python experiments/against_peers/measure.py --isbi=DIR --nuclei=DIR --hippocampus=DIR

A data set without a folder is left out. The speed of each contender is measured first,
into speeds.csv; nothing else should run on the machine meanwhile. The minutes are
converted to steps by these speeds, so the runs that follow may share the machine with
others, stop, or go on elsewhere. The table of each data set, results-*.csv, has a row
for every run, and a run that has a row is not repeated.
"""

import argparse
import csv
import datetime
import fcntl
import json
import os
import platform
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT)]

from budget import Speed  # noqa: E402  after the path is set
from contender import CONTENDERS  # noqa: E402  after the path is set
from data import SOURCES, read  # noqa: E402
from score import score_run  # noqa: E402

SHOWN = {"isbi": "v_rand", "nuclei": "ap", "hippocampus": "dice"}  # their beginnings
_ADDING = threading.Lock()  # jobs add rows to the same table


class Run(NamedTuple):
    """One training of one contender.

    Attributes:
      data: the data set.
      contender: its name.
      minutes: of training.
      seed: of the run.
    """

    data: str
    contender: str
    minutes: float
    seed: int


def list_runs(
    data: Sequence[str],
    contenders: Sequence[str],
    minutes: Sequence[float],
    seeds: Sequence[int],
) -> Iterator[Run]:
    """Yields the runs; those of one seed and budget follow each other."""
    for name in data:
        for seed in seeds:
            for budget in minutes:
                for contender in contenders:
                    if name in CONTENDERS[contender][1]:
                        yield Run(name, contender, budget, seed)


def main() -> None:
    """Runs what has no row yet; a run that fails leaves the others running."""
    options = _parse_options()
    roots = {name: root for name in SOURCES if (root := getattr(options, name))}
    options.runs.mkdir(parents=True, exist_ok=True)
    with (options.runs / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.exit(f"error: another measure.py runs in {options.runs}; wait for it")
        failed = _measure_all(options, roots)
    for run in failed:
        print(f"failed: {run.contender} on {run.data}, {run.minutes:g} minutes")
    sys.exit(bool(failed))


def _measure_all(options: argparse.Namespace, roots: dict[str, Path]) -> list[Run]:
    """Measures the runs without a row; returns those that failed."""
    for name, root in roots.items():  # in a process of its own, which frees its memory
        folder = options.runs / "data"
        command = [sys.executable, str(HERE / "data.py"), name, root, folder]
        if code := subprocess.run(command).returncode:
            sys.exit(code)  # it has printed the reason
    runs = [
        run
        for run in list_runs(
            list(roots), options.contenders, options.minutes, options.seeds
        )
        if find_row(options.output / f"results-{run.data}.csv", run._asdict()) is None
    ]
    timed = dict.fromkeys((run.data, run.contender) for run in runs)
    failed = {pair for pair in timed if not _time(*pair, roots, options)}
    todo = [run for run in runs if (run.data, run.contender) not in failed]
    print(f"{len(todo)} runs, {options.jobs} at a time", flush=True)
    free = queue.SimpleQueue()
    for cores in _share_cores(options.jobs):
        free.put(cores)

    def measure(run: Run) -> bool:
        cores = free.get()
        try:
            return _measure(run, roots, options, cores)
        finally:
            free.put(cores)

    with ThreadPoolExecutor(options.jobs) as pool:
        done = dict(zip(todo, pool.map(measure, todo), strict=True))
    return [run for run in runs if not done.get(run, False)]


def _share_cores(jobs: int) -> list[list[int]]:
    """Returns the cores of each job: about the same number, at least one."""
    cores = sorted(os.sched_getaffinity(0))
    return [cores[i::jobs] or [cores[i % len(cores)]] for i in range(jobs)]


def find_row(table: Path, key: Mapping[str, object]) -> dict[str, str] | None:
    """Returns the row of a table that agrees with the key in its columns, or None."""
    for row in read_table(table):
        if all(row[c] == _format(x) for c, x in key.items() if c in row):
            return row
    return None


def _format(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def read_table(table: Path) -> list[dict[str, str]]:
    """Returns the rows of a table; none if there is no table."""
    if not table.is_file():
        return []
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def add_row(table: Path, row: Mapping[str, object]) -> None:
    """Adds a row to a table, whose columns are those of all rows."""
    with _ADDING:
        rows: list[Mapping] = [*read_table(table), row]
        columns = list(dict.fromkeys(name for each in rows for name in each))
        partial = table.with_suffix(".part")
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        partial.replace(table)


def _time(
    data: str, contender: str, roots: Mapping[str, Path], options: argparse.Namespace
) -> bool:
    """Measures the speed of a contender, unless it is known; False if it fails."""
    table = options.output / "speeds.csv"
    key = {"data": data, "contender": contender}
    if find_row(table, key):
        return True
    print(f"{data}: {contender}, its speed", flush=True)
    folder = options.runs / data / f"{contender}-speed"
    [cores] = _share_cores(1)
    if not _run(key, 0, folder, roots, options, cores):
        return False
    account = json.loads((folder / "speed.json").read_text())
    machine = {"machine": _find_processor(), "cores": len(cores)}
    add_row(table, {**key, **account, **machine, **_find_version()})
    print(f"  {account['before']:.1f} s, then {account['step']:.3f} s a step")
    return True


def _measure(
    run: Run, roots: Mapping[str, Path], options: argparse.Namespace, cores: list[int]
) -> bool:
    """Trains and scores one contender; returns False if it fails."""
    key = {"data": run.data, "contender": run.contender}
    row = find_row(options.output / "speeds.csv", key)
    assert row is not None
    steps = Speed(float(row["before"]), float(row["step"])).count_steps(run.minutes)
    about = f"{run.data}: {run.contender}, {run.minutes:g} minutes, seed {run.seed}"
    print(f"{about}: {steps} steps", flush=True)
    folder = options.runs / run.data / f"{run.contender}-{run.minutes:g}-{run.seed}"
    if not _run(key, run.seed, folder, roots, options, cores, f"--steps={steps}"):
        return False
    scores = score_run(read(options.runs / "data" / run.data), folder)
    numbers = {name: f"{value:.5f}" for name, value in scores.items()}
    found = {"contender": run.contender, "minutes": f"{run.minutes:g}"}
    found |= {"seed": run.seed, "steps": steps, **numbers, **_find_version()}
    add_row(options.output / f"results-{run.data}.csv", found)
    first = SHOWN[run.data]
    shown = [f"{name} {scores[name]:.4f}" for name in scores if name.startswith(first)]
    print(f"{about}:", *shown, flush=True)
    return True


def _run(
    key: Mapping[str, str],
    seed: int,
    folder: Path,
    roots: Mapping[str, Path],
    options: argparse.Namespace,
    cores: list[int],
    *flags: str,
) -> bool:
    """Runs contender.py on some cores; returns False if it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    name, data = key["contender"], options.runs / "data" / key["data"]
    arguments = name, str(data), str(seed), str(folder)
    shown = f"--cores={','.join(map(str, cores))}"
    log = folder / "log.txt"
    with log.open("w") as file:
        code = subprocess.run(
            [sys.executable, str(HERE / "contender.py"), *arguments, shown, *flags],
            env={**os.environ, "PEERS_ROOT": str(roots[key["data"]].resolve())},
            stdout=file,
            stderr=subprocess.STDOUT,
        ).returncode
    if code:
        lines = log.read_text().splitlines()[-5:]
        print(f"{name}: exit code {code}; the end of {log}:", *lines, sep="\n    ")
    return not code


def _find_version() -> dict[str, str]:
    """Returns the date and the commit, as columns."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    commit = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return {"date": datetime.date.today().isoformat(), "commit": commit}


def _find_processor() -> str:
    """Returns the name of the processor, where Linux knows it."""
    names = (line.partition(":") for line in _read_lines(Path("/proc/cpuinfo")))
    found = (value.strip() for name, _, value in names if name.strip() == "model name")
    return next(found, platform.processor() or platform.machine())


def _read_lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in SOURCES:
        parser.add_argument(f"--{name}", type=Path, help="the folder of its data")
    names = ",".join(CONTENDERS)
    parser.add_argument("--contenders", default=names, help=names)
    parser.add_argument("--minutes", default="2,5,10,20", help="budgets")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--runs", type=Path, default=Path("runs/against_peers"))
    parser.add_argument("--output", type=Path, default=HERE, help="for results-*.csv")
    options = parser.parse_args()
    options.contenders = options.contenders.split(",")
    if unknown := ", ".join(sorted(set(options.contenders) - set(CONTENDERS))):
        parser.error(f"--contenders: no {unknown}; there are {names}")
    for name, kind in (("minutes", float), ("seeds", int)):
        try:
            values = [kind(text) for text in getattr(options, name).split(",")]
        except ValueError:
            parser.error(f"--{name}: numbers with commas between them, such as 2,5")
        setattr(options, name, values)
    if min(options.minutes) <= 0:
        parser.error("--minutes: budgets are above 0")
    if options.jobs < 1:
        parser.error("--jobs: at least 1")
    given = [name for name in SOURCES if getattr(options, name)]
    if not given:
        parser.error("no data set; give its folder, such as --isbi=DIR")
    for name in given:
        if not getattr(options, name).is_dir():
            parser.error(f"--{name}: there is no folder {getattr(options, name)}")
    options.output.mkdir(parents=True, exist_ok=True)
    return options


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # the contender has received Ctrl-C, too
        sys.exit(130)
