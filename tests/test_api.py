"""The functions of `import unet_jax`, as a notebook calls them."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from ml_collections import ConfigDict
from PIL import Image

import unet_jax
from unet_jax.configs import isbi
from unet_jax.data import cells
from unet_jax.errors import UserError
from unet_jax.run import run_config, run_folder
from unet_jax.run.training_log import TrainingLog


@pytest.fixture
def workdir(trained, tmp_path):
    """A copy of the folder of a finished run."""
    return shutil.copytree(trained[1], tmp_path / "copy")


def test_a_config_is_loaded_by_name_path_or_run(trained, tmp_path):
    config = isbi.get_config().to_dict()
    assert unet_jax.load_config("isbi").to_dict() == config
    assert unet_jax.load_config(isbi.__file__).to_dict() == config
    saved = unet_jax.load_config(f"saved:{trained[1]}")
    assert saved.to_dict() == trained[0].to_dict()
    with pytest.raises(UserError, match="did you mean 'isbi'"):
        unet_jax.load_config("isby")
    (tmp_path / "empty.py").touch()
    with pytest.raises(UserError, match=r"empty.py has no function get_config\(\)"):
        unet_jax.load_config(tmp_path / "empty.py")
    (tmp_path / "dict.py").write_text("def get_config():\n    return {}\n")
    with pytest.raises(UserError, match=r"dict.py: get_config\(\) returned dict, not"):
        unet_jax.load_config(tmp_path / "dict.py")


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


@pytest.fixture
def images(tmp_path):
    """A folder of ten images with masks."""
    source = cells(shape=(32, 32), train=10).train
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for i in range(10):
        record = source.load(i)
        mask = record["label"].astype("uint8") * 255
        Image.fromarray(record["image"][..., 0]).save(tmp_path / f"images/{i}.png")
        Image.fromarray(mask).save(tmp_path / f"masks/{i}.png")
    return tmp_path


def load_folder_config(images):
    config = unet_jax.load_config("folder")
    config.data.root = str(images)
    config.model.widths = (2, 4)
    config.plan.seconds = 0.1
    return config


def test_an_inspection_plans_and_keeps_fields(images, capsys):
    config = load_folder_config(images)
    plan = unet_jax.inspect(config, images / "run", keep=["model.widths"])
    assert "no errors" in capsys.readouterr().out
    planned = unet_jax.load_config(plan)
    assert planned.model.widths == (2, 4)
    assert planned.crop == (32, 32)
    config.plan.seconds = 0.0
    assert unet_jax.inspect(config, images / "run") is None


def test_an_inspection_that_finds_errors_is_one(images, capsys):
    (images / "masks/3.png").unlink()
    with pytest.raises(
        UserError, match=r"the data have errors.*inspect\.html"
    ) as error:
        unet_jax.inspect(load_folder_config(images), images / "run")
    assert "\n" not in str(error.value)
    assert "3.png" in capsys.readouterr().out


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
    loaded = unet_jax.load_config(source, trust=True)
    assert loaded.to_dict() == tiny.to_dict()
