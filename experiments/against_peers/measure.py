"""Trains every contender for the same minutes, one after the other, and scores it.

python experiments/against_peers/measure.py --isbi=DIR --nuclei=DIR --hippocampus=DIR

A data set without a folder is left out. The table of each data set, results-*.csv, has
a row for every run, and a run that has a row is not repeated. Nothing else should run
on the machine meanwhile.
"""

import argparse
import csv
import datetime
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT)]

from contender import CONTENDERS  # noqa: E402  after the path is set
from data import SOURCES, read  # noqa: E402
from score import score_run  # noqa: E402

KEY = ("contender", "minutes", "seed")
SHOWN = {"isbi": "v_rand", "nuclei": "ap", "hippocampus": "dice"}  # their beginnings


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
    """Measures the runs without a row, in turn; returns those that failed."""
    for name, root in roots.items():  # in a process of its own, which frees its memory
        folder = options.runs / "data"
        command = [sys.executable, str(HERE / "data.py"), name, root, folder]
        if code := subprocess.run(command).returncode:
            sys.exit(code)  # it has printed the reason
    failed = []
    for run in list_runs(
        list(roots), options.contenders, options.minutes, options.seeds
    ):
        table = options.output / f"results-{run.data}.csv"
        if find_row(table, run) is None and not _measure(
            run, roots[run.data], options.runs, table
        ):
            failed.append(run)
    return failed


def find_row(table: Path, run: Run) -> dict[str, str] | None:
    """Returns the row of a run in a table, or None."""
    key = run.contender, run.minutes, run.seed
    for row in read_table(table):
        if (row["contender"], float(row["minutes"]), int(row["seed"])) == key:
            return row
    return None


def read_table(table: Path) -> list[dict[str, str]]:
    """Returns the rows of a table; none if there is no table."""
    if not table.is_file():
        return []
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def add_row(table: Path, row: dict[str, object]) -> None:
    """Adds a row to a table, whose columns are those of all rows."""
    rows: list[dict] = [*read_table(table), row]
    columns = list(dict.fromkeys(name for each in rows for name in each))
    partial = table.with_suffix(".part")
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(table)


def _measure(run: Run, root: Path, runs: Path, table: Path) -> bool:
    """Trains and scores one contender; returns False if it fails."""
    folder = runs / run.data / f"{run.contender}-{run.minutes:g}-{run.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{run.data}: {run.contender}, {run.minutes:g} minutes, seed {run.seed}")
    sys.stdout.flush()
    data = runs / "data" / run.data
    arguments = run.contender, data, f"{run.minutes:g}", run.seed, folder
    log = folder / "log.txt"
    with log.open("w") as file:
        code = subprocess.run(
            [sys.executable, str(HERE / "contender.py"), *map(str, arguments)],
            env={**os.environ, "PEERS_ROOT": str(root.resolve())},
            stdout=file,
            stderr=subprocess.STDOUT,
        ).returncode
    if code:
        lines = log.read_text().splitlines()[-5:]
        print(f"  exit code {code}; the end of {log}:", *lines, sep="\n    ")
        return False
    account = json.loads((folder / "account.json").read_text())
    scores = score_run(read(data), folder)
    about = {"date": datetime.date.today().isoformat(), "commit": _find_commit()}
    key = dict(zip(KEY, run[1:], strict=True))
    numbers = {name: f"{value:.5f}" for name, value in scores.items()}
    add_row(table, {**key, **account, **numbers, **about})
    first = SHOWN[run.data]
    shown = [f"{name} {scores[name]:.4f}" for name in scores if name.startswith(first)]
    print(f"  {account['steps']} steps in {account['seconds']:.0f} s:", *shown)
    sys.stdout.flush()
    return True


def _find_commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in SOURCES:
        parser.add_argument(f"--{name}", type=Path, help="the folder of its data")
    names = ",".join(CONTENDERS)
    parser.add_argument("--contenders", default=names, help=names)
    parser.add_argument("--minutes", default="2,5,10,20", help="budgets")
    parser.add_argument("--seeds", default="0")
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
