import numpy as np
import pytest
from scipy import ndimage
from skimage.filters import threshold_otsu

from unet_jax import data
from unet_jax.data.synthetic import cells
from unet_jax.errors import UserError
from unet_jax.specs import bind


def components(mask):
    return ndimage.label(mask, np.ones((3,) * mask.ndim))[0]


def test_a_spec_can_name_it():
    assert callable(data.cells)
    assert data.cells is cells


def test_a_record_depends_on_the_seed_the_split_and_the_index_alone():
    first, again, other = cells(), cells(train=3), cells(seed=1)
    assert [s.length for s in first.sources.values()] == [64, 8, 16]
    for key, value in first.train.load(2).items():
        np.testing.assert_array_equal(value, again.train.load(2)[key])
    records = [first.train.load(2), first.train.load(3), other.train.load(2)]
    records += [first.val.load(2), first.test.load(2)]
    assert len({record["image"].tobytes() for record in records}) == len(records)


@pytest.mark.parametrize("shape", [(128, 128), (40, 97), (32, 48, 40)])
def test_components_of_the_label_are_the_instances(shape):
    record = cells(shape=shape).test.load(0)
    assert record["image"].shape == (*shape, 1)
    assert record["image"].dtype == np.uint8
    assert record["label"].dtype == record["instances"].dtype == np.int32
    np.testing.assert_array_equal(components(record["label"]), record["instances"])
    assert record["instances"].max() > 1


def test_cells_touch_across_one_pixel_of_background():
    instances = cells().test.load(3)["instances"]
    highest = ndimage.maximum_filter(instances, 3)
    lowest = ndimage.minimum_filter(np.where(instances, instances, 10**6), 3)
    gap = (instances == 0) & (lowest < highest)
    assert gap.sum() > 100  # here a window of 3 x 3 sees two cells


def test_classes_are_balanced_and_a_threshold_is_not_enough():
    fractions, scores, sizes = [], [], []
    source = cells().test
    for record in map(source.load, range(source.length)):
        cell, image = record["label"] > 0, record["image"][..., 0]
        bright = image > threshold_otsu(image)
        scores.append(2 * (bright & cell).sum() / (bright.sum() + cell.sum()))
        fractions.append(cell.mean())
        sizes.append(np.sqrt(np.median(np.bincount(components(cell).ravel())[1:])))
    assert 0.3 < np.mean(fractions) < 0.5
    assert 0.75 < np.mean(scores) < 0.88
    assert 12 < np.mean(sizes) < 24  # px, of cells 22 px wide, some cut by the frame


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shape", (128,)),
        ("shape", (128, 0)),
        ("train", 0),
        ("seed", -1),
        ("diameter", 1.0),
        ("cover", 0.0),
        ("cover", 0.95),
        ("photons", 0.0),
    ],
)
def test_arguments_out_of_range(field, value):
    with pytest.raises(UserError, match=f"{field} must"):
        bind(data, {"name": "cells", field: value}, "config.data")()
