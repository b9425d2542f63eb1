"""Predictions of a trained run from Python."""

import jax
import numpy as np
import pytest

import unet_jax
from unet_jax import pictures
from unet_jax.build.training import build
from unet_jax.checkpoint import Checkpoints
from unet_jax.colours import choose_colours
from unet_jax.data import cells
from unet_jax.errors import UserError
from unet_jax.run.cases import predict_examples


@pytest.fixture(scope="module")
def predictor(trained):
    return unet_jax.Predictor.load(trained[1])


def raw(index=0):
    splits = cells(shape=(20, 24), train=3, val=2, test=3)
    return splits.test.load(index)["image"]


@pytest.mark.parametrize("devices", [1, 8])
def test_predictions_equal_those_of_the_evaluation_to_the_bit(
    trained, devices, monkeypatch
):
    """Whichever other images are in the same batch."""
    config, workdir = trained
    chosen = jax.devices()[:devices]
    monkeypatch.setattr(jax, "local_devices", lambda: chosen)
    predictor = unet_jax.Predictor.load(workdir)
    parts = build(config).evaluation
    with Checkpoints(workdir, "val/dice") as checkpoints:
        like = parts.prediction.inference.devices.abstract(parts.prediction.variables)
        _, variables = checkpoints.load_best(like)
    for index in range(3):
        one = parts, [variables], parts.test, [index]
        case = next(predict_examples(*one, as_predicted=True)).image
        image = raw(index)
        np.testing.assert_array_equal(
            predictor.probabilities(image), case.probabilities
        )
        np.testing.assert_array_equal(predictor.labels(image), case.prediction)
        np.testing.assert_array_equal(predictor.objects(image), case.objects)


@pytest.mark.slow
def test_images_of_any_size_and_dtype(predictor):
    rng = np.random.default_rng(0)
    for shape in [(1, 1), (7, 13), (101, 37)]:
        for dtype in ("u1", "u2", "f4", "f8"):
            image = rng.integers(0, 200, shape).astype(dtype)
            labels = predictor.labels(image)
            assert (labels.shape, labels.dtype) == (shape, np.int32)
            p = predictor.probabilities(image[..., None])
            assert (p.shape, p.dtype) == ((*shape, 2), np.float32)
            np.testing.assert_array_equal(p.argmax(-1), labels)


@pytest.mark.slow
def test_an_ensemble_is_the_mean_of_its_members(trained, predictor, tiny, tmp_path):
    tiny.seed = 1
    unet_jax.run.train(tiny, tmp_path / "other")
    both = unet_jax.Predictor.load(trained[1], tmp_path / "other")
    other = unet_jax.Predictor.load(tmp_path / "other")
    a, b = predictor.probabilities(raw()), other.probabilities(raw())
    assert np.abs(a - b).max() > 1e-3
    np.testing.assert_allclose(both.probabilities(raw()), (a + b) / 2, atol=1e-5)

    def compute_entropy(p):
        return -(p * np.log(p)).sum(-1)

    total = compute_entropy((a + b) / 2)
    np.testing.assert_allclose(both.uncertainty(raw()), total, atol=1e-5)
    apart = both.uncertainty(raw(), "mutual_information")
    np.testing.assert_allclose(
        apart, total - (compute_entropy(a) + compute_entropy(b)) / 2, atol=1e-5
    )
    assert np.abs(predictor.uncertainty(raw(), "mutual_information")).max() < 1e-5


def test_an_overlay_has_the_labels_on_the_image(predictor):
    image = raw()
    expected = pictures.draw_overlay(image, predictor.labels(image), choose_colours(2))
    np.testing.assert_array_equal(predictor.overlay(image), expected)
    np.testing.assert_array_equal(predictor.overlay(image[..., 0]), expected)


@pytest.mark.slow
def test_options_replace_those_of_the_config(trained, predictor):
    augmented = unet_jax.Predictor.load(trained[1], tta="d4", tile=(24,))
    image = raw()
    flipped = augmented.probabilities(image[:, ::-1])[:, ::-1]
    # 24 columns and 20 rows are whole tiles, so flips do not change the group norm
    np.testing.assert_allclose(augmented.probabilities(image), flipped, atol=1e-5)
    assert np.abs(flipped - predictor.probabilities(image)).max() > 1e-5
    grey = np.repeat(image, 3, axis=-1)
    converting = unet_jax.Predictor.load(trained[1], channels="convert")
    np.testing.assert_array_equal(converting.labels(grey), predictor.labels(image))
    specs = ({"name": "remove_small", "pixels": 10**6},)
    cleaned = unet_jax.Predictor.load(trained[1], postprocess=specs)
    assert cleaned.labels(image).max() == 0 == cleaned.objects(image).max()


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (
            np.zeros((8, 8, 3)),
            r"shape \(8, 8, 3\): has 3 channels, the network takes 1",
        ),
        (
            np.zeros((8, 8, 3, 1)),
            r"\(8, 8, 3, 1\); the network takes one image at a time, of 2 spatial axes",
        ),
        (np.zeros(8), r"shape \(8,\)"),
        ("scan.png", "an array of numbers, not <U8"),
        (np.zeros((0, 8)), "no pixels"),
        (np.full((8, 8), np.nan), "NaN"),
        (np.zeros((8, 8), complex), "an array of numbers, not complex"),
    ],
)
def test_an_image_that_does_not_fit_is_refused(predictor, image, words):
    with pytest.raises(UserError, match=words):
        predictor.probabilities(image)


@pytest.mark.slow
def test_a_folder_or_an_option_that_does_not_fit_is_refused(trained, tiny, tmp_path):
    load = unet_jax.Predictor.load
    with pytest.raises(UserError, match="nowhere does not exist"):
        load(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"predict.tta must be 'none' or .*'flips'"):
        load(trained[1], tta="flip")
    with pytest.raises(UserError, match="predict.tile needs a tuple.* not 512"):
        load(trained[1], tile=512)
    with pytest.raises(UserError, match="predict.postprocess: border"):
        load(trained[1], postprocess=({"name": "watershed", "border": 5},))
    with pytest.raises(
        UserError, match="has no key 'titles'; did you mean --config.predict.tile"
    ):
        load(trained[1], titles=(64,))
    with pytest.raises(UserError, match=r"predict.tile: must be 20 or more"):
        load(trained[1], tile=(2,))
    with pytest.raises(UserError, match=r"must be entropy or mutual_information"):
        load(trained[1]).uncertainty(raw(), "variance")
    tiny.model.widths = (2, 3)
    tiny.steps = 2
    unet_jax.run.train(tiny, tmp_path / "narrower")
    with pytest.raises(
        UserError, match="narrower does not fit the first run: model.widths is"
    ):
        load(trained[1], tmp_path / "narrower")
