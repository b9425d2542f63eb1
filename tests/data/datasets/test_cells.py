import numpy as np
import pytest
from scipy import ndimage
from skimage.filters import threshold_otsu

from unet_jax import data
from unet_jax.data.datasets.cells import cells
from unet_jax.errors import UserError
from unet_jax.specs import bind


def label_components(mask):
    return ndimage.label(mask, np.ones((3,) * mask.ndim))[0]


def test_a_spec_can_name_it():
    assert data.cells is cells
    assert "cells" in data.__all__


def test_a_record_depends_on_the_seed_the_split_and_the_index_alone():
    first, again, other = cells(), cells(train=3), cells(seed=1)
    assert [s.length for s in first.sources.values()] == [64, 8, 16]
    for key, value in first.train.load(2).items():
        np.testing.assert_array_equal(value, again.train.load(2)[key])
    records = [first.train.load(2), first.train.load(3), other.train.load(2)]
    records += [first.val.load(2), first.test.load(2)]
    assert len({record["image"].tobytes() for record in records}) == len(records)


def test_images_are_the_same_in_every_release():
    """Numbers of the first release; a scale may round differently elsewhere."""
    sources = cells(shape=(40, 48), diameter=9.0, seed=3).sources.values()
    records = [source.load(1) for source in sources]
    assert [record["instances"].max() for record in records] == [20, 18, 17]
    means = [record["image"].mean() for record in records]
    np.testing.assert_allclose(means, [80.447, 69.040, 64.974], atol=0.01)


def test_images_without_labels_come_from_a_stream_of_their_own():
    assert cells().unlabelled is None
    plain, more = cells(), cells(unlabelled=3)
    assert more.unlabelled.length == 3
    assert more.unlabelled.name == "cells/unlabelled"
    record = more.unlabelled.load(2)
    assert record.keys() == {"image", "id"}
    assert record["id"] == "unlabelled-0002"
    for key, value in plain.train.load(2).items():
        np.testing.assert_array_equal(value, more.train.load(2)[key])
    images = [source.load(2)["image"] for source in more.sources.values()]
    images += [more.unlabelled.load(i)["image"] for i in range(3)]
    assert len({image.tobytes() for image in images}) == 6
    again = cells(unlabelled=9, seed=0).unlabelled.load(2)["image"]
    np.testing.assert_array_equal(record["image"], again)
    assert cells(unlabelled=1, targets=True).unlabelled.load(0).keys() == {
        "image",
        "id",
    }


@pytest.mark.parametrize("shape", [(64, 50), (20, 24, 30)])
def test_a_noisy_image_is_that_of_cells_and_has_a_target(shape):
    options = {"shape": shape, "diameter": 9.0, "seed": 4, "photons": 30.0}
    noisy, plain = cells(**options, targets=True), cells(**options)
    assert noisy.train.target_channels == 1
    assert plain.train.target_channels == 0
    record = noisy.val.load(1)
    for key, value in plain.val.load(1).items():
        np.testing.assert_array_equal(record[key], value)
    assert record["target"].shape == (*shape, 1)
    assert record["target"].dtype == np.uint8


@pytest.mark.parametrize("photons", [30.0, 90.0])
def test_the_noise_of_an_image_is_that_of_its_photons(photons):
    """The photon transfer curve: the variance grows with the light by the gain.

    Of light l in photons, image = 8 + g (Poisson(l) + N(0, 1.5)), target = 8 + g l, so
    the variance is g (target - 8) + (1.5 g)^2, with g in [0.7, 1.05] * 255 / photons.
    """
    source = cells(photons=photons, shape=(256, 256), targets=True).test
    for record in map(source.load, range(3)):
        image, target = (record[key].astype(float) for key in ("image", "target"))
        levels, variances = [], []
        for low in range(50, 130, 10):  # neither black nor white, by the noise
            there = (target >= low) & (target < low + 10)
            assert abs((image - target)[there].mean()) < 0.03 * low
            levels.append(target[there].mean() - 8)
            variances.append((image - target)[there].var())
        # the gain that each level tells: the root of the line above
        gains = [
            -level / 4.5 + np.sqrt((level / 4.5) ** 2 + variance / 2.25)
            for level, variance in zip(levels, variances, strict=True)
        ]
        unit = 255 / photons
        assert 0.68 * unit < np.mean(gains) < 1.08 * unit
        np.testing.assert_allclose(gains, np.mean(gains), rtol=0.12)


def test_a_target_has_less_noise_than_any_smoothing_leaves():
    """20 photons are worth denoising: a blur helps, and leaves much to be learnt."""
    source = cells(photons=20.0, targets=True).test
    noisy, blurred = [], []
    for record in map(source.load, range(8)):
        image, target = (record[key].astype(float) for key in ("image", "target"))
        noisy.append(((image - target) ** 2).mean())
        smooth = [ndimage.gaussian_filter(image[..., 0], s) for s in (0.7, 1, 1.5, 2)]
        blurred.append(min(((s - target[..., 0]) ** 2).mean() for s in smooth))
    decibels = [10 * np.log10(255**2 / np.mean(e)) for e in (noisy, blurred)]
    assert 17 < decibels[0] < 21
    assert 26 < decibels[1] < 30


@pytest.mark.parametrize("shape", [(128, 128), (40, 97), (32, 48, 40)])
def test_components_of_the_label_are_the_instances(shape):
    record = cells(shape=shape).test.load(0)
    assert record["image"].shape == (*shape, 1)
    assert record["image"].dtype == np.uint8
    assert record["label"].dtype == record["instances"].dtype == np.int32
    np.testing.assert_array_equal(
        label_components(record["label"]), record["instances"]
    )
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
        sizes.append(
            np.sqrt(np.median(np.bincount(label_components(cell).ravel())[1:]))
        )
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
        ("unlabelled", -1),
        ("diameter", 1.0),
        ("cover", 0.0),
        ("cover", 0.95),
        ("photons", 0.0),
    ],
)
def test_arguments_out_of_range(field, value):
    with pytest.raises(UserError, match=f"{field} must"):
        bind(data, {"name": "cells", field: value}, "config.data")()
