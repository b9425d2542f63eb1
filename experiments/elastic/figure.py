"""Draws the test Dice of the cells by recipe: a dot per seed, a line for the mean."""

import csv
import json
import statistics
from pathlib import Path

import matplotlib.pyplot as plt

HERE = Path(__file__).parent
SCORE = "test/dice/cell"


def draw(runs: Path) -> None:
    """Reads the scores of the runs; writes results.csv and figure.svg here."""
    values: dict[str, list[float]] = {}
    for path in sorted(runs.glob("*/scores.json")):
        recipe = path.parent.name.rsplit("-", 1)[0]
        values.setdefault(recipe, []).append(json.loads(path.read_text())[SCORE])
    order = sorted(values, key=lambda recipe: statistics.mean(values[recipe]))

    with (HERE / "results.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["recipe", "mean", "spread", "seeds"])
        for recipe in order:
            scores = values[recipe]
            spread = max(scores) - min(scores)
            row = [f"{statistics.mean(scores):.4f}", f"{spread:.4f}", len(scores)]
            table.writerow([recipe, *row])

    plt.rcParams["svg.hashsalt"] = "elastic"  # the same scores give the same file
    figure, axes = plt.subplots(figsize=(4, 2.5), layout="constrained")
    for place, recipe in enumerate(order):
        scores = values[recipe]
        axes.plot([place] * len(scores), scores, "o", color="tab:blue", alpha=0.7)
        mean = statistics.mean(scores)
        axes.hlines(mean, place - 0.2, place + 0.2, color="black")
    axes.set_xticks(range(len(order)), order)
    axes.set_ylabel("test Dice of the cells")
    figure.savefig(HERE / "figure.svg", metadata={"Date": None})
