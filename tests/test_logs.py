import json
import sys
import time

import numpy as np
import pytest

from unet_jax import logs


def test_a_log_writes_lines_events_and_pictures(tmp_path, capsys):
    with logs.Log(tmp_path, 0, 10, writer=True) as log:
        log.advance(1)
        log.write_scalars(
            1, {"train/loss": 0.5, "val/dice": None, "val/dice/cell": 0.25}
        )
        log.write_picture(1, "val/predictions", np.zeros((4, 4, 3), np.uint8))
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert line == {
        "step": 1,
        "train/loss": 0.5,
        "val/dice": None,
        "val/dice/cell": 0.25,
    }
    events = next(tmp_path.glob("events.out.tfevents.*")).read_bytes()
    assert b"train/loss" in events
    assert b"val/predictions" in events
    assert capsys.readouterr().out == "step 1  train/loss 0.5  val/dice -\n"


def test_a_resumed_log_drops_the_lines_after_its_start(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    with logs.Log(tmp_path, 2, 10, writer=True) as log:
        log.write_scalars(3, {"again": 1.0})
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n{"step": 3, "again": 1.0}\n'


def test_only_the_writer_writes(tmp_path):
    with logs.Log(tmp_path, 0, 10, writer=False) as log:
        log.advance(1)
        log.write_scalars(1, {"train/loss": 0.5})
        log.write_picture(1, "x", np.zeros((4, 4, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_the_clock_leaves_out_pauses():
    clock = logs.Clock()
    clock.count(100)
    with clock.pause():
        time.sleep(0.3)
    assert clock.measure_speed() > 100 / 0.2


def test_printed_scores_have_a_row_each_and_a_column_per_class(capsys):
    logs.print_scores("title", {"test/dice": 0.5, "test/dice/cell": None}, ("cell",))
    out = capsys.readouterr().out
    assert out.startswith("title\n")
    row = next(line for line in out.splitlines() if "dice" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["dice", "0.5", "-"]


@pytest.mark.parametrize("content", ["", "\n"])
def test_a_log_may_start_from_an_empty_file(tmp_path, content):
    (tmp_path / "metrics.jsonl").write_text(content)
    with logs.Log(tmp_path, 0, 1, writer=True) as log:
        log.write_scalars(1, {"a": 1.0})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "a": 1.0}\n'


@pytest.mark.parametrize(
    ("started", "command"),
    [
        ("main.py", "python main.py"),
        ("/usr/bin/unet-jax", "unet-jax"),
        ("/lib/unet_jax/__main__.py", "python -m unet_jax"),
    ],
)
def test_messages_name_the_command_that_the_user_has(monkeypatch, started, command):
    monkeypatch.setattr(sys, "argv", [started])
    assert logs.program() == command
