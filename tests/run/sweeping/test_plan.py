"""The checks of a sweep before its first run."""

from pathlib import Path

import numpy as np
import optuna
import pytest

from tests.run.sweeping.parts import RATE, STUB, make_sweep
from unet_jax.build.sweep_file import Point
from unet_jax.errors import UserError
from unet_jax.run.sweep import run_sweep
from unet_jax.run.sweeping import distributions, scores, study, trial
from unet_jax.run.sweeping.plan import plan_sweep


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
        (
            {"points": (Point("a", {"crop": (7,)}),)},
            "^point 'a': config.crop=7 must have 2 or 3 sizes",
        ),
        (
            {"points": (Point("a", {"predict.tile": (8, 8, 8)}),)},
            "^point 'a': config.predict.tile=8,8,8 must have 2 sizes",
        ),
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
        (
            {"given": {"seed": 1}, "seeds": (0,)},
            "^--config.seed is set, and so are seeds",
        ),
        ({"fields": {"config.seed": 1}, "seeds": (0,)}, "^config.seed is set, and"),
        (
            {"points": (Point("a", {"seed": 1}),), "seeds": (0,)},
            "^point 'a': config.seed is set, and",
        ),
        ({"fields": {"stepz": 1}}, "^fields: config has no field 'stepz'"),
        ({"fields": {"loss.scale": 2}}, "^fields: --config.loss.scale: is a tuple"),
        (
            {
                "fields": {"optimizer.momentum": 0.9},
                "given": {"optimizer": {"name": "sgd", "learning_rate": 1.0}},
                "points": (Point("a", {"stepz": 1}),),
            },
            "^point 'a': config has no field 'stepz'",
        ),
        ({"scores": ("test/loss/cell",)}, "^scores: no 'test/loss/cell'"),
        (
            {"points": (Point("a", {RATE: 1, "optimizer": {"name": "sgd"}}),)},
            "^point 'a': optimizer comes after its part optimizer.learning_rate, and "
            "replaces it; put optimizer first",
        ),
        (
            {"points": (Point("a", {"steps": 1, "config.steps": 2}),)},
            "^point 'a': steps is set twice",
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


def test_equal_points_are_named(stub, config, tmp_path, capsys):
    equal = ("a", {RATE: 2.0}), ("b", {RATE: "2.0", "batch_size": 8}), ("c", {RATE: 3})
    sweep = make_sweep(points=tuple(Point(*each) for each in equal), seeds=(0, 1))
    run_sweep(sweep, config, tmp_path / "sweep")
    assert capsys.readouterr().out.count("warning: the points a, b have equal") == 1
    table = (tmp_path / "sweep/results.md").read_text()
    assert "best: c." in table


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


def test_numbers_of_numpy_are_numbers(config, tmp_path):
    values = {
        RATE: np.float32(0.5),
        "batch_size": np.int64(8),
        "crop": np.array([8, 8]),
    }
    plan = plan_sweep(make_sweep(points=(Point("a", values),)), config, tmp_path)
    texts = {RATE: "0.5", "batch_size": "8", "crop": "(8, 8)"}
    assert plan.runs[0].fields == texts


def test_each_end_of_a_search_is_checked_for_its_own_field(config, tmp_path):
    rate = {RATE: {"name": "uniform", "low": 0.1, "high": 1.0}}
    size = {"batch_size": {"name": "integer", "low": 0, "high": 8}}
    for space in (rate | size, size | rate):
        with pytest.raises(UserError, match=r"^space\(\)\['batch_size'\]: "):
            plan_sweep(make_sweep(points=(), space=space), config, tmp_path)


def test_classes_are_those_of_the_task_and_the_data_are_read_once(
    stub, config, tmp_path, monkeypatch
):
    reads, load = [], scores.load_splits
    monkeypatch.setattr(scores, "load_splits", lambda c: reads.append(c) or load(c))
    sweep = make_sweep(scores=("test/dice/cell",), seeds=(0, 1))
    stub.write_text(STUB.replace('"test/dice"', '"test/dice/cell"'))
    for _ in range(2):
        assert run_sweep(sweep, config, tmp_path / "sweep")[0] == 0
    assert len(reads) == 1  # the second start is of the same sweep
    given = {"task": {"name": "multilabel"}, "loss": ({"name": "dice"},)}
    other = make_sweep(scores=("test/dice/background",), given=given)
    with pytest.raises(UserError, match="no class 'background' of .*available: cell"):
        run_sweep(other, config, tmp_path / "other")
    assert len(reads) == 2
