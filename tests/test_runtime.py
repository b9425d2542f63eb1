"""Prediction with onnxruntime, against prediction with XLA."""

import json
import shutil
import sys

import jax
import numpy as np
import pytest

import unet_jax
from unet_jax import runtime
from unet_jax.build.prediction import build_prediction
from unet_jax.checkpoint import load_newest_metadata
from unet_jax.data import cells
from unet_jax.errors import UserError
from unet_jax.run.evaluate import evaluate

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture
def run(trained, tmp_path):
    """The config of a trained run, and a copy of its folder."""
    shutil.copytree(trained[1], tmp_path / "run")
    return trained[0], tmp_path / "run"


@pytest.fixture(scope="module")
def image():
    return cells(shape=(20, 24), train=3, val=2, test=3).test.load(0)["image"]


def load(folder, *others, **options):
    return unet_jax.Predictor.load(folder, *others, runtime="onnxruntime", **options)


def test_onnxruntime_predicts_what_xla_predicts(run, image):
    """Of tiles, of views, and of an ensemble."""
    _, folder = run
    twin = shutil.copytree(folder, folder.with_name("twin"))
    for others, options in [((), {}), ((twin,), {"tta": "d4", "tile": (24, 20)})]:
        expected = unet_jax.Predictor.load(folder, *others, **options)
        got = load(folder, *others, **options)
        np.testing.assert_allclose(
            got.probabilities(image), expected.probabilities(image), atol=1e-4
        )
        np.testing.assert_allclose(
            got.uncertainty(image), expected.uncertainty(image), atol=1e-4
        )


def count_checks(monkeypatch):
    checks = []
    check = runtime.OnnxNetwork._check
    monkeypatch.setattr(
        runtime.OnnxNetwork, "_check", lambda *a: checks.append(1) or check(*a)
    )
    return checks


def test_the_first_image_of_each_network_is_checked_once(run, image, monkeypatch):
    checks = count_checks(monkeypatch)
    predictor = load(run[1])
    for _ in range(2):
        predictor.labels(image)
    assert len(checks) == 1
    assert (run[1] / "network.onnx").exists()
    load(run[1]).labels(image)  # the graph in the folder was checked
    assert len(checks) == 1


def test_the_first_prediction_equals_the_next_ones(run, image):
    """The first one is compared with XLA, and not replaced by it."""
    first, second = (load(run[1]).probabilities(image) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_the_graph_of_a_stranger_is_not_used(run, image, monkeypatch):
    path = run[1] / "network.onnx"
    expected = load(run[1]).probabilities(image)
    own = path.read_bytes()
    checks = count_checks(monkeypatch)
    for stranger in (b"", b"\0" * len(own), own[:-4] + b"\1\2\3\4"):
        path.write_bytes(stranger)
        np.testing.assert_array_equal(load(run[1]).probabilities(image), expected)
        assert path.read_bytes() == own
    assert len(checks) == 3


def test_a_folder_that_cannot_be_written_is_no_obstacle(run, image, capsys):
    (run[1] / "network.onnx").mkdir()
    predictor = load(run[1])
    for _ in range(2):
        predictor.labels(image)
    assert capsys.readouterr().out.count("network.onnx cannot be written") == 1


def test_a_difference_is_refused(run, image, monkeypatch):
    compute = runtime.OnnxNetwork._compute
    monkeypatch.setattr(
        runtime.OnnxNetwork, "_compute", lambda *a: compute(*a) + np.float32(0.01)
    )
    with pytest.raises(UserError) as error:
        load(run[1]).labels(image)
    text = str(error.value)
    assert text.startswith("config.predict.runtime='onnxruntime': the output for the")
    assert "by 0.01, more than the 0.00" in text
    assert "'xla'" in text
    assert not (run[1] / "network.onnx").exists()


def test_memory_that_is_short_is_an_error_of_the_devices(run, image, monkeypatch):
    """So the prediction goes on with smaller tiles."""
    predictor = load(run[1])
    member = predictor.members[0]
    session, sizes = member._session, []

    class Short:
        def run(self, names, inputs):
            sizes.append(inputs["image"].size)
            if len(sizes) == 1:
                raise RuntimeError("Failed to allocate memory for requested buffer")
            return session.run(names, inputs)

    member._session = Short()
    expected = unet_jax.Predictor.load(run[1]).probabilities(image)
    np.testing.assert_allclose(predictor.probabilities(image), expected, atol=1e-4)
    assert max(sizes[1:]) < sizes[0]


def test_a_run_of_bfloat16_is_predicted_in_float32(run, image, capsys):
    """On a CPU, which computes bfloat16 more slowly, and with either runtime."""
    config, folder = run
    expected = unet_jax.Predictor.load(folder).probabilities(image)
    config = config.copy_and_resolve_references()
    config.precision = "bfloat16"
    got = unet_jax.run.predictor.Predictor.from_config(config, [folder])
    np.testing.assert_array_equal(got.probabilities(image), expected)
    line = "config.precision='bfloat16': computed in float32, which is faster on CPUs"
    assert capsys.readouterr().out.count(line) == 1


def test_a_missing_package_is_named(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="onnxruntime.*pip install 'unet_jax.cpu.'"):
        load(run[1])


def test_another_backend_is_refused(run, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with pytest.raises(UserError, match="computes on the CPU, and JAX uses the gpu"):
        load(run[1])


def test_a_generator_is_refused(run):
    config = run[0].copy_and_resolve_references()
    config.predict.runtime = "onnxruntime"
    saved = load_newest_metadata(run[1])["preprocessing"]
    words = "runtime='onnxruntime' is for networks that predict, and this run is a gen"
    with pytest.raises(UserError, match=f"^config.predict.{words}.*; set it to 'xla'$"):
        build_prediction(config, saved | {"samples": True})


def test_a_wrong_name_is_refused(run):
    with pytest.raises(UserError, match="config.predict.runtime.*'xla' or 'onnxrunt"):
        unet_jax.Predictor.load(run[1], runtime="onnx")


@pytest.mark.slow
def test_the_scores_are_those_of_xla(run):
    config, folder = run
    config = config.copy_and_resolve_references()
    assert evaluate(config, folder) == 0
    expected = json.loads((folder / "scores.json").read_text())
    config.predict.runtime = "onnxruntime"
    assert evaluate(config, folder) == 0
    got = json.loads((folder / "scores.json").read_text())
    assert got["predict"]["runtime"] == "onnxruntime"
    for name in ("test/loss", "test/dice", "test/iou"):
        assert got[name] == pytest.approx(expected[name], abs=1e-4)
