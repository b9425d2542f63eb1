"""The tables of a sweep, against arithmetic."""

import pytest

from tests.run.sweeping.parts import RATE, STUB, count_starts, make_sweep, read_csv
from unet_jax.run.sweep import run_sweep
from unet_jax.run.sweeping.plan import plan_sweep
from unet_jax.run.sweeping.results import (
    Row,
    State,
    TrialResult,
    describe_table,
    make_csv,
    make_markdown,
    make_table,
)


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


def test_a_search_has_a_column_for_each_field(config, tmp_path):
    """Also while all runs have the same value."""
    space = {RATE: {"name": "choice", "values": (1.0, 2.0)}}
    sweep = make_sweep(points=(), space=space, trials=2)
    plan = plan_sweep(sweep, config, tmp_path)
    run = TrialResult(
        "trial-0", tmp_path, "trial-0", None, {RATE: "1.0"}, "waiting", {}
    )
    head, row = make_csv(plan, [run]).splitlines()
    assert head == f"run,point,seed,{RATE},test/dice,test/loss,minutes,state"
    assert row == "trial-0,trial-0,,1.0,,,,waiting"


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
    line = "teps whose loss, gradient or new parameters were not finite were skipped"
    line += " in low (6 steps)"
    assert f"S{line}." in (tmp_path / "sweep/results.md").read_text()
    assert f"warning: s{line}\n" in capsys.readouterr().out


def test_a_failed_run_without_a_reason_is_in_the_table(config, tmp_path):
    plan = plan_sweep(make_sweep(), config, tmp_path)
    run = TrialResult("low", tmp_path / "low", "low", None, {}, "failed", {})
    assert "`low` failed: no reason is recorded" in make_markdown(plan, [run])


def test_the_table_of_a_long_search_says_what_it_leaves_out(
    stub, config, tmp_path, capsys
):
    space = {RATE: {"name": "uniform", "low": 1.0, "high": 2.0}}
    sweep = make_sweep(points=(), space=space, trials=14)
    run_sweep(sweep, config, tmp_path / "sweep", workers=4)
    output = capsys.readouterr().out
    assert "the best 12 of 14 runs; results.md has all\n" in output
    assert "  1 of 1  " not in output  # each is one run
