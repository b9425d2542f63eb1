"""Draws figure.svg, the scores of every slice, from slices.csv.

python experiments/isbi_modern/figure.py
"""

import csv
from pathlib import Path

from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

HERE = Path(__file__).resolve().parent
SCORES = {"v_rand": "V_rand", "pixel_error": "pixel error"}


def main() -> None:
    """Reads slices.csv and writes figure.svg, both in this folder."""
    with (HERE / "slices.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    rcParams["svg.hashsalt"] = HERE.name  # the same figure from the same scores
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    panels = figure.subplots(len(SCORES), 1, sharex=True)
    for panel, (score, name) in zip(panels, SCORES.items(), strict=True):
        for fold in sorted({row["fold"] for row in rows}):
            of_fold = [row for row in rows if row["fold"] == fold]
            slices = [int(row["slice"]) for row in of_fold]
            values = [float(row[score]) for row in of_fold]
            panel.plot(slices, values, "o", label=f"fold {fold}")
        panel.set_ylabel(name)
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("slice")
    panels[-1].xaxis.set_major_locator(MultipleLocator(5))
    panels[0].legend(fontsize=8, ncols=5, loc="lower left")
    figure.savefig(HERE / "figure.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
