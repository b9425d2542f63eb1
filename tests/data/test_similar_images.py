"""Nearly equal images are found among few and many, in near-linear time."""

import numpy as np
import pytest
from scipy import ndimage

from unet_jax.data import similar_images

RNG = np.random.default_rng(4)


@pytest.mark.parametrize("light", [0, 20])
def test_among_many_images_hashes_find_the_pairs_that_all_comparisons_find(
    light, monkeypatch
):
    """400 images of equal illumination, if there is light, and noisy copies of 100."""
    images = ndimage.gaussian_filter(RNG.normal(size=(400, 24, 24)), (0, 1, 1))
    images += light * np.exp(-((np.mgrid[-1:1:24j, -1:1:24j]) ** 2).sum(0))
    copies = images[:100] + RNG.normal(0, 0.03, (100, 24, 24))
    both = np.concatenate([images, copies])
    rows = similar_images.correlate_thumbnails(list(both))

    def find():
        groups = similar_images.Groups(len(both))
        return {
            (min(p), max(p)) for p in similar_images.find_similar_pairs(*rows, groups)
        }

    expected = find()
    assert expected == {(i, 400 + i) for i in range(100)}
    monkeypatch.setattr(similar_images, "EXHAUSTIVE", 0)
    assert find() == expected


def test_hashes_find_pairs_just_above_the_thresholds(monkeypatch):
    """Noise lowers the correlation of the details to about 0.91."""
    monkeypatch.setattr(similar_images, "EXHAUSTIVE", 0)
    rng = np.random.default_rng(5)
    images = ndimage.gaussian_filter(rng.normal(size=(300, 24, 24)), (0, 1, 1))
    images += 6 * np.exp(-((np.mgrid[-1:1:24j, -1:1:24j]) ** 2).sum(0))
    copies = images[:100] + rng.normal(0, 0.057, (100, 24, 24))
    rows = similar_images.correlate_thumbnails([*images, *copies])
    whole, details = ((of[:100] * of[300:]).sum(1) for of in rows)
    above = np.flatnonzero((whole > 0.99) & (details > 0.9))
    assert len(above) > 60
    assert 0.9 < details[above].mean() < 0.92
    pairs = similar_images.find_similar_pairs(*rows, similar_images.Groups(400))
    assert {(min(p), max(p)) for p in pairs} == {(i, 300 + i) for i in above}


def test_a_camera_that_stands_still_gives_one_group(monkeypatch):
    monkeypatch.setattr(similar_images, "EXHAUSTIVE", 0)
    scene = ndimage.gaussian_filter(RNG.normal(size=(24, 24)), 1)
    frames = scene + RNG.normal(0, 0.003, (500, 24, 24))
    rows = similar_images.correlate_thumbnails(list(frames))
    groups = similar_images.Groups(500)
    assert len(list(similar_images.find_similar_pairs(*rows, groups))) == 499
    assert len(set(groups.of.tolist())) == 1


@pytest.mark.slow
def test_the_search_is_near_linear_up_to_20_000_images(monkeypatch):
    """All pairs of four times the images would be 16 times as many."""
    images = ndimage.gaussian_filter(RNG.normal(size=(20_000, 24, 24)), (0, 1, 1))
    copies = images[:50] + RNG.normal(0, 0.03, (50, 24, 24))
    compare, compared = similar_images._are_similar, []
    monkeypatch.setattr(
        similar_images,
        "_are_similar",
        lambda *args: compared.append(len(args[-1])) or compare(*args),
    )
    counts = []
    for count in (5000, 20_000):
        both = [*images[: count - 50], *copies]
        rows = similar_images.correlate_thumbnails(both)
        compared.clear()
        pairs = similar_images.find_similar_pairs(*rows, similar_images.Groups(count))
        assert set(pairs) == {(i, count - 50 + i) for i in range(50)}
        counts.append(sum(compared))
    assert counts[1] < 6 * counts[0], counts
