"""Every point of every sweep is a command that main.py accepts."""

import csv
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags
from ml_collections import ConfigDict, config_flags

from unet_jax import command
from unet_jax.build.training import build

ROOT = Path(__file__).parents[1]
FOLDERS = sorted(p.parent for p in ROOT.glob("experiments/*/sweep.py"))
EXPERIMENTS = sorted(p for p in ROOT.glob("experiments/[a-z]*") if p.is_dir())
CELLS = {"name": "cells", "train": 2, "val": 1, "test": 1, "unlabelled": 1}
run = importlib.import_module("experiments.run")


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_point_of_a_sweep_builds(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the config is found from any folder
    commands = run.list_commands(folder, ["--config.batch_size=8"])
    assert len({c[3] for c in commands}) == len(commands) > 1  # one run folder for each
    for arguments in commands:
        values = flags.FlagValues()
        config = config_flags.DEFINE_config_file("config", flag_values=values)
        flags.DEFINE_string("workdir", None, "", flag_values=values)
        monkeypatch.setattr(flags, "FLAGS", values)
        monkeypatch.setattr(sys, "argv", arguments[1:])
        command.parse(list(arguments[1:]))
        config.value.data = ConfigDict(CELLS)  # needs no download
        build(config.value)


@pytest.mark.slow
@pytest.mark.parametrize("section", ["matmul", "network", "shares", "tiled", "memory"])
def test_the_benchmark_runs(section, tmp_path):
    """Its short form, whose times mean nothing."""
    table = tmp_path / "results.csv"
    measure = str(ROOT / "experiments/speed/measure.py")
    command = [sys.executable, measure, "--short", f"--output={table}", section]
    subprocess.run(command, check=True, cwd=tmp_path, timeout=300)
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["section"] for row in rows} == {section}
    assert all(float(row["median"]) >= 0 for row in rows)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_sweep_has_its_figure(folder):
    assert (folder / "figure.svg").is_file()


@pytest.mark.parametrize("folder", EXPERIMENTS, ids=lambda folder: folder.name)
def test_an_experiment_has_question_command_and_answer(folder):
    text = (folder / "README.md").read_text()
    for word in ("Question", "Command", "Answer"):
        assert f"## {word}" in text
