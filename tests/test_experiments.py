"""Every point of every sweep builds, and every experiment has an answer."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from unet_jax import command
from unet_jax.build.overrides import apply_fields
from unet_jax.build.sweep_file import read_sweep_file
from unet_jax.build.training import build
from unet_jax.run.sweeping.plan import plan_sweep

ROOT = Path(__file__).parents[1]
FOLDERS = sorted(p.parent for p in ROOT.glob("experiments/**/sweep.py"))
EXPERIMENTS = sorted(p for p in ROOT.glob("experiments/[a-z]*") if p.is_dir())
CELLS = {"name": "cells", "train": 2, "val": 1, "test": 1, "unlabelled": 1}


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_point_of_a_sweep_builds(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the base is found from any folder
    sweep = read_sweep_file(str(folder / "sweep.py"))
    eight = {"batch_size": 8}  # an image for each device
    points = [p._replace(fields={**p.fields, **eight}) for p in sweep.points]
    sweep = sweep._replace(points=tuple(points))
    config = command.load_config(sweep.base)
    plan = plan_sweep(sweep, config, tmp_path)
    assert len({run.name for run in plan.runs}) == len(plan.runs) > 1
    for run in {run.point: run for run in plan.runs}.values():  # seeds build alike
        chosen = apply_fields(config, plan.list_fields(run.fields))
        chosen.data = ConfigDict(CELLS)  # needs no download
        build(chosen)


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


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("experiments/speed/", "error: no experiments/speed/sweep.py; there are"),
        ("experiment/elastic", "error: no command experiment/elastic; there are test,"),
    ],
)
def test_a_wrong_first_word_installs_nothing(word, line):
    python = {"PYTHON": sys.executable}
    command = [ROOT / "launch.sh", word]
    done = subprocess.run(
        command, env=os.environ | python, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_sweep_has_its_figure(folder):
    assert (folder / "figure.svg").is_file()


@pytest.mark.parametrize("folder", EXPERIMENTS, ids=lambda folder: folder.name)
def test_an_experiment_has_question_command_and_answer(folder):
    text = (folder / "README.md").read_text()
    for word in ("Question", "Command", "Answer"):
        assert f"## {word}" in text
