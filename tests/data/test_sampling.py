"""Frequencies of classes in crops, from many draws and by brute force."""

import numpy as np
import pytest

from unet_jax import tasks
from unet_jax.data import pipeline, sampling, weights
from unet_jax.data.examples import (
    MemoryBudget,
    prepare_examples,
    prepare_unlabelled,
)
from unet_jax.data.source import Source
from unet_jax.specs import bind

pytest.importorskip("grain", reason="grain feeds the training")

SHAPE = (40, 50)
PLAIN = {"measure": lambda image: np.float32, "weigh": weights.uniform}


def one_percent():
    """Class 1 is one block of 4 x 5 of 2000 pixels, class 2 a single one of them."""
    label = np.zeros(SHAPE, np.int32)
    label[10:14, 30:35] = 1
    label[39, 0] = 2
    label[0, 40:] = -1
    return label


def source(label, length=4, axes=2):
    space = (*label.shape[:axes], 1)
    image = np.arange(np.prod(space), dtype=np.float32).reshape(space)
    record = {"image": image, "label": label}
    names = ("none", "a", "b")
    return Source("s", names, (), 1, length, lambda i: record | {"id": f"r{i}"})


def ready(spec, label=None, **kwargs):
    sample = bind(sampling, spec, "config.sampling")
    label = one_percent() if label is None else label
    return prepare_examples(source(label), chances=sample, **PLAIN | kwargs)


def made(examples, **kwargs):
    given = {"seed": 3, "crop": (12, 12), "margin": (2, 2), "batch_size": 4}
    return pipeline.batch_dataset(examples, **given | kwargs)


def middles(examples, draws, margin=2, **kwargs):
    """The labels of the pixels that each crop answers for."""
    run = made(examples, margin=(margin, margin), batch_size=100, **kwargs)
    inner = slice(margin, -margin or None)
    for step in range(draws // 100):
        yield from run[step]["label"][:, inner, inner]


def expected(label, k, chances):
    """The share of 8 x 8 windows that hold class k, over all that can be drawn."""
    views = np.lib.stride_tricks.sliding_window_view(label, (8, 8))
    holds = (views == k).any((-1, -2))
    total = (1 - sum(chances.values())) * holds.mean()
    for chosen, chance in chances.items():
        around = [
            holds[max(y - 7, 0) : y + 1, max(x - 7, 0) : x + 1].mean()
            for y, x in np.argwhere(label == chosen)
        ]
        total += chance * np.mean(around)
    return total


def test_chances_by_hand():
    three, none = np.array([0, 2, 5]), np.array([], int)
    np.testing.assert_array_equal(sampling.uniform(three), [0, 0, 0])
    np.testing.assert_allclose(sampling.foreground(three), [0, 1 / 6, 1 / 6])
    half = sampling.foreground(three, probability=0.5)
    np.testing.assert_allclose(half, [0, 0.25, 0.25])
    np.testing.assert_array_equal(sampling.foreground(np.array([0])), [0])
    np.testing.assert_allclose(sampling.balanced(three), [1 / 3] * 3)
    for function in (sampling.uniform, sampling.foreground, sampling.balanced):
        assert function(none).shape == (0,)


@pytest.mark.parametrize(
    ("spec", "chances"),
    [
        ({"name": "uniform"}, {}),
        ({"name": "foreground"}, {1: 1 / 6, 2: 1 / 6}),
        ({"name": "foreground", "probability": 1.0}, {1: 0.5, 2: 0.5}),
        ({"name": "balanced"}, {0: 1 / 3, 1: 1 / 3, 2: 1 / 3}),
    ],
)
def test_a_rare_class_is_met_as_often_as_it_should(spec, chances):
    label, draws = one_percent(), 3000
    parts = np.stack(list(middles(ready(spec), draws)))
    for k in (1, 2):
        hits = (parts == k).any((1, 2)).sum()
        chance = expected(label, k, chances)
        assert abs(hits - draws * chance) < 4 * np.sqrt(draws * chance * (1 - chance))


def test_all_places_around_the_pixel_and_all_pixels_of_a_class_are_alike():
    label = np.zeros(SHAPE, np.int32)
    label[20, 25] = label[20, 26] = 1
    starts = np.zeros(SHAPE, int)
    examples = ready({"name": "foreground", "probability": 1.0}, label)
    for step in range(30):
        batch = made(examples, crop=(4, 3), margin=(0, 0), batch_size=100)[step]
        for image, part in zip(batch["image"], batch["label"], strict=True):
            assert (part == 1).any()
            starts[np.unravel_index(int(image[0, 0, 0]), SHAPE)] += 1
    want = np.zeros(SHAPE)
    for column in (25, 26):  # 4 x 3 places around each of the two
        want[17:21, column - 2 : column + 1] += 3000 / 24
    assert set(zip(*starts.nonzero(), strict=True)) == set(
        zip(*want.nonzero(), strict=True)
    )
    there = want > 0
    chi2 = ((starts - want)[there] ** 2 / want[there]).sum()
    assert chi2 < there.sum() + 5 * np.sqrt(2 * there.sum())


@pytest.mark.parametrize(
    ("crop", "margin"), [((12, 12), (2, 1)), ((40, 50), (0, 0)), ((60, 8), (1, 2))]
)
@pytest.mark.parametrize("place", [(0, 0), (39, 49), (0, 25), (20, 49)])
def test_the_pixel_is_in_the_middle_and_the_middle_in_the_image(crop, margin, place):
    label = np.zeros(SHAPE, np.int32)
    label[place] = 1
    examples = ready({"name": "foreground", "probability": 1.0}, label)
    batch = made(examples, crop=crop, margin=margin, batch_size=50)[0]
    inner = tuple(slice(m, size - m) for size, m in zip(crop, margin, strict=True))
    window = [n - 2 * m for n, m in zip(crop, margin, strict=True)]
    for image, part in zip(batch["image"], batch["label"], strict=True):
        assert (part[inner] == 1).any()
        first = np.unravel_index(int(image[(*margin, 0)]), SHAPE)
        if all(n <= s for n, s in zip(window, SHAPE, strict=True)):
            for o, n, s in zip(first, window, SHAPE, strict=True):
                assert o + n <= s


def test_uniform_and_no_chance_are_the_same_to_the_bit():
    """And what an image lacks cannot be asked for: its crops are from anywhere."""
    empty = np.zeros(SHAPE, np.int32)
    plain = made(ready({"name": "uniform"}, empty))[5]
    for spec in ({"name": "foreground", "probability": 0.0}, {"name": "foreground"}):
        other = made(ready(spec, empty))[5]
        for key in plain:
            np.testing.assert_array_equal(plain[key], other[key])
    nobody = ready({"name": "balanced"}, np.full(SHAPE, -1, np.int32))
    assert (made(nobody)[0]["label"] == -1).all()


def test_ignored_pixels_are_never_chosen():
    label = np.full(SHAPE, -1, np.int32)
    label[30, 30] = 0
    examples = ready({"name": "balanced"}, label)
    assert all((part == 0).any() for part in middles(examples, 200))


def test_a_step_is_always_the_same_batch_and_shards_cut_one_stream():
    spec = {"name": "foreground", "probability": 0.5}
    whole = made(ready(spec))[5]
    shards = [made(ready(spec), shard=(i, 2))[5] for i in range(2)]
    for key in whole:
        np.testing.assert_array_equal(made(ready(spec))[5][key], whole[key])
        parts = np.concatenate([shard[key] for shard in shards])
        np.testing.assert_array_equal(parts, whole[key])
    assert (made(ready(spec), seed=4)[5]["image"] != whole["image"]).any()


def test_independent_classes_are_channels():
    label = np.zeros((*SHAPE, 2), np.int32)
    label[5, 5, 0] = label[5, 5, 1] = 1  # both at once
    label[30:, :, 1] = -1
    places, chances = sampling.find_places(label, 2, sampling.balanced)
    np.testing.assert_allclose(chances[-1], 1)
    assert (places == (5, 5)).all(-1).sum() == 2  # once for each
    examples = ready({"name": "balanced"}, label)
    hits = sum((part > 0).any() for part in middles(examples, 1000))
    assert hits > 600  # two of three classes are there alone
    task = tasks.multilabel(tasks.TaskData(("none", "a", "b"), axes=2, channels=1))
    exclusive = ready({"name": "foreground"}, add_truth=task.prepare)[0]
    pixels, _ = exclusive["places"]
    assert {tuple(p) for p in pixels.tolist()} >= {(39, 0), (10, 30)}


def test_places_are_thinned_evenly_and_counted_in_the_memory():
    label = np.zeros((100, 100), np.int32)
    found, _ = sampling.find_places(label, 2, sampling.balanced)
    assert len(found) == sampling.MAX_PIXELS
    assert len(np.unique(found, axis=0)) == sampling.MAX_PIXELS
    per_row = np.bincount(found[:, 0], minlength=100)
    assert set(per_row.tolist()) <= {40, 41, 42}
    example = ready({"name": "balanced"})[0]
    pixels, chances = example["places"]
    size = sum(example[k].nbytes for k in ("image", "label", "weight"))
    size += 4 * 2 * len(pixels) + 8 * len(chances)
    for room, kept in ((size, 1), (size - 1, 0)):
        examples = ready({"name": "balanced"}, memory=MemoryBudget(room))
        examples[0]
        assert len(examples._cached) == kept


def test_places_do_not_reach_the_batch():
    batch = made(ready({"name": "balanced"}))[0]
    assert batch.keys() == {"image", "label", "weight", "seed"}
    assert sampling.find_places(one_percent(), 2, sampling.uniform) is None


def test_unlabelled_images_are_cut_from_anywhere():
    """Their crops are those that a label without a chosen pixel would get."""
    spec = {"name": "foreground", "probability": 1.0}
    examples = ready(spec)
    measure = PLAIN["measure"]
    others = prepare_unlabelled(
        source(one_percent(), length=1), examples[0], measure=measure
    )
    starts = set()
    for step in range(200):
        mixed = {"unlabelled": others, "unlabelled_size": 3}
        batch = made(examples, crop=(38, 48), margin=(0, 0), **mixed)[step]
        starts |= set(batch["image"][1:, 0, 0, 0].astype(int).tolist())
    assert starts == {50 * y + x for y in range(3) for x in range(3)}


@pytest.mark.parametrize(
    ("share", "size", "free"),
    [(0.33, 2, 1), (0.33, 9, 6), (0.33, 12, 8), (0.33, 49, 33), (1.0, 4, 0), (0, 4, 4)],
)
def test_free_rows_are_those_of_nnunet(share, size, free):
    """Row i is free if `i < round(size (1 - share))`."""
    assert sampling.count_free_rows(share, size) == free


def test_the_last_rows_of_every_batch_contain_the_foreground():
    label = np.zeros(SHAPE, np.int32)
    label[20, 20] = 1
    examples = ready({"name": "foreground", "probability": 1.0}, label)
    run = made(examples, batch_size=9, free_rows=6, crop=(8, 8), margin=(0, 0))
    found = np.array([(run[i]["label"] == 1).any((1, 2)) for i in range(100)])
    assert found[:, 6:].all()
    assert 0.01 < found[:, :6].mean() < 0.1  # 64 of 33 * 43 places
    shards = [
        made(examples, batch_size=9, free_rows=6, margin=(2, 2), shard=(i, 3))[4]
        for i in range(3)
    ]
    whole = made(examples, batch_size=9, free_rows=6)[4]
    for key in whole:
        parts = np.concatenate([shard[key] for shard in shards])
        np.testing.assert_array_equal(parts, whole[key])


def test_free_rows_are_the_first_of_the_labelled_rows():
    label = np.zeros(SHAPE, np.int32)
    label[20, 20] = 1
    examples = ready({"name": "foreground", "probability": 1.0}, label)
    others = prepare_unlabelled(
        source(label, length=1), examples[0], measure=PLAIN["measure"]
    )
    given = {"batch_size": 5, "free_rows": 1, "crop": (8, 8), "margin": (0, 0)}
    run = made(examples, unlabelled=others, unlabelled_size=2, **given)
    found = np.array([(run[i]["label"] == 1).any((1, 2)) for i in range(50)])
    assert found[:, 1:3].all()
    assert found[:, 0].mean() < 0.3


def test_volumes_are_sampled_alike():
    label = np.zeros((6, 20, 30), np.int32)
    label[5, 19, 29] = 1
    image = np.zeros((*label.shape, 1), np.float32)
    record = {"image": image, "label": label, "id": "v"}
    volume = Source("v", ("", ""), (), 1, 1, lambda i: record)
    examples = prepare_examples(
        volume, chances=lambda k: sampling.foreground(k, probability=1.0), **PLAIN
    )
    batch = made(examples, crop=(4, 4, 4), margin=(0, 0, 0))[0]
    assert (batch["label"] == 1).any((1, 2, 3)).all()
