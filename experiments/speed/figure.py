"""Draws figure.svg from results.csv, and prints the table of the README.

python experiments/speed/figure.py
"""

import csv
from collections.abc import Sequence
from pathlib import Path

from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure

HERE = Path(__file__).resolve().parent
CONTENDERS = ("unet_jax", "unet_jax, onnxruntime", "compile")
QUANTITIES = ("training step", "forward pass")
GROWTH = ("size", "width", "batch")
Rows = Sequence[dict[str, str]]


def main() -> None:
    """Reads results.csv and writes figure.svg, both in this folder."""
    with (HERE / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    network = [row for row in rows if row["section"] == "network"]
    growth = [row for row in rows if row["section"] == "growth"]
    rcParams["svg.hashsalt"] = HERE.name  # the same figure from the same results
    figure = Figure(figsize=(9, 9), layout="constrained")
    grid = figure.add_gridspec(2, 1, height_ratios=(2, 1))
    upper, lower = (figure.add_subfigure(part) for part in grid)
    panels = upper.subplots(1, 2, sharey=True)
    for panel, quantity in zip(panels, QUANTITIES, strict=True):
        draw_ratios(panel, [r for r in network if r["quantity"] == quantity])
        panel.set_title(quantity)
    panels[1].legend(fontsize=8)
    for panel, field in zip(lower.subplots(1, 3), GROWTH, strict=True):
        draw_growth(panel, field, growth)
    figure.savefig(HERE / "figure.svg", metadata={"Date": None})
    print_table(network)


def find_seconds(rows: Rows) -> dict[tuple[str, str], float]:
    """Returns the median seconds by case and contender."""
    return {(row["case"], row["contender"]): float(row["median"]) for row in rows}


def draw_ratios(panel: Axes, rows: Rows) -> None:
    """Draws a dot for each contender: its speed relative to PyTorch eager."""
    seconds = find_seconds(rows)
    cases = list(dict.fromkeys(row["case"] for row in rows))
    for i, contender in enumerate(CONTENDERS):
        pairs = [
            (seconds[case, "eager"] / seconds[case, contender], -place)
            for place, case in enumerate(cases)
            if (case, contender) in seconds
        ]
        if pairs:
            panel.plot(*zip(*pairs, strict=True), "o", color=f"C{i}", label=contender)
    panel.axvline(1, color="black", linewidth=0.8)
    labels = [case.removesuffix(", float32") for case in cases]
    panel.set_yticks([-place for place in range(len(cases))], labels, fontsize=8)
    panel.set_xlabel("times the speed of PyTorch eager")
    panel.grid(axis="x", linewidth=0.3)


def draw_growth(panel: Axes, field: str, rows: Rows) -> None:
    """Draws the seconds of a training step against one field of a case."""
    points = [
        (int(row["case"].split()[-1]), float(row["median"]))
        for row in rows
        if row["case"].startswith(f"{field} ") and row["quantity"] == "training step"
    ]
    panel.loglog(*zip(*points, strict=True), "o-")
    amounts = [amount for amount, _ in points]
    panel.set_xticks(amounts, map(str, amounts))
    panel.minorticks_off()
    panel.set_xlabel("pixels along an axis" if field == "size" else field)
    panel.set_ylabel("seconds of a training step")


def print_table(rows: Rows) -> None:
    """Prints the speed of every case, relative to PyTorch eager."""
    heads = [
        f"{quantity}, {contender}"
        for quantity in QUANTITIES
        for contender in ("eager, s", *CONTENDERS)
        if quantity == "forward pass" or "onnx" not in contender
    ]
    print("| case |", " | ".join(heads), "|")
    print("|---" * (1 + len(heads)) + "|")
    for case in dict.fromkeys(row["case"] for row in rows):
        cells = [case.removesuffix(", float32")]
        for quantity in QUANTITIES:
            seconds = find_seconds([r for r in rows if r["quantity"] == quantity])
            eager = seconds[case, "eager"]
            cells.append(f"{eager:.3g}")
            for contender in CONTENDERS:
                if quantity == "forward pass" or "onnx" not in contender:
                    own = seconds.get((case, contender))
                    cells.append(f"{eager / own:.2f}" if own else "")
        print("|", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
