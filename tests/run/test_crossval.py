"""Cross-validation: pooled scores, out-of-fold predictions and the ensemble."""

import json
import os
import re
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from ml_collections import ConfigDict
from PIL import Image

import unet_jax
from unet_jax import metrics
from unet_jax.build.overrides import apply_fields
from unet_jax.checkpoint import check_trained, find_runs
from unet_jax.errors import UserError
from unet_jax.metrics.metric import EvaluatedImage
from unet_jax.run import crossval, evaluate, predict, provenance, reporting, train
from unet_jax.run.cross_validation.evaluation import (
    ScoredFold,
    describe_account,
    summarize_folds,
)
from unet_jax.run.cross_validation.folds import hash_log
from unet_jax.run.crossval import is_scored
from unet_jax.run.scoring import Evaluation, ImageMeasures, pool_evaluations
from unet_jax.run.sweeping.identity import check_same
from unet_jax.run.sweeping.study import import_optuna

FOLDS = 3
IMAGES = [f"cell_{i}" for i in range(7)]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of seven images of 20 x 24 pixels, and their masks."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name in IMAGES:
        label = np.zeros((20, 24), np.uint8)
        top, left = rng.integers(0, 12, 2)
        label[top : top + 6, left : left + 7] = 1
        image = 60 * label + rng.integers(0, 150, label.shape).astype(np.uint8)
        for kind, array in (("images", image), ("masks", label)):
            (root / kind).mkdir(exist_ok=True)
            Image.fromarray(array).save(root / kind / f"{name}.png")
    return root


def configure(config, root, folds=FOLDS):
    config.data = ConfigDict({"name": "folder", "root": str(root), "folds": folds})
    config.data.fold = 0
    config.data.classes = ("background", "cell")
    config.metrics = (ConfigDict({"name": "dice"}), ConfigDict({"name": "v_rand"}))
    config.steps = 2
    return config


@pytest.fixture(scope="module")
def folder(trained, images, tmp_path_factory):
    """The config and the folder of three folds, trained in this process and scored."""
    config = configure(trained[0].copy_and_resolve_references(), images)
    workdir = train_folds(config, tmp_path_factory.mktemp("crossval"))
    evaluate(config, workdir)
    return config, workdir


def train_folds(config, workdir):
    """Trains the folds in this process, and returns the folder."""
    names = [f"fold-{k}" for k in range(FOLDS)]
    for k, name in enumerate(names):
        of_fold = config.copy_and_resolve_references()
        of_fold.data.fold = k
        train(of_fold, workdir / name)
    (workdir / "crossval.json").write_text(json.dumps({"folds": names}))
    return workdir


def measured(*masks):
    """The measures of dice of images, each as truth and prediction."""
    metric = metrics.dice()
    rows = []
    for i, (truth, prediction) in enumerate(masks):
        label = np.asarray(prediction, np.int32)
        case = EvaluatedImage(
            spacing=(1.0,),
            truth=np.asarray(truth, np.int32),
            prediction=label,
            probabilities=np.eye(2, dtype=np.float32)[label],
        )
        rows.append(ImageMeasures(i, f"{i}", 0.5, [metric.measure(case)]))
    return rows


def make_parts():
    task = SimpleNamespace(classes=("background", "cell"))
    return SimpleNamespace(
        prediction=SimpleNamespace(task=task),
        omits_background=True,
        metrics=(("dice", metrics.dice()),),
    )


def test_pooled_scores_are_those_of_one_test_set():
    """2 TP / (truth + prediction): 2 * 2 / 6 and 2 * 1 / 2, but together 2 * 3 / 8."""
    parts = make_parts()
    folds = [
        pool_evaluations(
            parts, "test", [Evaluation({}, [], *4 * [None], measured=rows)]
        )
        for rows in (
            measured(([1, 1, 1, 1, 0], [1, 1, 0, 0, 0])),
            measured(([0, 0, 1, 0, 0], [0, 0, 1, 0, 0])),
        )
    ]
    assert [fold.scores["test/dice"] for fold in folds] == pytest.approx([2 / 3, 1])
    pooled = pool_evaluations(parts, "test", folds)
    assert pooled.scores["test/dice"] == pytest.approx(6 / 8)
    assert [row["dice"] for row in pooled.per_image] == pytest.approx([2 / 3, 1])


def test_the_spread_over_folds(tmp_path):
    member = SimpleNamespace(run=tmp_path, step=1)
    scored = [
        ScoredFold(member, "", None, Evaluation({"dice": x, "iou": y}, [], *4 * [None]))
        for x, y in ((0.5, 0.1), (0.7, None), (0.9, None))
    ]
    folds = summarize_folds(scored)
    assert folds.mean == pytest.approx({"dice": 0.7, "iou": 0.1})
    assert folds.deviation["dice"] == pytest.approx(0.2)  # sqrt((.04 + 0 + .04) / 2)
    assert folds.deviation["iou"] is None


@pytest.mark.slow
def test_every_image_is_predicted_once_by_the_network_of_its_fold(folder, images):
    config, workdir = folder
    content = json.loads((workdir / "scores.json").read_text())
    seen = []
    for number, run in enumerate(find_runs(workdir)):
        split = json.loads((run / "split.json").read_text())
        assert not set(split["test"]) & set(split["train"] + split["val"])
        assert content["folds"][number]["images"] == len(split["test"])
        predictor = unet_jax.Predictor.load(run)
        for name in split["test"]:
            stem = name.rpartition("/")[2].removesuffix(".png")
            image = np.asarray(Image.open(images / "images" / f"{stem}.png"))
            (file,) = (workdir / "predictions").glob(f"*{stem}_labels.png")
            np.testing.assert_array_equal(Image.open(file), predictor.labels(image))
        seen += split["test"]
    assert sorted(seen) == sorted(row["id"] for row in content["per_image"])
    assert len(set(seen)) == len(seen) == len(IMAGES)
    assert len(list((workdir / "predictions").iterdir())) == len(IMAGES)


@pytest.mark.slow
def test_pooled_dice_is_that_of_the_written_predictions(folder, images):
    _, workdir = folder
    truth, prediction = (
        np.concatenate([np.asarray(Image.open(p)) for p in sorted(paths)]) == 1
        for paths in (
            (images / "masks").iterdir(),
            (workdir / "predictions").glob("*_labels.png"),
        )
    )
    total = truth.sum() + prediction.sum()
    content = json.loads((workdir / "scores.json").read_text())
    expected = 2 * (truth & prediction).sum() / total
    assert content["test/dice"] == pytest.approx(expected, abs=1e-9)
    scores = [fold["scores"]["test/dice"] for fold in content["folds"]]
    assert content["mean"]["test/dice"] == pytest.approx(np.mean(scores))
    assert content["deviation"]["test/dice"] == pytest.approx(np.std(scores, ddof=1))
    page = (workdir / "report.html").read_text()
    assert "fold-2" in page
    assert "standard deviation" in page


@pytest.fixture(scope="module")
def staining(trained, images, tmp_path_factory):
    """A folder of targets whose brightness differs a lot, and three folds.

    They are the folder of the images, the config and the folder of the folds.
    """
    root = shutil.copytree(images, tmp_path_factory.mktemp("staining") / "data")
    shutil.rmtree(root / "masks")
    (root / "targets").mkdir()
    for i, path in enumerate(sorted((root / "images").iterdir())):
        target = np.asarray(Image.open(path)) * np.float32(0.2 * 2**i) + 100 * i
        tifffile.imwrite(root / "targets" / f"{path.stem}.tif", target)
    config = trained[0].copy_and_resolve_references()
    config.data = ConfigDict({"name": "folder", "root": str(root), "folds": FOLDS})
    config.data.fold = 0
    config.task = ConfigDict({"name": "regression", "units": "own"})
    config.loss = (ConfigDict({"name": "l1"}),)
    config.metrics = (ConfigDict({"name": "psnr"}), ConfigDict({"name": "mae"}))
    config.steps = 2
    return root, config, train_folds(config, tmp_path_factory.mktemp("crossval"))


def read_values(path):
    return tifffile.imread(path).reshape(20, 24).astype(np.float64)


@pytest.mark.slow
def test_each_fold_predicts_values_with_its_own_scale(staining, tmp_path):
    """The members of an ensemble are averaged in the units of the targets."""
    root, config, workdir = staining
    first, *others = find_runs(workdir)
    alone = [unet_jax.Predictor.load(run) for run in (first, *others)]
    scales = [one.setup.preprocessing["target_scale"] for one in alone]
    assert len(set(map(str, scales))) == FOLDS
    images = {path.stem: path for path in (root / "images").iterdir()}
    pixels = {stem: np.asarray(Image.open(path)) for stem, path in images.items()}
    truth = {stem: read_values(root / f"targets/{stem}.tif") for stem in images}
    means = {
        stem: np.mean([one.values(image)[..., 0] for one in alone], axis=0)
        for stem, image in pixels.items()
    }

    def check_scores(file, predictions):
        content = json.loads(file.read_text())
        for row in content["per_image"]:
            stem = row["id"].rpartition("/")[2].removesuffix(".png")
            error = np.abs(predictions[stem] - truth[stem]).mean()
            assert row["mae"] == pytest.approx(error, rel=1e-4)
        return len(content["per_image"])

    assert evaluate(config, workdir) == 0
    files = {stem: workdir.glob(f"predictions/*{stem}_values.tif") for stem in images}
    written = {stem: read_values(*found) for stem, found in files.items()}
    assert check_scores(workdir / "scores.json", written) == len(IMAGES)

    whole = unet_jax.Predictor.load(workdir)
    found = whole.values(pixels["cell_0"])[..., 0]
    np.testing.assert_allclose(found, means["cell_0"], rtol=1e-5, atol=1e-2)
    where = {"input": str(images["cell_0"]), "output": str(tmp_path / "out")}
    assert predict(config, workdir, **where) == 0
    found = read_values(tmp_path / "out/cell_0_values.tif")
    np.testing.assert_allclose(found, means["cell_0"], rtol=1e-5, atol=1e-2)

    assert evaluate(config, first, ensemble=list(map(str, others))) == 0
    assert check_scores(first / "scores-ensemble.json", means)


@pytest.mark.slow
def test_the_folder_is_the_ensemble_of_its_folds(folder, images, tmp_path):
    config, workdir = folder
    runs = find_runs(workdir)
    image = np.asarray(Image.open(images / "images/cell_0.png"))
    whole = unet_jax.Predictor.load(workdir).probabilities(image)
    np.testing.assert_array_equal(
        whole, unet_jax.Predictor.load(*runs).probabilities(image)
    )
    assert not np.array_equal(
        whole, unet_jax.Predictor.load(runs[0]).probabilities(image)
    )
    outputs = {}
    for name, first, others in (
        ("folder", workdir, ()),
        ("members", runs[0], list(map(str, runs[1:]))),
    ):
        output = tmp_path / name
        config.predict.save_probabilities = True
        file = str(images / "images/cell_0.png")
        keywords = {"input": file, "output": str(output), "ensemble": others}
        assert predict(config, first, **keywords) == 0
        outputs[name] = {p.name: p.read_bytes() for p in output.iterdir()}
    assert outputs["folder"] == outputs["members"]
    config.predict.save_probabilities = False


@pytest.mark.slow
def test_the_folds_can_be_scored_again_with_other_options(folder):
    config, workdir = folder
    before = (workdir / "scores.json").read_bytes()
    scores = unet_jax.evaluate(workdir, tta="d4", save_probabilities=True)
    content = json.loads((workdir / "scores.json").read_text())
    assert content["predict"]["tta"] == "d4"
    assert scores["test/dice"] == content["test/dice"]
    assert len(list((workdir / "predictions").glob("*_probabilities.tif"))) == 7
    assert evaluate(config, workdir) == 0
    again = json.loads((workdir / "scores.json").read_text())
    assert again["test/dice"] == json.loads(before)["test/dice"]
    assert not list((workdir / "predictions").glob("*_probabilities.tif"))


@pytest.mark.slow
def test_predictions_are_not_written_through_a_link(folder, tmp_path):
    """The folder may be a stranger's, and the link may name a folder of the user."""
    config, workdir = folder
    copy, mine = tmp_path / "copy", tmp_path / "mine"
    shutil.copytree(workdir, copy)
    shutil.rmtree(copy / "predictions")
    mine.mkdir()
    (mine / "patient1_labels.png").touch()
    (copy / "predictions").symlink_to(mine)
    with pytest.raises(UserError, match="predictions is a symbolic link, and an eval"):
        evaluate(config, copy)
    assert [path.name for path in mine.iterdir()] == ["patient1_labels.png"]


def test_what_a_folder_of_folds_refuses(folder, trained):
    config, workdir = folder
    with pytest.raises(UserError, match="leave --ensemble out"):
        evaluate(config, workdir, ensemble=[str(trained[1])])
    with pytest.raises(UserError, match="choose another --workdir, or continue it"):
        train(config, workdir)
    other = config.copy_and_resolve_references()
    other.data.fold = 2
    with pytest.raises(UserError, match="data.fold is 0 in the folder and 2"):
        evaluate(other, workdir)


@pytest.mark.slow
def test_an_image_in_two_folds_is_refused(folder, tmp_path):
    config, workdir = folder
    for run in find_runs(workdir):
        (tmp_path / run.name).symlink_to(run)
    (tmp_path / "crossval.json").write_text('{"folds": ["fold-0"]}')
    with pytest.raises(UserError, match="'fold-0', which does not lie in the folder"):
        find_runs(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "crossval.json is not valid"),
        ('{"folds": []}', "crossval.json is not valid"),
        ('{"folds": [1]}', "crossval.json is not valid"),
        ('{"folds": ["a", "../b"]}', "names '../b', which does not lie in the folder"),
        ('{"folds": ["/tmp"]}', "names '/tmp', which does not lie in the folder"),
        ('{"folds": [".."]}', "names '..', which does not lie in the folder"),
        ('{"folds": [""]}', "names '', which does not lie in the folder"),
        ('{"folds": ["a", "a"]}', "names 'a' twice"),
    ],
)
def test_a_list_of_folds_that_is_wrong(tmp_path, content, words):
    (tmp_path / "crossval.json").write_text(content)
    with pytest.raises(UserError, match=re.escape(words)):
        find_runs(tmp_path)


def test_the_runs_of_a_folder(tmp_path):
    assert find_runs(tmp_path) == [tmp_path]
    (tmp_path / "crossval.json").write_text('{"folds": ["b", "a"]}')
    assert find_runs(tmp_path) == [tmp_path / "b", tmp_path / "a"]


SOURCE = {"source": "configs/folder.py", "given": {}}


@pytest.mark.parametrize(
    ("fields", "keywords", "words"),
    [
        ({}, {"given": {"data.fold": 1}}, "--config.data.fold: --mode=crossval trains"),
        ({}, {"source": "saved:{}"}, "--mode=crossval needs --config; the command"),
        ({"folds": 0}, {}, "config.data.folds must be at least 3, not 0"),
        ({"folds": 2}, {}, "config.data.folds must be at least 3, not 2"),
        ({"folds": 8}, {}, "folds must be at least 3 and at most 7"),
        ({"name": "cells"}, {}, "has no folds; name one that has: folder, isbi2012"),
    ],
)
def test_what_cannot_be_cross_validated(
    tiny, images, tmp_path, fields, keywords, words
):
    config = configure(tiny, images)
    if "name" in fields:
        config.data = ConfigDict(fields)
    config.data.update(fields)
    keywords = SOURCE | {
        key: value.format(tmp_path / "cv") if isinstance(value, str) else value
        for key, value in keywords.items()
    }
    with pytest.raises(UserError, match=re.escape(words)):
        crossval(config, tmp_path / "cv", **keywords)
    assert not (tmp_path / "cv").exists()


def test_a_given_test_split_has_no_folds(tiny, images, tmp_path):
    root = tmp_path / "data"
    for part in ("train", "test"):
        for kind in ("images", "masks"):
            (root / part / kind).mkdir(parents=True)
    for i, name in enumerate(IMAGES):
        for kind in ("images", "masks"):
            part = "test" if i == 0 else "train"
            target = root / part / kind / f"{name}.png"
            target.write_bytes((images / kind / f"{name}.png").read_bytes())
    config = configure(tiny, root)
    with pytest.raises(UserError, match="is a test image of fold-0 and of fold-1"):
        crossval(config, tmp_path / "cv", **SOURCE)


def test_other_folders_are_kept(tiny, images, tmp_path):
    config = configure(tiny, images)
    (tmp_path / "scores.json").write_text("{}")
    with pytest.raises(UserError, match="holds a run; choose another"):
        crossval(config, tmp_path, **SOURCE)
    (tmp_path / "crossval.json").write_text('{"folds": ["fold-0"]}')
    with pytest.raises(UserError, match="of 1 folds, not 3; choose another --workdir"):
        crossval(config, tmp_path, **SOURCE)


@pytest.mark.slow
def test_the_command_trains_scores_and_continues(images, tmp_path, capfd):
    source = tmp_path / "tiny.py"
    source.write_text(
        "from unet_jax.configs import folder\n"
        "def get_config():\n"
        "    config = folder.get_config()\n"
        f"    config.data.root = {str(images)!r}\n"
        "    config.data.classes = ('background', 'cell')\n"
        "    config.data.fold = 1\n"
        "    config.model.widths = (2, 4)\n"
        "    config.crop, config.batch_size, config.steps = (16, 16), 8, 2\n"
        "    return config\n"
    )
    given = {"data.folds": FOLDS, "metrics": ({"name": "dice"},)}
    config = apply_fields(unet_jax.load_config(source), given)
    keywords = {"source": str(source), "given": given, "workers": 2}
    workdir = tmp_path / "cv"
    assert crossval(config, workdir, **keywords) == 0
    shown = capfd.readouterr().out
    assert "7 images, each predicted by the fold" in shown
    assert "best" not in shown  # folds are not ranked
    page = (workdir / "report.html").read_text()
    assert "images of each fold" in page
    content = json.loads((workdir / "scores.json").read_text())
    assert [fold["run"] for fold in content["folds"]] == ["fold-0", "fold-1", "fold-2"]
    started = [(workdir / f"fold-{k}/metrics.jsonl").read_bytes() for k in range(FOLDS)]
    (workdir / "scores.json").unlink()
    assert crossval(config, workdir, **keywords) == 0  # scores, and trains nothing
    assert json.loads((workdir / "scores.json").read_text())["images"] == len(IMAGES)
    ended = [(workdir / f"fold-{k}/metrics.jsonl").read_bytes() for k in range(FOLDS)]
    assert started == ended
    file = workdir / "scores.json"
    for tta, words in (
        ("none", "scored already;"),
        ("d4", "already, with other values"),
    ):
        content = json.loads(file.read_text())
        file.write_text(
            json.dumps(content | {"predict": content["predict"] | {"tta": tta}})
        )
        capfd.readouterr()
        assert crossval(config, workdir, **keywords) == 0
        assert words in capfd.readouterr().out


def test_the_fold_is_no_changed_field_of_a_cross_validation(monkeypatch):
    session = {"changed_fields": [["data.fold", "0", "2"], ["steps", "1", "9"]]}
    account = {"training": [session], "evaluation": session, "training_seconds": 1.0}
    monkeypatch.setattr(provenance, "describe_run", lambda *_: account)
    fold = SimpleNamespace(member=SimpleNamespace(run=None, variables=None))
    found = describe_account(None, None, [fold, fold])
    sessions = [found["evaluation"], *found["training"]]
    assert [each["changed_fields"] for each in sessions] == [[["steps", "1", "9"]]] * 3
    assert found["training_seconds"] == 2.0


def test_scores_are_kept_until_a_fold_is_trained_again(tmp_path):
    """Clocks decide nothing: machines that share a folder may disagree on the time."""
    (tmp_path / "crossval.json").write_text('{"folds": ["a", "b"]}')
    logs = [tmp_path / name / "metrics.jsonl" for name in ("a", "b")]
    for log in logs:
        log.parent.mkdir()
        log.write_text('{"step": 1}\n')
    folds = [{"run": log.parent.name, "log": hash_log(log.parent)} for log in logs]
    for content in (None, "{", "{}", '{"folds": [{"run": "a"}]}'):
        if content:
            (tmp_path / "scores.json").write_text(content)
        assert not is_scored(tmp_path)
    (tmp_path / "scores.json").write_text(json.dumps({"folds": folds}))
    assert not is_scored(tmp_path)  # the evaluation was interrupted
    (tmp_path / "report.html").touch()
    for time in (0, 2**31):
        for log in logs:
            os.utime(log, (time, time))
        assert is_scored(tmp_path)
    logs[0].write_text('{"step": 1}\n{"step": 2}\n')
    os.utime(logs[0], (0, 0))
    assert not is_scored(tmp_path)
    logs[0].unlink()
    assert not is_scored(tmp_path)


@pytest.mark.slow
def test_an_evaluation_that_is_interrupted_is_not_complete(folder, monkeypatch):
    config, workdir = folder
    evaluate(config, workdir)
    assert is_scored(workdir)

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(reporting, "render_html", interrupt)
        with pytest.raises(KeyboardInterrupt):
            evaluate(config, workdir)
    assert not is_scored(workdir)
    evaluate(config, workdir)
    assert is_scored(workdir)


def test_a_fold_without_a_checkpoint_names_the_command(tmp_path):
    (tmp_path / "crossval.json").write_text('{"folds": ["a", "b"]}')
    words = f"{tmp_path}/b does not exist; start the --mode=crossval command of"
    with pytest.raises(UserError, match=re.escape(words)):
        check_trained(tmp_path / "b")


def test_errors_speak_of_a_cross_validation(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match="a cross-validation needs the package optuna"):
        import_optuna("cross-validation")
    words = "another cross-validation: base is a in the journal and b in this command"
    with pytest.raises(UserError, match=words):
        check_same({"base": "a"}, {"base": "b"}, tmp_path / "j", "cross-validation")
