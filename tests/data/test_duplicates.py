"""Equal and nearly equal images, and the leaks that they make."""

import numpy as np
import pytest
from scipy import ndimage

from unet_jax.data import similar_images
from unet_jax.data.duplicates import (
    check_leaks,
    check_unlabelled_leaks,
    find_duplicates,
    join_groups,
)
from unet_jax.data.record import measure_record

RNG = np.random.default_rng(4)


def stats_of(images):
    label = np.zeros(images[0].shape[:2], int)
    return [
        measure_record({"id": str(i), "image": m, "label": label})
        for i, m in enumerate(images)
    ]


@pytest.mark.parametrize("block", [1, 3, 256])
def test_copies_are_found_and_what_only_shares_the_light_is_not(block, monkeypatch):
    monkeypatch.setattr(similar_images, "BLOCK", block)
    light = 200 * np.exp(-((np.mgrid[-1:1:64j, -1:1:64j]) ** 2).sum(0))
    cells = ndimage.gaussian_filter(RNG.normal(0, 60, (5, 64, 64)), (0, 2, 2))
    images = [(light + c).clip(0, 255).astype(np.uint8)[..., None] for c in cells]
    noisy = images[0] + RNG.normal(0, 3, images[0].shape)
    brighter = np.clip(0.8 * images[1].astype(float) + 20, 0, 255).astype(np.uint8)
    blank = np.full((64, 64, 1), 9, np.uint8)
    stats = stats_of([*images, noisy, brighter, images[2].copy(), blank, blank])
    assert {(t.a, t.b, t.identical) for t in find_duplicates(stats)} == {
        (0, 5, False),
        (1, 6, False),
        (2, 7, True),
    }


def test_of_many_copies_there_are_only_as_many_pairs_as_join_them():
    one = RNG.integers(0, 255, (32, 32, 1), dtype=np.uint8)
    found = find_duplicates(stats_of([one] * 50))
    assert len(found) == 49
    assert len(set(join_groups([str(i) for i in range(50)], found))) == 1


def test_leaks_name_both_images_and_count_the_similar_ones():
    one, other, third = (
        RNG.integers(0, 255, (32, 32, 1), dtype=np.uint8) for _ in range(3)
    )
    images = [one, one, other, other + 1, third, third + 1]
    splits = ["train", "test", "train", "test", "val", "train"]
    records = [
        stats._replace(split=split, image=f"{stats.id}.png")
        for stats, split in zip(stats_of(images), splits, strict=True)
    ]
    found = find_duplicates(records)
    leak, similar = check_leaks(records, found, "refuse")
    assert (leak.level, similar.level) == ("error", "warning")
    assert leak.text.startswith("1.png (test): the same image as 0.png (train); remove")
    assert (
        "nearly the same image as 2.png (train), and 1 more like this;" in similar.text
    )
    assert [i.level for i in check_leaks(records, found, "allow")] == 2 * ["warning"]
    (issue,) = check_unlabelled_leaks(records, [records[1]] * 3, "refuse")
    assert "the same image as 1.png (test), and 2 more like this;" in issue.text
