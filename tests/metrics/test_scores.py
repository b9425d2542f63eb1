"""The scores of a data set: which classes count, and what is undefined."""

import json

import numpy as np
import pytest

from unet_jax import metrics
from unet_jax.metrics.overlap import measure_confusion
from unet_jax.metrics.scores import (
    average_over_images,
    find_absent_classes,
    list_averaged,
    summarize,
)

COUNTS = np.array([[3, 1, 0], [2, 4, 0], [0, 0, 0]])
CLASSES = ("background", "cell", "border")
OVERLAP = ("dice", "iou", "precision", "recall")
BOUNDARY = ("hausdorff", "hausdorff95", "surface_dice", "surface_distance")


def summarize_one(name, sums, omit_background):
    metric = getattr(metrics, name)()
    return summarize([sums], [(name, metric)], CLASSES, omit_background=omit_background)


def test_summarize_is_flat_and_ready_for_json():
    named = [("iou", metrics.iou()), ("error", metrics.pixel_error())]
    scores = summarize([COUNTS, COUNTS], named, CLASSES, "val", omit_background=True)
    assert json.loads(json.dumps(scores, allow_nan=False)) == {
        "val/iou": pytest.approx(4 / 7),
        "val/iou/background": 3 / 6,
        "val/iou/cell": 4 / 7,
        "val/iou/border": None,
        "val/error": pytest.approx(3 / 10),
    }
    bare = summarize([COUNTS], named[:1], CLASSES, omit_background=True)
    assert list(bare) == ["iou", "iou/background", "iou/cell", "iou/border"]


def test_the_score_of_vessels_is_not_that_of_the_background():
    """Of 1000 pixels 60 are vessel; 10 of them are found, with 90 false ones."""
    counts = np.zeros((3, 3), int)
    counts[:2, :2] = [[850, 90], [50, 10]]
    scores = summarize_one("dice", counts, omit_background=True)
    assert scores["dice"] == scores["dice/cell"] == 20 / 160
    assert scores["dice/background"] == 1700 / 1840
    everything = summarize_one("dice", counts, omit_background=False)
    assert everything["dice"] == pytest.approx((20 / 160 + 1700 / 1840) / 2)


@pytest.mark.parametrize("name", [*OVERLAP, *BOUNDARY])
def test_every_metric_of_classes_averages_the_same_classes(make_image, name):
    """Two of three classes count with a background, else all three."""
    truth, prediction = np.random.default_rng(0).integers(0, 3, (2, 9, 11))
    metric = getattr(metrics, name)()
    for background, counted in ((True, CLASSES[1:]), (False, CLASSES)):
        image = make_image(truth, prediction, background=background)
        scores = summarize_one(name, metric.measure(image), background)
        expected = np.mean([scores[f"{name}/{one}"] for one in counted])
        assert scores[name] == pytest.approx(expected)
        assert list_averaged([metric.measure(image)], [(name, metric)]) == (name,)


def test_independent_classes_all_count(make_image):
    truth, prediction = np.random.default_rng(0).integers(0, 2, (2, 9, 11, 3))
    image = make_image(truth, prediction, independent=True)
    for name in BOUNDARY:
        measures = getattr(metrics, name)().measure(image)
        assert all(summarize_one(name, measures, omit_background=False).values()), name


@pytest.mark.parametrize("name", [*OVERLAP, "accuracy", *BOUNDARY])
def test_an_undefined_class_is_null_and_left_out(make_image, name):
    """The class border is neither true nor predicted; without the cell nothing is."""
    truth, prediction = np.random.default_rng(0).integers(0, 2, (2, 9, 11))
    metric = getattr(metrics, name)()
    measures = metric.measure(make_image(truth, prediction, classes=3))
    scores = summarize_one(name, measures, omit_background=True)
    assert scores[f"{name}/border"] is None
    if name != "accuracy":
        assert scores[name] == scores[f"{name}/cell"]
    empty = np.zeros((9, 11), int)
    scores = summarize_one(
        name, metric.measure(make_image(empty, empty, classes=3)), omit_background=True
    )
    assert scores[f"{name}/cell"] is scores[f"{name}/border"] is None
    assert scores[name] == (1 if name == "accuracy" else None)


def test_absent_classes_are_those_without_a_true_pixel(make_image):
    truth, prediction = [[0, 1, -1]], [[0, 2, 2]]
    counts = measure_confusion(make_image(truth, prediction, classes=3))
    assert find_absent_classes(counts, CLASSES, omit_background=True) == ("border",)
    counts[0] = 0  # no background either
    assert find_absent_classes(counts, CLASSES, omit_background=True) == ("border",)
    every = find_absent_classes(counts, CLASSES, omit_background=False)
    assert every == ("background", "border")
    truth, prediction = [[[0, 1, 0], [0, 0, -1]]], [[[1, 1, 0], [0, 0, 1]]]
    counts = measure_confusion(make_image(truth, prediction, independent=True))
    every = find_absent_classes(counts, CLASSES, omit_background=False)
    assert every == ("background", "border")


def test_summarize_needs_one_name_per_class_and_sums_for_each_metric():
    named = [("iou", metrics.iou())]
    with pytest.raises(ValueError, match="zip"):
        summarize([COUNTS], named, CLASSES[:2], omit_background=True)
    with pytest.raises(ValueError, match="zip"):
        summarize([COUNTS, COUNTS], named, CLASSES, omit_background=True)


def test_a_mean_over_images_leaves_out_undefined_classes():
    """Class 0 is defined in no image, class 1 in one and class 2 in two."""
    score = average_over_images(np.array([[0, 0.5, 0.5], [0, 1, 2]]))
    np.testing.assert_array_equal(score.classes, [np.nan, 0.5, 0.25])
