"""The report of a data set that does not give one itself."""

import types

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from unet_jax.build import dataset
from unet_jax.data.source import Source, Splits
from unet_jax.errors import UserError


def test_unreadable_records_and_duplicates_are_issues(tiny, monkeypatch):
    def load(index):
        if index == 1:
            raise UserError("1.png is cut short")
        image = np.random.default_rng(0).integers(0, 99, (8, 8, 1)).astype("u1")
        return {"id": f"{index}", "image": image, "label": np.zeros((8, 8), np.int32)}

    one = Source("x/train", ("soil", "root"), ((0, 0, 0),) * 2, 1, 1, load)
    two = one._replace(length=2)
    data = types.SimpleNamespace(
        cells=lambda **_: Splits(one, one._replace(length=0), two), __all__=["cells"]
    )
    monkeypatch.setattr(dataset, "data", data)
    tiny.data = ConfigDict({"name": "cells"})
    report = dataset.survey_splits(tiny).report
    assert report.root == "x"
    assert [(r.split, r.id) for r in report.records] == [("train", "0"), ("test", "0")]
    (unreadable,) = report.errors
    assert unreadable.text == "1.png is cut short"
    (leak,) = set(report.issues) - {unreadable}
    assert (leak.level, leak.kind) == ("warning", "leak")
    assert leak.text.startswith("0 (test): the same image as 0 (train)")


@pytest.mark.parametrize(
    ("background", "missing"),
    [(True, ["test 'bus'"]), (False, ["validation 'sky'", "test 'bus'"])],
)
def test_classes_that_validation_or_test_lack_are_named(
    tiny, tmp_path, capsys, background, missing
):
    rng = np.random.default_rng(0)
    for split, values in {"train": (0, 1, 2), "val": (1, 2), "test": (0, 1)}.items():
        for kind, pixels in (("images", range(256)), ("masks", values)):
            path = tmp_path / split / kind / "a.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(rng.choice(pixels, (12, 12)).astype(np.uint8)).save(path)
    data = {"name": "folder", "root": str(tmp_path), "classes": ("sky", "car", "bus")}
    tiny.data = ConfigDict({**data, "background": background})
    dataset.load_splits(tiny)
    lines = capsys.readouterr().out.splitlines()
    text = (
        "warning: the {0} images have no pixel of {1}: the scores of such a class are "
    )
    text += "left out of the means, or 0 if it is predicted. Add images with {1}, "
    text += "which is in too few"
    expected = [text.format(*each.split()) for each in missing]
    assert [line for line in lines if "no pixel of" in line] == expected


@pytest.mark.parametrize(
    ("classes", "line"),
    [
        (("bg", "cell", "cell"), "config.data: classes: 2 are named 'cell'; give each"),
        (("bg", "cell", " "), "config.data: classes: ' ' is no name; name every class"),
    ],
)
def test_every_class_has_a_name_of_its_own(tiny, tmp_path, classes, line):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for i in range(3):
            pixels = np.random.default_rng(i).choice(3, (12, 12)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / kind / f"{i}.png")
    data = {"name": "folder", "root": str(tmp_path), "classes": classes}
    tiny.data = ConfigDict(data)
    for load in (dataset.load_splits, dataset.survey_splits):
        with pytest.raises(UserError, match=line):
            load(tiny)
