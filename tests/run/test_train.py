"""The modes `train` and `evaluate`: files, resuming, stopping and errors."""

import importlib
import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from unet_jax.build.training import build
from unet_jax.checkpoint import Checkpoints, checkpoint_files
from unet_jax.errors import UserError
from unet_jax.run import evaluate, run_config, run_folder, train, validation
from unet_jax.run.training_log import TrainingLog


def read_metrics(workdir):
    """Returns the lines of metrics.jsonl without the times."""
    rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    timed = "train/images_per_second", "seconds", "first_step_seconds"
    return [{k: v for k, v in row.items() if k not in timed} for row in rows]


def final_state(config, workdir):
    state = restored_state(config, workdir)
    assert state.step == config.steps
    return state


def restored_state(config, workdir):
    parts = build(config)
    with Checkpoints(workdir, "val/dice") as checkpoints:
        like = parts.layout.abstract(jax.eval_shape(parts.init, jax.random.key(0)))
        variables = parts.evaluation.method.variables
        step, state = checkpoints.restore(like, variables)
    assert state.step == step
    return jax.device_get(state)


@pytest.mark.slow
def test_a_stopped_run_resumes_exactly(
    tiny, tmp_path, monkeypatch, capsys, read_scores
):
    """4 steps equal 2 steps, a signal and 2 more: parameters and log, to the bit."""
    tiny.data.train = 5  # stops within an epoch
    tiny.eval_every = tiny.log_every = 3  # and between two lines of the log
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    train(tiny, straight)
    assert sorted(p.name for p in straight.iterdir() if "events" not in p.name) == [
        ".lock",
        "checkpoints",
        "config.json",
        "metrics.jsonl",
        "predictions.png",
        "report.html",
        "scores.json",
    ]

    def kill_at_2(self, step):
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    tiny.checkpoint_every = 100
    with monkeypatch.context() as patch:
        patch.setattr(TrainingLog, "advance", kill_at_2)
        assert train(tiny, broken) == 128 + signal.SIGTERM
    assert "stopped at step 2" in capsys.readouterr().out
    assert not (broken / "scores.json").exists()
    # a crash may also leave lines after the checkpoint, and a truncated last line
    with (broken / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "train/loss": 9}\n{"step": 4, "tra')
    train(tiny, broken)
    assert "resuming at step 2" in capsys.readouterr().out

    assert read_metrics(broken) == read_metrics(straight)
    a, b = final_state(tiny, straight), final_state(tiny, broken)
    assert a.step == 4
    jax.tree.map(np.testing.assert_array_equal, a, b)
    before = read_scores(straight)
    assert read_scores(broken) == before

    evaluate(tiny, straight)
    assert read_scores(straight) == before
    train(tiny, straight)
    assert "is finished" in capsys.readouterr().out
    assert read_scores(straight) == before
    assert len(read_metrics(straight)) == 4

    tiny.steps = 5
    train(tiny, straight)
    assert "steps: 4 before; the schedule now ends at step 5" in capsys.readouterr().out
    assert json.loads((straight / "config.json").read_text())["steps"] == 5


@pytest.mark.slow
def test_a_workdir_of_another_run_is_refused_and_the_fields_are_named(tiny, tmp_path):
    train(tiny, tmp_path)
    tiny.model.widths = (2, 8)
    tiny.optimizer.learning_rate = 0.5
    with pytest.raises(UserError) as error:
        train(tiny, tmp_path)
    line = str(error.value)
    assert "model.widths is [2, 4] in the folder and [2, 8] in this config" in line
    assert "learning_rate is 0.001 in the folder and 0.5 in this config" in line
    assert "steps" not in line
    assert json.loads((tmp_path / "config.json").read_text())["model"]["widths"] == [
        2,
        4,
    ]


@pytest.mark.slow
def test_a_run_that_failed_before_its_first_checkpoint_may_start_again(tiny, tmp_path):
    rate, tiny.optimizer.learning_rate = tiny.optimizer.learning_rate, 1e38
    tiny.model.norm = "none"
    tiny.max_bad_steps = 1
    with pytest.raises(UserError, match="learning_rate.*no checkpoint has been saved"):
        train(tiny, tmp_path)
    tiny.optimizer.learning_rate = rate
    train(tiny, tmp_path)


@pytest.mark.slow
def test_a_run_without_config_json_uses_that_of_its_checkpoint(tiny, tmp_path):
    train(tiny, tmp_path)
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text[:50])
    assert run_config.read_config(tmp_path) == json.loads(text)
    (tmp_path / "config.json").unlink()
    assert run_config.read_config(tmp_path) == json.loads(text)
    tiny.model.widths = (2, 8)
    with pytest.raises(UserError, match="widths is .2, 4. in the folder and .2, 8. in"):
        evaluate(tiny, tmp_path)
    with pytest.raises(UserError, match="nowhere does not exist"):
        run_config.read_config(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.slow
def test_a_run_that_is_older_than_a_field_resumes(tiny, tmp_path, capsys):
    train(tiny, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["cache"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    for path in tmp_path.glob("checkpoints/*/_CHECKPOINT_METADATA"):
        content = json.loads(path.read_text())
        about = content["custom_metadata"]
        del about["config"]["cache"]
        about["checksums"]["metadata"] = checkpoint_files._checksum_metadata(about)
        path.write_text(json.dumps(content))
    evaluate(tiny, tmp_path)
    assert "cache: the run is older than this field" in capsys.readouterr().out


@pytest.mark.slow
def test_a_folder_that_is_removed_during_the_run_is_one_line(
    tiny, tmp_path, monkeypatch
):
    def remove_at_3(self, step):
        if step == 3:
            (tmp_path / "run").rename(tmp_path / "moved")

    tiny.checkpoint_every = 1
    monkeypatch.setattr(TrainingLog, "advance", remove_at_3)
    with pytest.raises(UserError, match="run was removed or emptied during the run"):
        train(tiny, tmp_path / "run")


def test_files_that_are_no_run_are_not_overwritten(tiny, tmp_path):
    (tmp_path / "config.json").write_text('{"mine": 1}')
    with pytest.raises(UserError, match="config.json is not the config of a run"):
        train(tiny, tmp_path)
    (tmp_path / "config.json").unlink()
    (tmp_path / "scores.json").write_text("{}")
    with pytest.raises(UserError, match="scores of a run without its checkpoints"):
        train(tiny, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scores.json"]


def test_an_interrupted_save_is_not_a_checkpoint(tiny, tmp_path):
    (tmp_path / "checkpoints/2.orbax-checkpoint-tmp").mkdir(parents=True)
    (tmp_path / "config.json").write_text('{"checkpoint_every": 2}')
    run_folder.create_or_check(tmp_path, tiny)


def test_a_folder_that_cannot_be_created_is_named(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--workdir=.*file/run: Not a directory"):
        train(tiny, tmp_path / "file/run")


def test_evaluate_needs_a_checkpoint(tiny, tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        evaluate(tiny, tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.slow
def test_a_signal_in_the_last_evaluation_stops_the_run(tiny, tmp_path, monkeypatch):
    whole = validation.score_split

    def score_split(parts, variables, split, *arguments, **options):
        if split == "val":
            signal.raise_signal(signal.SIGTERM)
        return whole(parts, variables, split, *arguments, **options)

    monkeypatch.setattr(validation, "score_split", score_split)
    tiny.steps = tiny.eval_every = 2
    assert train(tiny, tmp_path) == 128 + signal.SIGTERM
    assert not (tmp_path / "scores.json").exists()
    assert train(tiny, tmp_path) == 0
    assert (tmp_path / "scores.json").exists()


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run(tiny, tmp_path, capsys):
    tiny.optimizer = ConfigDict({"name": "sgd", "learning_rate": 1e15, "clip": 0.0})
    tiny.model.norm = "none"
    tiny.schedule = ConfigDict({"name": "constant"})
    tiny.max_bad_steps, tiny.checkpoint_every = 3, 1
    with pytest.raises(UserError) as error:
        train(tiny, tmp_path)
    line = str(error.value)
    assert "At step 4, with the images train-000" in line
    assert "the first layer whose output is not finite is " in line
    assert "config.optimizer.learning_rate" in line
    assert "the checkpoint of step 3 is finite" in line
    leaves = jax.tree.leaves(restored_state(tiny, tmp_path))
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    printed = capsys.readouterr().out
    assert "warning: skipped step 2; not finite: grad_norm, loss" in printed
    assert "warning: step 2: the prediction is not finite" in printed
    assert "this checkpoint is the best only if no other has a score" in printed
    with pytest.raises(UserError, match="the prediction is not finite"):
        evaluate(tiny, tmp_path)  # the parameters are finite, but useless
    assert not (tmp_path / "scores.json").exists()


def test_a_folder_in_use_is_refused_before_the_data_are_read(
    tiny, tmp_path, monkeypatch
):
    tiny.data.name = "missing"
    with run_folder.lock(tmp_path), pytest.raises(UserError, match="is in use"):
        train(tiny, tmp_path)
    del tiny.data.name
    tiny.data.name = "cells"
    monkeypatch.setattr(run_folder, "check_unlocked", lambda _: None)
    with run_folder.lock(tmp_path), pytest.raises(UserError, match="is in use"):
        train(tiny, tmp_path)  # both have started at the same time
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.slow
def test_volumes_train_like_images(tiny, tmp_path):
    tiny.data.shape = (16, 12, 20)
    tiny.crop = (8, 8, 8)
    tiny.augment = (ConfigDict({"name": "elastic"}), ConfigDict({"name": "flip"}))
    train(tiny, tmp_path)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert 0 <= scores["test/dice"] <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"task": ConfigDict({"name": "multilabel"})},
        {"parallel": ConfigDict({"name": "mesh", "space": 4})},
        {"model": ConfigDict({"name": "UNet", "widths": (2, 4)}), "crop": (44, 44)},
    ],
    ids=["multilabel", "mesh", "valid"],
)
def test_other_configs_train_to_the_end(tiny, tmp_path, change):
    tiny.update(change)
    tiny.ema = 0.5
    train(tiny, tmp_path)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["step"] in (2, 4)
    assert scores["images"] == 3
    assert (tmp_path / scores["checkpoint"]).is_dir()
    shutil.rmtree(tmp_path)


@pytest.mark.slow
def test_metrics_may_change_but_not_the_one_that_selects_checkpoints(tiny, tmp_path):
    """The best checkpoint stays the best by the first metric of the original config."""
    tiny.metrics = (ConfigDict({"name": "recall"}), ConfigDict({"name": "dice"}))
    train(tiny, tmp_path)
    best = json.loads((tmp_path / "scores.json").read_text())["step"]
    before = (tmp_path / "config.json").read_text()
    tiny.metrics = (ConfigDict({"name": "v_rand"}), ConfigDict({"name": "dice"}))
    for verb in (evaluate, train):
        verb(tiny, tmp_path)
        scores = json.loads((tmp_path / "scores.json").read_text())
        assert scores["step"] == best
        assert "test/v_rand" in scores
    assert (tmp_path / "config.json").read_text() == before
    tiny.steps = 6
    with pytest.raises(UserError, match="config.metrics has no recall, by which"):
        train(tiny, tmp_path)
    tiny.metrics += (ConfigDict({"name": "recall"}),)
    train(tiny, tmp_path)
    with Checkpoints(tmp_path, "val/recall") as checkpoints:
        assert {best, 4, 6} >= {checkpoints.best}
        about = checkpoints.load_metadata(6)
    assert about["chosen_by"] == "val/recall"


def test_the_report_shows_the_run(trained):
    config, workdir = trained
    page = (workdir / "report.html").read_text()
    scores = json.loads((workdir / "scores.json").read_text())
    assert f"{scores['test/dice']:.4f}" in page
    for image in scores["per_image"]:  # three: the best, the median, the worst
        assert image["id"] in page
    assert page.count("data:image/png;base64,") == 3 * 5
    assert sum(map(sum, scores["confusion"])) == 3 * 20 * 24
    assert sum(scores["reliability"]["count"]) == 3 * 20 * 24
    assert scores["reductions"]["dice"] == "over all pixels"
    assert set(scores["reductions"]) == {metric["name"] for metric in config.metrics}


def test_a_step_that_needs_too_much_memory_is_one_line(tiny, tmp_path, monkeypatch):
    def fail(error):
        def init(*_):
            raise error

        module = importlib.import_module("unet_jax.run.train")
        monkeypatch.setattr(module, "create_initial_state", init)
        train(tiny, tmp_path)

    for error in (
        MemoryError("Unable to allocate 1 PiB"),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"),
    ):
        with pytest.raises(UserError, match="needs more memory .* config.batch_size"):
            fail(error)
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        fail(jax.errors.JaxRuntimeError("INTERNAL: a bug"))
