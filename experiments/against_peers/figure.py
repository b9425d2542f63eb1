"""Draws the errors against the minutes of training, and prints the scores as a table.

An error is the distance of a score from a perfect one, so lower is always better.

python experiments/against_peers/figure.py [FOLDER of results-*.csv]
"""

import csv
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

HERE = Path(__file__).resolve().parent
Rows = list[dict[str, str]]
WIDTH, HEIGHT = 3.4, 3.4  # of a panel
APART = 1.04  # the factor between two contenders with the same minutes


class Panel(NamedTuple):
    """A score of a data set.

    Attributes:
      data: the data set.
      columns: the columns whose mean is the score.
      title: the score in words.
      perfect: its value for a perfect segmentation.
    """

    data: str
    columns: tuple[str, ...]
    title: str
    perfect: float = 1.0


PANELS = (
    Panel("isbi", ("v_rand",), "Membranes: V_rand"),
    Panel("isbi", ("pixel_error",), "Membranes: pixel error", perfect=0.0),
    Panel("nuclei", ("ap",), "Nuclei: average precision"),
    Panel("hippocampus", ("dice_anterior", "dice_posterior"), "Hippocampus: Dice"),
)


def draw(folder: Path) -> None:
    """Reads the tables of a folder; writes figure.svg there and prints the means.

    A score is that with views, the test-time augmentation of the contender; where it
    has none, it is the plain score.
    """
    rcParams["svg.hashsalt"] = "against_peers"  # the same figure from the same scores
    panels = [(panel, rows) for panel in PANELS if (rows := _read(folder, panel.data))]
    if not panels:
        sys.exit(f"error: no results-*.csv in {folder}; run measure.py first")
    figure = Figure(figsize=(WIDTH * len(panels) + 1.2, HEIGHT), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    colours = _choose_colours([rows for _, rows in panels])
    for ax, (panel, rows) in zip(axes, panels, strict=True):
        groups = collect(rows, panel.columns)
        _draw_panel(ax, panel, groups, colours)
        print(*format_table(panel.title, groups), sep="\n", end="\n\n")
    lines = [Line2D([], [], marker="o", color=color) for color in colours.values()]
    figure.legend(lines, [*colours], loc="outside right center", fontsize=8)
    figure.savefig(folder / "figure.svg", metadata={"Date": None})


def _draw_panel(
    ax: Axes,
    panel: Panel,
    groups: Mapping[str, Mapping[float, list[float]]],
    colours: Mapping[str, str],
) -> None:
    """Draws the mean error of each contender, and the range over its seeds."""
    for contender, by_minutes in groups.items():
        minutes = sorted(by_minutes)
        errors = [[abs(panel.perfect - x) for x in by_minutes[m]] for m in minutes]
        means, color = [*map(statistics.mean, errors)], colours[contender]
        # beside each other, so that equal errors do not hide each other
        shift = APART ** ([*colours].index(contender) - (len(colours) - 1) / 2)
        places = [m * shift for m in minutes]
        ax.plot(places, means, "o-", color=color, markersize=4)
        ax.vlines(places, [*map(min, errors)], [*map(max, errors)], color=color)
    ax.set_title(panel.title if not panel.perfect else f"{panel.title}, 1 - score")
    ax.title.set_fontsize(9)
    ax.set_xlabel("minutes of training", fontsize=8)
    ax.set_xscale("log")
    ticks = sorted({m for by_minutes in groups.values() for m in by_minutes})
    ax.set_xticks(ticks, [f"{m:g}" for m in ticks])
    ax.set_xlim(ticks[0] / 1.4, ticks[-1] * 1.4)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_yscale("log")  # the best differ by less than the worst from the others
    for axis in (ax.yaxis.set_major_formatter, ax.yaxis.set_minor_formatter):
        axis(FuncFormatter(lambda y, _: f"{y:g}"))
    ax.tick_params(labelsize=7, which="both")


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
