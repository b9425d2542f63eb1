"""The comparison of run folders, which are written by hand."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from unet_jax.errors import UserError
from unet_jax.run.compare import compare
from unet_jax.run.comparison.contents import compare_runs
from unet_jax.run.comparison.folders import find_folders, name_folders
from unet_jax.run.comparison.run_record import read_run
from unet_jax.run.run_config import config_to_json

HOSTILE = "<script>alert('\"&')</script>"


@pytest.fixture
def make_run(tiny, tmp_path):
    """A function that writes a run folder: config, scores by name, rows of the log."""

    def make(run, scores=None, rows=(), ids=("a", "b"), about=None, **fields):
        folder = tmp_path / run
        folder.mkdir(parents=True)
        config = config_to_json(tiny) | fields
        (folder / "config.json").write_text(json.dumps(config))
        lines = [json.dumps(row) for row in rows]
        (folder / "metrics.jsonl").write_text("\n".join(lines))
        if scores is not None:
            images = [{"id": each} for each in ids]
            content = {f"test/{key}": value for key, value in scores.items()}
            content |= {"step": 4, "per_image": images, "mean_over": "all classes"}
            text = json.dumps(content | (about or {}))
            (folder / "scores.json").write_text(text)
        return folder

    return make


def compared(*folders):
    names = [folder.name for folder in folders]
    return compare_runs([read_run(folder) for folder in folders], names)


def best(comparison):
    return {score.metric.name: score.best for score in comparison.scores}


def test_the_direction_of_the_best_comes_from_the_metric(make_run):
    first = make_run("a", {"dice": 0.8, "pixel_error": 0.3, "loss": 2.0, "mine": 1.0})
    other = make_run("b", {"dice": 0.9, "pixel_error": 0.4, "loss": 1.0, "mine": 2.0})
    third = make_run("c", {"dice": 0.9, "pixel_error": None, "mine": 3.0})
    comparison = compared(first, other, third)
    assert best(comparison) == {
        "dice": [1, 2],
        "pixel_error": [0],
        "mine": [],  # not a metric of the config, so its direction is unknown
        "loss": [1],
    }
    assert [score.values[2] for score in comparison.scores] == [0.9, None, 3.0, None]
    assert comparison.warnings == []


def test_scores_with_the_same_text_are_equal(make_run):
    first = make_run("a", {"dice": 0.90001, "iou": 0.80001})
    other = make_run("b", {"dice": 0.90002, "iou": 0.80002})
    third = make_run("c", {"dice": 0.90003, "iou": 0.79})
    assert best(compared(first, other)) == {"dice": [], "iou": []}
    assert best(compared(first, other, third)) == {"dice": [], "iou": [0, 1]}


def test_the_table_has_the_states_of_runs_that_have_not_finished(
    make_run, tiny, tmp_path, capsys
):
    rows = [{"step": 2, "train/loss": 1.0}]
    runs = [str(make_run("a" * 30, rows=rows)), str(make_run("b", {"dice": 1.0}))]
    compare(tiny, tmp_path, runs=runs, output=str(tmp_path / "c.html"))
    shown = capsys.readouterr().out
    assert re.search(r"^ +dice +state$", shown, re.MULTILINE)
    assert re.search(r"^a{30} +\S+ +unfinished: step 2 of 4$", shown, re.MULTILINE)


def test_scores_that_are_computed_in_different_ways_have_no_best(make_run, tiny):
    metrics = [{"name": "f1"}, {"name": "dice"}]
    strict = [{"name": "f1", "threshold": 0.9}, {"name": "dice"}]
    scores = {"f1": 0.5, "dice": 0.5, "loss": 1.0}
    first = make_run("a", scores, metrics=metrics)
    lower = {"f1": 0.4, "dice": 0.4, "loss": 0.9}
    other = make_run("b", lower, metrics=strict, loss=[{"name": "focal"}])
    assert best(compared(first, other)) == {"f1": [], "dice": [0], "loss": []}
    third = make_run("c", lower, metrics=metrics, weight_map={"name": "frequency"})
    assert best(compared(first, third)) == {"f1": [0], "dice": [0], "loss": []}


def test_only_fields_that_differ_are_listed(make_run, tiny):
    first = make_run("a", seed=3, name="x", steps=8)
    other = make_run("b", model=config_to_json(tiny)["model"] | {"widths": [2, 4, 8]})
    changes = dict(compared(first, other).changes)
    assert changes == {
        "model.widths": ["(2, 4)", "(2, 4, 8)"],
        "seed": ["3", "0"],
        "steps": ["8", "4"],
    }


def test_specs_of_one_name_are_compared_by_field_and_others_as_a_whole(make_run):
    cross_entropy, dice = {"name": "cross_entropy"}, {"name": "dice", "smooth": 1.0}
    adam, sgd = {"name": "adam"}, {"name": "sgd", "momentum": 0.9}
    losses = [cross_entropy, dice], [cross_entropy, dice | {"smooth": 0.5}]
    first = make_run("a", loss=losses[0], augment=[], optimizer=adam)
    other = make_run("b", loss=losses[1], augment=[dice, adam], optimizer=sgd)
    assert compared(first, other).changes == [
        ("augment", ["()", "dice(smooth=1.0), adam"]),
        ("loss[1].smooth", ["1.0", "0.5"]),
        ("optimizer", ["adam", "sgd(momentum=0.9)"]),
    ]


def test_the_options_of_the_evaluation_replace_those_of_the_config(make_run, tiny):
    predict = config_to_json(tiny)["predict"]
    first = make_run("a", {}, about={"predict": predict | {"tta": "d4"}})
    other = make_run("b", {}, about={"predict": predict})
    assert compared(first, other).changes == [("predict.tta", ["d4", "none"])]


def test_different_test_images_are_said_and_nothing_is_best(make_run):
    first = make_run("a", {"dice": 0.8}, ids=("x", "y"))
    other = make_run("b", {"dice": 0.9}, ids=("y", "z", "w"))
    comparison = compared(first, other)
    assert comparison.warnings == [
        "The scores cannot be compared: a was tested on 2 images and b on 3; they "
        "share 1."
    ]
    assert best(comparison) == {"dice": []}


def test_equal_names_of_other_data_are_said(make_run, tiny):
    data = config_to_json(tiny)["data"]
    first = make_run("a", {"dice": 0.8})
    other = make_run("b", {"dice": 0.9}, data=data | {"shape": [64, 64]})
    assert compared(first, other).warnings == [
        "The scores may not be comparable: the names of the test images are the same, "
        "but the data sets differ in data.shape."
    ]


def test_means_over_different_classes_are_said(make_run):
    first = make_run("a", {"dice": 0.8})
    other = make_run("b", {"dice": 0.9}, about={"mean_over": "foreground classes"})
    assert compared(first, other).warnings == [
        "The scores cannot be compared: they are means over all classes (a) and "
        "foreground classes (b)."
    ]


def test_states_and_steps(make_run):
    rows = [{"step": 2, "train/loss": 1.0, "seconds": 5.0}]
    sessions = {"provenance": {"training": [{"steps": [0, 1]}]}}
    unfinished = make_run("a", rows=rows)
    done = make_run("b", {"dice": 1.0})
    continued = make_run("c", {"dice": 0.5}, rows=rows, about=sessions)
    runs = compared(unfinished, done, continued).runs
    assert [run.state for run in runs] == [
        "unfinished: step 2 of 4",
        "finished",
        "continued after its scores: step 2 of 4",
    ]
    assert [run.finished for run in runs] == [False, True, True]


def test_the_page_and_the_table(make_run, tiny, tmp_path, capsys):
    rows = [{"step": i, "train/loss": 1 / i, "val/dice": i / 9} for i in (1, 2, 3)]
    first = make_run("run-2", {"dice": 0.8, HOSTILE: 0.1}, rows, init_from=HOSTILE)
    make_run("run-10", {"dice": 0.75, "dice/cell": 0.75}, [*rows, {"step": 4}])
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(first / "predictions.png")
    (first.parent / "run-10/predictions.png").write_text(HOSTILE)
    (tmp_path / "run-x").mkdir()
    page = tmp_path / "new/page.html"
    assert compare(tiny, tmp_path, runs=[f"{tmp_path}/run-*"], output=str(page)) == 0
    shown = capsys.readouterr().out
    assert f"left out, not runs: {tmp_path}/run-x" in shown
    assert re.search(r"run-2 +0.8000\*.*\n *run-10 +0.7500\n", shown)
    text = page.read_text()
    assert "<script" not in text
    assert "alert" in text
    assert text.count("data:image/png") == 1
    assert "★ 0.8000" in text
    assert "loss, training" in text
    assert text.count('aria-label="dice, validation over training steps"') == 1
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", text)
    before = page.read_bytes()
    compare(tiny, tmp_path, runs=[f"{tmp_path}/run-*"], output=str(page))
    assert page.read_bytes() == before


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        (["{}/a"], "--runs names 1 run; name two or more"),
        (["{}/a", "{}/nowhere"], "{}/nowhere does not exist; name the folders of runs"),
        (["{}/a", "{}/file"], "{}/file is a file, not a run folder"),
        (["{}/a", "{}/empty"], "{}/empty holds no run; name the folder of a run"),
        (["{}/a", "{}"], "{} holds no run; name those in it: '{}/*'"),
        (["{}/a", "{}/none-*"], "{}/none-* fits no path; check the pattern"),
        (["{}/a", "{}/e*"], "{}/e* names no run folder"),
        (["{}/a", "{}/empty/../a"], "names {}/empty/../a twice; name each run once"),
        (["{}/[ab]", "{}/b"], "names {}/b twice"),
    ],
)
def test_folders_that_cannot_be_compared(make_run, tmp_path, runs, words):
    make_run("a")
    make_run("b")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=re.escape(words.replace("{}", str(tmp_path)))):
        find_folders([run.replace("{}", str(tmp_path)) for run in runs])


def test_a_file_that_is_not_a_comparison_is_kept(make_run, tiny, tmp_path):
    runs = [str(make_run("a")), str(make_run("b"))]
    other = tmp_path / "report.html"
    other.write_text("mine")
    with pytest.raises(UserError, match="is not the page of a comparison"):
        compare(tiny, tmp_path, runs=runs, output=str(other))
    assert other.read_text() == "mine"


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("config.json", "{", "config.json is not valid"),
        ("config.json", '{"hidden_size": 3}', "is not the config of a run"),
        ("scores.json", '{"test/dice": "high"}', "scores.json is not valid"),
        ("scores.json", '{"step": -1}', "scores.json is not valid"),
        ("scores.json", '{"provenance": {"training": 3}}', "scores.json is not valid"),
        ("scores.json", '{"test/dice": 1e999}', "scores.json is not valid"),
    ],
)
def test_a_file_of_another_kind_is_named(make_run, file, content, words):
    folder = make_run("a", {"dice": 1.0})
    (folder / file).write_text(content)
    with pytest.raises(UserError, match=words):
        read_run(folder)


def test_extreme_numbers_and_external_names_do_no_harm(make_run, tiny, tmp_path):
    rows = [{"step": 10**18, "val/dice": 1e308}, {"step": -5, "val/dice": -1e308}]
    rows += [{"step": 3, "train/loss": 1e29}, {"step": 4, "train/loss": 1.0}]
    external = [{"name": "nowhere.evil:run"}, {"name": "dice"}]
    make_run("a", {"run": 1.0, "dice": 0.1}, rows, metrics=external)
    make_run("b", {"run": 2.0, "dice": 0.2}, metrics=external)
    compare(
        tiny, tmp_path, runs=[f"{tmp_path}/a", f"{tmp_path}/b"], output=str(tmp_path)
    )
    text = (tmp_path / "compare.html").read_text()
    assert "★ 0.2000" in text
    assert "★ 2.0000" not in text  # the direction of an external metric is unknown


def test_short_names_are_the_shortest_ends_that_differ(tmp_path):
    folders = [tmp_path / "x/run", tmp_path / "y/run"]
    assert name_folders(folders) == ["x/run", "y/run"]
    assert name_folders([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]


def test_a_config_of_another_version_has_no_directions(make_run):
    first = make_run("a", {"dice": 0.1}, steps="many")
    comparison = compared(first, make_run("b", {"dice": 0.2}))
    assert best(comparison) == {"dice": []}
    assert dict(comparison.changes) == {"steps": ["many", "4"]}


def test_only_the_test_images_decide_if_scores_are_comparable(make_run, tiny):
    data = config_to_json(tiny)["data"]
    first = make_run("a", {"dice": 0.8}, data=data | {"train": 8})
    fewer = data | {"train": 4, "val": 1, "labelled": 2, "unlabelled": 3}
    comparison = compared(first, make_run("b", {"dice": 0.9}, data=fewer))
    assert comparison.warnings == []
    assert best(comparison) == {"dice": [1]}


def test_a_trained_run_without_scores_is_not_called_unfinished(make_run):
    rows = [{"step": 4, "train/loss": 1.0}]  # of 4
    (run, _) = compared(make_run("a", rows=rows), make_run("b", {"dice": 1.0})).runs
    assert run.state == "trained, not scored"


def test_a_cross_validation_that_was_interrupted(make_run, tmp_path):
    other, folder = make_run("b", {"dice": 1.0}), tmp_path / "cv"
    folder.mkdir()
    names = ["fold-0", "fold-1", "fold-2"]
    (folder / "crossval.json").write_text(json.dumps({"folds": names}))
    for name in names[:2]:
        shutil.copytree(other, folder / name)
    (folder / "fold-1/scores.json").unlink()
    run, _ = compared(folder, other).runs
    assert run.state == "unfinished: 1 of 3 folds scored"
    for name in names[1:]:
        shutil.copytree(other, folder / name, dirs_exist_ok=True)
    run, _ = compared(folder, other).runs
    assert run.state == "trained, not scored"


def test_flags_that_a_comparison_cannot_use_are_refused(make_run, tiny, tmp_path):
    runs = [str(make_run("a")), str(make_run("b"))]
    image = tmp_path / "cmp.png"
    with pytest.raises(UserError, match=r"HTML file; name one, such as .*cmp\.html"):
        compare(tiny, tmp_path, runs=runs, output=str(image))
    assert not image.exists()
    with pytest.raises(UserError, match=r"compare takes no --config\.steps"):
        compare(tiny, tmp_path, runs=runs, given={"steps": 2})


def test_a_page_that_is_replaced_is_reported(make_run, tiny, tmp_path, capsys):
    runs, page = [str(make_run("a")), str(make_run("b"))], str(tmp_path / "c.html")
    for word in ("wrote", "replaced"):
        compare(tiny, tmp_path, runs=runs, output=page)
        assert f"{word} {page}" in capsys.readouterr().out
