"""The command itself, in a process of its own."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

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


def start(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, ROOT / "main.py", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"} | environment,
    )


def main(*arguments, **environment):
    process = start(*arguments, **environment)
    stdout, stderr = process.communicate(timeout=300)
    return process.returncode, stdout, stderr


def test_train_then_evaluate(tmp_path):
    run = tmp_path / "run"
    code, stdout, stderr = main(f"--workdir={run}", *TINY)
    assert (code, stderr) == (0, "")
    assert "2 test images" in stdout
    scores = (run / "scores.json").read_text()
    assert {"step", "checkpoint", "images", "test/dice"} <= set(json.loads(scores))
    (run / "scores.json").unlink()
    code, _, stderr = main("--mode=evaluate", f"--workdir={run}")
    assert (code, stderr) == (0, "")
    assert (run / "scores.json").read_text() == scores


def test_a_mistake_is_one_line_and_a_failure(tmp_path):
    run = tmp_path / "run"
    wrong = "--config.loss=({'name':'dyce'},)"
    code, stdout, stderr = main(f"--workdir={run}", *TINY, wrong)
    assert (code, stdout) == (1, "")
    assert stderr.startswith("error: config.loss[0].name: no 'dyce'")
    assert stderr.count("\n") == 1
    assert list(run.iterdir()) == []


def test_two_processes_are_one_run(tmp_path):
    """Two processes of one device each: the scores of one process of two devices."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    alone, together = tmp_path / "alone", tmp_path / "together"
    code, _, stderr = main(f"--workdir={alone}", *TINY, JAX_NUM_CPU_DEVICES="2")
    assert code == 0, stderr
    members = [
        start(
            f"--workdir={together}",
            *TINY,
            JAX_COORDINATOR_ADDRESS=address,
            JAX_NUM_PROCESSES="2",
            JAX_PROCESS_ID=str(i),
        )
        for i in range(2)
    ]
    for i, member in enumerate(members):
        stdout, stderr = member.communicate(timeout=120)
        assert member.returncode == 0, stderr
        assert ("2 test images" in stdout) == (i == 0)
    expected, got = (
        json.loads((folder / "scores.json").read_text()) for folder in (alone, together)
    )
    assert got.pop("checkpoint") == expected.pop("checkpoint")
    assert got == pytest.approx(expected, rel=1e-4)
