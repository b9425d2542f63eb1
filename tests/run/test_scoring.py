"""Scores of whole images, compared with a loop without tiles and batches."""

import json

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils
from ml_collections import ConfigDict
from PIL import Image

from unet_jax.build.dataset import load_splits
from unet_jax.build.training import build
from unet_jax.checkpoint import load_newest_metadata
from unet_jax.configs import folder, saved
from unet_jax.data.examples import Examples, MemoryBudget
from unet_jax.run import evaluate, run_folder, scoring, train
from unet_jax.run.reporting import describe_true_objects
from unet_jax.run.scoring import score_images


def build_fresh(config):
    """Returns the parts that score a run, and fresh variables."""
    parts = build(config)
    state = parts.init(jax.random.key(1))
    return parts.evaluation, parts.evaluation.method.variables(state)


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_scores_are_those_of_whole_images(tiny, padding):
    tiny.model = ConfigDict({"name": "UNet", "widths": (2, 4), "padding": padding})
    tiny.crop = (28, 28)
    tiny.data.test = 11  # more than one batch of 8; the last one is padded
    tiny.predict.tile = (28, 28)
    parts, variables = build_fresh(tiny)
    evaluation = score_images(parts, [variables], "test", parts.test, as_predicted=True)

    model = build(tiny).model
    margin = model.geometry(2).margin[0]
    right = total = 0
    hits, sizes = np.zeros(2), np.zeros(2)
    for i in range(11):
        image, label = parts.test[i]["image"], parts.test[i]["label"]
        pad = [(margin, margin)] * 2 + [(0, 0)]
        image = np.pad(image, pad, mode="reflect")
        logits = model.apply(variables, image[None])[0]
        prediction = np.argmax(logits, axis=-1)
        assert prediction.shape == label.shape
        right += int((prediction == label).sum())
        total += label.size
        hit = np.zeros(2)
        size = np.zeros(2)
        for k in range(2):
            hit[k] = 2 * int(((prediction == k) & (label == k)).sum())
            size[k] = int((prediction == k).sum() + (label == k).sum())
        image = evaluation.per_image[i]
        assert image["id"] == parts.test[i]["id"]
        assert image["dice"] == pytest.approx(hit[1] / size[1], abs=1e-6)
        loss = parts.loss(logits, parts.test[i])
        assert image["loss"] == pytest.approx(float(loss), rel=1e-4)
        hits, sizes = hits + hit, sizes + size
    scores = evaluation.scores
    assert scores["test/accuracy"] == pytest.approx(right / total, abs=1e-6)
    assert scores["test/dice/cell"] == pytest.approx(hits[1] / sizes[1], abs=1e-6)
    assert scores["test/dice/background"] == pytest.approx(hits[0] / sizes[0])
    assert scores["test/dice"] == scores["test/dice/cell"]
    losses = [image["loss"] for image in evaluation.per_image]
    assert scores["test/loss"] == pytest.approx(np.mean(losses))
    assert evaluation.confusion.sum() == evaluation.reliability[0].sum() == total


def score_test_images(config, **arguments):
    whole = build(config, **arguments)
    parts = whole.evaluation
    variables = parts.method.variables(whole.init(jax.random.key(1)))
    return score_images(parts, [variables], "test", parts.test, as_predicted=True)


def change_sources(splits, change):
    return splits._replace(
        **{name: change(source) for name, source in splits.sources.items()}
    )


def test_all_classes_count_in_a_data_set_without_a_background(tiny):
    """The surfaces of two classes that fill the image are about the same."""
    splits = change_sources(
        load_splits(tiny), lambda source: source._replace(background=False)
    )
    scores = score_test_images(tiny, splits=splits).scores
    for name in ("dice", "iou", "precision", "recall", "surface_dice", "hausdorff95"):
        each = [scores[f"test/{name}/{one}"] for one in ("background", "cell")]
        assert scores[f"test/{name}"] == pytest.approx(np.mean(each))


def test_runs_older_than_the_field_average_the_background_in_overlaps(tiny):
    """The background still has no surface, so distances are those of the cells."""
    resumed = build(tiny).evaluation.prediction.preprocessing
    new = score_test_images(tiny, resumed=resumed)
    del resumed["background"]
    old = score_test_images(tiny, resumed=resumed)
    assert new.scores["test/dice"] == new.scores["test/dice/cell"]
    for name in ("dice", "iou", "precision", "recall"):
        each = [old.scores[f"test/{name}/{one}"] for one in ("background", "cell")]
        assert old.scores[f"test/{name}"] == pytest.approx(np.mean(each))
    means = {f"test/{name}" for name in ("dice", "iou", "precision", "recall")}
    same = new.scores.keys() - means
    assert {k: old.scores[k] for k in same} == {k: new.scores[k] for k in same}


def test_a_class_without_a_pixel_is_named_and_has_no_score(tiny):
    names = ("background", "cell", "mitosis")
    splits = change_sources(
        load_splits(tiny),
        lambda source: source._replace(classes=names, colours=((0, 0, 0),) * 3),
    )
    evaluation = score_test_images(tiny, splits=splits)
    assert evaluation.absent == ("mitosis",)
    assert evaluation.scores["test/dice/mitosis"] in (None, 0)  # 0 if it is predicted


def test_an_image_without_annotation_has_no_loss_and_no_score(tiny):
    def blank(source):
        def load(index):
            record = source.load(index)
            ignored = np.full_like(record["label"], -1 if index == 0 else 1)
            return {**record, "label": np.minimum(record["label"], ignored)}

        return source._replace(load=load)

    splits = change_sources(load_splits(tiny), blank)
    evaluation = score_test_images(tiny, splits=splits)
    first, *others = evaluation.per_image
    assert first["loss"] is first["dice"] is first["pixel_error"] is None
    losses = [image["loss"] for image in others]
    assert evaluation.scores["test/loss"] == pytest.approx(np.mean(losses))


@pytest.mark.slow
def test_images_of_several_sizes_are_scored_in_their_order(tiny):
    small, variables = build_fresh(tiny)
    tiny.data.shape = (33, 18)
    large, _ = build_fresh(tiny)
    several = [large.test[0], small.test[0], large.test[1], small.test[1]]
    mixed = Examples(several.__getitem__, len(several), MemoryBudget(0))
    evaluation = score_images(small, [variables], "test", mixed, as_predicted=False)
    assert [image["id"] for image in evaluation.per_image] == [e["id"] for e in several]
    assert evaluation.scores["test/loss"] > 0
    # three times as wide, for the titles
    assert evaluation.picture.shape[1] == 3 * (4 * 24 + 3 * 4)


def test_scores_use_the_predict_options_of_the_config(tiny):
    tiny.predict.postprocess = (
        ConfigDict({"name": "remove_small", "pixels": 10**6}),
        ConfigDict({"name": "watershed"}),
    )
    tiny.predict.tta = "flips"
    parts, variables = build_fresh(tiny)
    evaluation = score_images(parts, [variables], "test", parts.test, as_predicted=True)
    assert evaluation.confusion[:, 1].sum() == 0  # no object is that large
    assert evaluation.scores["test/panoptic_quality"] == 0
    assert evaluation.scores["test/loss"] is None  # undefined for a mean over views
    alone = score_images(parts, [variables], "val", build(tiny).val, as_predicted=False)
    assert alone.scores["val/loss"] > 0
    assert alone.confusion[:, 1].sum() > 0


def test_objects_are_counted_if_the_scored_examples_have_them(tiny):
    """Not if those of the test split do; and each image is read once."""
    parts, variables = build_fresh(tiny)
    parts = parts._replace(metrics=tuple(m for m in parts.metrics if m[0] == "dice"))
    reads = []

    def load(index):
        reads.append(index)
        return parts.test[index]

    def load_without(index):
        return {k: x for k, x in parts.test[index].items() if k != "instances"}

    assert "instances" in parts.test[0]
    for loader, counted in ((load, True), (load_without, False)):
        examples = Examples(loader, 3, MemoryBudget(2**20))
        evaluation = score_images(
            parts, [variables], "test", examples, as_predicted=True
        )
        assert (evaluation.object_errors is not None) == counted
        assert ("instances" in evaluation.keys) == counted
        origin = "the data set's own" if counted else "face-connected components"
        assert describe_true_objects(parts, evaluation).startswith(origin)
    assert sorted(reads) == [0, 1, 2]


def test_the_measures_of_several_processes_are_gathered(tiny, monkeypatch):
    """Runs two processes of a run in turn, each with every other image."""
    tiny.data.test = 5
    parts, variables = build_fresh(tiny)
    alone = score_images(parts, [variables], "test", parts.test, as_predicted=True)
    shares = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for index in range(2):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        with monkeypatch.context() as patch:
            patch.setattr(scoring, "_gather_processes", lambda m: shares.append(m) or m)
            score_images(parts, [variables], "test", parts.test, as_predicted=True)
    assert [len(share) for share in shares] == [3, 2]

    texts = [scoring._encode(share) for share in shares]
    most = max(map(len, texts))
    replies = iter(
        [
            np.array([len(t) for t in texts]),
            np.stack([np.pad(t, (0, most - len(t))) for t in texts]),
        ]
    )
    monkeypatch.setattr(multihost_utils, "process_allgather", lambda x: next(replies))
    together = scoring._compute_scores(
        parts,
        "test",
        sorted(scoring._gather_processes(shares[0])),
        alone.picture,
        ["confusion", "reliability", "object_errors"],
    )
    assert together.scores == alone.scores
    assert together.per_image == alone.per_image
    for name, total in scoring.name_object_errors(together.object_errors).items():
        assert total == sum(image["objects"][name] for image in alone.per_image)
    true = [len(np.unique(example["instances"])) - 1 for example in parts.test]
    assert [image["objects"]["true"] for image in alone.per_image] == true


def write_pairs(home, values):
    """Writes two pairs of each split, whose masks have the values of the split."""
    rng = np.random.default_rng(0)
    for split, present in values.items():
        for kind in ("images", "masks"):
            (home / split / kind).mkdir(parents=True)
        for i in range(2):
            mask = rng.choice(present, (24, 24)).astype(np.uint8)
            image = mask * 60 + rng.integers(0, 50, mask.shape, np.uint8)
            Image.fromarray(mask).save(home / split / f"masks/{split}{i}.png")
            Image.fromarray(image).save(home / split / f"images/{split}{i}.png")


def make_folder_config(tiny, home):
    config = folder.get_config()
    config.update({k: tiny[k] for k in ("steps", "eval_every", "crop", "model")})
    config.checkpoint_every, config.batch_size = 2, 8
    config.data.root = str(home)
    config.data.classes = ("soil", "root", "stone")
    config.metrics = (ConfigDict({"name": "dice"}), ConfigDict({"name": "hausdorff"}))
    return config


def read_json(path):
    """Reads JSON that has no NaN and no Infinity, which are not JSON."""
    return json.loads(path.read_text(), parse_constant=pytest.fail)


@pytest.mark.slow
def test_a_run_says_which_classes_validation_and_test_lack(tiny, tmp_path, capsys):
    """Nothing that counts is annotated in the validation images, or predicted."""
    values = {"train": [0, 1, 2], "val": [0], "test": [0, 1]}
    write_pairs(tmp_path / "data", values)
    config, workdir = make_folder_config(tiny, tmp_path / "data"), tmp_path / "run"
    config.weight_map = ConfigDict({"name": "frequency", "shares": (1e-9, 1.0, 1.0)})
    config.loss = (ConfigDict({"name": "cross_entropy"}),)
    config.optimizer.learning_rate = 1.0  # soon all predictions are soil
    config.steps = config.eval_every = config.checkpoint_every = 6
    train(config, workdir)
    out = capsys.readouterr().out
    for line in (
        "the validation images have no pixel of 'root', 'stone': the scores of such a",
        "the test images have no pixel of 'stone': the scores of such a class are left",
        "val/dice is undefined at step 6; this checkpoint is the best only if no other",
        "val/dice is undefined in every checkpoint; that of step 6 is scored",
    ):
        assert f"warning: {line}" in out
    # once before training, and that of the test split once more with its scores
    assert out.count("the validation images have no pixel of") == 1
    assert out.count("the test images have no pixel of") == 2
    train(config, workdir)  # scores the finished run again
    out = capsys.readouterr().out
    assert out.count("the validation images have no pixel of") == 1

    scores = read_json(workdir / "scores.json")
    assert scores["absent_classes"] == {"val": ["root", "stone"], "test": ["stone"]}
    assert scores["mean_over"] == "foreground classes"
    assert scores["test/dice/stone"] is None
    assert scores["test/dice"] == scores["test/dice/root"] == 0
    assert "classes without a pixel in val" in (workdir / "report.html").read_text()
    for line in (workdir / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


@pytest.mark.slow
def test_an_older_run_is_evaluated_and_resumed_by_its_own_rule(
    tiny, tmp_path, capsys, monkeypatch
):
    """Such a run has no `background` in its config and its pre-processing."""
    write_pairs(
        tmp_path / "data", {name: [0, 1, 2] for name in ("train", "val", "test")}
    )
    config, workdir = make_folder_config(tiny, tmp_path / "data"), tmp_path / "run"
    del config.data.background
    config.steps = 2
    older = build(config).evaluation.prediction.preprocessing
    del older["background"]
    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "read_preprocessing", lambda workdir: older)
        train(config, workdir)
    assert "background" not in load_newest_metadata(workdir)["preprocessing"]

    evaluate(saved.get_config(str(workdir)), workdir)
    assert read_json(workdir / "scores.json")["mean_over"] == "all classes"
    check_that_all_classes_count(read_json(workdir / "scores.json"), "test")
    config.data.background = True  # as in the config file of today
    config.steps = 4
    capsys.readouterr()
    train(config, workdir)
    out = capsys.readouterr().out
    assert "data.background: the run is older than this field" in out
    check_that_all_classes_count(read_json(workdir / "scores.json"), "test")
    last = (workdir / "metrics.jsonl").read_text().splitlines()[-1]
    check_that_all_classes_count(json.loads(last), "val")
    assert "background" not in load_newest_metadata(workdir)["preprocessing"]
    saved.get_config(str(workdir))  # the new key of config.json is no damage


def check_that_all_classes_count(scores, split):
    overlap, distance = (
        [scores[f"{split}/{name}/{one}"] for one in ("soil", "root", "stone")]
        for name in ("dice", "hausdorff")
    )
    assert scores[f"{split}/dice"] == pytest.approx(np.mean(overlap))
    assert distance[0] is None
    assert scores[f"{split}/hausdorff"] == pytest.approx(np.mean(distance[1:]))
