"""Measurements of a record, against the same computed in other ways."""

import numpy as np
import pytest

from unet_jax import arrays
from unet_jax.data import image_stats
from unet_jax.data import record as records
from unet_jax.data.image_stats import measure_image
from unet_jax.data.record import measure_record

RNG = np.random.default_rng(3)


def measure(image):
    return measure_image([image], image.shape, image.dtype)


def test_percentiles_are_those_of_all_of_an_image_of_any_width():
    image = RNG.integers(0, 200, (512, 512, 2), dtype=np.uint8)
    image[:, 0] = 0  # what every 512th pixel would be
    image[3, 7, 0] = 255
    stats = measure_record(
        {"id": "a", "image": image, "label": np.zeros((512, 512), int)}
    )
    for channel, found in enumerate(stats.intensity):
        wanted = np.percentile(image[..., channel], image_stats.PERCENTS)
        assert found[0] == wanted[0]
        assert found[-1] == wanted[-1]
        np.testing.assert_allclose(found, wanted, atol=2)


@pytest.mark.parametrize(
    "shape", [(48, 96), (50, 33), (7, 100), (16, 24, 9), (8, 8, 8)]
)
def test_a_thumbnail_holds_the_means_of_blocks(shape):
    image = RNG.integers(0, 255, (*shape, 3), dtype=np.uint8)
    cells = image_stats.THUMBNAIL_SIZE[len(shape)]
    means = np.empty((cells,) * len(shape))
    for place in np.ndindex(*means.shape):
        starts = [i * n // cells for i, n in zip(place, shape, strict=True)]
        ends = [(i + 1) * n // cells for i, n in zip(place, shape, strict=True)]
        box = tuple(slice(s, max(e, s + 1)) for s, e in zip(starts, ends, strict=True))
        means[place] = image[box].mean()
    means -= means.mean()
    found = measure(image).thumbnail
    assert found.dtype == np.int8
    np.testing.assert_allclose(found, 127 * means / np.abs(means).max(), atol=0.501)
    assert not measure(np.full((*shape, 1), 7, np.uint8)).thumbnail.any()


@pytest.mark.parametrize("dtype", ["u2", "f2", "f8", "?"])
def test_a_target_of_any_type_is_measured_and_a_label_may_lack(dtype):
    image = RNG.integers(0, 200, (9, 7, 1), dtype=np.uint8)
    target = RNG.integers(0, 90, (9, 7, 2)).astype(dtype)
    stats = measure_record({"id": "a", "image": image, "target": target}, "train")
    assert (stats.target_channels, stats.target_dtype) == (2, str(target.dtype))
    for channel, found in enumerate(stats.target_intensity):
        wanted = np.percentile(target[..., channel].astype(float), image_stats.PERCENTS)
        np.testing.assert_allclose(found, wanted, rtol=1e-3)
    assert not stats.labelled
    assert stats.pixels == {}
    labelled = measure_record(
        {"id": "a", "image": image, "label": np.zeros((9, 7), int)}
    )
    assert labelled.labelled
    assert (labelled.target_channels, labelled.target_dtype) == (0, "")
    assert labelled.target_intensity == ()


def test_pixels_are_counted_with_those_that_are_ignored(monkeypatch):
    monkeypatch.setattr(arrays, "CHUNK_SIZE", 20)  # in pieces
    label = np.array([[0, 0, 2], [-1, -3, 2], [2, 0, 0]])
    assert records.count_pixels(label, independent=False) == {-1: 2, 0: 4, 2: 3}
    channels = np.stack([label == 2, label >= 0], -1).astype(int)
    channels[label < 0] = -1
    channels[0, 0] = 0
    assert records.count_pixels(channels, independent=True) == {-1: 2, 0: 1, 1: 3, 2: 6}
    image = RNG.integers(0, 255, (9, 7, 1), dtype=np.uint8)
    assert measure(image).digest == measure(image.copy()).digest
    assert measure(image).digest != measure(image.reshape(7, 9, 1)).digest
    assert measure(image).digest != measure(image[::-1]).digest


@pytest.mark.parametrize("shape", [(50, 33, 2), (7, 100, 1), (29, 8, 9, 1)])
def test_an_image_in_bands_has_the_measurements_of_the_whole(shape, monkeypatch):
    monkeypatch.setattr(image_stats, "PERCENTILE_PIXELS", 100)  # of a random sample
    image = RNG.normal(size=shape).astype(np.float32)
    image[3, 2] = np.nan
    whole = measure(image)
    for rows in (1, 3, 20):
        bands = [image[i : i + rows] for i in range(0, len(image), rows)]
        found = measure_image(bands, image.shape, image.dtype)
        assert np.abs(found.thumbnail - whole.thumbnail.astype(int)).max() <= 1  # sums
        assert found._replace(thumbnail=0) == whole._replace(thumbnail=0)
    assert whole.not_finite == np.isnan(image).sum()
    assert not whole.grey or shape[-1] == 1
    finite = np.nan_to_num(image)
    assert whole.digest == measure(finite).digest
    assert whole.intensity[0][-1] == finite[..., 0].max()


def test_what_is_constant_or_grey():
    assert measure(np.full((4, 4, 3), 7, np.uint8)).constant
    assert not measure(np.full((4, 4, 1), np.nan, np.float32)).constant
    assert not measure(np.full((1, 1, 1), 7, np.uint8)).constant  # one pixel
    colours = np.zeros((4, 4, 3), np.uint8)
    assert measure(colours).grey
    colours[3, 3, 0] = 1
    assert not measure(colours).grey
