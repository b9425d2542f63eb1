"""Prepared data sets are data: they name no code that is then imported."""

import json
import sys
import types

import pytest

from unet_jax.data.datasets.tfds import find_builder
from unet_jax.errors import UserError

FOREIGN = "strangers.evil.Foo"
DICT = "tensorflow_datasets.core.features.features_dict.FeaturesDict"


class Asked(Exception):
    """TFDS was asked to read the folder."""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folder of a data set, and a TFDS that must not see what is in it."""

    def read(folder):
        raise Asked(folder)

    tfds = types.ModuleType("tensorflow_datasets")
    tfds.builder_from_directory = read
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", tfds)
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
    ],
)
def test_a_class_from_outside_tfds_is_refused(place, tmp_path, content):
    (place / "features.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"Foo'. It is not part of") as error:
        find_builder("thing", "", str(tmp_path))
    assert str(error.value).startswith(f"{place}/features.json names the class ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["{", "\x80", "[" * 100_000])
def test_odd_json_is_one_line(place, tmp_path, text):
    (place / "features.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"features.json cannot be read") as error:
        find_builder("thing", "", str(tmp_path))
    assert "\n" not in str(error.value)


def test_the_classes_of_tfds_are_read(place, tmp_path):
    content = nested("pythonClassName", DICT)
    content["featuresDict"]["features"]["type"] = {"pythonClassName": DICT}
    content["description"] = "[text]"
    (place / "features.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="1.0.0 cannot be read") as error:
        find_builder("thing", "", str(tmp_path))
    assert isinstance(error.value.__cause__, Asked)
