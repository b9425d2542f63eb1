"""Several workers of a sweep, of which some are stopped, killed or silent."""

import contextlib
import errno
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.run.sweeping.parts import (
    RATE,
    STUB,
    abandon_a_run,
    count_starts,
    make_sweep,
    read_csv,
)
from unet_jax import logs
from unet_jax.build.sweep_file import Point
from unet_jax.errors import UserError
from unet_jax.run.sweep import run_sweep
from unet_jax.run.sweeping import presence, study, trial
from unet_jax.run.sweeping.plan import plan_sweep
from unet_jax.run.sweeping.results import TrialResult
from unet_jax.run.sweeping.worker import estimate_left

ROOT = Path(__file__).parents[3]
SWEEP = """
base = "quickstart"
scores = "test/loss"
fields = {
    "steps": 300, "eval_every": 300, "checkpoint_every": 20, "logs": (),
    "batch_size": 2, "crop": (16, 16), "model.widths": (2, 4), "threads": 1,
    "data.shape": (16, 16), "data.train": 2, "data.val": 1, "data.test": 1,
}
points = {"a": {}, "b": {"optimizer.learning_rate": 0.01}}
"""


def test_two_workers_run_every_point_once(stub, config, tmp_path, capsys):
    sweep, ends = make_sweep(seeds=(0, 1, 2)), []

    def work():
        ends.append(run_sweep(sweep, config, tmp_path / "sweep", workers=2))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [code for code, _ in ends] == [0, 0]
    folders = [run.folder for run in ends[0][1]]
    assert len(folders) == 6
    assert [count_starts(folder) for folder in folders] == [1] * 6


def test_the_run_of_a_killed_worker_is_run_again(stub, config, tmp_path):
    folder = tmp_path / "sweep"
    claim, _ = abandon_a_run(make_sweep(), config, folder)
    code, results = run_sweep(make_sweep(), config, folder)
    assert code == 0
    assert claim.name == "low"
    assert [run.state for run in results] == ["complete"] * 2
    assert len(list(folder.glob("low*"))) == 1  # in the same folder


@pytest.fixture
def other_machine(tmp_path, monkeypatch):
    """A clock, this worker, and the file of a worker of another machine."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(presence.time, "monotonic", lambda: clock.now)
    with presence.announce(tmp_path) as present:
        file = tmp_path / "workers" / "other"
        file.write_text(json.dumps({"machine": "another", "locked": True}))
        yield clock, present, file


@pytest.mark.parametrize("skew", [-500.0, 0.0, 500.0, 5000.0])
def test_a_worker_of_another_machine_is_dead_after_a_silence(other_machine, skew):
    """The file system may record the time of its machine, whose clock is wrong."""
    clock, present, file = other_machine
    for renewal in range(3):
        written = time.time() + skew + renewal
        os.utime(file, (written, written))
        assert present.is_alive(file.name)
        clock.now += presence.SILENCE - 1
        assert present.is_alive(file.name)
    clock.now += 2
    assert not present.is_alive(file.name)
    assert not present.is_alive("removed")


def test_a_worker_that_ended_long_ago_is_dead_at_once(other_machine):
    _, present, file = other_machine
    written = time.time() - presence.LONG_AGO - 1
    os.utime(file, (written, written))
    assert not present.is_alive(file.name)
    present.remove_dead()
    assert not file.exists()


def test_a_worker_that_slept_appears_again(other_machine):
    """Another worker has removed its file; it still sees the others."""
    clock, present, file = other_machine
    own = file.with_name(present.name)
    own.unlink()
    assert present.is_alive(file.name)
    clock.now += presence.RENEWAL
    present.renew()
    assert presence._is_locked(own)
    assert present.is_alive(file.name)


def test_a_network_that_is_down_kills_no_worker(other_machine, monkeypatch):
    _, present, file = other_machine

    def fail(*_, **__):
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(Path, "stat", fail)
    assert present.is_alive(file.name)


def test_an_error_stops_the_runs_of_the_worker(stub, config, tmp_path, monkeypatch):
    """Nobody would look after them, and others would start them again."""
    folder = tmp_path / "sweep"
    sweep = make_sweep(points=(Point("slow", {RATE: 1.0}), Point("fast", {RATE: 2.0})))
    finish = study.Study.finish

    def fail(*arguments, **options):
        finish(*arguments, **options)
        while not (folder / "slow" / "metrics.jsonl").exists():
            time.sleep(0.02)
        time.sleep(0.2)  # until it waits for a signal
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(study.Study, "finish", fail)
    with pytest.raises(OSError, match="No space left"):
        run_sweep(sweep, config, folder, workers=2)
    assert (folder / "slow/saved").exists()
    monkeypatch.setattr(study.Study, "finish", finish)
    code, results = run_sweep(sweep, config, folder)
    assert (code, [run.state for run in results]) == (0, ["complete"] * 2)


def test_results_that_cannot_be_written_stop_no_run(
    stub, config, tmp_path, monkeypatch, capsys
):
    folder, write = tmp_path / "sweep", logs.write_file
    failures = iter([False, False, True, False])  # two files before the first run

    def write_or_fail(path, content):
        if next(failures, False):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, content)

    monkeypatch.setattr(logs, "write_file", write_or_fail)
    code, results = run_sweep(make_sweep(), config, folder)
    assert (code, [run.state for run in results]) == (0, ["complete"] * 2)
    warning = f"warning: {folder}/results.csv is not written: No space left on device"
    assert warning in capsys.readouterr().out
    assert len(read_csv(folder / "results.csv")) == 2


def test_a_run_waits_for_the_process_that_trains_it(
    stub, config, tmp_path, capsys, monkeypatch
):
    checks = iter([UserError("in use"), UserError("in use"), None, None])

    def check(folder):
        if error := next(checks):
            raise error

    monkeypatch.setattr(trial.run_folder, "check_unlocked", check)
    code, _ = run_sweep(make_sweep(), config, tmp_path / "sweep")
    assert code == 0
    assert "low: waiting for the process" in capsys.readouterr().out


def test_a_run_that_a_process_of_a_killed_worker_has_begun_is_not_failed(
    stub, config, tmp_path, monkeypatch
):
    """The other process locks the folder first; that of this worker ends with 1."""
    checks = iter([None, UserError("in use"), UserError("in use"), None, None])

    def check(folder):
        if error := next(checks):
            raise error

    monkeypatch.setattr(trial.run_folder, "check_unlocked", check)
    first = '(folder / "starts").read_text() == "started\\n" and name == "low"'
    stub.write_text(STUB.replace('name.startswith("fail")', first))
    code, results = run_sweep(make_sweep(), config, tmp_path / "sweep")
    assert code == 0
    assert [count_starts(run.folder) for run in results] == [2, 1]


def test_workers_that_start_together_repeat_failed_runs_once(stub, config, tmp_path):
    folder = tmp_path / "sweep"
    sweep = make_sweep(points=(Point("fails", {RATE: 1.0}),))
    run_sweep(sweep, config, folder)
    plan = plan_sweep(sweep, config, folder)
    with presence.announce(folder) as one, presence.announce(folder) as other:
        first = study.Study(plan, folder, one)
        claim = first.claim()
        assert claim is not None
        assert claim.name == "fails"
        assert first.finish(claim, "failed", {}, None)
        assert study.Study(plan, folder, other).claim() is None


def test_a_worker_ends_a_run_that_another_has_taken_over(
    stub, config, tmp_path, capsys
):
    """This worker was silent for too long, such as a computer that sleeps."""
    sweep, folder = make_sweep(points=(Point("slow", {RATE: 1.0}),)), tmp_path / "sweep"

    def take_over():
        while not (folder / "slow" / "metrics.jsonl").exists():
            time.sleep(0.02)
        with presence.announce(folder) as other:
            other.is_alive = lambda name: False
            second = study.Study(plan_sweep(sweep, config, folder), folder, other)
            claim = second.claim()
            assert claim is not None
            scores = {"test/dice": 0.5, "test/loss": 1.0}
            assert second.finish(claim, "complete", scores, None)

    thread = threading.Thread(target=take_over)
    thread.start()
    code, (result,) = run_sweep(sweep, config, folder)
    thread.join()
    assert code == 0
    assert result.scores == {"test/dice": 0.5, "test/loss": 1.0}
    assert "slow: another worker has taken it over" in capsys.readouterr().out
    assert not (folder / "slow/scores.json").exists()  # its process was ended


def test_the_file_of_a_worker_is_locked_before_others_see_it(tmp_path, monkeypatch):
    """Half a file would look like that of a dead worker."""
    seen = []
    lock = fcntl.flock

    def look(file, operation):
        seen.extend(path.suffix for path in (tmp_path / "workers").iterdir())
        lock(file, operation)

    monkeypatch.setattr(presence.fcntl, "flock", look)
    with presence.announce(tmp_path) as present:
        assert seen == [".part"]
        (file,) = (tmp_path / "workers").iterdir()
        assert json.loads(file.read_text())["locked"] is True
        assert file.name == present.name


@pytest.mark.slow
def test_a_killed_worker_of_two_and_its_run_that_resumes(tmp_path):
    """Another worker takes its run over; the killed command, started again, helps."""
    file, folder = tmp_path / "sweep.py", tmp_path / "runs"
    file.write_text(SWEEP)

    def start():
        command = [sys.executable, str(ROOT / "main.py"), "--mode=sweep"]
        command += [f"--config={file}", f"--workdir={folder}"]
        environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)

    def wait_for(pattern):
        end = time.monotonic() + 240
        while not list(folder.glob(pattern)):
            assert time.monotonic() < end, pattern
            time.sleep(0.05)

    first = start()
    wait_for("a/checkpoints/20/commit_success.txt")
    (training,) = find_processes(f"--workdir={folder / 'a'}")
    os.kill(training, signal.SIGSTOP)  # it would end before the second worker begins
    second = start()
    wait_for("b/config.json")
    for process in (first.pid, training):
        os.kill(process, signal.SIGKILL)
    first.communicate()
    again = start()  # the same command takes part again
    for process in (second, again):
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    rows = read_csv(folder / "results.csv")
    assert [row["state"] for row in rows] == ["complete"] * 2
    log = (folder / "logs/a.txt").read_text()
    assert re.search(r"resuming at step [1-9]\d*\n", log)
    assert json.loads((folder / "a/scores.json").read_text())["step"] == 300


def find_processes(argument):
    """Returns the processes that have an argument (Linux)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if argument.encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize(
    ("states", "at_once", "minutes"),
    [
        ("complete running waiting waiting waiting", 2, 20),  # 4 left of 10 min, by 2
        ("complete running running running waiting", 1, 40 / 3),  # other workers, too
        ("complete complete complete complete waiting", 2, 10),  # one is left
        ("complete pruned failed", 2, 10),  # two of five are not proposed yet
        ("running running waiting waiting waiting", 2, None),  # no time is known
        ("complete complete complete complete failed", 2, None),  # none is left
    ],
)
def test_the_runs_that_are_left_share_the_workers(states, at_once, minutes):
    results = [
        TrialResult(
            name=f"trial-{i}",
            folder=Path(f"trial-{i}"),
            point=f"trial-{i}",
            seed=None,
            fields={},
            state=state,
            scores={},
            minutes=10.0 if state == "complete" else None,
        )
        for i, state in enumerate(states.split())
    ]
    left = estimate_left(results, trials=5, at_once=at_once)
    assert left == (None if minutes is None else pytest.approx(minutes))
