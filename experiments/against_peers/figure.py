"""Draws the scores against the minutes of training, and prints them as a table.

python experiments/against_peers/figure.py [FOLDER of results-*.csv]
"""

import csv
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path

from matplotlib import rcParams
from matplotlib.figure import Figure

HERE = Path(__file__).resolve().parent
# The panels: the data set, the columns whose mean is drawn, the title.
PANELS = (
    ("isbi", ("v_rand",), "ISBI 2012: V_rand"),
    ("isbi", ("pixel_error",), "ISBI 2012: pixel error (lower is better)"),
    ("nuclei", ("ap",), "Nuclei: average precision"),
    ("hippocampus", ("dice_anterior", "dice_posterior"), "Hippocampus: Dice"),
)
Rows = list[dict[str, str]]


def draw(folder: Path) -> None:
    """Reads the tables of a folder; writes figure.svg there and prints the means.

    A score is that with views, the test-time augmentation of the contender; where it
    has none, it is the plain score.
    """
    rcParams["svg.hashsalt"] = "against_peers"  # the same figure from the same scores
    panels = [(panel, rows) for panel in PANELS if (rows := _read(folder, panel[0]))]
    if not panels:
        sys.exit(f"error: no results-*.csv in {folder}; run measure.py first")
    figure = Figure(figsize=(4.2 * len(panels), 3.6), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    colours = _choose_colours([rows for _, rows in panels])
    for ax, ((_, columns, title), rows) in zip(axes, panels, strict=True):
        groups = collect(rows, columns)
        for contender, by_minutes in groups.items():
            minutes = sorted(by_minutes)
            values = [by_minutes[m] for m in minutes]
            means = [statistics.mean(v) for v in values]
            color = colours[contender]
            ax.plot(minutes, means, "o-", color=color, label=contender, markersize=4)
            ax.vlines(minutes, [*map(min, values)], [*map(max, values)], color=color)
        ax.set_title(title, fontsize=9)
        ax.set_xlabel("minutes of training", fontsize=8)
        ax.set_xscale("log")
        ticks = sorted({m for by_minutes in groups.values() for m in by_minutes})
        ax.set_xticks(ticks, [f"{m:g}" for m in ticks])
        ax.minorticks_off()
        ax.tick_params(labelsize=8)
        ax.legend(fontsize=7)
        print(*format_table(title, groups), sep="\n", end="\n\n")
    figure.savefig(folder / "figure.svg", metadata={"Date": None})


def collect(
    rows: Rows, columns: tuple[str, ...]
) -> Mapping[str, Mapping[float, list[float]]]:
    """Returns the scores of the seeds, by contender and minutes."""
    groups: dict[str, dict[float, list[float]]] = {}
    for row in rows:
        scores = [float(row.get(f"{c}_views") or row[c]) for c in columns]
        by_minutes = groups.setdefault(row["contender"], {})
        by_minutes.setdefault(float(row["minutes"]), []).append(statistics.mean(scores))
    return groups


def format_table(
    title: str, groups: Mapping[str, Mapping[float, list[float]]]
) -> list[str]:
    """Returns the lines of a Markdown table: contenders against minutes."""
    minutes = sorted({m for by_minutes in groups.values() for m in by_minutes})
    head = [title, *(f"{m:g} min" for m in minutes)]
    lines = [head, ["---"] * len(head)]
    for contender, by_minutes in groups.items():
        lines.append([contender, *(_format(by_minutes.get(m, [])) for m in minutes)])
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _format(values: list[float]) -> str:
    """Returns the mean, with the lowest and the highest value of several seeds."""
    if not values:
        return ""
    spread = f" ({min(values):.4f}-{max(values):.4f})" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread}"


def _choose_colours(tables: list[Rows]) -> dict[str, str]:
    """Returns one colour for each contender, the same in all panels."""
    names = dict.fromkeys(row["contender"] for rows in tables for row in rows)
    return {name: f"C{i}" for i, name in enumerate(names)}


def _read(folder: Path, data: str) -> Rows:
    path = folder / f"results-{data}.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
