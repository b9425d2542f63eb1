"""The results of a sweep: results.csv, and a table with the spread over seeds."""

import csv
import io
import math
import shlex
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from unet_jax.build.overrides import to_flags
from unet_jax.run.sweeping.field_texts import find_varied
from unet_jax.run.sweeping.plan import Plan
from unet_jax.text import listing

State = Literal["waiting", "running", "complete", "pruned", "failed"]
STATES: dict[str, State] = {  # by the name of a state of Optuna
    "WAITING": "waiting",
    "RUNNING": "running",
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "FAIL": "failed",
}
ENDED = ("complete", "pruned", "failed")
MOST_ROWS = 12  # of the table on the terminal


class TrialResult(NamedTuple):
    """One run of a sweep.

    Attributes:
      name: the name of its run folder: 'wide-0', or 'trial-7' in a search.
      folder: the run folder.
      point: the name of its point; that of the run in a search.
      seed: the seed that the sweep gave it, or None.
      fields: values by field, as texts of the command line: those of its point and
        seed, or those that the search chose.
      state: 'waiting', 'running', or how it ended.
      scores: values by name; None is undefined. {} unless it is complete.
      minutes: the time of the training; None if it is not known.
      skipped: the number of steps that were skipped, because they were not finite.
      reason: the exit code and the last lines of a failed run, or the last validation
        of a pruned one.
    """

    name: str
    folder: Path
    point: str
    seed: int | None
    fields: Mapping[str, str]
    state: State
    scores: Mapping[str, float | None]
    minutes: float | None = None
    skipped: int = 0
    reason: str = ""


class Row(NamedTuple):
    """The runs of one point, which differ in their seeds.

    Attributes:
      point: its name.
      scores: the defined values of each score.
      minutes: the mean time of training; None if it is not known.
      states: the states of the runs.
      fields: the fields of the first run, as texts.
    """

    point: str
    scores: Mapping[str, Sequence[float]]
    minutes: float | None
    states: Sequence[State]
    fields: Mapping[str, str]


def group_by_point(plan: Plan, results: Sequence[TrialResult]) -> list[Row]:
    """Returns a row for each point, in the order of the sweep.

    The rows of a search are sorted by its first score, the best one first.
    """
    rows = []
    for point in dict.fromkeys(result.point for result in results):
        runs = [result for result in results if result.point == point]
        found = {
            name: [x for run in runs if (x := run.scores.get(name)) is not None]
            for name in plan.scores
        }
        times = [run.minutes for run in runs if run.minutes is not None]
        minutes = statistics.mean(times) if times else None
        states: list[State] = [run.state for run in runs]
        rows.append(Row(point, found, minutes, states, runs[0].fields))
    if plan.space:
        rows.sort(key=lambda row: _rank(plan, row))
    return rows


def find_best(plan: Plan, rows: Sequence[Row]) -> list[Row]:
    """Returns the rows with the best mean of the first score.

    They are several if their means are equal, and none without scores. The folds of a
    cross-validation are not ranked. A row whose runs do not all have the score counts
    only if no other row has it for all runs.
    """
    if plan.kind != "sweep":
        return []
    name = plan.scores[0]
    scored = [row for row in rows if row.scores[name]]
    whole = [row for row in scored if len(row.scores[name]) == len(row.states)]
    ranks = [_rank(plan, row) for row in whole or scored]
    return [
        row
        for row, rank in zip(whole or scored, ranks, strict=True)
        if math.isclose(rank, min(ranks), rel_tol=1e-9)
    ]


def _rank(plan: Plan, row: Row) -> float:
    """Returns a number that is lower for better rows; infinity without a score."""
    values = row.scores[plan.scores[0]]
    if not values:
        return float("inf")
    return statistics.mean(values) * (1 if plan.lower[0] else -1)


def make_csv(plan: Plan, results: Sequence[TrialResult]) -> str:
    """Returns results.csv: a row for each run, with the fields that may differ."""
    varied = plan.space or find_varied([run.fields for run in results])
    fields = [field for field in varied if field != "seed"]
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["run", "point", "seed", *fields, *plan.scores, "minutes", "state"])
    for run in results:
        cells: list[str | int] = [run.name, run.point]
        cells.append(run.fields.get("seed", "") if run.seed is None else run.seed)
        cells += [run.fields.get(field, "") for field in fields]
        cells += [_to_cell(run.scores.get(name)) for name in plan.scores]
        minutes = "" if run.minutes is None else f"{run.minutes:.2f}"
        table.writerow([*cells, minutes, run.state])
    return file.getvalue()


def _to_cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def make_table(plan: Plan, rows: Sequence[Row]) -> list[list[str]]:
    """Returns the cells of the table: mean (lowest to highest) of each score.

    The numbers of complete runs have a column if points have several, and they differ.
    """
    single = all(len(row.states) == 1 for row in rows)
    alike = single or _count_runs(rows) is not None
    fields = list(plan.space)
    table = [["", *plan.scores, *([] if alike else ["runs"]), "minutes", *fields]]
    for row in rows:
        cells = [_format_score(row, name) for name in plan.scores]
        if "complete" not in row.states:
            cells[0] = ", ".join(sorted({*row.states}))
        if not alike:
            cells.append(f"{row.states.count('complete')} of {len(row.states)}")
        cells.append("-" if row.minutes is None else f"{row.minutes:.1f}")
        cells += [row.fields[field] for field in fields]
        table.append([row.point, *cells])
    return table


def describe_table(plan: Plan, rows: Sequence[Row]) -> str:
    """Returns the meaning of the cells and the best point, in words."""
    better = "lower" if plan.lower[0] else "higher"
    text = f"{better} {plan.scores[0]} is better"
    if any(len(row.states) > 1 for row in rows):
        runs = "complete runs" if (n := _count_runs(rows)) is None else f"{n} runs"
        if any(_count_undefined(row, name) for row in rows for name in plan.scores):
            runs += ", without undefined scores"
        text = f"mean (lowest to highest) of {runs}; {text}"
    best = find_best(plan, rows)
    if not best or not rows[1:]:
        return text
    first, *others = best
    flags = f", {shlex.join(to_flags(first.fields))}" if plan.space else ""
    tied = f" (tied with {listing(row.point for row in others)})" if others else ""
    waits = any(state not in ENDED for row in rows for state in row.states)
    word = "best so far" if waits or "failed" in first.states else "best"
    return f"{text}; {word}: {first.point}{flags}{tied}"


def _count_runs(rows: Sequence[Row]) -> int | None:
    """Returns the number of runs of every point; None if some are not complete."""
    counts = {len(row.states) for row in rows}
    complete = all(state == "complete" for row in rows for state in row.states)
    return counts.pop() if complete and len(counts) == 1 else None


def _format_score(row: Row, name: str) -> str:
    """Returns the cell of a score: '0.9157 (0.9123-0.9193), 1 undefined'."""
    spread, undefined = _format_mean(row.scores[name]), _count_undefined(row, name)
    if not spread:
        return "undefined" if undefined else "-"
    return f"{spread}, {undefined} undefined" if undefined else spread


def _count_undefined(row: Row, name: str) -> int:
    """Returns the number of complete runs that do not define a score."""
    return row.states.count("complete") - len(row.scores[name])


def _format_mean(values: Sequence[float]) -> str:
    """Returns '0.9157 (0.9123-0.9193)', or the only value, or ''."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):.4f}"
    if len(values) == 1:
        return mean
    return f"{mean} ({min(values):.4f}-{max(values):.4f})"


def make_markdown(plan: Plan, results: Sequence[TrialResult]) -> str:
    """Returns results.md: the table, and the reasons of failed and pruned runs."""
    rows = group_by_point(plan, results)
    best = find_best(plan, rows)
    table = make_table(plan, rows)
    lines = [_join_cells(table[0]), _join_cells(["---"] * len(table[0]))]
    for row, cells in zip(rows, table[1:], strict=True):
        mark = "**" if row in best and len(rows) > 1 else ""
        name = cells[0].replace("|", "\\|")
        lines.append(_join_cells([f"{mark}`{name}`{mark}", *cells[1:]]))
    words = describe_table(plan, rows)
    lines += ["", f"{words[0].upper()}{words[1:]}."]
    for line in describe_skipped(results):
        lines += ["", f"{line[0].upper()}{line[1:]}."]
    pruned = [run for run in results if run.state == "pruned"]
    lines += ["", "Pruned after a validation:", ""] if pruned else []
    lines += [f"- `{run.name}`: {run.reason or 'not recorded'}" for run in pruned]
    for run in results:
        if run.state == "failed":
            first, *others = run.reason.splitlines() or ["no reason is recorded"]
            lines += ["", f"`{run.name}` failed: {first}"]
            lines += ["", *[f"    {line}" for line in others]] if others else []
    return "\n".join(lines) + "\n"


def describe_skipped(results: Sequence[TrialResult]) -> list[str]:
    """Returns a sentence if steps of complete runs were skipped; else nothing."""
    runs = [run for run in results if run.skipped and run.state == "complete"]
    if not runs:
        return []
    names = (f"{run.name} ({run.skipped} steps)" for run in runs)
    what = "steps whose loss, gradient or new parameters were not finite were skipped"
    return [f"{what} in {listing(names, 10)}"]


def _join_cells(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
