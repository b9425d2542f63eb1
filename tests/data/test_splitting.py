"""Rules that divide records: groups, folds, random draws, kinds."""

import numpy as np
import pytest

from unet_jax.data.splitting import (
    SPLITS,
    Item,
    SplitOptions,
    split_folds,
    split_groups,
    split_kinds,
    split_random,
)
from unet_jax.errors import UserError

KINDS = {
    "a": 334,
    "b": 91,
    "c": 112,
    "d": 92,
    "e": 13,
    "f": 16,
    "g": 5,
    "h": 6,
    "i": 1,
}


def counts(split):
    return {name: list(split.values()).count(name) for name in SPLITS}


@pytest.mark.parametrize("seed", range(10))
def test_a_large_group_is_learnt_from(seed):
    items = [Item(f"a{i}", "stack") for i in range(60)]
    items += [Item(f"b{i}", f"b{i}") for i in range(20)]
    found = counts(split_groups(items, SplitOptions(seed=seed)))
    assert found["train"] >= 60
    assert found["test"] == 12


@pytest.mark.parametrize("seed", range(5))
def test_an_image_more_moves_few_of_the_others(seed):
    items = [Item(str(i), str(i)) for i in range(200)]
    before = split_groups(items, SplitOptions(seed=seed))
    after = split_groups([*items, Item("new", "new")], SplitOptions(seed=seed))
    assert counts(before) == {"train": 140, "val": 30, "test": 30}
    assert sum(before[i] != after[i] for i in before) <= 4


def test_a_given_split_stays_and_the_missing_one_is_taken_from_training():
    items = [Item(f"t{i}", "t", "test") for i in range(3)]
    items += [Item(f"a{i}", f"a{i}", "train") for i in range(20)]
    split = split_groups(items, SplitOptions(val=0.25))
    assert counts(split) == {"train": 15, "val": 5, "test": 3}
    assert {split[f"t{i}"] for i in range(3)} == {"test"}
    folds = split_groups(items, SplitOptions(folds=4, fold=1))
    assert counts(folds) == {"train": 15, "val": 5, "test": 3}


def test_records_of_one_group_become_runs():
    items = [Item(f"{i}", "stack") for i in range(10)]
    split = split_groups(items, SplitOptions(val=0.2, test=0.3))
    assert list(split.values()) == 5 * ["train"] + 2 * ["val"] + 3 * ["test"]


def test_folds_are_interleaved_and_the_next_one_validates():
    assert split_folds(7, 3, 0) == ["test", "val", "train"] * 2 + ["test"]
    assert split_folds(7, 3, 2) == ["val", "train", "test"] * 2 + ["val"]
    only_val = split_folds(4, 4, 3, held_out=("val",))
    assert only_val == ["train", "train", "train", "val"]


@pytest.mark.parametrize(
    ("folds", "fold", "line"),
    [
        (2, 0, "at least 3 and at most 5, the number of slices; it is 2"),
        (6, 0, "at least 3 and at most 5, the number of slices; it is 6"),
        (5, 5, "fold must be 0 to 4, not 5"),
    ],
)
def test_folds_out_of_range(folds, fold, line):
    with pytest.raises(UserError, match=line):
        split_folds(5, folds, fold, noun="slices")


def test_a_random_draw_takes_every_record_once():
    parts = split_random(10, {"test": 3, "val": 2}, np.random.default_rng(0))
    order = np.random.default_rng(0).permutation(10)
    assert parts["test"] == sorted(order[:3])
    assert parts["val"] == sorted(order[3:5])
    assert parts["train"] == sorted(order[5:])


def sizes_of(split, sizes=KINDS):
    return {
        name: sum(size for kind, size in sizes.items() if split[kind] == name)
        for name in SPLITS
    }


@pytest.mark.parametrize("seed", range(5))
def test_whole_kinds_come_near_the_shares(seed):
    split = split_kinds(KINDS, val=0.1, test=0.2, seed=seed)
    assert split.keys() == KINDS.keys()
    assert split["a"] == "train"
    sizes = sizes_of(split)
    assert sizes["test"] == pytest.approx(0.2 * 670, abs=30)
    assert sizes["val"] == pytest.approx(0.1 * 670, abs=30)
    assert split == split_kinds(KINDS, val=0.1, test=0.2, seed=seed)


def test_the_split_is_the_only_right_one_where_there_is_one():
    sizes = {"a": 70, "b": 19, "c": 11, "d": 1}
    for seed in range(3):
        split = split_kinds(sizes, val=0.11, test=0.19, seed=seed)
        assert [kind for kind, name in split.items() if name == "test"] == ["b"]
        assert split["c"] == "val"


def test_no_split_is_empty_however_small_its_share():
    split = split_kinds({"a": 9, "b": 8, "c": 7}, val=0.01, test=0.01, seed=0)
    assert sorted(split.values()) == ["test", "train", "val"]
