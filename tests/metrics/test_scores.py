import json

import numpy as np
import pytest

from unet_jax import metrics
from unet_jax.metrics.scores import average_over_images, summarize

COUNTS = np.array([[3, 1, 0], [2, 4, 0], [0, 0, 0]])
CLASSES = ("background", "cell", "border")


def test_summarize_is_flat_and_ready_for_json():
    named = [("iou", metrics.iou()), ("error", metrics.pixel_error())]
    scores = summarize([COUNTS, COUNTS], named, CLASSES, "val")
    assert json.loads(json.dumps(scores, allow_nan=False)) == {
        "val/iou": pytest.approx((3 / 6 + 4 / 7) / 2),
        "val/iou/background": 3 / 6,
        "val/iou/cell": 4 / 7,
        "val/iou/border": None,
        "val/error": pytest.approx(3 / 10),
    }
    bare = summarize([COUNTS], named[:1], CLASSES)
    assert list(bare) == ["iou", "iou/background", "iou/cell", "iou/border"]


def test_summarize_needs_one_name_per_class_and_sums_for_each_metric():
    named = [("iou", metrics.iou())]
    with pytest.raises(ValueError, match="zip"):
        summarize([COUNTS], named, CLASSES[:2])
    with pytest.raises(ValueError, match="zip"):
        summarize([COUNTS, COUNTS], named, CLASSES)


def test_a_mean_over_images_leaves_out_undefined_classes():
    """Class 0 is defined in no image, class 1 in one and class 2 in two."""
    score = average_over_images(np.array([[0, 0.5, 0.5], [0, 1, 2]]))
    np.testing.assert_array_equal(score.classes, [np.nan, 0.5, 0.25])
    assert score.mean == 0.375
