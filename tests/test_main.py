"""The command itself, in a process of its own."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

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


def start(*arguments, program=(ROOT / "main.py",), cwd=ROOT, **environment):
    return subprocess.Popen(
        [sys.executable, *program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"} | environment,
    )


def main(*arguments, **environment):
    process = start(*arguments, **environment)
    stdout, stderr = process.communicate(timeout=300)
    return process.returncode, stdout, stderr


@pytest.mark.slow
def test_train_then_evaluate(tmp_path):
    run = tmp_path / "run"
    # each command compiles as it does for a user; the other tests leave XLA's
    # optimisation out and share what they compile
    user = {"XLA_FLAGS": "", "JAX_ENABLE_COMPILATION_CACHE": "false"}
    code, stdout, stderr = main(f"--workdir={run}", *TINY, **user)
    assert (code, stderr) == (0, "")
    assert "2 test images" in stdout
    scores = json.loads((run / "scores.json").read_text())
    assert {"step", "checkpoint", "images", "test/dice"} <= set(scores)
    made = scores.pop("provenance")
    assert shlex.split(made["evaluation"]["command"])[-len(TINY) :] == list(TINY)
    assert made["evaluation"]["config_file"] == "configs/quickstart.py"
    changed = {field: new for field, _, new in made["training"][0]["changed_fields"]}
    assert changed["steps"] == "3"
    (run / "scores.json").unlink()
    code, _, stderr = main("--mode=evaluate", f"--workdir={run}", **user)
    assert (code, stderr) == (0, "")
    again = json.loads((run / "scores.json").read_text())
    evaluated = again.pop("provenance")
    assert again == scores
    assert evaluated["training"] == made["training"]
    assert evaluated["evaluation"]["config_file"] == f"saved:{run}"
    assert evaluated["evaluation"]["changed_fields"] == []

    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    Image.new("L", (30, 20), 7).save(images / "flat.png")
    (images / "broken.png").write_bytes(b"no image")
    where = (f"--workdir={run}", "--input", str(images), "--output", str(out))
    code, stdout, stderr = main("--mode=predict", *where, "--config.predict.tta=flips")
    assert code == 1
    assert stderr.count("\n") == 1
    assert f"error: {images}/broken.png: " in stderr
    assert "flat.png: 20 x 30, background " in stdout
    assert (out / "flat_labels.png").exists()


def test_a_mistake_is_one_line_and_a_failure(tmp_path):
    run = tmp_path / "run"
    wrong = "--config.loss=({'name':'dyce'},)"
    code, stdout, stderr = main(f"--workdir={run}", *TINY, wrong)
    assert (code, stdout) == (1, "")
    assert stderr.startswith("error: config.loss[0].name: unknown name 'dyce'")
    assert stderr.count("\n") == 1
    assert not run.exists()


def test_help_and_a_file_of_flags(tmp_path):
    code, stdout, stderr = main("--help")
    assert (code, stderr) == (0, "")
    assert "--mode=train|evaluate|predict|export|sample|inspect" in stdout
    assert len(stdout.splitlines()) < 40
    file = tmp_path / "flags.txt"
    file.write_text("--config=isbi\n--config.stepz=3\n")
    code, stdout, stderr = main(f"--flagfile={file}")
    assert (code, stdout) == (1, "")
    line = "error: config has no field 'stepz'; did you mean --config.steps?\n"
    assert stderr == line
    code, stdout, stderr = main("--flagfile=none.txt", "--step=3")
    assert (code, stdout, stderr.count("\n")) == (1, "", 1)


@pytest.mark.slow
def test_a_run_folder_runs_no_code_without_trust(tmp_path):
    """The module leaves a file behind when it is imported, and then fails."""
    module, trace, run = (tmp_path / name for name in ("stranger.py", "trace", "run"))
    module.write_text(f"open({str(trace)!r}, 'w').close()\n1 / 0")
    run.mkdir()
    config = {"name": "run", "loss": [{"name": "stranger:loss"}]}
    (run / "config.json").write_text(json.dumps(config))
    stranger = (f"--workdir={run}", "--mode=evaluate")
    code, stdout, stderr = main(*stranger, PYTHONPATH=str(tmp_path))
    assert (code, stdout) == (1, "")
    assert stderr.startswith(f"error: config.loss[0].name in {run} is 'stranger:loss'")
    assert "--trust" in stderr
    assert stderr.count("\n") == 1
    assert not trace.exists()
    mine = "--config.loss=({'name':'mine:loss'},)"
    code, _, stderr = main(*stranger, mine, PYTHONPATH=str(tmp_path))
    assert code == 1
    assert f"in {run} is" not in stderr
    assert not trace.exists()
    code, _, stderr = main("--trust", f"--workdir={run}", PYTHONPATH=str(tmp_path))
    assert trace.exists()
    assert code == 1
    assert stderr == (
        f"error: config.loss[0].name: cannot import 'stranger': {module}, line 2: "
        "ZeroDivisionError: division by zero\n"
    )


def free_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def start_two(*arguments, **environment):
    """Two processes of one run, which find each other on this machine."""
    names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    address = free_address()
    return [
        start(
            *arguments,
            **dict(zip(names, (address, "2", i), strict=True)),
            **environment,
        )
        for i in ("0", "1")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["pmap", "mesh"])
def test_two_processes_are_one_run(tmp_path, layout, read_scores):
    """The scores are those of one process with as many devices."""
    alone, together = tmp_path / "alone", tmp_path / "together"
    space, devices = {"pmap": ("", 1), "mesh": (",'space':2", 2)}[layout]
    spec = f"--config.parallel={{'name':'{layout}'{space}}}"
    code, _, stderr = main(
        f"--workdir={alone}", *TINY, spec, JAX_NUM_CPU_DEVICES=str(2 * devices)
    )
    assert code == 0, stderr
    members = start_two(
        f"--workdir={together}", *TINY, spec, JAX_NUM_CPU_DEVICES=str(devices)
    )
    for i, member in enumerate(members):
        stdout, stderr = member.communicate(timeout=120)
        assert member.returncode == 0, stderr
        assert ("2 test images" in stdout) == (i == 0)
    expected, got = (read_scores(folder) for folder in (alone, together))
    assert_alike(got, expected)


def assert_alike(got, expected):
    """The same JSON, but for how floats were rounded."""
    if isinstance(expected, dict):
        assert got.keys() == expected.keys()
        got, expected = list(got.values()), list(expected.values())
    if isinstance(expected, list):
        for here, there in zip(got, expected, strict=True):
            assert_alike(here, there)
    elif isinstance(expected, float):
        assert got == pytest.approx(expected, rel=1e-4, abs=1e-5)
    else:
        assert got == expected


ENDLESS = [
    "--config.steps=100000",
    "--config.log_every=1",
    "--config.eval_every=100000",
]


@pytest.mark.slow
def test_a_signal_to_one_of_two_processes_stops_and_saves_both(tmp_path):
    members = start_two(f"--workdir={tmp_path}", *TINY, *ENDLESS)
    reach(members[0], "step 2 ")
    members[1].send_signal(signal.SIGINT)
    ends = [member.communicate(timeout=120) for member in members]
    codes = [member.returncode for member in members]
    assert codes[0] == 128 + signal.SIGTERM, ends
    assert codes[1] == 128 + signal.SIGINT, ends
    stopped = re.search(r"stopped at step (\d+)", ends[0][0])[1]
    assert (tmp_path / "checkpoints" / stopped).is_dir()


@pytest.mark.slow
def test_a_killed_run_goes_on(tmp_path):
    """kill -9, at a moment when a checkpoint is likely being written."""
    endless = (f"--workdir={tmp_path}", *TINY, *ENDLESS, "--config.checkpoint_every=1")
    process = start(*endless)
    reach(process, "step 5 ")
    process.kill()
    process.communicate()
    process = start(*endless)
    line = reach(process, "resuming at step ")
    assert int(line.split()[-1]) >= 1
    reach(process, "train: loss")
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGINT, stderr
    assert "stopped at step" in stdout


def reach(process, words):
    """Reads on until a line holds the words."""
    for line in process.stdout:
        if words in line:
            return line
    raise AssertionError(process.stderr.read())
