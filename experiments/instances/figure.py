"""Average precision by task: a dot for each seed, a line for their mean."""

import csv
import json
import statistics
from pathlib import Path

import matplotlib.pyplot as plt

HERE = Path(__file__).parent
SCORES = {
    "AP at 0.5": "test/average_precision(thresholds=(0.5,))",
    "AP 0.5 to 0.95": "test/average_precision",
    "SEG": "test/seg",
    "Dice": "test/dice",
}


def draw(runs: Path) -> None:
    """Reads the scores of the runs; writes results.csv and figure.svg here."""
    values: dict[str, list[dict[str, float]]] = {}
    for path in sorted(runs.glob("*/scores.json")):
        task = path.parent.name.rsplit("-", 1)[0]
        values.setdefault(task, []).append(json.loads(path.read_text()))

    with (HERE / "results.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["task", "score", "mean", "lowest", "highest", "seeds"])
        for task, rows in values.items():
            for name, key in SCORES.items():
                scores = [row[key] for row in rows]
                numbers = statistics.mean(scores), min(scores), max(scores)
                table.writerow([task, name, *(f"{x:.4f}" for x in numbers), len(rows)])

    plt.rcParams["svg.hashsalt"] = "instances"  # the same figure from the same scores
    figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
    for k, (task, rows) in enumerate(values.items()):
        for place, key in enumerate(SCORES.values()):
            scores = [row[key] for row in rows]
            x = place + 0.3 * k - 0.15
            label = task if place == 0 else None
            axes.plot([x] * len(scores), scores, "o", color=f"C{k}", alpha=0.7)
            mean = statistics.mean(scores)
            axes.hlines(mean, x - 0.1, x + 0.1, color=f"C{k}", label=label)
    axes.set_xticks(range(len(SCORES)), SCORES)
    axes.set_ylabel("score of the test images")
    axes.legend()
    figure.savefig(HERE / "figure.svg", metadata={"Date": None})
