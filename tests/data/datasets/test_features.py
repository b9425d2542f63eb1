"""Prepared data sets are data: they name no code that is then imported."""

import json
import os
import sys

import pytest
import tensorflow_datasets

from unet_jax.data.datasets.tfds import FEATURE_CLASSES, find_builder
from unet_jax.errors import UserError

FOREIGN = "strangers.evil.Foo"
FEATURES = "tensorflow_datasets.core.features"
DICT = f"{FEATURES}.features_dict.FeaturesDict"
LABEL = f"{FEATURES}.class_label_feature.ClassLabel"
MASK = f"{FEATURES}.labeled_image.LabeledImage"


class Asked(Exception):
    """TFDS was asked to read the folder."""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folder of a data set, and a TFDS that must not see what is in it."""

    def read(folder):
        raise Asked(folder)

    monkeypatch.setattr(tensorflow_datasets, "builder_from_directory", read)
    folder = tmp_path / "thing" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{}")
    return folder


def nested(key, name=FOREIGN):
    inner = {"features": {"a": {"sequence": [{key: name}]}}}
    return {"pythonClassName": DICT, "featuresDict": inner}


@pytest.mark.parametrize(
    "content",
    [
        {"pythonClassName": FOREIGN},
        nested("pythonClassName"),
        nested("python_class_name"),  # the JSON of a protocol buffer has both forms
        {"type": FOREIGN, "content": {}},
        {"pythonClassName": DICT, "json": {"json": json.dumps(nested("type"))}},
        nested("pythonClassName", "tensorflow_datasets_evil.Foo"),
        nested("pythonClassName", "tensorflow_datasets.scripts.cli.main.Foo"),
        nested("pythonClassName", "tensorflow_datasets.core.features.Foo"),
        nested("pythonClassName", f"{DICT}.Foo"),
        {"json": {"json": '{"type": "strangers.evil.Foo", "a": NaN}'}},
    ],
)
def test_a_class_that_is_not_in_the_list_is_refused(place, tmp_path, content):
    (place / "features.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"Foo', which is not imported") as error:
        find_builder("thing", "", str(tmp_path))
    assert str(error.value).startswith(f"{place}/features.json names the class ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        "foo.Mine",
        f"{FEATURES}.audio_feature.Audio",  # is decoded by ffmpeg
        f"{FEATURES}.top_level_feature.TopLevelFeature",
    ],
)
def test_a_class_that_tfds_knows_may_be_refused(place, tmp_path, name, monkeypatch):
    """Another program may have registered a class of its own in this process."""
    known = tensorflow_datasets.features.FeatureConnector._registered_features
    monkeypatch.setitem(known, "foo.Mine", tensorflow_datasets.features.Text)
    (place / "features.json").write_text(json.dumps(nested("type", name)))
    with pytest.raises(UserError, match=f"{name}', which is not imported"):
        find_builder("thing", "", str(tmp_path))


@pytest.mark.parametrize(
    "content",
    [
        {"type": LABEL, "content": {"names_file": "/dev/zero"}},
        {"type": MASK, "content": {"labels": "/dev/zero"}},
        {"pythonClassName": LABEL, "json": {"json": '{"names_file": "/dev/zero"}'}},
    ],
)
def test_a_file_outside_the_folder_is_not_read(place, tmp_path, content):
    """TFDS would read the names of the classes in it: here, zeros without end."""
    features = {"pythonClassName": DICT, "featuresDict": {"features": {"a": content}}}
    (place / "features.json").write_text(json.dumps(features))
    with pytest.raises(UserError, match="features.json names the file '/dev/zero' in"):
        find_builder("thing", "", str(tmp_path))


@pytest.mark.parametrize("kind", ["link", "pipe", "large"])
def test_odd_files_of_class_names_are_not_read(place, tmp_path, kind):
    """TFDS reads every line of NAME.labels.txt, whatever the JSON says."""
    path = place / "a.labels.txt"
    if kind == "link":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(b"a\n" * 2**20)
    with pytest.raises(UserError, match=r"a\.labels\.txt: is "):
        find_builder("thing", "", str(tmp_path))


def test_every_class_of_the_list_is_one_of_tfds():
    known = tensorflow_datasets.features.FeatureConnector._registered_features
    assert known.keys() >= FEATURE_CLASSES


def test_classes_in_dataset_info_are_checked(place, tmp_path):
    """TFDS prefers the features in this file to those of features.json."""
    info = {"name": "thing", "version": "1.0.0", "features": nested("pythonClassName")}
    (place / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(
        UserError, match=r"dataset_info.json names the class 'strangers"
    ):
        find_builder("thing", "", str(tmp_path))


@pytest.mark.parametrize("key", ["shardLengths", "shard_lengths"])
def test_a_split_has_at_most_as_many_files_as_the_folder(place, tmp_path, key):
    """TFDS would list the names of all of them, for minutes."""
    info = {"splits": [{"name": "train", key: ["1"] * 10**5}]}
    (place / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(UserError, match="a split of 100000 files, more than there are"):
        find_builder("thing", "", str(tmp_path))


def test_the_strangers_module_is_not_imported(tmp_path, monkeypatch):
    """With TFDS itself, which imports the module of a class that it does not know."""
    (tmp_path / "strangers.py").write_text(f"open('{tmp_path}/ran', 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "thing/1.0.0"
    folder.mkdir(parents=True)
    foreign = {"pythonClassName": "strangers.Foo", "text": {}}
    info = {"name": "thing", "version": "1.0.0", "fileFormat": "array_record"}
    for name, content in (
        ("dataset_info.json", info | {"features": foreign}),
        ("features.json", foreign),
    ):
        (folder / "dataset_info.json").write_text(json.dumps(info))
        (folder / name).write_text(json.dumps(content))
        with pytest.raises(UserError, match="'strangers.Foo', which is not imported"):
            find_builder("thing", "", str(tmp_path))
        assert not (tmp_path / "ran").exists()
        assert "strangers" not in sys.modules


@pytest.mark.parametrize("text", ["{", "\x80", "[" * 100_000])
def test_odd_json_is_one_line(place, tmp_path, text):
    (place / "features.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"features.json is not valid") as error:
        find_builder("thing", "", str(tmp_path))
    assert "\n" not in str(error.value)


def test_the_classes_of_tfds_are_read(place, tmp_path):
    content = nested("pythonClassName", DICT)
    content["featuresDict"]["features"]["labels"] = {"pythonClassName": MASK}
    content["featuresDict"]["features"]["type"] = {"pythonClassName": DICT}
    content["description"] = "[text]"
    (place / "features.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="1.0.0 cannot be read") as error:
        find_builder("thing", "", str(tmp_path))
    assert isinstance(error.value.__cause__, Asked)
