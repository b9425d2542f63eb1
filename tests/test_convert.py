"""`python -m unet_jax.convert`: a checkpoint becomes a run that predicts."""

import sys

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from tests.pytorch.test_recognition import describe_milesial
from tests.run.test_weights import write_weights
from unet_jax import convert
from unet_jax.errors import UserError
from unet_jax.pytorch.resnet import describe
from unet_jax.run import evaluate, run_config
from unet_jax.run.conversion import convert_weights
from unet_jax.run.predictor import Predictor


def run_command(monkeypatch, *arguments):
    """Returns the exit code and the error of the command in this process."""
    monkeypatch.setattr(sys, "argv", ["convert", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        convert.main()
    return caught.value.code


@pytest.fixture(autouse=True)
def _stay(monkeypatch):
    """Keeps the process, which the command would end at once."""
    monkeypatch.setattr(convert.command, "exit_immediately", lambda: Stay())


class Stay:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False


@pytest.fixture
def weights(tmp_path):
    return write_weights(tmp_path / "unet.safetensors", describe_milesial())


def test_a_run_folder_predicts_and_is_scored(tmp_path, weights, monkeypatch, capsys):
    run = tmp_path / "run"
    assert run_command(monkeypatch, weights, f"--output={run}") == 0
    printed = capsys.readouterr().out
    assert "milesial/Pytorch-UNet, bilinear=True" in printed
    assert f"--workdir={run}" in printed
    image = np.random.default_rng(0).integers(0, 256, (48, 32, 3), np.uint8)
    probabilities = Predictor.load(run).probabilities(image)
    assert probabilities.shape == (48, 32, 1)
    assert Predictor.load(run, tile=(32, 32)).labels(image).shape == (48, 32, 1)

    for split in ("train", "val", "test"):
        for kind in ("images", "masks"):
            folder = tmp_path / "data" / split / kind
            folder.mkdir(parents=True)
            pixels = np.random.default_rng(len(split)).integers(0, 2, (48, 32, 3))
            given = pixels[..., 0] if kind == "masks" else pixels * 200
            Image.fromarray(given.astype(np.uint8)).save(folder / f"{split}.png")
    config = run_config.make_config(run_config.read_config(run), run)
    config.data.root = str(tmp_path / "data")
    assert evaluate(config, run) == 0
    assert '"dice"' in (run / "scores.json").read_text()


def test_the_task_of_several_outputs(tmp_path, monkeypatch, capsys):
    """The head has a bias alone, so that the outputs are 0.3 and -0.2."""
    path = tmp_path / "two.safetensors"
    arrays = load_file(write_weights(path, describe_milesial(outputs=2)))
    arrays["outc.conv.weight"] *= 0
    arrays["outc.conv.bias"] = np.array([0.3, -0.2], np.float32)
    save_file(arrays, path)
    image = np.zeros((16, 16, 3), np.uint8)

    def predict(name, *flags):
        assert (
            run_command(monkeypatch, path, f"--output={tmp_path / name}", *flags) == 0
        )
        predictor = Predictor.load(tmp_path / name)
        found = predictor.probabilities(image)[0, 0], predictor.labels(image)[0, 0]
        return *found, capsys.readouterr().out

    probabilities, label, printed = predict("exclusive")
    np.testing.assert_allclose(probabilities, [0.622459, 0.377541], atol=1e-6)
    assert label == 0
    assert "the classes exclude each other, and the first is the backgr" in printed
    assert "classes: background, foreground" in printed
    assert "images are not scaled" in printed
    probabilities, label, printed = predict("independent", "--task=multilabel")
    np.testing.assert_allclose(probabilities, [0.574443, 0.450166], atol=1e-6)
    assert label.tolist() == [1, 0]
    assert "exclude each other" not in printed
    assert "classes: background, class1, class2" in printed
    names = "--classes=none,cell,wall"
    *_, printed = predict("named", "--task=multilabel", names)
    assert "classes: none, cell, wall" in printed
    run = f"--output={tmp_path / 'run'}"
    code = run_command(monkeypatch, path, run, "--task=multilabel", "--classes=a,b")
    assert "--classes has 2 names, and the network has 3 classes" in code


def test_mistakes_are_one_line(tmp_path, weights, monkeypatch):
    def fail(words, *arguments):
        code = run_command(monkeypatch, *arguments)
        assert str(code).startswith("error: ")
        assert words in code
        assert "\n" not in code
        assert not (tmp_path / "run").exists()

    run = f"--output={tmp_path / 'run'}"
    fail("the following arguments are required: --output", weights)
    fail("does not exist", tmp_path / "absent.pth", run)
    fail("is not empty", weights, f"--output={tmp_path}")
    fail("--classes has 3 names", weights, run, "--classes=a,b,c")
    fail("unknown name 'standart'", weights, run, "--normalize=standart")
    fail("invalid spec value", weights, run, "--normalize={'name'}+1")
    for text in ("{'name':", "{[]:1}", "{}", "{'a'}", "{1:2}", "{" * 300, "{" * 10**5):
        fail("invalid spec value", weights, run, f"--normalize={text}")
    for key in ("1", "'a.b'", "'low':{'a.b':1},'b'"):
        text = f"--normalize={{'name':'percentile',{key}:1}}"
        fail("invalid spec value", weights, run, text)
    nested = "[" * 5000 + "]" * 5000
    fail("invalid spec value", weights, run, f"--normalize={{'name':{nested}}}")
    number = "0x" + "f" * 5000
    text = f"--normalize={{'name':'fixed','mean':{number}}}"
    fail("invalid spec value", weights, run, text)
    fail("invalid choice: 'flow'", weights, run, "--task=flow")
    fail("--task=semantic: the network has one output", weights, run, "--task=semantic")
    fail("unrecognized arguments", weights, run, "--mode=train")
    fail("a folder without plans.json", tmp_path, run)
    path = tmp_path / "x.safetensors"
    save_file({"a": np.zeros(3, np.float32)}, path)
    fail("is of no network that is known", path, run)


def test_an_encoder_alone_is_refused_with_the_flags_to_use_it(tmp_path):
    path = write_weights(tmp_path / "resnet.safetensors", describe({}))
    with pytest.raises(UserError, match=r"--config.model.encoder=resnet18"):
        convert_weights(path, tmp_path / "run")
    assert not (tmp_path / "run").exists()
