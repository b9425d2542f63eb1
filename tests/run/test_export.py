"""Mode `export`: the files of a trained run, and what is refused."""

import hashlib
import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from safetensors.numpy import load_file

import unet_jax
from unet_jax.errors import UserError
from unet_jax.optimizers import format_path
from unet_jax.run import export, train
from unet_jax.run.exporting import formats, samples, web

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("flatbuffers")
pytest.importorskip("yaml")


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "files"
    assert export(trained[0], trained[1], output=str(folder)) == 0
    return folder


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(3).integers(0, 255, (21, 30), dtype=np.uint8)


def run_onnx(path, image):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    raw = image[None, None].astype(np.float32)
    return session.run(None, {"image": raw})[0][0]


def test_the_onnx_file_predicts_raw_images(trained, exported, image):
    import onnx

    expected = unet_jax.Predictor.load(trained[1]).probabilities(image)
    found = run_onnx(exported / "model.onnx", image)
    np.testing.assert_allclose(np.moveaxis(found, 0, -1), expected, atol=1e-5)

    file = onnx.load(exported / "model.onnx")
    metadata = {entry.key: entry.value for entry in file.metadata_props}
    assert metadata["opset"] == str(file.opset_import[0].version)
    about = json.loads(metadata["description"])
    assert about["output"] == {
        "name": "probabilities",
        "channels": ["background", "cell"],
    }


@pytest.mark.slow
def test_the_stablehlo_file_needs_jax_alone(trained, exported, image, tmp_path):
    np.save(tmp_path / "image.npy", image)
    program = (exported / "load.py").read_text()
    assert "unet_jax" not in program
    command = [sys.executable, exported / "load.py", "image.npy", "out.npy"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=120)
    expected = unet_jax.Predictor.load(trained[1]).probabilities(image)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=1e-5)


def test_the_weights_are_unchanged(trained, exported, tiny):
    (variables,) = unet_jax.Predictor.load(trained[1]).members
    arrays = load_file(exported / "weights.safetensors")
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    assert len(arrays) == len(leaves)
    for path, array in leaves:
        np.testing.assert_array_equal(
            arrays[format_path(path).replace("/", ".")], array
        )


@pytest.mark.slow
def test_a_run_starts_from_the_weights(trained, exported, tiny, tmp_path, capsys):
    tiny.init_from = str(exported / "weights.safetensors")
    tiny.steps = 1
    train(tiny, tmp_path / "run")
    assert "100.0% of all values" in capsys.readouterr().out


def test_the_description_holds_no_paths(trained, exported, tmp_path):
    text = (exported / "model.json").read_text()
    assert str(trained[1]) not in text
    assert str(tmp_path.parent) not in text
    content = json.loads(text)
    assert set(content["config"]) == {"model", "task", "normalize", "precision"}
    assert content["classes"] == ["background", "cell"]
    assert content["input"]["channels"] == 1


def test_the_readme_works(exported, tmp_path):
    text = (exported / "README.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    program = f"{code}\nassert probabilities.shape == (1, 2, 64, 64)"
    subprocess.run([sys.executable, "-c", program], cwd=exported, check=True)


def test_the_description_for_the_zoo_names_its_files(exported):
    """Format 0.5.12 refuses a file without its record; the name needs five letters."""
    import yaml

    folder = exported / "bioimageio"
    rdf = yaml.safe_load((folder / "rdf.yaml").read_text())
    assert rdf["name"] == "tiny U-Net"
    (image,), (result,) = rdf["inputs"], rdf["outputs"]
    named = [rdf["documentation"], *rdf["covers"], rdf["weights"]["onnx"]]
    named += [image["test_tensor"], result["test_tensor"]]
    for file in named:
        content = (folder / file["source"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == file["sha256"]
    shapes = [
        np.load(folder / t["test_tensor"]["source"]).shape for t in (image, result)
    ]
    assert shapes[0][2:] == shapes[1][2:]
    for axis, size in zip(image["axes"][2:], shapes[0][2:], strict=True):
        assert size >= axis["size"]["min"] > 2 * result["axes"][2]["halo"]


@pytest.mark.slow
def test_the_zoo_can_use_the_model(exported):
    pytest.importorskip("bioimageio.core")
    from bioimageio.core import (  # pyright: ignore[reportMissingImports]
        test_model,
    )

    summary = test_model(exported / "bioimageio/rdf.yaml")
    assert summary.status == "passed", summary.format()


@pytest.mark.slow
def test_an_ensemble_and_views_are_inside(trained, tiny, image, tmp_path):
    tiny.seed = 5
    train(tiny, tmp_path / "other")
    config = trained[0].copy_and_resolve_references()
    config.predict.tta = "d4"
    config.export.formats = ("onnx",)
    config.export.dtype = "uint8"
    runs = trained[1], tmp_path / "other"
    export(config, runs[0], output=str(tmp_path / "out"), ensemble=[str(runs[1])])
    import onnxruntime

    session = onnxruntime.InferenceSession(tmp_path / "out/model.onnx")
    (found,) = session.run(None, {"image": image[None, None]})
    expected = unet_jax.Predictor.load(*runs, tta="d4").probabilities(image)
    np.testing.assert_allclose(np.moveaxis(found[0], 0, -1), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"export.formats": ("tflite",)}, "config.export.formats"),
        ({"export.formats": ()}, "config.export.formats names no format"),
        ({"export.dtype": "float64"}, "config.export.dtype"),
        ({"export.channels": 2}, "images of 2 channels cannot become images of 1"),
        ({"export.license": "CC-BY-9"}, "config.export.license='CC-BY-9' is no SPDX"),
        ({"export.license": "mit"}, "config.export.license='mit' .* mean 'MIT'?"),
        *(
            ({"export.license": text}, "is no SPDX identifier; .* such as CC-BY-4.0")
            for text in ("MIT OR ISC", "(MIT)", "MIT+", "LicenseRef-Mine", "none")
        ),
        (
            {"predict.postprocess": (ConfigDict({"name": "remove_small"}),)},
            "no format holds 'remove_small'; set --config.predict.postprocess",
        ),
    ],
    ids=str,
)
def test_wrong_options_are_one_line(trained, changes, message, tmp_path):
    config = trained[0].copy_and_resolve_references()
    with config.ignore_type():
        config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=message) as error:
        export(config, trained[1], output=str(tmp_path / "out"))
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_bytes_need_their_type_if_they_are_divided(trained, tmp_path, monkeypatch):
    from unet_jax.build import pipeline

    config = trained[0].copy_and_resolve_references()
    config.normalize = ConfigDict({"name": "unit"})
    setup = unet_jax.Predictor.load(trained[1]).setup
    with pytest.raises(UserError, match="such as --config.export.dtype=uint8"):
        pipeline.build_pipeline(config, setup, [])
    config.export.dtype = "uint16"
    found = pipeline.build_pipeline(config, setup, []).normalize
    assert found == {"name": "fixed", "mean": (0.0,), "std": (65535.0,)}
    config.normalize = ConfigDict({"name": "theirs:scale"})
    with pytest.raises(UserError, match="'theirs:scale' cannot be exported"):
        pipeline.build_pipeline(config, setup, [])


def test_a_format_is_refused_before_images_are_predicted(
    trained, tmp_path, monkeypatch
):
    module = sys.modules["unet_jax.run.export"]
    monkeypatch.setattr(module, "predict_samples", pytest.fail)
    monkeypatch.setattr(web, "KINDS", {})
    config = trained[0].copy_and_resolve_references()
    config.export.formats = ("onnx", "web")
    line = (
        "formats: 'web' is impossible here: the page shows classes .*; leave 'web' out"
    )
    with pytest.raises(UserError, match=line):
        export(config, trained[1], output=str(tmp_path / "out"))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_onnx_files_have_the_precision_and_different_inputs(trained, tmp_path):
    import onnx

    config = trained[0].copy_and_resolve_references()
    config.export.formats = ("onnx", "web", "onnx")
    config.export.precision = "float16"
    export(config, trained[1], output=str(tmp_path / "out"))
    assert (tmp_path / "out/README.md").read_text().count("## model.onnx") == 1
    # the page refuses the file whose input is not that of its model.json
    names = {"model.onnx": "image", "web/model.onnx": "normalized_image"}
    for name, image in names.items():
        graph = onnx.load(tmp_path / "out" / name).graph
        assert [value.name for value in graph.input] == [image]
        description = (tmp_path / "out" / name).with_name("model.json").read_text()
        assert json.loads(description)["input"]["name"] == image
        types = {array.data_type for array in graph.initializer if len(array.dims) > 1}
        assert types == {onnx.TensorProto.FLOAT16}, name


def test_other_files_are_kept(trained, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty; name a new folder"):
        export(*trained, output=str(tmp_path))
    with pytest.raises(UserError, match="is no folder"):
        export(*trained, output=str(tmp_path / "notes.txt"))


def test_a_missing_package_is_named(trained, tmp_path, monkeypatch):
    module = sys.modules["unet_jax.run.export"]
    found = module.importlib.util.find_spec
    monkeypatch.setattr(
        module.importlib.util,
        "find_spec",
        lambda name: None if name == "onnxruntime" else found(name),
    )
    line = (
        "'onnx' needs the package onnxruntime, .*; run pip install 'unet_jax.export.'"
    )
    with pytest.raises(UserError, match=line):
        export(*trained, output=str(tmp_path / "out"))


def test_a_file_that_predicts_something_else_is_not_kept(
    trained, tmp_path, monkeypatch
):
    opened = formats.open_onnx
    monkeypatch.setattr(
        formats, "open_onnx", lambda content: lambda x: opened(content)(x) + 1e-3
    )
    with pytest.raises(UserError, match="model.onnx: its prediction .* differs"):
        export(*trained, output=str(tmp_path / "out"))
    assert not list(tmp_path.iterdir())


def test_nan_is_a_difference():
    one = [np.ones((1, 2, 2, 1), np.float32)]
    pairs = samples.Samples(one, one)
    for precision in (np.float32, np.float16):
        with pytest.raises(UserError, match="differs"):
            samples.compare("file", lambda x: x * np.nan, pairs, precision)
    found = samples.compare("file", lambda x: x + 0.01, pairs, np.float16)
    assert found == pytest.approx(0.01)
    with pytest.raises(UserError, match="by 0.5, more than 0.05"):
        samples.compare("file", lambda x: x + 0.5, pairs, np.float16)
