"""The log of a training run: lines, trackers and times."""

import io
import json
import sys
import time

import numpy as np
import pytest

from unet_jax import logs
from unet_jax.run.trackers import Tracker
from unet_jax.run.training_log import TrainingLog


@pytest.fixture
def calls():
    """The calls of `tracker`: names and arguments."""
    return []


@pytest.fixture
def tracker(calls):
    return Tracker(
        *(lambda *given, name=name: calls.append((name, *given))
          for name in Tracker._fields if name != "visible")
    )  # fmt: skip


def read_rows(folder):
    return list(map(json.loads, (folder / "metrics.jsonl").read_text().splitlines()))


def test_a_log_writes_a_line_and_passes_numbers_and_pictures_on(
    tmp_path, capsys, tracker, calls
):
    picture = np.zeros((4, 4, 3), np.uint8)
    with TrainingLog(tmp_path, 0, 10, [tracker], writer=True) as log:
        log.advance(1)
        log.write_scalars(
            1, {"train/loss": 0.5, "val/dice": None, "val/dice/cell": 0.25}
        )
        log.write_picture(1, "val/predictions", picture)
    (row,) = read_rows(tmp_path)
    assert 0 <= row.pop("first_step_seconds") <= row.pop("seconds") < 10
    assert row == {
        "step": 1,
        "train/loss": 0.5,
        "val/dice": None,
        "val/dice/cell": 0.25,
    }
    assert calls == [
        ("start", 0),
        ("write_scalars", 1, {"train/loss": 0.5, "val/dice/cell": 0.25}),
        ("write_picture", 1, "val/predictions", picture),
    ]
    assert capsys.readouterr().out == (
        "compiling the training step ...\nstep 1  train: loss 0.5  val: dice –\n"
    )


def test_numbers_that_a_tracker_shows_are_not_printed(tmp_path, capsys, tracker):
    visible = tracker._replace(visible=True)
    with TrainingLog(tmp_path, 0, 10, [tracker, visible], writer=True) as log:
        log.advance(1)
        log.write_scalars(1, {"train/loss": 0.5})
    assert "step 1" not in capsys.readouterr().out


def test_a_resumed_log_drops_the_lines_after_its_start(tmp_path, tracker, calls):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    with TrainingLog(tmp_path, 2, 10, [tracker], writer=True) as log:
        log.write_scalars(3, {"again": 1.0})
    *before, last = read_rows(tmp_path)
    assert before == [{"step": 1}, {"step": 2}]
    assert (last["step"], last["again"]) == (3, 1.0)
    assert calls[0] == ("start", 2)


def test_the_seconds_of_a_resumed_run_go_on(tmp_path, capsys):
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 1, "seconds": 100.0, "first_step_seconds": 90.0}\n'
        '{"step": 2, "seconds": 999.0}\n'  # after the checkpoint
    )
    with TrainingLog(tmp_path, 1, 10, writer=True) as log:
        time.sleep(0.2)
        log.advance(2)
        log.write_scalars(2, {"a": 1.0})
        log.write_scalars(2, {"b": 1.0})
        log.say_times()
    _, second, third = read_rows(tmp_path)
    assert 100.2 <= second["seconds"] <= third["seconds"] < 102
    assert 0.2 <= second["first_step_seconds"] < 2
    assert "first_step_seconds" not in third
    assert logs.read_times(tmp_path).total == third["seconds"]
    assert logs.read_times(tmp_path).first_step == second["first_step_seconds"]
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("trained in 1 min 4")
    assert "; the first step, with compilation, took 0." in line


def test_a_terminal_shows_a_clock_and_then_the_bar(tmp_path, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    with TrainingLog(tmp_path, 5, 10, writer=True) as log:
        time.sleep(0.3)
        compiling = terminal.getvalue()
        log.advance(6)
        log.write_scalars(6, {"train/images_per_second": 12.34})
        log.advance(7)
        time.sleep(0.3)
    training = terminal.getvalue().removeprefix(compiling)
    assert "compiling the training step" in compiling
    assert "training" in training
    assert "7/10  12.3 images/s" in training


def test_only_the_writer_writes(tmp_path, capsys, tracker, calls):
    with TrainingLog(tmp_path, 0, 10, [tracker], writer=False) as log:
        log.advance(1)
        log.write_scalars(1, {"train/loss": 0.5})
        log.write_picture(1, "x", np.zeros((4, 4, 3), np.uint8))
        log.say_times()
    assert list(tmp_path.iterdir()) == calls == []
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", ["", "\n"])
def test_a_log_may_start_from_an_empty_file(tmp_path, content):
    (tmp_path / "metrics.jsonl").write_text(content)
    with TrainingLog(tmp_path, 0, 1, writer=True) as log:
        log.write_scalars(1, {"a": 1.0})
    (row,) = read_rows(tmp_path)
    assert (row["step"], row["a"]) == (1, 1.0)
