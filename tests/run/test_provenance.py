"""The account of a run: in its checkpoints, in scores.json and in report.html."""

import datetime
import importlib.metadata
import json
import platform
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

import unet_jax
from unet_jax import logs
from unet_jax.build.dataset import load_splits
from unet_jax.checkpoint import load_newest_metadata
from unet_jax.configs import folder
from unet_jax.run import evaluate, provenance, run_config, run_folder, train

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """The folder of a run of two sessions; a file gives the config of the second."""
    folder = tmp_path_factory.mktemp("resumed")
    config = unet_jax.load_config("quickstart")
    config.steps, config.batch_size, config.crop = 2, 8, (16, 16)
    config.model.widths = (2, 4)
    config.data.update(shape=(16, 16), train=3, val=1, test=2)
    train(config, folder)
    config.steps = 4
    logs.warn("given before the session")
    source = unet_jax.load_config("quickstart")
    with provenance.use_config_source("configs/quickstart.py", source):
        train(config, folder)
    return folder


@pytest.mark.slow
def test_every_session_that_trained_is_in_the_scores(resumed):
    made = json.loads((resumed / "scores.json").read_text())["provenance"]
    assert made["training"] == provenance.read_sessions(load_newest_metadata(resumed))
    assert made["network"]["widths"] == [2, 4]
    assert made["parameters"] > 0
    assert [each["steps"] for each in made["training"]] == [[0, 2], [2, 4]]
    first, session = made["training"]
    assert first["config_file"] is first["changed_fields"] is None
    assert session["images"] == {"train": 3, "val": 1, "test": 2}
    assert session["split"] == "made by the data set cells"
    for each in (session, made["evaluation"]):
        assert each["command"] == shlex.join(sys.orig_argv)
        assert each["config_file"] == "configs/quickstart.py"
        changed = {name: (old, new) for name, old, new in each["changed_fields"]}
        assert changed["steps"] == ("250", "4")
        assert changed["data.train"] == ("64", "3")
        assert changed["model.widths"] == ("[16, 32, 64, 128]", "[2, 4]")
        assert "seed" not in changed
        age = datetime.datetime.now().astimezone() - datetime.datetime.fromisoformat(
            each["started"]
        )
        assert 0 <= each["seconds"] <= age.total_seconds() + 1 < 600
        assert each["versions"]["python"] == platform.python_version()
        assert each["versions"]["jax"] == importlib.metadata.version("jax")
        assert each["hardware"]["devices"] == jax.device_count()
        assert "given before the session" not in each["warnings"]
    assert made["evaluation"]["seconds"] >= session["seconds"]
    # the duration is that of metrics.jsonl, which goes on after a resumption
    assert made["training_seconds"] == logs.read_times(resumed).total
    assert made["first_step_seconds"] == logs.read_times(resumed).first_step
    rows = logs.read_scalars(resumed)
    assert made["training_seconds"] == rows[-1]["seconds"] > rows[0]["seconds"]


@pytest.mark.slow
def test_the_page_shows_the_account(resumed):
    page = (resumed / "report.html").read_text()
    for text in (
        "Provenance",
        "trained steps 0 to 2",
        "trained steps 2 to 4",
        "3 train, 1 val, 2 test",
        platform.python_version(),
        "Fields that differ from configs/quickstart.py",
    ):
        assert text in page


def test_the_duration_of_a_killed_run_is_that_of_its_log(trained, tmp_path):
    """Sessions, which a kill cuts off, do not count; neither do older runs."""
    config, folder = trained
    run = shutil.copytree(folder, tmp_path / "run")
    text = (run / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in text]
    rows[0] |= {"seconds": 300.0, "first_step_seconds": 150.0}
    rows[-1] |= {"seconds": 5400.0}
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    evaluate(config, run)
    made = json.loads((run / "scores.json").read_text())["provenance"]
    assert (made["training_seconds"], made["first_step_seconds"]) == (5400, 150)
    page = (run / "report.html").read_text()
    for name, value in {
        "training time": "1 h 30 min",
        "first step, with compilation": "2 min 30 s",
    }.items():
        assert re.search(rf"{name}</dt>\s*<dd>{value}", page), name
    (run / "metrics.jsonl").unlink()
    evaluate(config, run)
    made = json.loads((run / "scores.json").read_text())["provenance"]
    assert made["training_seconds"] is made["first_step_seconds"] is None
    assert "training time" not in (run / "report.html").read_text()


def test_a_run_accounts_for_itself(trained):
    config, folder = trained
    made = json.loads((folder / "scores.json").read_text())["provenance"]
    (session,) = made["training"]
    assert session["steps"] == [0, config.steps]
    assert session["command"] == made["evaluation"]["command"]
    page = (folder / "report.html").read_text()
    assert f"trained steps 0 to {config.steps}" in page
    assert f"{made['parameters']:,d} parameters" in page


def test_sessions_of_strangers_are_left_out():
    session = {
        "command": "c",
        "started": "2026-11-26T09:00:00+00:00",
        "seconds": 1.5,
        "config_file": None,
        "changed_fields": None,
        "versions": {"jax": "1", "commit": None},
        "hardware": {"devices": 1, "device": "cpu"},
        "warnings": [],
        "steps": [0, 4],
        "images": {"train": 3},
        "split": "s",
    }
    for wrong in (None, 3, "x", [], {}, {"seconds": "long"}, {"steps": [1]}):
        odd = wrong if not isinstance(wrong, dict) or not wrong else session | wrong
        found = provenance.read_sessions({provenance.SESSIONS: [session, odd]})
        assert found == [session]
        assert provenance.read_sessions({provenance.SESSIONS: wrong}) == []
    assert provenance.read_sessions({}) == []


def test_the_last_session_that_changes_a_field_wins():
    first = {"changed_fields": [["steps", "9", "20"], ["seed", "0", "1"]]}
    second = {"changed_fields": [["steps", "9", "30"]]}
    unknown = {"changed_fields": None}
    assert provenance.list_changes([first, unknown, second]) == [
        ["seed", "0", "1"],
        ["steps", "9", "30"],
    ]


def test_the_commit_is_that_of_the_checkout():
    try:
        done = subprocess.run(
            ["git", "-C", ROOT, "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("the tests run outside of a git checkout")
    head = done.stdout.strip()
    assert provenance.read_versions()["commit"] in (head, f"{head}-dirty")


def make_folder_config(root, images, splits=("",)):
    """Writes images, the same in each of the splits but for one value each."""
    for number, split in enumerate(splits):
        for i, image in enumerate(images):
            for kind, array in (("images", image + number), ("masks", image > 128)):
                path = root / split / kind / f"{split}{i:02}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array.astype(np.uint8)).save(path)
    config = folder.get_config()
    config.data.root = str(root)
    return config


def describe_split_of(config):
    return provenance.describe_split(config, load_splits(config).notes)


def draw_noise(count):
    rng = np.random.default_rng(3)
    return [rng.integers(0, 240, (48, 48)) for _ in range(count)]


def draw_series(count):
    """Returns views of one wide picture, each 6 pixels further than the last."""
    wide = np.random.default_rng(3).normal(size=(48, 48 + 6 * count))
    wide = 128 + 400 * ndimage.gaussian_filter(wide, 3)
    return [wide[:, 6 * i : 6 * i + 48] for i in range(count)]


FIELDS = "val=0.15, test=0.15, folds=0, fold=0, seed=0, group='', series={!r}, "
FIELDS = f"made with {FIELDS}leaks='refuse'"


def test_the_split_of_a_data_set_or_of_a_file_is_named(tiny, tmp_path):
    assert provenance.describe_split(tiny, {}) == "made by the data set cells"
    config = make_folder_config(tmp_path, draw_noise(12))
    notes = load_splits(config).notes
    assert provenance.describe_split(config, notes) == FIELDS.format("together")
    config.data.split = str(tmp_path / "split.json")
    run_folder.write_json(tmp_path / "split.json", notes["split.json"])
    assert describe_split_of(config) == f"read from {tmp_path}/split.json"


def test_the_rule_that_keeps_consecutive_images_together_is_named(tmp_path):
    config = make_folder_config(tmp_path, draw_series(20))
    words = describe_split_of(config)
    assert words.startswith(f"{FIELDS.format('together')}; consecutive images look ")
    assert "the splits are blocks of consecutive images: train 00 to " in words
    config.data.series = "apart"
    assert describe_split_of(config) == FIELDS.format("apart")


def test_the_split_of_folders_is_named(tmp_path):
    images = draw_noise(6)
    config = make_folder_config(tmp_path / "two", images[:2], ("train", "test"))
    config.data.leaks = "allow"
    assert describe_split_of(config).startswith("the folder test/; made with val=0.15")
    every = ("train", "val", "test")
    config = make_folder_config(tmp_path / "three", images[:2], every)
    config.data.leaks = "allow"
    assert describe_split_of(config) == "the folders val/ and test/"


def test_a_config_made_in_python_has_no_file(tiny):
    session = provenance.start_session()
    logs.warn("odd")
    logs.warn("odd")
    made = provenance.describe_session(session, tiny)
    assert made["config_file"] is made["changed_fields"] is None
    assert made["warnings"] == ["odd"]
    source = run_config.config_to_json(tiny)
    with provenance.use_config_source("mine.py", tiny):
        assert provenance.config_source.get() == ("mine.py", source)
        assert provenance.describe_session(session, tiny)["changed_fields"] == []
    assert provenance.config_source.get() is None
