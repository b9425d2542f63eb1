"""Scores on ISBI 2012 with three labelled slices, by method."""

from pathlib import Path

from experiments.seeds import compare

SCORES = {
    "Dice membrane": "test/dice/membrane",
    "pixel error": "test/pixel_error",
    "V_rand": "test/v_rand",
}


def draw(runs: Path) -> None:
    """Reads the scores of the runs; writes results.csv and figure.svg here."""
    compare(runs, Path(__file__).parent, SCORES)
