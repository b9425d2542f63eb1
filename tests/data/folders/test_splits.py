"""Which record goes where: groups, large ones, copies."""

import numpy as np
import pytest
from scipy import ndimage

from unet_jax.data.account import measure
from unet_jax.data.folders import splits, twins
from unet_jax.data.folders.splits import Item, Plan

RNG = np.random.default_rng(4)


def counts(split):
    return {name: list(split.values()).count(name) for name in splits.NAMES}


@pytest.mark.parametrize("seed", range(10))
def test_a_large_group_is_learnt_from(seed):
    items = [Item(f"a{i}", "stack") for i in range(60)]
    items += [Item(f"b{i}", f"b{i}") for i in range(20)]
    found = counts(splits.divide(items, Plan(seed=seed)))
    assert found["train"] >= 60
    assert found["test"] == 12


@pytest.mark.parametrize("seed", range(5))
def test_an_image_more_moves_few_of_the_others(seed):
    items = [Item(str(i), str(i)) for i in range(200)]
    before = splits.divide(items, Plan(seed=seed))
    after = splits.divide([*items, Item("new", "new")], Plan(seed=seed))
    assert counts(before) == {"train": 140, "val": 30, "test": 30}
    assert sum(before[i] != after[i] for i in before) <= 4


def facts_of(images):
    label = np.zeros(images[0].shape[:2], int)
    return [
        measure({"id": str(i), "image": m, "label": label})
        for i, m in enumerate(images)
    ]


@pytest.mark.parametrize("block", [1, 3, 256])
def test_copies_are_found_and_what_only_shares_the_light_is_not(block, monkeypatch):
    monkeypatch.setattr(twins, "BLOCK", block)
    light = 200 * np.exp(-((np.mgrid[-1:1:64j, -1:1:64j]) ** 2).sum(0))
    cells = ndimage.gaussian_filter(RNG.normal(0, 60, (5, 64, 64)), (0, 2, 2))
    images = [(light + c).clip(0, 255).astype(np.uint8)[..., None] for c in cells]
    noisy = images[0] + RNG.normal(0, 3, images[0].shape)
    brighter = np.clip(0.8 * images[1].astype(float) + 20, 0, 255).astype(np.uint8)
    blank = np.full((64, 64, 1), 9, np.uint8)
    facts = facts_of([*images, noisy, brighter, images[2].copy(), blank, blank])
    assert {(t.a, t.b, t.same) for t in twins.find(facts)} == {
        (0, 5, False),
        (1, 6, False),
        (2, 7, True),
    }


def test_of_many_copies_there_are_only_as_many_pairs_as_join_them():
    one = RNG.integers(0, 255, (32, 32, 1), dtype=np.uint8)
    found = twins.find(facts_of([one] * 50))
    assert len(found) == 49
    assert len(set(twins.groups([str(i) for i in range(50)], found))) == 1
