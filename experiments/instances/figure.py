"""Scores of touching nuclei, by task."""

from pathlib import Path

from experiments.seeds import compare

SCORES = {
    "AP at 0.5": "test/average_precision(thresholds=(0.5,))",
    "AP 0.5 to 0.95": "test/average_precision",
    "SEG": "test/seg",
    "Dice": "test/dice",
}


def draw(runs: Path) -> None:
    """Reads the scores of the runs; writes results.csv and figure.svg here."""
    compare(runs, Path(__file__).parent, SCORES)
