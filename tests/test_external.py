"""Functions from another package: training, resuming, evaluation and prediction."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ml_collections import ConfigDict
from PIL import Image

import unet_jax
from unet_jax.build.prediction import build_prediction
from unet_jax.checkpoint import load_newest_metadata
from unet_jax.data import cells
from unet_jax.errors import UserError
from unet_jax.run import evaluate, predict, train
from unet_jax.run.training_log import TrainingLog

LAB = """
import functools
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from unet_jax import methods, metrics, tasks
from unet_jax.arrays import Segmentation
from unet_jax.build.prediction import build_prediction
from unet_jax.checkpoint import load_newest_metadata
from unet_jax.data import cells
from unet_jax.geometry import Geometry
from unet_jax.metrics.metric import Metric, Score
from unet_jax.specs import Count, Positive


class Pixelwise(nn.Module):
    '''A network that sees one pixel at a time.'''

    width: Count = 4
    outputs: int = 2
    dtype: type = jnp.float32
    axis_name: str | None = None

    def fault(self):
        return None

    def geometry(self, axes):
        ones = (1,) * axes
        return Geometry(
            strides=(ones,), margin=(0,) * axes, halo=(0,) * axes,
            valid_shape=lambda shape: tuple(shape), strict=False,
        )

    @nn.compact
    def __call__(self, image, *, train=False, seed=None):
        x = nn.relu(nn.Dense(self.width)(image))
        return nn.Dense(self.outputs)(x)


def graded(data, *, slack: Positive = 1.0):
    '''Cells by one logit with a temperature, scored as two classes.'''
    def label(batch):
        return {"label": (batch["label"] > 0).astype(jnp.int32)[..., None]}

    base = tasks.multilabel(data)
    return base._replace(
        targets=label,
        prepare=lambda example: example,
        activate=lambda output: jax.nn.sigmoid(output / slack),
        truth=lambda label: (label > 0).astype("i4")[..., None],
    )


def squared(logits, label, weight, *, power: Positive = 2.0):
    p = jax.nn.sigmoid(logits)
    return (jnp.abs(p - label) ** power).mean(tuple(range(1, p.ndim)))


def counted(parts):
    '''Supervised learning that counts its examples.'''
    base = methods.supervised(parts)

    def init(key, image, variables):
        return base.init(key, image, variables)._replace(
            extra={"seen": jnp.zeros((), jnp.int32)})

    def update(state, batch, key, axis_name=None):
        new, scalars = base.update(state, batch, key, axis_name)
        seen = jnp.asarray(len(batch["seed"]))
        if axis_name:
            seen = jax.lax.psum(seen, axis_name)
        seen = state.extra["seen"] + seen
        return new._replace(extra={"seen": seen}), scalars | {"seen": seen * 1.0}

    return base._replace(init=init, update=update)


def discs(*, edge: Count = 20):
    return cells(shape=(edge, edge + 4), train=3, val=2, test=3)


def cover():
    '''The share of the pixels that are predicted to be foreground.'''
    def measure(case):
        return np.array([(case.prediction > 0).sum(), case.prediction.size])
    return Metric(measure, lambda s: Score(s[0] / s[1]), "over all pixels")
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """Yields the folder of an external module that can be imported as `lab`."""
    package = tmp_path / "path"
    package.mkdir()
    (package / "lab.py").write_text(LAB)
    monkeypatch.syspath_prepend(package)
    yield package
    sys.modules.pop("lab", None)


def use_lab(config):
    """Sets the fields of a config to functions of `lab`."""
    config.model = ConfigDict({"name": "lab:Pixelwise", "width": 3})
    config.task = ConfigDict({"name": "lab:graded", "slack": 0.5})
    config.method = ConfigDict({"name": "lab:counted"})
    config.data = ConfigDict({"name": "lab:discs", "edge": 20})
    config.loss = (ConfigDict({"name": "lab:squared", "power": 1.5}),)
    config.metrics = tuple(
        ConfigDict({"name": name}) for name in ("lab:cover", "dice", "f1")
    )
    return config


def test_onnxruntime_refuses_a_network_of_another_package(lab, trained):
    config = trained[0].copy_and_resolve_references()
    config.predict.runtime = "onnxruntime"
    config.model = ConfigDict({"name": "lab:Pixelwise", "width": 3})
    preprocessing = load_newest_metadata(trained[1])["preprocessing"]
    words = "computes the network UNet only, not 'lab:Pixelwise'; set it to 'xla'"
    with pytest.raises(UserError, match=f"^config.predict.runtime=.* {words}$"):
        build_prediction(config, preprocessing)
    assert build_prediction(config, preprocessing, training=True)


@pytest.mark.slow
def test_functions_of_another_package_work_from_training_to_prediction(
    lab, tiny, tmp_path, monkeypatch, capsys, read_scores
):
    config, straight, broken = use_lab(tiny), tmp_path / "one", tmp_path / "two"
    train(config, straight)
    advance = TrainingLog.advance

    def kill_at_2(self, step):
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        advance(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLog, "advance", kill_at_2)
        assert train(config, broken) == 128 + signal.SIGTERM
    train(config, broken)
    assert "resuming at step 2" in capsys.readouterr().out
    scores = read_scores(straight)
    assert read_scores(broken) == scores
    rows = [json.loads(x) for x in (broken / "metrics.jsonl").read_text().splitlines()]
    seen = [row["train/seen"] for row in rows if "train/seen" in row]
    assert seen == [8, 16, 24, 32]
    assert set(json.loads((broken / "config.json").read_text())["external"]) == {
        *("lab:Pixelwise", "lab:graded", "lab:counted", "lab:discs"),
        *("lab:squared", "lab:cover"),
    }

    evaluate(config, broken)
    assert read_scores(broken) == scores
    assert "test/cover" in scores

    image = cells(shape=(20, 24), train=3, val=2, test=3).test.load(0)["image"]
    with pytest.raises(UserError, match=r"config.data.name .*'lab:discs', code from"):
        unet_jax.Predictor.load(broken)
    predictor = unet_jax.Predictor.load(broken, trust=True)
    assert predictor.probabilities(image).shape == (20, 24, 1)
    (tmp_path / "in").mkdir()
    Image.fromarray(image[..., 0]).save(tmp_path / "in/a.png")
    out = tmp_path / "out"
    assert predict(config, broken, input=str(tmp_path / "in"), output=str(out)) == 0
    assert (out / "a_overlay.png").exists()


@pytest.mark.slow
def test_a_run_folder_executes_nothing_without_trust(lab, tiny, tmp_path):
    """From the command line, with the run folder of another user."""
    train(use_lab(tiny), tmp_path / "run")
    (lab / "lab.py").write_text("open('was_here', 'w').close()\n" + LAB)
    main = Path(__file__).parents[1] / "main.py"
    environment = os.environ | {"PYTHONPATH": str(lab)}

    def run(*flags):
        command = [sys.executable, str(main), f"--workdir={tmp_path / 'run'}", *flags]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    for flags in (
        ["--mode=evaluate"],
        [],
        ["--mode=predict", "--input=x", "--output=y"],
    ):
        done = run(*flags)
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert "--trust" in done.stderr
    assert not (tmp_path / "was_here").exists()
    assert run("--mode=evaluate", "--trust").returncode == 0
    assert (tmp_path / "was_here").exists()
