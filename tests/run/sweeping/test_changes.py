"""Sweeps that are started again, with other points or scores."""

import contextlib
import copy
import shutil

import pytest

from tests.run.sweeping.parts import RATE, STUB, count_starts, make_sweep, read_csv
from unet_jax.build.sweep_file import Point
from unet_jax.errors import UserError
from unet_jax.run.sweep import run_sweep
from unet_jax.run.sweeping import presence, study
from unet_jax.run.sweeping.plan import plan_sweep


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
    with pytest.raises(UserError, match="another point 'low': .*rate is 1.0 in the"):
        run_sweep(changed, config, folder)
    with pytest.raises(
        UserError, match="any more: 'third-0', 'third-1'; put them back"
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
        f"{folder} holds another point 'low': {RATE} is 1.0 in the journal and 1.5 in "
        "this command; keep it, and give the new fields to a point with another name, "
        f"or delete the complete {folder}/low, or choose another --workdir"
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


def test_a_folder_of_another_sweep_is_refused(stub, config, tmp_path, monkeypatch):
    folder = tmp_path / "sweep"
    run_sweep(make_sweep(), config, folder)

    def refuses(text, sweep, config=config):
        with pytest.raises(UserError, match=text) as caught:
            run_sweep(sweep, config, folder)
        assert "\n" not in str(caught.value)

    refuses("another sweep: base is quickstart in the journal", make_sweep(base="isbi"))
    new = "steps is 5 in this command and not set in the journal"
    refuses(f"another sweep: --config.{new}", make_sweep(given={"steps": 5}))
    refuses(f"every run: {new}", make_sweep(fields={"steps": 5}))
    space = {RATE: {"name": "uniform", "low": 0.1, "high": 1.0}}
    refuses("another sweep", make_sweep(points=(), space=space))
    other = copy.deepcopy(config)
    other.batch_size = 16
    changed = "quickstart differs from that of the sweep: batch_size is 8 in the journ"
    refuses(changed, make_sweep(), other)
    monkeypatch.setattr("unet_jax.run.sweeping.plan.hash_code", lambda: "0")
    refuses("the code of unet_jax differs from that of the sweep", make_sweep())
    (folder / "journal.log").write_text("{\n{\n")
    refuses("journal.log, line 1 is damaged", make_sweep())


def open_study(sweep, config, folder, present):
    return study.Study(plan_sweep(sweep, config, folder), folder, present)


def test_another_sweep_file_is_refused_while_a_worker_is_alive(stub, config, tmp_path):
    folder = tmp_path / "sweep"
    folder.mkdir()
    one, two, three = (Point(name, {RATE: 1.0}) for name in "abc")
    begun = make_sweep(points=(one, two))
    with presence.announce(folder) as present:
        first = open_study(begun, config, folder, present)
        for changes, what in (
            ({"points": (one,)}, "runs (b)"),
            ({"points": (one, two, three)}, "runs (c)"),
            ({"points": (one, Point("b", {RATE: 2.0}))}, "runs (b)"),
            ({"scores": ("test/dice",)}, "scores or trials"),
        ):
            with pytest.raises(UserError) as caught:
                run_sweep(begun._replace(**changes), config, folder)
            assert str(caught.value) == (
                f"{folder}: the worker {present.name} is alive, and its sweep file has "
                f"other {what}; stop it, or wait for its end (ten minutes if its "
                "machine has crashed), and start this command again"
            )
        assert [run.state for run in first.list_results()] == ["waiting"] * 2
    code, results = run_sweep(make_sweep(points=(one, three)), config, folder)
    assert (code, [run.name for run in results]) == (0, ["a", "c"])


def test_workers_that_start_together_after_a_change_all_take_part(
    stub, config, tmp_path
):
    """One removed a point that failed, which stays in the journal."""
    folder = tmp_path / "sweep"
    points = Point("ok", {RATE: 1.0}), Point("fails", {RATE: 1.0})
    run_sweep(make_sweep(points=points), config, folder)
    changed = make_sweep(points=(points[0], Point("new", {RATE: 2.0})))
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(presence.announce(folder)) for _ in range(3)]
        for present in workers:
            open_study(changed, config, folder, present)
    assert run_sweep(changed, config, folder)[0] == 0


def test_numbers_of_another_type_are_no_difference(stub, config, tmp_path):
    run_sweep(make_sweep(), config, tmp_path / "sweep")
    other = copy.deepcopy(config)
    with other.ignore_type():
        other.cache = int(config.cache)
    assert run_sweep(make_sweep(), other, tmp_path / "sweep")[0] == 0


def test_all_runs_of_a_changed_point_are_named(stub, config, tmp_path):
    folder = tmp_path / "sweep"
    run_sweep(make_sweep(seeds=range(6)), config, folder)
    changed = make_sweep(points=(Point("low", {RATE: 3.0}),), seeds=range(6))
    with pytest.raises(UserError) as caught:
        run_sweep(changed, config, folder)
    folders = " ".join(f"{folder}/low-{seed}" for seed in range(6))
    assert f"or delete the complete {folders}, or choose" in str(caught.value)


def test_the_runs_of_a_cross_validation_are_another_sweep(stub, config, tmp_path):
    run_sweep(make_sweep(kind="cross-validation"), config, tmp_path / "sweep")
    with pytest.raises(UserError, match="kind is cross-validation in the jou"):
        run_sweep(make_sweep(), config, tmp_path / "sweep")
