"""The evaluation of several runs as one."""

import json
import shutil

import jax
import msgspec
import numpy as np
import pytest

import unet_jax
from unet_jax.build.training import build
from unet_jax.errors import UserError
from unet_jax.run import evaluate, train
from unet_jax.run.ensemble import (
    SHARED_PREPROCESSING,
    Member,
    check_member,
    find_leaks,
)
from unet_jax.run.scoring import score_images


@pytest.fixture(scope="module")
def runs(trained, tmp_path_factory):
    """The config and the folders of two runs with different parameters."""
    config, folder = trained
    root = tmp_path_factory.mktemp("runs")
    first = shutil.copytree(folder, root / "first")
    other = config.copy_and_resolve_references()
    other.seed = 1
    train(other, root / "second")
    return config, first, root / "second"


def test_the_scores_are_those_of_the_mean_of_the_predictions(tiny):
    """Without the code that averages: by the probabilities of each member."""
    parts = build(tiny)
    select, evaluation = parts.evaluation.method.variables, parts.evaluation
    members = [select(parts.init(jax.random.key(seed))) for seed in (1, 2)]
    both = score_images(evaluation, members, "test", evaluation.test, as_predicted=True)
    right = total = 0
    for i in range(len(evaluation.test)):
        example = evaluation.test[i]
        logits = [parts.model.apply(v, example["image"][None])[0] for v in members]
        mean = sum(np.asarray(jax.nn.softmax(x)) for x in logits) / 2
        right += (mean.argmax(-1) == example["label"]).sum()
        total += example["label"].size
    assert both.scores["test/accuracy"] == pytest.approx(right / total, abs=1e-6)
    alone = [
        score_images(evaluation, [v], "test", evaluation.test, as_predicted=True)
        for v in members
    ]
    assert all(e.scores["test/brier"] != both.scores["test/brier"] for e in alone)
    # the square of the mean is at most the mean of the squares
    assert both.scores["test/brier"] < np.mean([e.scores["test/brier"] for e in alone])
    assert both.scores["test/loss"] is None  # not that of one member
    assert alone[0].scores["test/loss"] > 0


@pytest.mark.slow
def test_an_ensemble_has_results_of_its_own(runs, capsys):
    config, first, second = runs
    before = {p.name: p.read_bytes() for p in first.iterdir() if p.is_file()}
    assert evaluate(config, first, ensemble=[str(second)]) == 0
    shown = capsys.readouterr().out
    assert "3 test images, ensemble of 2 runs" in shown
    assert "scores-ensemble.json, report-ensemble.html, predictions-ensemble" in shown
    assert "warning" not in shown
    after = {p.name: p.read_bytes() for p in first.iterdir() if p.is_file()}
    assert {n: b for n, b in after.items() if n in before} == before
    assert set(after) - set(before) == {
        "scores-ensemble.json",
        "report-ensemble.html",
        "predictions-ensemble.png",
    }
    content = json.loads(after["scores-ensemble.json"])
    steps = [json.loads((run / "scores.json").read_text())["step"] for run in runs[1:]]
    assert content["ensemble"] == [
        {"run": str(run), "step": step}
        for run, step in zip(runs[1:], steps, strict=True)
    ]
    assert content["warnings"] == []
    assert f"{first}, {second}" in after["report-ensemble.html"].decode()
    scores = unet_jax.evaluate(first, ensemble=[second])
    assert scores == {k: v for k, v in content.items() if k.startswith("test/")}


@pytest.mark.slow
def test_runs_that_do_not_fit_are_refused(runs, tiny, tmp_path):
    config, first, second = runs
    with pytest.raises(UserError, match="second is in the ensemble twice"):
        evaluate(config, first, ensemble=[str(second), f"{second}/../second"])
    with pytest.raises(UserError, match="first is in the ensemble twice"):
        evaluate(config, first, ensemble=[str(first)])
    with pytest.raises(UserError, match="nowhere does not exist"):
        evaluate(config, first, ensemble=[str(tmp_path / "nowhere")])
    tiny.normalize.name = "unit"
    tiny.steps = 2
    train(tiny, tmp_path / "unit")
    with pytest.raises(UserError, match="unit does not fit the first run: normali"):
        evaluate(config, first, ensemble=[str(tmp_path / "unit")])


@pytest.mark.parametrize("name", ["classes", "channels", "normalize", "model"])
def test_what_does_not_fit_is_named_with_both_values(name, tmp_path):
    first = {
        "preprocessing": dict.fromkeys(SHARED_PREPROCESSING, ["a", "b"]),
        "config": {"model": ["a", "b"], "task": "t"},
    }
    part = "preprocessing" if name in SHARED_PREPROCESSING else "config"
    other = first | {part: first[part] | {name: ["a", "c"]}}
    check_member(tmp_path, first, first)
    with pytest.raises(UserError) as raised:
        check_member(tmp_path, other, first)
    assert str(raised.value) == (
        f'{tmp_path} does not fit the first run: {name} is ["a", "c"], and ["a", "b"] '
        "in the first run; leave it out of the ensemble"
    )


def test_members_may_have_other_scales_of_their_targets(tmp_path):
    first, other, without = (
        {"preprocessing": {"target_scale": scale}, "config": {}}
        for scale in ([[0.0], [1.0]], [[5.0], [2.0]], [])
    )
    check_member(tmp_path, other, first)
    with pytest.raises(UserError, match="length of target_scale is 0, and 2 in the"):
        check_member(tmp_path, without, first)


def make_member(folder, data, split=None):
    folder.mkdir()
    if split is not None:
        (folder / "split.json").write_bytes(split)
    return Member(folder, 1, {"config": {"data": data}}, None)


FOLDER = {"name": "folder", "root": "a", "seed": 0}


def test_a_member_that_has_trained_on_test_images_is_named(tmp_path):
    split = msgspec.json.encode({"train": ["a", "c", "x"], "val": ["b"], "test": ["d"]})
    member = make_member(tmp_path / "run", FOLDER | {"root": "moved"}, split)
    first = {"config": {"data": FOLDER}}
    assert find_leaks(first, member, ["c", "b", "a"]) == (
        f"{tmp_path}/run has trained on 2 of these 3 test images (a, c), so the scores "
        "are too good; leave it out of the ensemble"
    )
    assert find_leaks(first, member, ["d", "b"]) is None


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"train": [1]}', b'{"train": "abc"}', b"\xff"]
)
def test_a_split_that_cannot_be_read_is_said(tmp_path, content):
    member = make_member(tmp_path / "run", FOLDER, content)
    warning = find_leaks({"config": {"data": FOLDER}}, member, ["a"])
    assert "run/split.json is not valid" in warning
    assert "may have trained" in warning


def test_without_a_split_the_data_sets_must_be_the_same(tmp_path):
    public = {"name": "isbi2012", "fold": 0, "manual_dir": "a"}
    first = {"config": {"data": public}}
    same = make_member(tmp_path / "same", public | {"manual_dir": "b"})
    assert find_leaks(first, same, ["0"]) is None
    other = make_member(tmp_path / "other", public | {"fold": 1})
    assert find_leaks(first, other, ["0"]) == (
        f"{tmp_path}/other may have trained on some of these test images: "
        "data.fold differs from the first run"
    )
    other = make_member(tmp_path / "third", public | {"fold": 1, "folds": 4})
    warning = find_leaks(first, other, ["0"])
    assert warning.endswith("data.fold, data.folds differ from the first run")
