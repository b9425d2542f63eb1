"""Every task and every method from training to result files."""

import os
import signal
import sys

import jax
import numpy as np
import pytest
import tifffile
from ml_collections import ConfigDict
from PIL import Image

import unet_jax
from unet_jax import data, parallel, pictures
from unet_jax.build.training import build
from unet_jax.checkpoint import Checkpoints
from unet_jax.errors import UserError
from unet_jax.run import evaluate, predict, run_folder, sample, train
from unet_jax.run.sample import score_generator
from unet_jax.run.training_log import TrainingLog

SIZES = {"shape": (20, 24), "train": 3, "val": 2, "test": 3}
DICE, F1, PSNR, MAE = (ConfigDict({"name": n}) for n in ("dice", "f1", "psnr", "mae"))
VALUES = {
    "loss": (ConfigDict({"name": "l1"}),),
    "metrics": (PSNR, MAE),
}
RUNS = {
    "multilabel": {"task": {"name": "multilabel"}, "metrics": (DICE, F1)},
    "flow": {"task": {"name": "flow", "pixels": 1}, "metrics": (DICE, F1)},
    "regression": {
        "task": {"name": "regression"},
        "data": {"name": "cells", "targets": True, "photons": 20.0, **SIZES},
        **VALUES,
    },
    "staining": {
        "task": {"name": "regression", "units": "own"},
        "data": {"name": "cells", "targets": True, "photons": 20.0, **SIZES},
        **VALUES,
    },
    "mean_teacher": {
        "method": {"name": "mean_teacher", "ramp_up": 2},
        "data": {"name": "cells", "unlabelled": 2, **SIZES},
        "metrics": (DICE,),
    },
    "diffusion": {
        "task": {"name": "regression", "target": "image"},
        "method": {"name": "diffusion", "sampling_steps": 2},
        "model": {"name": "UNet", "widths": (2, 4), "padding": "SAME"},
        "loss": VALUES["loss"],
        "metrics": (),
    },
}
RUNS["diffusion"]["model"]["time_features"] = 4


def apply_changes(config, change):
    with config.ignore_type():
        for name, value in change.items():
            value = ConfigDict(value) if isinstance(value, dict) else value
            config[name] = value
    return config


def final_state(config, workdir):
    parts = build(config)
    shapes = jax.eval_shape(parts.init, jax.random.key(0))
    with Checkpoints(workdir, "val/loss") as checkpoints:
        like = parts.layout.abstract(shapes)
        restored = checkpoints.restore(like, parts.evaluation.method.variables)
    step, state = restored
    assert step == config.steps
    return jax.device_get(state)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(RUNS.keys() - {"staining"}))
def test_a_run_resumes_to_the_bit_and_is_scored_again(
    tiny, tmp_path, monkeypatch, name, read_scores
):
    config = apply_changes(tiny, RUNS[name])
    straight, broken = tmp_path / "one", tmp_path / "two"
    train(config, straight)

    def kill_at_2(self, step):
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLog, "advance", kill_at_2)
        assert train(config, broken) == 128 + signal.SIGTERM
    train(config, broken)
    a, b = final_state(config, straight), final_state(config, broken)
    assert a.step == 4
    jax.tree.map(np.testing.assert_array_equal, a, b)
    scores = read_scores(straight)
    assert read_scores(broken) == scores
    evaluate(config, broken)
    assert read_scores(broken) == scores
    assert {p.name for p in straight.iterdir()} >= {"report.html", "predictions.png"}
    for metric in config.metrics:
        assert f"test/{metric['name']}" in scores


@pytest.fixture
def raw():
    return data.cells(targets=True, photons=20.0, **SIZES).test.load(0)["image"]


def write_file(folder, image):
    folder.mkdir()
    Image.fromarray(image[..., 0]).save(folder / "a.png")
    return str(folder)


@pytest.mark.slow
def test_flow_finds_objects_with_tiles_views_and_ensembles(tiny, tmp_path, raw):
    config = apply_changes(tiny, RUNS["flow"])
    train(config, tmp_path / "run")
    config.seed = 1
    train(config, tmp_path / "other")
    config.seed = 0
    one = unet_jax.Predictor.load(tmp_path / "run")
    other = unet_jax.Predictor.load(tmp_path / "other")
    both = unet_jax.Predictor.load(tmp_path / "run", tmp_path / "other")
    mean = (one.probabilities(raw) + other.probabilities(raw)) / 2
    np.testing.assert_allclose(both.probabilities(raw), mean, atol=1e-5)
    mutual = both.uncertainty(raw, "mutual_information")
    assert mutual.shape == raw.shape[:-1]
    assert mutual.max() > 0

    tiled = unet_jax.Predictor.load(tmp_path / "run", tta="d4", tile=(24,))
    objects, labels = tiled.objects(raw), tiled.labels(raw)
    np.testing.assert_array_equal(objects > 0, labels > 0)

    images, out = write_file(tmp_path / "in", raw), tmp_path / "out"
    assert predict(config, tmp_path / "run", input=images, output=str(out)) == 0
    written = np.asarray(Image.open(out / "a_instances.png"))
    np.testing.assert_array_equal(written, one.objects(raw))
    assert (out / "a_overlay.png").exists()
    with pytest.raises(UserError, match=r"postprocess\[0\]: 'watershed' finds objects"):
        unet_jax.Predictor.load(tmp_path / "run", postprocess=({"name": "watershed"},))
    small = ({"name": "remove_small", "pixels": 10**6},)
    assert (
        unet_jax.Predictor.load(tmp_path / "run", postprocess=small).objects(raw).max()
        == 0
    )


def best_variables(config, workdir):
    selection_score = run_folder.read_selection_score(workdir, config)
    with Checkpoints(workdir, selection_score) as checkpoints:
        return checkpoints.load_best(parallel.local_devices().abstract)[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["regression", "staining"])
def test_values_have_the_units_of_their_files(tiny, tmp_path, raw, name):
    """Values are the network's output times a width plus an offset.

    Width and offset are deviation and mean: of the image itself if the values have its
    units, and of all training targets if they have units of their own.
    """
    config = apply_changes(tiny, RUNS[name])
    train(config, tmp_path / "run")
    predictor = unet_jax.Predictor.load(tmp_path / "run", tta="flips")
    values = predictor.values(raw)
    assert (values.shape, values.dtype) == (raw.shape, np.float32)
    source = data.cells(targets=True, photons=20.0, **SIZES).train
    records = [source.load(i) for i in range(source.length)]
    if name == "staining":
        targets = np.stack([record["target"] for record in records])
        measured = [targets, targets]
    else:
        measured = [raw, records[0]["image"]]
    (offset, width), (other_offset, other_width) = [
        (x.mean(), x.std()) for x in measured
    ]
    stored = predictor.setup.preprocessing["target_scale"]
    expected = [[offset], [width]] if name == "staining" else []
    np.testing.assert_allclose(stored, expected, rtol=1e-5)

    parts = build(config)
    network = parts.model.clone(axis_name=None)
    variables = best_variables(config, tmp_path / "run")
    image = ((raw - raw.mean()) / raw.std()).astype(np.float32)[None]
    outputs = [
        np.flip(network.apply(variables, np.flip(image, axes)), axes)
        for axes in ((), (1,), (2,), (1, 2))
    ]
    in_units = np.mean(outputs, axis=0)[0] * width + offset
    np.testing.assert_allclose(values, in_units, rtol=1e-4, atol=1e-2)
    learnt = parts.train[0]["target"] * other_width + other_offset
    np.testing.assert_allclose(learnt, records[0]["target"], rtol=1e-4, atol=1e-2)
    with pytest.raises(UserError, match="has no classes, and so no labels; call Pre"):
        predictor.labels(raw)
    with pytest.raises(UserError, match="save_uncertainty: the values .* no entropy"):
        unet_jax.Predictor.load(tmp_path / "run", save_uncertainty=True)

    images, out = write_file(tmp_path / "in", raw), tmp_path / "out"
    config.predict.tta = "flips"
    assert predict(config, tmp_path / "run", input=images, output=str(out)) == 0
    written = tifffile.imread(out / "a_values.tif")
    np.testing.assert_allclose(written.reshape(raw.shape), values, rtol=1e-4, atol=1e-2)
    assert sorted(p.name for p in out.iterdir()) == ["a_overlay.png", "a_values.tif"]


@pytest.mark.slow
def test_a_larger_count_only_adds_generated_images(tiny, tmp_path, monkeypatch):
    config = apply_changes(tiny, RUNS["diffusion"])
    train(config, tmp_path / "run")
    few, many = tmp_path / "few", tmp_path / "many"
    assert sample(config, tmp_path / "run", output=str(few), count=3) == 0
    sample(config, tmp_path / "run", output=str(many), count=11)
    assert len(list(many.glob("sample_*.png"))) == 11
    assert (few / "samples.png").exists()
    for path in few.glob("sample_*.png"):
        drawn = np.asarray(Image.open(path))
        assert (drawn.shape, drawn.dtype) == ((16, 16), np.uint8)
        same = np.asarray(Image.open(many / path.name))
        # in a batch of another size a grey value may be rounded otherwise
        np.testing.assert_allclose(drawn.astype(int), same.astype(int), atol=1)
    every = [np.asarray(Image.open(path)) for path in many.glob("sample_*.png")]
    assert len({drawn.tobytes() for drawn in every}) == 11  # drawn in two batches
    config.method.sampling_steps = 1
    config.predict.seed = 1
    other = tmp_path / "other"
    sample(config, tmp_path / "run", output=str(other), count=3)
    first = (np.asarray(Image.open(f / "sample_0000.png")) for f in (few, other))
    assert not np.array_equal(*first)

    def fail(*_):
        raise AssertionError("drew an image that cannot be written")

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[sample.__module__], "generate_images", fail)
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match=r"--output=.*file.*name a folder") as error:
            sample(config, tmp_path / "run", output=str(tmp_path / "file"))
        assert "\n" not in str(error.value)
        patch.setattr(jax, "process_index", lambda: 1)
        assert sample(config, tmp_path / "run", output=str(tmp_path / "second")) == 0
    assert not list((tmp_path / "second").glob("*"))
    with pytest.raises(UserError, match="the run of a generator, which cannot pre"):
        unet_jax.Predictor.load(tmp_path / "run")


@pytest.mark.slow
def test_a_generator_is_scored_on_the_middle_of_images_of_any_size(tiny, monkeypatch):
    config = apply_changes(tiny, RUNS["diffusion"])
    parts = build(config)
    variables = parts.evaluation.method.variables(parts.init(jax.random.key(1)))
    rng = np.random.default_rng(0)
    large, small = (rng.normal(size=(n, 20, 1)).astype("f4") for n in (31, 12))
    examples = [{"id": "a", "image": large}, {"id": "b", "image": small}]
    middles = [large[7:23, 2:18], np.pad(small, [(2, 2), (0, 0), (0, 0)], "reflect")]
    middles[1] = middles[1][:, 2:18]
    evaluation = score_generator(parts.evaluation, variables, "val", examples)
    for i, middle in enumerate(middles):
        batch = {"image": middle[None], "seed": np.array([i], np.uint32)}
        loss = parts.evaluation.method.val_loss(variables, batch, jax.random.key(0))
        assert evaluation.per_image[i] == {
            "id": "ab"[i],
            "loss": pytest.approx(float(loss[0]), rel=1e-4),
        }
    losses = [image["loss"] for image in evaluation.per_image]
    assert evaluation.scores["val/loss"] == np.mean(losses)
    row = pictures.make_contact_sheet([pictures.draw_image(m) for m in middles], 2)
    np.testing.assert_array_equal(evaluation.picture[:16], row)
    assert evaluation.picture.shape == (3 * 16 + 2 * pictures.GAP, *row.shape[1:])
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    evaluation = score_generator(parts.evaluation, variables, "val", examples)
    np.testing.assert_array_equal(evaluation.picture, row)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"task": {"name": "regression"}, **VALUES},
            "the data set has no targets; add",
        ),
        (
            {"task": {"name": "regression"}, "metrics": (PSNR,)},
            r"config.loss\[0\]: 'cross_entropy' reads a label, and the task .*l1",
        ),
        (
            {"loss": VALUES["loss"]},
            r"config.loss\[0\]: 'l1' reads a value, and the task",
        ),
        (
            {"metrics": (PSNR,)},
            r"config.metrics\[0\]: 'psnr' reads values, and the task",
        ),
        (
            {"method": {"name": "mean_teacher"}},
            "config.method: 'mean_teacher' needs images without labels, and cells",
        ),
        (
            {
                "method": {"name": "mean_teacher"},
                "batch_size": 1,
                "parallel": {"name": "mesh", "space": 8},
            },
            "config.batch_size: 1 is too small for labelled and unlabelled images",
        ),
        ({"metrics": ()}, "config.metrics must have a metric"),
        (
            RUNS["diffusion"] | {"metrics": (PSNR,)},
            r'config.metrics: the method .* set --config.metrics="\(\)"',
        ),
        (
            {"task": {"name": "flow"}, "loss": VALUES["loss"]},
            "config.loss: no term reads a label, which the task 'flow' learns from",
        ),
        (
            {"task": {"name": "flow", "step": 3}},
            "config.task: 'flow' has no keyword 'step'; did",
        ),
    ],
    ids=range(10),
)
def test_a_combination_that_does_not_fit_is_refused_in_one_line(tiny, change, words):
    with pytest.raises(UserError, match=words) as error:
        build(apply_changes(tiny, change))
    assert "\n" not in str(error.value)


def test_flow_needs_instances(tiny, monkeypatch):
    cells = data.cells

    def without(*, shape, train, val, test):
        splits = cells(shape=shape, train=train, val=val, test=test)

        def load(i, source):
            record = dict(source.load(i))
            del record["instances"]
            return record

        return splits._replace(
            **{
                name: source._replace(load=lambda i, s=source: load(i, s))
                for name, source in splits.sources.items()
            }
        )

    monkeypatch.setattr(data, "cells", without)
    with pytest.raises(UserError, match="has no instances; add it, or choose another"):
        build(apply_changes(tiny, {"task": {"name": "flow"}}))
