"""The functions of `import unet_jax`, as a notebook calls them."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from ml_collections import ConfigDict

import unet_jax
from unet_jax.configs import isbi
from unet_jax.errors import UserError
from unet_jax.run import run_config, run_folder
from unet_jax.run.training_log import TrainingLog


@pytest.fixture
def workdir(trained, tmp_path):
    """A copy of the folder of a finished run."""
    return shutil.copytree(trained[1], tmp_path / "copy")


def test_a_config_is_loaded_by_name_path_or_run(trained, tmp_path):
    assert unet_jax.load_config("isbi") == isbi.get_config()
    assert unet_jax.load_config(isbi.__file__) == isbi.get_config()
    assert unet_jax.load_config(f"saved:{trained[1]}") == trained[0]
    with pytest.raises(UserError, match="did you mean 'isbi'"):
        unet_jax.load_config("isby")
    (tmp_path / "empty.py").touch()
    with pytest.raises(UserError, match=r"empty.py has no function get_config\(\)"):
        unet_jax.load_config(tmp_path / "empty.py")


def test_train_returns_the_scores_of_the_test_split(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.steps = 2
    scores = unet_jax.train(tiny)
    written = json.loads((tmp_path / "runs/tiny/scores.json").read_text())
    assert scores == {k: v for k, v in written.items() if k.startswith("test/")}
    assert {"test/dice", "test/dice/cell"} <= scores.keys()


def test_a_mistake_is_an_exception(tiny, tmp_path):
    tiny.steps = 0
    with pytest.raises(UserError, match="config.steps"):
        unet_jax.train(tiny, tmp_path)
    with pytest.raises(UserError, match="config"):
        unet_jax.train("no such config")
    with pytest.raises(UserError, match="no finished checkpoint"):
        unet_jax.evaluate(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "error"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)],
)
def test_an_interrupted_run_is_saved(tiny, tmp_path, monkeypatch, number, error):
    monkeypatch.setattr(
        TrainingLog, "advance", lambda log, step: os.kill(os.getpid(), number)
    )
    with pytest.raises(error) as stop:
        unet_jax.train(tiny, str(tmp_path))
    assert (tmp_path / "checkpoints/1").is_dir()
    assert error is not SystemExit or stop.value.code == 128 + number


def test_evaluate_needs_the_folder_alone(trained, workdir):
    before = json.loads((workdir / "scores.json").read_text())
    scores = unet_jax.evaluate(workdir)
    assert scores == {k: v for k, v in before.items() if k.startswith("test/")}


def test_evaluate_with_other_options(workdir):
    metrics = ["dice", {"name": "surface_dice", "tolerance": 2.0}]
    scores = unet_jax.evaluate(str(workdir), metrics=metrics, tta="flips")
    names = {"/".join(name.split("/")[:2]) for name in scores}
    assert {"test/dice", "test/surface_dice"} <= names
    assert "test/iou" not in names
    written = json.loads((workdir / "scores.json").read_text())
    assert written["predict"]["tta"] == "flips"
    with pytest.raises(
        UserError, match="config.predict.*'tti'.*did you mean --config.predict.tta"
    ):
        unet_jax.evaluate(workdir, tti="flips")
    with pytest.raises(UserError, match="config.predict.tile"):
        unet_jax.evaluate(workdir, tile="large")


def test_evaluate_runs_no_code_without_trust(workdir):
    path = workdir / run_config.CONFIG
    config = json.loads(path.read_text()) | {"metrics": [{"name": "stranger:dice"}]}
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match="trust=True"):
        unet_jax.evaluate(workdir)


def test_nothing_is_imported_before_it_is_used():
    code = "import sys, unet_jax; dir(unet_jax); print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n"
    for name in unet_jax.__all__:
        assert name in dir(unet_jax)
        assert callable(getattr(unet_jax, name))
    with pytest.raises(AttributeError, match="nothing"):
        unet_jax.nothing  # noqa: B018


def test_a_run_folder_runs_no_code_without_trust(theirs, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.loss = (ConfigDict({"name": "theirs.losses:focal"}),)
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    run_folder.write_json(stranger / "config.json", run_config.config_to_json(tiny))
    source = f"saved:{stranger}"
    for call in (unet_jax.load_config, unet_jax.train):
        with pytest.raises(UserError, match="'theirs.losses:focal', code from outside"):
            call(source)
    assert "theirs.losses" not in sys.modules
    assert unet_jax.load_config(source, trust=True) == tiny
