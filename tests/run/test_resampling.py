"""A run on images with several spacings, from training to result files."""

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image
from scipy import ndimage
from scipy.spatial.distance import directed_hausdorff

import unet_jax
from unet_jax import data
from unet_jax.build.training import build
from unet_jax.checkpoint import Checkpoints
from unet_jax.data.source import Source, Splits
from unet_jax.errors import UserError
from unet_jax.run import predict, train
from unet_jax.run.cases import predict_examples
from unet_jax.run.scoring import score_images

nibabel = pytest.importorskip("nibabel", reason="nibabel reads NIfTI")

SPACINGS = ((1.0, 2.0), (2.0, 1.0), (1.5, 1.5))


def raw(index):
    rng = np.random.default_rng(index)
    return rng.integers(0, 255, (24 - index, 20 + index, 1), dtype=np.uint8)


def scans():
    def load(index):
        image = raw(index)
        label = (image[..., 0] > 127).astype(np.int32)
        own = {"spacing": SPACINGS[index], "id": f"r{index}"}
        return {"image": image, "label": label} | own

    colours = ((0, 0, 0), (255, 0, 0))
    source = Source("scans", ("none", "cell"), colours, 1, 3, load)
    return Splits(source, source, source)


pytestmark = pytest.mark.slow  # a training of its own


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("resampled")
    config = trained[0].copy_and_resolve_references()
    config.data = ConfigDict({"name": "cells"})
    config.spacing = SPACINGS[2]
    config.sampling = ConfigDict({"name": "foreground"})
    config.weight_map = ConfigDict({"name": "frequency"})
    config.metrics += (ConfigDict({"name": "hausdorff"}),)
    config.predict.postprocess = (ConfigDict({"name": "remove_small", "pixels": 3}),)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "cells", scans)
        train(config, workdir)
        parts = build(config).evaluation
    with Checkpoints(workdir, "val/dice") as checkpoints:
        like = parts.prediction.inference.devices.abstract(parts.prediction.variables)
        _, variables = checkpoints.load_best(like)
    return config, workdir, parts, variables


def test_predictions_equal_those_of_the_evaluation_to_the_bit(run):
    _, workdir, parts, variables = run
    predictor = unet_jax.Predictor.load(workdir)
    for index in range(3):
        image, spacing = raw(index), SPACINGS[index]
        chosen = parts, [variables], parts.test, [index]
        case = next(predict_examples(*chosen, as_predicted=True)).image
        got = predictor.probabilities(image, spacing)
        assert got.shape == (*image.shape[:2], 2)
        np.testing.assert_allclose(got.sum(-1), 1, atol=1e-5)
        np.testing.assert_array_equal(got, case.probabilities)
        np.testing.assert_array_equal(predictor.labels(image, spacing), case.prediction)
        assert case.spacing == spacing  # distances are in the units of the file
        assert predictor.uncertainty(image, spacing=spacing).shape == image.shape[:2]
        mutual = predictor.uncertainty(image, "mutual_information", spacing)
        assert np.abs(mutual).max() < 1e-5  # one run and one view
    with pytest.raises(UserError, match="of shape .* `spacing`"):
        predictor.labels(raw(0))


def test_scores_are_computed_on_the_grid_of_the_file(run):
    _, _, parts, variables = run
    evaluation = score_images(parts, [variables], "test", parts.test, as_predicted=True)
    assert evaluation.confusion.sum() == sum(raw(i)[..., 0].size for i in range(3))
    assert evaluation.scores["test/loss"] > 0
    for index, spacing in enumerate(SPACINGS):
        chosen = parts, [variables], parts.test, [index]
        case = next(predict_examples(*chosen, as_predicted=True)).image
        true, found = surface(case.truth, spacing), surface(case.prediction, spacing)
        both_ways = (true, found), (found, true)
        farthest = max(directed_hausdorff(*pair)[0] for pair in both_ways)
        assert evaluation.per_image[index]["hausdorff"] == pytest.approx(farthest)


def surface(label, spacing):
    """Returns the positions of pixels that an erosion removes, in the file's units."""
    mask = label == 1
    return np.argwhere(mask & ~ndimage.binary_erosion(mask)) * spacing


def test_labels_have_the_grid_of_the_file(run, tmp_path, capsys):
    config, workdir, *_ = run
    predictor = unet_jax.Predictor.load(workdir)
    scan = nibabel.Nifti1Image(raw(0)[..., 0].T, np.diag([2.0, 1.0, 1.0, 1.0]))
    nibabel.save(scan, tmp_path / "scan.nii.gz")
    Image.fromarray(raw(1)[..., 0]).save(tmp_path / "photo.png")
    out = tmp_path / "out"
    assert predict(config, workdir, input=str(tmp_path), output=str(out)) == 1
    written = nibabel.load(out / "scan_labels.nii.gz")
    assert written.header.get_zooms()[:2] == (2.0, 1.0)
    labels = np.asarray(written.dataobj).T
    np.testing.assert_array_equal(labels, predictor.labels(raw(0), SPACINGS[0]))
    (line,) = capsys.readouterr().err.splitlines()
    assert "photo.png: the size of its pixels is not known" in line
