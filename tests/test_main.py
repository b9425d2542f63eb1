"""The command itself, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TINY = [
    "--config.steps=3",
    "--config.batch_size=2",
    "--config.crop=16,16",
    "--config.model.widths=2,4",
    "--config.data.shape=16,16",
    "--config.data.train=2",
    "--config.data.val=1",
    "--config.data.test=2",
]


def main(*arguments):
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
    return subprocess.run(
        [sys.executable, ROOT / "main.py", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        timeout=300,
        check=False,
    )


def test_train_then_evaluate(tmp_path):
    run = tmp_path / "run"
    first = main(f"--workdir={run}", *TINY)
    assert first.returncode == 0, first.stderr
    assert "2 test images" in first.stdout
    assert first.stderr == ""
    scores = (run / "scores.json").read_text()
    assert {"step", "checkpoint", "images", "test/dice"} <= set(json.loads(scores))
    (run / "scores.json").unlink()
    again = main("--mode=evaluate", f"--workdir={run}")
    assert again.returncode == 0, again.stderr
    assert (run / "scores.json").read_text() == scores


def test_a_mistake_is_one_line_and_a_failure(tmp_path):
    run = tmp_path / "run"
    wrong = main(f"--workdir={run}", *TINY, "--config.loss=({'name':'dyce'},)")
    assert wrong.returncode == 1
    assert wrong.stdout == ""
    assert wrong.stderr.startswith("error: config.loss[0].name: no 'dyce'")
    assert wrong.stderr.count("\n") == 1
    assert list(run.iterdir()) == []
