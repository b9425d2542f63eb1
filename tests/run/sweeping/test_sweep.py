"""Sweeps from their start to their results; the runs are stubs."""

import functools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import optuna
import pytest

from tests.run.sweeping.parts import RATE, STUB, count_starts, make_sweep
from unet_jax import command
from unet_jax.build.sweep_file import Point
from unet_jax.errors import UserError
from unet_jax.parallel import is_distributed
from unet_jax.run import provenance, run_folder
from unet_jax.run.sweep import run_sweep, sweep
from unet_jax.run.sweeping import identity, trial

ROOT = Path(__file__).parents[3]


def test_a_failed_run_is_recorded_and_the_others_go_on(stub, config, tmp_path, capsys):
    points = (Point("fails", {RATE: 1.0}), Point("works", {RATE: 2.0}))
    folder = tmp_path / "sweep"
    code, results = run_sweep(make_sweep(points=points), config, folder)
    assert code == 1
    assert [run.state for run in results] == ["failed", "complete"]
    assert results[0].reason == "exit code 1\nerror: the disk is full"
    line = "exit code 1; the last line of its log: error: the disk is full"
    out = capsys.readouterr().out
    assert f"fails: failed ({line})" in out
    assert "2 of 2 done, 1 of them failed; best works" in out
    assert "    error: the disk is full" in (folder / "results.md").read_text()
    stub.write_text(STUB.replace('startswith("fail")', 'startswith("never")'))
    code, _ = run_sweep(make_sweep(points=points), config, folder)
    assert code == 0
    assert [count_starts(run.folder) for run in results] == [2, 1]
    log = (folder / "logs/fails.txt").read_text()
    events = re.findall(r"^--- 20..-..-.. ..:..:.. (.*)$", log, re.MULTILINE)
    assert events == ["started", "failed: exit code 1", "started", "complete"]


def test_the_line_at_the_end_of_a_run_has_the_progress(stub, config, tmp_path, capsys):
    """Each stub takes one minute, by its metrics; high scores 20 and low 10."""
    run_sweep(make_sweep(), config, tmp_path / "sweep")
    ends = re.findall("^(?:low|high): complete.*$", capsys.readouterr().out, re.M)
    first, second = (end.split("; ", 1)[1] for end in ends)
    assert first == "1 of 2 done; best so far low 10.0000; about 1 min 0 s left"
    assert second == "2 of 2 done; best high 20.0000"


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
        "repeats them, with the changes that you make to their points"
    )


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
    pruned = [run for run in results if run.state == "pruned"]
    # the only rate below 1; it scores 0.001 and 0.002
    assert {run.reason for run in pruned} == {"step 2, val/dice 0.0020"}
    words = (tmp_path / "sweep/results.md").read_text()
    assert f"- `{pruned[0].name}`: step 2, val/dice 0.0020" in words
    ends = {(run.fields[RATE], run.state) for run in results[8:]}
    assert {state for rate, state in ends if rate == "0.001"} == {"pruned"}
    assert ("3.0", "complete") in ends
    chosen = [run.fields[RATE] for run in results[10:]]
    assert chosen.count("3.0") > chosen.count("0.001")
    best = next(run for run in results if run.fields[RATE] == "3.0")
    assert best.scores == {"val/dice": 6, "test/dice": 30}


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


def test_the_ticks_of_a_whole_number_are_whole(stub, config, tmp_path):
    space = {"max_bad_steps": {"name": "integer", "low": 2, "high": 3}}
    points = make_sweep(points=(), space=space, fields={RATE: 1.0}, trials=4)
    code, _ = run_sweep(points, config, tmp_path / "sweep")
    assert code == 0
    ticks = re.findall("<!-- ([^ ]+) -->", (tmp_path / "sweep/figure.svg").read_text())
    assert {"2", "3"} <= {*ticks}
    assert not [tick for tick in ticks if re.match(r"[123]\.", tick)]


def test_the_folder_of_a_cross_validation_is_refused(stub, config, tmp_path):
    """The journal of one that was interrupted before its first fold is not there."""
    (tmp_path / "crossval.json").write_text('{"folds": ["fold-0"]}')
    with pytest.raises(UserError, match="a cross-validation; continue it with --mode="):
        run_sweep(make_sweep(), config, tmp_path)


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
    assert environment["PYTHONPATH"].split(os.pathsep)[:2] == [str(ROOT), "/mine"]


def test_a_run_is_of_the_package_of_its_worker(tmp_path, monkeypatch):
    """The current folder may hold another copy."""
    (tmp_path / "unet_jax").mkdir()
    (tmp_path / "unet_jax" / "__init__.py").write_text("")
    (tmp_path / "unet_jax" / "__main__.py").write_text("print('another copy')")
    done = subprocess.run(
        [*trial.PROGRAM, "--mode=help"],
        env=trial.make_environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "another copy" not in done.stdout
    assert "flag --mode=help" in done.stderr


def test_a_run_is_refused_after_a_change_of_the_code_or_the_config(tmp_path):
    """It would be compared with runs of the old ones."""
    file = tmp_path / "mine.py"
    config = "from unet_jax.configs import quickstart\n\n\ndef get_config():\n"
    config += "    config = quickstart.get_config()\n    config.steps = 7\n"
    file.write_text(f"{config}    return config\n")
    with provenance.use_config_source(str(file), command.load_config(str(file))):
        origin = identity.describe_origin()
    run = [*trial.PROGRAM, f"--config={file}", f"--workdir={tmp_path / 'run'}"]
    environment = trial.make_environment()

    def refuse(origin):
        done = subprocess.run(
            run, env=environment | {identity.ORIGIN: origin}, capture_output=True
        )
        assert done.returncode == 1
        assert not (tmp_path / "run").exists()
        return done.stderr.decode()

    code, hashed = origin.split()
    assert "error: the code of unet_jax has changed" in refuse(f"0 {hashed}")
    file.write_text(f"{config}    config.batch_size = 2\n    return config\n")
    assert f"error: {file} has changed since the sweep began" in refuse(origin)
