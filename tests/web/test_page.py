"""The page against `Predictor`, on the way of a user: files in, clicks, files out."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_jax import Predictor
from unet_jax.data import cells, normalize
from unet_jax.data.files.png import SIGNATURE
from unet_jax.tasks import TaskData, flow

WEB = Path(__file__).parents[2] / "web"
ERROR = "document.querySelector('#error')"
DONE = "document.querySelector('#busy').hidden"

pytestmark = pytest.mark.slow


def predict(page, path):
    """Chooses an image and waits for its result; returns the error, or ''."""
    page.choose("#choose", path)
    page.wait(DONE)
    return page.evaluate(f"{ERROR}.hidden ? '' : {ERROR}.textContent")


def write_image(path, image):
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(path)
    return path


def check_labels(found, probabilities):
    """Compares labels where the two largest probabilities are not nearly equal."""
    ordered = np.sort(probabilities, axis=-1)
    clear = ordered[..., -1] - ordered[..., -2] > 1e-3
    assert clear.mean() > 0.5  # of a network after four steps
    np.testing.assert_array_equal(found[clear], probabilities.argmax(-1)[clear])


def test_labels_of_a_real_image_are_those_of_predictor(
    exported, open_page, real_data, tmp_path
):
    folder, workdir = exported
    source = min((real_data("isbi2012") / "train/images").iterdir())
    pixels = np.array(Image.open(source))[..., None]
    with open_page(folder) as page:
        assert predict(page, write_image(tmp_path / "slice.png", pixels)) == ""
        found = np.array(Image.open(page.download("Labels")))
        probabilities = np.load(page.download("Probabilities"))
    expected = Predictor.load(workdir).probabilities(pixels)
    check_labels(found, expected)
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-4)


def test_tiles_of_16_bits_give_what_the_whole_image_gives(
    exported, open_page, tmp_path
):
    folder, workdir = exported
    image = cells(shape=(530, 601), seed=3).test.load(0)["image"]
    image = image.astype(np.uint16) * 3 + np.arange(601, dtype=np.uint16)[:, None] % 3
    with open_page(folder) as page:
        assert predict(page, write_image(tmp_path / "large.png", image)) == ""
        found = np.array(Image.open(page.download("Labels")))
    check_labels(found, Predictor.load(workdir).probabilities(image))


def test_a_network_of_16_bits_gives_nearly_the_same(export_run, open_page, tmp_path):
    folder, workdir = export_run(precision="float16")
    image = cells(shape=(70, 91), seed=3).test.load(0)["image"]
    with open_page(folder) as page:
        assert predict(page, write_image(tmp_path / "cells.png", image)) == ""
        probabilities = np.load(page.download("Probabilities"))
    expected = Predictor.load(workdir).probabilities(image)
    assert 1e-6 < np.abs(probabilities - expected).max() < 0.01


def test_the_colours_of_an_image_are_converted(exported, open_page, tmp_path):
    folder, workdir = exported
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    with open_page(folder) as page:
        assert predict(page, write_image(tmp_path / "rgb.png", image)) == ""
        found = np.array(Image.open(page.download("Labels")))
    predictor = Predictor.load(workdir, channels="convert")
    check_labels(found, predictor.probabilities(image))


def test_objects_are_those_of_the_task(page, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    image = cells(shape=(150, 201), seed=5).test.load(1)["image"]
    assert predict(page, write_image(tmp_path / "cells.png", image)) == ""
    found = np.array(Image.open(page.download("Objects")))
    seen = normalize.in_memory(normalize.standard)(image)(image)
    session = onnxruntime.InferenceSession(WEB / "model/model.onnx")
    fed = {"normalized_image": np.moveaxis(seen, -1, 0)[None]}
    (output,) = session.run(None, fed)
    prediction = np.moveaxis(output[0], 0, -1)
    options = json.loads((WEB / "model/model.json").read_text())["task_options"]
    del options["name"]
    task = flow(TaskData(("background", "cell"), axes=2, channels=1), **options)
    assert task.segment
    objects = task.segment(task.decide(prediction), prediction).objects
    assert objects is not None
    assert found.dtype == np.uint16
    assert found.max() == objects.max() > 20
    assert np.mean(found != objects) < 1e-3


def test_a_higher_threshold_gives_less_area(page, tmp_path):
    image = cells(shape=(90, 80), seed=6).test.load(0)["image"]
    assert predict(page, write_image(tmp_path / "small.png", image)) == ""
    area = "parseFloat(document.querySelector('#classes td + td').textContent)"
    before = page.evaluate(area)
    page.evaluate(
        "{const t = document.querySelector('#threshold'); t.value = 0.9;"
        "t.dispatchEvent(new Event('input'))}"
    )
    assert page.wait(f"{area} < {before}")
    labels = np.array(Image.open(page.download("Labels")))
    prediction = np.load(page.download("Prediction"))
    assert ((prediction[..., -1] > 0.9) >= (labels > 0)).all()


def test_cancel_ends_a_prediction_and_the_next_one_works(page, tmp_path):
    large = write_image(tmp_path / "a.png", np.zeros((2000, 2000, 1), np.uint8))
    page.choose("#choose", large)
    page.wait("document.querySelector('#status').textContent.includes('tile')")
    page.evaluate("document.querySelector('#cancel').click()")
    page.wait(DONE)
    assert page.evaluate("document.querySelector('#figure').hidden")
    small = cells(shape=(40, 40), seed=6).test.load(0)["image"]
    assert predict(page, write_image(tmp_path / "b.png", small)) == ""


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.png", b"", "no PNG, JPEG or TIFF"),
        ("text.png", b"no image at all", "no PNG, JPEG or TIFF"),
        ("cut.png", b"half", "cut off"),
        ("changed.png", b"changed", "checksum"),
        ("cut.tif", b"II*\0\x08\0\0\0", "cut off"),
        ("cut.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF", "damaged"),
    ],
)
def test_an_image_that_cannot_be_read_is_refused(page, tmp_path, name, content, words):
    path = tmp_path / name
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 1), np.uint8)
    if content in (b"half", b"changed"):
        data = write_image(path, image).read_bytes()
        middle = len(data) // 2
        changed = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        content = data[:middle] if content == b"half" else changed
        assert content[:8] == data[:SIGNATURE]
    path.write_bytes(content)
    error = predict(page, path)
    assert words in error
    assert "\n" not in error


def test_an_image_of_other_channels_is_refused(page, tmp_path):
    path, pixels = tmp_path / "a.tif", np.zeros((40, 40, 2), np.uint8)
    tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="contig")
    error = predict(page, path)
    assert "has 2 channels, the model takes 1 channel" in error


def test_a_model_that_does_not_fit_is_refused(page, exported, tmp_path):
    folder, _ = exported
    onnx, description = WEB / "model/model.onnx", tmp_path / "model.json"
    about = json.loads((WEB / "model/model.json").read_text())

    def load(*files):
        page.choose("#chooseModel", *files)
        page.wait(DONE)
        return page.evaluate(f"{ERROR}.hidden ? '' : {ERROR}.textContent")

    assert "two files of a model" in load(onnx)
    description.write_text("{")
    assert "no JSON" in load(onnx, description)
    description.write_text(json.dumps({k: v for k, v in about.items() if k != "page"}))
    assert "not of a model for this page" in load(onnx, description)
    del about["network"]
    description.write_text(json.dumps(about))
    assert "lacks a key" in load(onnx, description)
    assert "does not fit" in load(onnx, folder / "model.json")
    damaged = tmp_path / "model.onnx"
    damaged.write_bytes(onnx.read_bytes()[:1000])
    assert "damaged" in load(damaged, WEB / "model/model.json")
    assert load(folder / "model.onnx", folder / "model.json") == ""
    assert load(onnx, WEB / "model/model.json") == ""
