"""Sweeps whose runs are stubs: a few lines of Python instead of a training."""

import contextlib
import copy
import csv
import fcntl
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import optuna
import pytest

from unet_jax import command
from unet_jax.build.sweep_file import Point, Sweep
from unet_jax.errors import UserError
from unet_jax.parallel import is_distributed
from unet_jax.run import run_folder
from unet_jax.run.sweep import run_sweep, sweep
from unet_jax.run.sweeping import distributions, presence, study, trial, worker
from unet_jax.run.sweeping.plan import plan_sweep
from unet_jax.run.sweeping.results import (
    Row,
    State,
    TrialResult,
    describe_table,
    make_markdown,
    make_table,
)

ROOT = Path(__file__).parents[2]
STUB = """
import json, pathlib, signal, sys, time
flags = dict(argument.split("=", 1) for argument in sys.argv[1:])
folder = pathlib.Path(flags["--workdir"])
folder.mkdir(exist_ok=True)
with (folder / "starts").open("a") as file:
    file.write("started\\n")
name, rate = folder.name, float(flags["--config.optimizer.learning_rate"])
seed = int(flags.get("--config.seed", 0))
if name.startswith("fail"):
    sys.exit("error: the disk is full")
scores = [rate * step + seed for step in (1, 2)]
metrics = folder / "metrics.jsonl"
with metrics.open("w") as file:
    for step, score in enumerate(scores, 1):
        row = {"step": step, "seconds": 30 * step, "val/dice": score}
        file.write(json.dumps(row) + "\\n")
def save(*_):
    (folder / "saved").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
if "slow" in name and not (folder / "saved").exists() or rate < 1:
    time.sleep(60)
scores = {"step": 2, "test/dice": 10 * rate + seed, "test/loss": 1 / rate}
(folder / "scores.json").write_text(json.dumps(scores))
"""
DICE = "({'name':'dice'},)"
RATE = "optimizer.learning_rate"


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """Makes runs stubs, and looks for runs without pauses."""
    path = tmp_path / "stub.py"
    path.write_text(STUB)
    monkeypatch.setattr(trial, "PROGRAM", (sys.executable, str(path)))
    monkeypatch.setattr(worker, "POLL", 0.02)
    monkeypatch.setattr(worker, "PAUSE", 0.02)
    return path


@pytest.fixture(scope="module")
def config():
    config = command.load_config("quickstart")
    config.batch_size = 8
    return config


def make_sweep(**changes):
    rates = {"low": 1.0, "high": 2.0}
    points = tuple(Point(name, {RATE: rate}) for name, rate in rates.items())
    sweep = Sweep("quickstart", points, scores=("test/dice", "test/loss"))
    return sweep._replace(**changes)


def count_starts(folder):
    return (folder / "starts").read_text().count("started")


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_results_against_arithmetic(stub, config, tmp_path):
    folder = tmp_path / "sweep"
    code, results = run_sweep(make_sweep(seeds=(0, 3)), config, folder)
    assert code == 0
    assert [run.name for run in results] == ["low-0", "low-3", "high-0", "high-3"]
    assert results[1].scores == {"test/dice": 13, "test/loss": 1}
    rows = read_csv(folder / "results.csv")
    assert rows[3] == {
        "run": "high-3",
        "point": "high",
        "seed": "3",
        RATE: "2.0",
        "test/dice": "23",
        "test/loss": "0.5",
        "minutes": "1.00",
        "state": "complete",
    }
    table = (folder / "results.md").read_text()
    # (20 + 23) / 2 = 21.5
    assert "| **`high`** | 21.5000 (20.0000-23.0000) | 0.5000 (0.5000" in table
    assert "higher test/dice is better; best: high." in table
    drawn = (folder / "figure.svg").read_text()
    assert "test/loss" in drawn
    assert "lower is better" in drawn
    assert not list((folder / "workers").iterdir())


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


def test_added_seeds_and_points_continue_and_changed_ones_are_refused(
    stub, config, tmp_path
):
    folder = tmp_path / "sweep"
    run_sweep(make_sweep(seeds=(0,)), config, folder)
    more = make_sweep(seeds=(0, 1))
    more = more._replace(points=(*more.points, Point("third", {RATE: 3.0})))
    code, results = run_sweep(more, config, folder)
    assert (code, len(results)) == (0, 6)
    assert [count_starts(run.folder) for run in results] == [1] * 6
    changed = more._replace(points=(Point("low", {RATE: 1.5}), *more.points[1:]))
    with pytest.raises(UserError, match="another point 'low': .*rate is 1.0 there"):
        run_sweep(changed, config, folder)
    with pytest.raises(
        UserError, match="runs 'third-0', 'third-1', which are not in the"
    ):
        run_sweep(make_sweep(seeds=(0, 1)), config, folder)


def test_a_run_that_never_completed_can_be_changed_and_removed(
    stub, config, tmp_path, capsys
):
    folder = tmp_path / "sweep"
    good = Point("good", {RATE: 1.0})
    bad = Point("fails", {RATE: 1e30}), Point("fails2", {RATE: 1e30})
    assert run_sweep(make_sweep(points=(good, *bad)), config, folder)[0] == 1
    stub.write_text(STUB.replace('startswith("fail")', 'startswith("never")'))
    mended = make_sweep(points=(good, Point("fails", {RATE: 2.0})))
    code, results = run_sweep(mended, config, folder)
    assert code == 0
    assert [(r.name, r.scores["test/dice"]) for r in results] == [
        ("good", 10),
        ("fails", 20),
    ]
    assert [count_starts(run.folder) for run in results] == [1, 1]
    assert f"fails: moved the run that never completed to {folder}/replaced/fails" in (
        capsys.readouterr().out
    )
    assert sorted(p.name for p in (folder / "replaced").iterdir()) == [
        "fails",
        "fails2",
    ]
    code, results = run_sweep(mended, config, folder)  # nothing is left to change
    assert [count_starts(run.folder) for run in results] == [1, 1]
    assert "moved" not in capsys.readouterr().out
    alone = folder / "fails2"  # trained without the sweep
    alone.mkdir()
    (alone / "scores.json").write_text("{}")
    run_sweep(mended, config, folder)
    assert alone.exists()
    shutil.rmtree(alone)
    again = make_sweep(points=(*mended.points, bad[1]))  # put back
    assert [r.state for r in run_sweep(again, config, folder)[1]] == ["complete"] * 3


def test_a_complete_run_is_not_replaced_unless_its_folder_is_deleted(
    stub, config, tmp_path
):
    folder = tmp_path / "sweep"
    run_sweep(make_sweep(), config, folder)
    changed = make_sweep(points=(Point("low", {RATE: 1.5}),))
    with pytest.raises(UserError) as caught:
        run_sweep(changed, config, folder)
    assert str(caught.value) == (
        f"{folder} holds another point 'low': {RATE} is 1.0 there and 1.5 here; the "
        "run is complete: keep it and give the new fields to a point with another "
        f"name, or delete {folder}/low, or choose another --workdir"
    )
    for name in ("low", "high"):
        shutil.rmtree(folder / name)
    (result,) = run_sweep(changed, config, folder)[1]
    assert result.scores["test/dice"] == 15


def test_a_run_whose_folder_was_deleted_is_run_again(stub, config, tmp_path, capsys):
    folder = tmp_path / "sweep"
    run_sweep(make_sweep(), config, folder)
    shutil.rmtree(folder / "low")
    code, results = run_sweep(make_sweep(), config, folder)
    assert code == 0
    line = f"low: {folder}/low has no scores; training it again"
    assert line in capsys.readouterr().out
    assert [run.state for run in results] == ["complete"] * 2
    assert [count_starts(run.folder) for run in results] == [1, 1]


def test_new_scores_of_a_finished_sweep_are_read_from_its_runs(stub, config, tmp_path):
    folder = tmp_path / "sweep"
    run_sweep(make_sweep(scores=("test/dice",)), config, folder)
    more = make_sweep(scores=("test/loss", "val/dice"))
    results = run_sweep(more, config, folder)[1]
    assert [count_starts(run.folder) for run in results] == [1, 1]
    rows = read_csv(folder / "results.csv")
    # the stub: test/loss is 1 / rate, val/dice is rate * step at step 2
    assert [(row["test/loss"], row["val/dice"]) for row in rows] == [
        ("1", "2"),
        ("0.5", "4"),
    ]
    assert "best: high." in (folder / "results.md").read_text()
    with pytest.raises(UserError, match="scores.json has no val/loss; available:"):
        run_sweep(make_sweep(scores=("val/loss",)), config, folder)


@pytest.mark.parametrize(
    "space", [{}, {RATE: {"name": "choice", "values": (1.0, 2.0)}}]
)
def test_an_undefined_score_is_complete(stub, config, tmp_path, space):
    stub.write_text(STUB.replace("10 * rate + seed", "None"))
    folder = tmp_path / "sweep"
    sweep = make_sweep(space=space, trials=2)
    sweep = sweep._replace(points=()) if space else sweep
    for _ in range(2):
        code, results = run_sweep(sweep, config, folder)
        assert code == 0
        assert [run.state for run in results] == ["complete"] * 2
        assert [count_starts(run.folder) for run in results] == [1, 1]
    table = (folder / "results.md").read_text()
    assert "| undefined |" in table
    assert "best" not in table


def test_the_command_names_failed_runs_in_an_error(stub, tmp_path):
    file = tmp_path / "failing.py"
    fields = {"fails": {RATE: 1.0}, "ok": {RATE: 2.0}}
    text = f"base = 'quickstart'\nscores = 'test/dice'\npoints = {fields}\n"
    file.write_text(text + "fields = {'metrics': ({'name': 'dice'},)}\n")
    workdir = tmp_path / "sweep"
    with pytest.raises(UserError) as caught:
        sweep(command.load_config("quickstart"), workdir, source=str(file), given={})
    assert str(caught.value) == (
        f"1 of 2 runs failed: fails; {workdir}/logs has the reasons. The same command "
        "repeats them, with the changes that you make to the sweep file"
    )


def test_equal_points_are_named(stub, config, tmp_path, capsys):
    equal = ("a", {RATE: 2.0}), ("b", {RATE: "2.0", "batch_size": 8}), ("c", {RATE: 3})
    sweep = make_sweep(points=tuple(Point(*each) for each in equal), seeds=(0, 1))
    run_sweep(sweep, config, tmp_path / "sweep")
    assert capsys.readouterr().out.count("warning: the points a, b have equal") == 1
    table = (tmp_path / "sweep/results.md").read_text()
    assert "best: c." in table


@pytest.mark.parametrize(
    ("scores", "other", "words"),
    [
        # 0.1 + 0.2 is not 0.3 for a computer
        (([0.1, 0.2], [0.15, 0.15]), "complete", "best: a (tied with b)"),
        (([0.9], [0.5, 0.6]), "failed", "best: b"),
        (([0.9], [0.5, 0.6]), "waiting", "best so far: b"),
        (([0.9], [0.5]), "failed", "best so far: a"),
    ],
)
def test_the_best_point(config, tmp_path, scores, other, words):
    """Each point has two seeds; `other` is the state of a run without a score."""
    plan = plan_sweep(make_sweep(scores=("test/dice",)), config, tmp_path)
    rows = []
    for point, values in zip("ab", scores, strict=True):
        ends: list[State] = ["complete"] * len(values)
        ends += [other] * (2 - len(values))
        rows.append(Row(point, {"test/dice": values}, None, ends, {}))
    assert describe_table(plan, rows).endswith(f"; {words}")


def test_a_failed_run_is_recorded_and_the_others_go_on(stub, config, tmp_path, capsys):
    points = (Point("fails", {RATE: 1.0}), Point("works", {RATE: 2.0}))
    folder = tmp_path / "sweep"
    code, results = run_sweep(make_sweep(points=points), config, folder)
    assert code == 1
    assert [run.state for run in results] == ["failed", "complete"]
    assert results[0].reason == "exit code 1\nerror: the disk is full"
    line = "exit code 1; the last line of its log: error: the disk is full"
    assert f"fails: failed ({line})" in capsys.readouterr().out
    assert "    error: the disk is full" in (folder / "results.md").read_text()
    stub.write_text(STUB.replace('startswith("fail")', 'startswith("never")'))
    code, _ = run_sweep(make_sweep(points=points), config, folder)
    assert code == 0
    assert [count_starts(run.folder) for run in results] == [2, 1]


def test_a_search_prefers_what_scores_well_and_stops_the_rest(
    stub, config, tmp_path, monkeypatch
):
    """The rates 1 to 3 score 2 to 6 at the end, those below 1 hang and score less."""
    sampler = functools.partial(optuna.samplers.TPESampler, seed=1)
    monkeypatch.setattr(optuna.samplers, "TPESampler", sampler)
    space = {RATE: {"name": "choice", "values": (0.001, 1.0, 2.0, 3.0)}}
    sweep = make_sweep(
        points=(), space=space, trials=16, scores=("val/dice", "test/dice")
    )
    stub.write_text(STUB.replace("or rate < 1", "or rate < 1 and int(name[6:]) > 7"))
    code, results = run_sweep(sweep, config, tmp_path / "sweep")
    assert code == 0
    assert len({run.name for run in results}) == len(results) == 16
    ends = {(run.fields[RATE], run.state) for run in results[8:]}
    assert {state for rate, state in ends if rate == "0.001"} == {"pruned"}
    assert ("3.0", "complete") in ends
    chosen = [run.fields[RATE] for run in results[10:]]
    assert chosen.count("3.0") > chosen.count("0.001")
    best = next(run for run in results if run.fields[RATE] == "3.0")
    assert best.scores == {"val/dice": 6, "test/dice": 30}


def abandon_a_run(sweep, config, folder):
    """Takes a run as a worker that is then killed."""
    folder.mkdir()
    plan = plan_sweep(sweep, config, folder)
    with presence.announce(folder) as present:
        claim = study.Study(plan, folder, present).claim()
        assert claim is not None
        left = (folder / "workers" / present.name).read_bytes()
    (folder / "workers" / present.name).write_bytes(left)
    return claim, folder / "workers" / present.name


def test_the_run_of_a_killed_worker_is_run_again(stub, config, tmp_path):
    folder = tmp_path / "sweep"
    claim, _ = abandon_a_run(make_sweep(), config, folder)
    code, results = run_sweep(make_sweep(), config, folder)
    assert code == 0
    assert claim.name == "low"
    assert [run.state for run in results] == ["complete"] * 2
    assert len(list(folder.glob("low*"))) == 1  # in the same folder


def test_a_worker_of_another_machine_is_dead_after_a_silence(
    stub, config, tmp_path, monkeypatch
):
    folder = tmp_path / "sweep"
    _, file = abandon_a_run(make_sweep(), config, folder)
    file.write_text(json.dumps({"machine": "another", "locked": True}))
    with presence.announce(folder) as present:
        assert present.is_alive(file.name)
        old = time.time() - presence.SILENCE - 1
        os.utime(file, (old, old))
        assert not present.is_alive(file.name)
        assert not present.is_alive("removed")


def test_a_signal_saves_and_the_same_command_continues(stub, config, tmp_path, capsys):
    folder = tmp_path / "sweep"
    sweep = make_sweep(points=(Point("slow", {RATE: 1.0}), Point("next", {RATE: 2.0})))

    def interrupt():
        while not (folder / "slow" / "metrics.jsonl").exists():
            time.sleep(0.02)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt).start()
    code, results = run_sweep(sweep, config, folder)
    assert code == 128 + signal.SIGTERM
    assert (folder / "slow/saved").exists()
    assert [run.state for run in results] == ["waiting", "waiting"]
    assert "the same command continues the sweep" in capsys.readouterr().out
    code, results = run_sweep(sweep, config, folder)
    assert code == 0
    assert [count_starts(run.folder) for run in results] == [2, 1]


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


def test_a_folder_of_another_sweep_is_refused(stub, config, tmp_path, monkeypatch):
    folder = tmp_path / "sweep"
    run_sweep(make_sweep(), config, folder)

    def refuses(text, sweep, config=config):
        with pytest.raises(UserError, match=text) as caught:
            run_sweep(sweep, config, folder)
        assert "\n" not in str(caught.value)

    refuses("another sweep: base is quickstart there", make_sweep(base="isbi"))
    new = "steps is 5 here and not set there"
    refuses(f"another sweep: --config.{new}", make_sweep(given={"steps": 5}))
    refuses(f"every run: {new}", make_sweep(fields={"steps": 5}))
    space = {RATE: {"name": "uniform", "low": 0.1, "high": 1.0}}
    refuses("another sweep", make_sweep(points=(), space=space))
    other = copy.deepcopy(config)
    other.batch_size = 16
    changed = "quickstart has changed since the sweep began: batch_size was 8 and is 16"
    refuses(changed, make_sweep(), other)
    monkeypatch.setattr("unet_jax.run.sweeping.plan.hash_code", lambda: "0")
    refuses("the code of unet_jax has changed since the sweep", make_sweep())
    (folder / "journal.log").write_text("{\n{\n")
    refuses("journal.log is damaged", make_sweep())


def test_a_changed_sweep_file_is_refused_while_another_worker_is_alive(
    stub, config, tmp_path
):
    folder = tmp_path / "sweep"
    folder.mkdir()
    one, two, three = (Point(name, {RATE: 1.0}) for name in "abc")
    with presence.announce(folder) as present:
        plan = plan_sweep(make_sweep(points=(one, two)), config, folder)
        first = study.Study(plan, folder, present)
        for points in ((one,), (one, two, three), (one, Point("b", {RATE: 2.0}))):
            with pytest.raises(UserError) as caught:
                run_sweep(make_sweep(points=points), config, folder)
            assert str(caught.value) == (
                f"{folder}: another worker runs this sweep, and its sweep file has "
                f"other runs ({'c' if three in points else 'b'}); stop it, or wait for "
                "its end, and start this command again"
            )
        assert [run.state for run in first.list_results()] == ["waiting"] * 2
    code, results = run_sweep(make_sweep(points=(one, three)), config, folder)
    assert (code, [run.name for run in results]) == (0, ["a", "c"])


def test_a_failed_run_without_a_reason_is_in_the_table(config, tmp_path):
    plan = plan_sweep(make_sweep(), config, tmp_path)
    run = TrialResult("low", tmp_path / "low", "low", None, {}, "failed", {})
    assert "`low` failed: no reason is recorded" in make_markdown(plan, [run])


def test_the_folder_of_a_cross_validation_is_refused(stub, config, tmp_path):
    """The journal of one that was interrupted before its first fold is not there."""
    (tmp_path / "crossval.json").write_text('{"folds": ["fold-0"]}')
    with pytest.raises(UserError, match="a cross-validation; continue it with --mode="):
        run_sweep(make_sweep(), config, tmp_path)


def test_the_runs_of_a_cross_validation_are_another_sweep(stub, config, tmp_path):
    run_sweep(make_sweep(kind="cross-validation"), config, tmp_path / "sweep")
    with pytest.raises(UserError, match=r"kind is cross-validation there and points"):
        run_sweep(make_sweep(), config, tmp_path / "sweep")


def test_an_undefined_score_of_one_seed_is_counted(config, tmp_path):
    plan = plan_sweep(make_sweep(scores=("test/dice",)), config, tmp_path)
    both: list[State] = ["complete"] * 2
    rows = [
        Row("a", {"test/dice": [0.5]}, None, both, {}),
        Row("b", {"test/dice": [0.2, 0.4]}, None, both, {}),
    ]
    assert describe_table(plan, rows) == (
        "mean (lowest to highest) of 2 runs, without undefined scores; higher "
        "test/dice is better; best: b"
    )
    cells = [row[1] for row in make_table(plan, rows)[1:]]
    assert cells == ["0.5000, 1 undefined", "0.3000 (0.2000-0.4000)"]
    assert describe_table(plan, [rows[0], rows[0]]).endswith("; best: a (tied with a)")


def test_skipped_steps_are_in_the_results(stub, config, tmp_path, capsys):
    row = 'row = {"step": step, '
    stub.write_text(STUB.replace(row, row + '"train/skipped": 3 * (name == "low"), '))
    _, results = run_sweep(make_sweep(), config, tmp_path / "sweep")
    assert [run.skipped for run in results] == [6, 0]
    line = "teps that were not finite were skipped in low (6 steps)"
    assert f"S{line}." in (tmp_path / "sweep/results.md").read_text()
    assert f"warning: s{line}\n" in capsys.readouterr().out


def test_the_table_of_a_long_search_says_what_it_leaves_out(
    stub, config, tmp_path, capsys
):
    space = {RATE: {"name": "uniform", "low": 1.0, "high": 2.0}}
    sweep = make_sweep(points=(), space=space, trials=14)
    run_sweep(sweep, config, tmp_path / "sweep", workers=4)
    output = capsys.readouterr().out
    assert "the best 12 of 14 runs; results.md has all\n" in output
    assert "  1 of 1  " not in output  # each is one run


def test_a_part_of_a_field_that_the_search_chooses(stub, config, tmp_path):
    """Each end is checked with the first ends of the other fields."""
    specs = {"name": "sgd"}, {"name": "adam"}
    whole = {"optimizer": {"name": "choice", "values": specs}}
    part = {RATE: {"name": "log_uniform", "low": 1.0, "high": 2.0}}
    sweep = make_sweep(points=(), space=whole | part, trials=2)
    code, results = run_sweep(sweep, config, tmp_path / "sweep")
    assert code == 0
    assert [[*run.fields] for run in results] == [["optimizer", RATE]] * 2
    message = r"^space\(\): optimizer comes after its part"
    with pytest.raises(UserError, match=message):
        run_sweep(sweep._replace(space=part | whole), config, tmp_path / "sweep")


def test_numbers_of_numpy_are_numbers(config, tmp_path):
    values = {
        RATE: np.float32(0.5),
        "batch_size": np.int64(8),
        "crop": np.array([8, 8]),
    }
    plan = plan_sweep(make_sweep(points=(Point("a", values),)), config, tmp_path)
    texts = {RATE: "0.5", "batch_size": "8", "crop": "(8, 8)"}
    assert plan.runs[0].fields == texts


def test_a_run_folder_is_not_a_folder_for_a_sweep(stub, config, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="holds a run; choose another --workdir"):
        run_sweep(make_sweep(), config, tmp_path)


def test_a_sweep_folder_is_not_a_run_folder(stub, config, tmp_path):
    run_sweep(make_sweep(), config, tmp_path)
    with pytest.raises(UserError) as caught:
        run_folder.create_or_check(tmp_path, config)
    assert str(caught.value) == (
        f"{tmp_path} holds the runs of a sweep; choose another --workdir, or continue "
        "it with --mode=sweep"
    )
    run_folder.create_or_check(tmp_path / "new", config)  # a run beside those


def test_a_run_of_a_sweep_is_changed_in_the_sweep_file(tmp_path):
    alone = "lower it, and choose another --workdir"
    assert run_folder.advise_change(tmp_path / "run", "lower it") == alone
    (tmp_path / "journal.log").touch()
    assert run_folder.advise_change(tmp_path / "run", "lower it") == (
        "lower it in the sweep file, and start the sweep again"
    )
    (tmp_path / "crossval.json").touch()  # all folds have the same fields
    assert run_folder.advise_change(tmp_path / "run", "lower it") == alone


def test_without_optuna(config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"run pip install 'unet_jax\[sweep\]'"):
        run_sweep(make_sweep(), config, tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


def test_the_command_of_a_run_is_what_a_user_types(config, tmp_path):
    sweep = make_sweep(
        fields={"steps": 5, RATE: 1e-3, "loss[0].scale": 2},
        points=(
            Point("wide", {"model.widths": [8, 16], "loss": "({'name':'dice'},)"}),
        ),
        seeds=(7,),
        given={"batch_size": 8},
    )
    plan = plan_sweep(sweep, config, tmp_path)
    claim = study.Claim(None, "wide-7", plan.runs[0].fields, set())
    assert trial.make_command(plan, claim, Path("runs/q")) == [
        "--config=quickstart",
        "--workdir=runs/q/wide-7",
        "--config.steps=5",
        f"--config.{RATE}=0.001",
        "--config.model.widths=(8, 16)",
        "--config.loss=({'name':'dice'},)",  # replaces its part in `fields`
        "--config.seed=7",
        "--config.batch_size=8",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": (Point("a", {"stepz": 1}),)}, r"point 'a': .*did you mean.*steps"),
        (
            {"points": (Point("a", {"steps": 1.5}),)},
            "'a': .*steps must be a whole",
        ),
        (
            {"points": (Point("a", {"loss": "({'name':'dyce'},)"}),)},
            "'dyce'; did",
        ),
        ({"points": (Point("a", {"task": "regression"}),)}, "a': --config.task=regres"),
        ({"points": (Point("a/b", {}),)}, "point 'a/b' cannot name a folder"),
        ({"points": (Point("", {}),)}, "point '' cannot name a folder"),
        ({"points": (Point("a,b", {}),)}, "point 'a,b' cannot name a folder"),
        ({"points": (Point("logs", {}),)}, "'logs' has the name of a file or folder"),
        ({"points": (Point("results.csv", {}),)}, "'results.csv' has the name of a"),
        ({"points": (Point("journal.log", {}),)}, "'journal.log' has the name of a"),
        ({"points": (Point("sweep.lock", {}),)}, "'sweep.lock' has the name of a"),
        ({"points": (Point("a", {}), Point("a", {}))}, "two points have the name 'a'"),
        ({"points": ()}, "neither points nor a space"),
        ({"space": {RATE: {"name": "uniform"}}}, "both points and a space"),
        ({"seeds": (0, 0)}, "seeds: 0 is there twice; list every seed once"),
        ({"given": {"seed": 1}, "seeds": (0,)}, "^--config.seed is set, and the sweep"),
        ({"fields": {"config.seed": 1}, "seeds": (0,)}, "^config.seed is set, and"),
        (
            {"points": (Point("a", {"seed": 1}),), "seeds": (0,)},
            "^point 'a': config.seed is set, and",
        ),
        ({"fields": {"stepz": 1}}, "^fields: config has no field 'stepz'"),
        (
            {"points": (Point("a", {RATE: 1, "optimizer": {"name": "sgd"}}),)},
            "^point 'a': optimizer comes after its part optimizer.learning_rate, and "
            "replaces it; put optimizer first",
        ),
        (
            {"points": (Point("a", {"steps": 1, "config.steps": 2}),)},
            "^point 'a': steps comes twice",
        ),
        ({"scores": ("test/dice", "test/dice")}, "scores: 'test/dice' is there twice"),
        (
            {"given": {RATE: 1}},
            f"config.{RATE} is set for every run, and",
        ),
        ({"scores": ("test/dyce",)}, "^scores: no 'test/dyce'; did you mean"),
        (
            {"scores": ("test/dice/cel",)},
            "^scores: no class 'cel' of 'test/dice/cel'; did you mean 'cell'",
        ),
        ({"scores": ("dice",)}, "scores: no 'dice'"),
        (
            {"scores": ("test/dcie/cell",)},
            "no 'test/dcie/cell'; did you mean 'test/dice/cell'",
        ),
    ],
)
def test_a_mistake_stops_a_sweep_before_its_first_run(
    stub, config, tmp_path, changes, message
):
    with pytest.raises(UserError, match=message) as caught:
        run_sweep(make_sweep(**changes), config, tmp_path / "sweep")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "uniform", "low": 1, "high": 0}, "low=1 must be below high=0"),
        (
            {"name": "log_uniform", "low": 0, "high": 1},
            "low must be a number above 0",
        ),
        ({"name": "normal"}, "unknown name 'normal'"),
        ({"name": "choice", "values": (1.0,)}, "must have two different values"),
        ({"name": "uniform", "low": -1.0, "high": 1.0}, "learning_rate must be"),
        ({"name": "choice", "values": (1.0, "x")}, "learning_rate must be a number"),
    ],
)
def test_a_wrong_distribution_names_its_field(stub, config, tmp_path, spec, message):
    sweep = make_sweep(points=(), space={RATE: spec})
    with pytest.raises(
        UserError, match=rf"^space\(\)\['{RATE}'\][.:].*{message}"
    ) as caught:
        run_sweep(sweep, config, tmp_path / "sweep")
    assert "\n" not in str(caught.value)


def test_the_ticks_of_a_whole_number_are_whole(stub, config, tmp_path):
    space = {"max_bad_steps": {"name": "integer", "low": 2, "high": 3}}
    points = make_sweep(points=(), space=space, fields={RATE: 1.0}, trials=4)
    code, _ = run_sweep(points, config, tmp_path / "sweep")
    assert code == 0
    ticks = re.findall("<!-- ([^ ]+) -->", (tmp_path / "sweep/figure.svg").read_text())
    assert {"2", "3"} <= {*ticks}
    assert not [tick for tick in ticks if re.match(r"[123]\.", tick)]


@pytest.mark.parametrize("name", ["uniform", "log_uniform"])
def test_a_whole_number_needs_whole_values(config, tmp_path, name):
    space = {"batch_size": {"name": name, "low": 1, "high": 4}}
    with pytest.raises(UserError, match=r"^space\(\)\['batch_size'\]: .* whole number"):
        plan_sweep(make_sweep(points=(), space=space), config, tmp_path)


@pytest.mark.parametrize("name", ["uniform", "log_uniform"])
def test_rounded_values_stay_within_their_bounds(name):
    """Four digits of 0.99998 are 1, which is no decay."""
    make = getattr(distributions, name)(low=0.98765, high=0.99999)
    for value, rounded in ((0.99998, 0.99999), (0.98766, 0.9877), (0.98765, 0.9877)):
        trial = optuna.trial.FixedTrial({"ema": value})
        assert make.suggest(trial, "ema") == rounded


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


@pytest.mark.slow
def test_a_killed_worker_of_two_and_its_run_that_resumes(tmp_path):
    """The second worker takes the run over from its checkpoint."""
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
    output, _ = second.communicate(timeout=300)
    assert second.returncode == 0, output
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


def test_a_run_is_a_process_alone_that_finds_this_package(monkeypatch):
    """SLURM would make eight workers of a sweep one run of eight processes."""
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "host:1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv("PYTHONPATH", "/mine")
    environment = trial.make_environment()
    assert not is_distributed(environment)
    assert "JAX_COORDINATOR_ADDRESS" not in environment
    assert environment["CUDA_VISIBLE_DEVICES"] == "3"
    assert environment["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "/mine"]
