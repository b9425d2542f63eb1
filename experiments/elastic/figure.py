"""Test Dice of the cells, by recipe of augmentation."""

from pathlib import Path

from experiments.seeds import compare


def draw(runs: Path) -> None:
    """Reads the scores of the runs; writes results.csv and figure.svg here."""
    compare(runs, Path(__file__).parent, {"Dice of the cells": "test/dice/cell"})
