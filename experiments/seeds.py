"""Compares groups of runs that differ in their seed: a table and a figure."""

import csv
import json
import statistics
from collections.abc import Mapping
from pathlib import Path

from matplotlib import rcParams
from matplotlib.figure import Figure


def compare(runs: Path, folder: Path, scores: Mapping[str, str]) -> None:
    """Writes `results.csv` and `figure.svg`: a dot for each seed, a line for the mean.

    Args:
      runs: the folder of the run folders, which are named `<group>-<seed>`.
      folder: where to write.
      scores: the title of each score, and its key in `scores.json`.
    """
    groups = _read(runs)
    with (folder / "results.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["group", "score", "mean", "lowest", "highest", "seeds"])
        for group, rows in groups.items():
            for title, key in scores.items():
                values = [row[key] for row in rows]
                numbers = statistics.mean(values), min(values), max(values)
                texts = map("{:.4f}".format, numbers)
                table.writerow([group, title, *texts, len(rows)])
    rcParams["svg.hashsalt"] = folder.name  # the same figure from the same scores
    figure = Figure(figsize=(1.5 + 1.2 * len(scores), 3), layout="constrained")
    axes = figure.subplots(1, len(scores), squeeze=False)[0]
    for panel, (title, key) in zip(axes, scores.items(), strict=True):
        for place, rows in enumerate(groups.values()):
            values = [row[key] for row in rows]
            panel.plot([place] * len(values), values, "o", color=f"C{place}", alpha=0.7)
            mean = statistics.mean(values)
            panel.hlines(mean, place - 0.25, place + 0.25, color=f"C{place}")
        panel.set_title(title, fontsize=9)
        panel.set_xticks(range(len(groups)), groups, rotation=30, ha="right")
        panel.tick_params(labelsize=8)
        panel.margins(x=0.3)
    figure.savefig(folder / "figure.svg", metadata={"Date": None})


def _read(runs: Path) -> dict[str, list[dict]]:
    """Returns the scores of the runs of each group, in the order of the names."""
    groups: dict[str, list[dict]] = {}
    for path in sorted(runs.glob("*/scores.json")):
        group = path.parent.name.rpartition("-")[0]
        groups.setdefault(group, []).append(json.loads(path.read_text()))
    return groups
