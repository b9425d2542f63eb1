import itertools
import pathlib
import subprocess
import sys
import threading
from collections import Counter

import numpy as np
import pytest

from unet_jax.data import weights
from unet_jax.data.examples import (
    MemoryBudget,
    prepare_examples,
    prepare_unlabelled,
)
from unet_jax.data.pipeline import batch_dataset, iterate_batches, name_examples
from unet_jax.data.source import Source
from unet_jax.errors import UserError

pytest.importorskip("grain", reason="grain feeds the training")

SHAPE = (20, 24)
PLACE = np.arange(20 * 24, dtype=np.int32).reshape(SHAPE)


def atlas(length=10, calls=None):
    """A source whose pixels know where they come from: (record, place), class place."""

    def load(i):
        if calls is not None:
            calls.append(i)
        image = np.stack([np.full_like(PLACE, i), PLACE], -1).astype(np.float32)
        return {"image": image, "label": PLACE, "id": f"r{i}"}

    names = tuple(map(str, range(PLACE.size)))
    return Source("atlas", names, ((0, 0, 0),) * PLACE.size, 2, length, load)


def as_it_is(image):
    """Measures nothing: the scale of an image is the identity."""
    return np.float32


def ready(source=None, weigh=weights.uniform, **kwargs):
    return prepare_examples(source or atlas(), measure=as_it_is, weigh=weigh, **kwargs)


def made(examples=None, **kwargs):
    given = {"seed": 3, "crop": (8, 12), "margin": (2, 3), "batch_size": 4}
    return batch_dataset(examples or ready(), **given | kwargs)


def workers():
    return [t for t in threading.enumerate() if t.name.startswith("grain")]


def ended(threads):
    for thread in threads:
        thread.join(timeout=5)
    return not any(t.is_alive() for t in threads)


def same(a, b):
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])


def records(batch):
    return batch["image"][:, 0, 0, 0].astype(int).tolist()


def test_a_batch_is_a_batch():
    batch = made()[0]
    got = {k: (v.dtype.name, v.shape) for k, v in batch.items()}
    assert got == {
        "image": ("float32", (4, 8, 12, 2)),
        "label": ("int32", (4, 8, 12)),
        "weight": ("float32", (4, 8, 12)),
        "seed": ("uint32", (4,)),
    }


def test_a_step_is_always_the_same_batch_and_a_seed_makes_another_run():
    same(made()[7], made()[7])
    runs = [made(seed=s) for s in (3, 4)]
    orders = [sum((records(run[s]) for s in range(5)), []) for run in runs]
    assert orders[0] != orders[1]
    assert not set(runs[0][0]["seed"]) & set(runs[1][0]["seed"])


def test_batches_and_shards_cut_one_stream():
    whole, half = made()[5], made(batch_size=2)
    shards = [made(shard=(i, 2))[5] for i in range(2)]
    single = [made(batch_size=1)[step] for step in range(20, 24)]
    for parts in ([half[10], half[11]], shards, single):
        same(whole, {k: np.concatenate([p[k] for p in parts]) for k in whole})


def test_an_epoch_visits_every_record_once_in_its_own_order():
    run = made(batch_size=5)
    epochs = [records(run[s]) + records(run[s + 1]) for s in range(0, 12, 2)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 6


@pytest.mark.parametrize("step", [0, 1, 7, 1000])
def test_the_names_of_the_images_of_a_batch_follow_from_its_seeds(step):
    """The pixels of the atlas know the record they come from."""
    examples = ready()
    batch = made(examples)[step]
    names = [f"r{int(record)}" for record in batch["image"][:, 0, 0, 0]]
    assert name_examples(batch["seed"], examples, seed=3) == names


def test_no_two_seeds_are_the_same():
    run = made(batch_size=10)
    seeds = np.concatenate([run[s]["seed"] for s in range(50)])
    assert len(set(seeds.tolist())) == 500


@pytest.mark.parametrize("crop", [(8, 12), (20, 24), (30, 28), (66, 12)])
def test_a_crop_is_a_slice_of_the_mirrored_image(crop):
    pad, margin = 60, (2, 3)
    mirrored = np.pad(PLACE, pad, mode="reflect")
    batch = made(crop=crop, margin=margin)[0]
    for image, label in zip(batch["image"], batch["label"], strict=True):
        np.testing.assert_array_equal(image[..., 1], label)
        views = np.lib.stride_tricks.sliding_window_view(mirrored, crop)
        starts = np.argwhere((views == label).all((-2, -1))) - pad
        fits = [
            all(
                min(0, s - n + 2 * m) <= o + m <= max(0, s - n + 2 * m)
                for o, s, n, m in zip(start, SHAPE, crop, margin, strict=True)
            )
            for start in starts
        ]
        assert any(fits)  # the output window lies in the image, or around all of it


def test_every_place_is_reached_and_equally_often():
    margin, crop = (3, 2), (23, 24)  # output 17 x 20 in 20 x 24: 4 x 5 places
    run = made(crop=crop, margin=margin, batch_size=50)
    corners = Counter(
        int(label[margin]) for s in range(20) for label in run[s]["label"]
    )
    places = {int(PLACE[y, x]) for y, x in itertools.product(range(4), range(5))}
    assert set(corners) == places
    expected = 1000 / 20
    chi2 = sum((n - expected) ** 2 / expected for n in corners.values())
    assert chi2 < 19 + 5 * np.sqrt(2 * 19)


def test_volumes_are_cut_alike():
    place = np.arange(6 * 8 * 10, dtype=np.int32).reshape(6, 8, 10)
    record = {"image": place[..., None].astype(np.float32), "label": place, "id": "v"}
    source = Source("v", ("",) * place.size, (), 1, 1, lambda i: record)
    batch = made(ready(source), crop=(4, 8, 12), margin=(1, 1, 1))[0]
    assert batch["label"].shape == (4, 4, 8, 12)
    np.testing.assert_array_equal(batch["image"][..., 0], batch["label"])


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_iterating_is_indexing_from_any_start(threads):
    run = made()
    steps = list(iterate_batches(run, start=4, stop=9, threads=threads))
    assert len(steps) == 5
    for got, step in zip(steps, range(4, 9), strict=True):
        same(got, run[step])
    assert list(iterate_batches(run, start=9, stop=9, threads=threads)) == []


@pytest.mark.parametrize("leave", ["end", "early"])
def test_threads_end_with_the_iterator(leave):
    stream = iterate_batches(made(), start=0, stop=4 if leave == "end" else 10**9)
    next(stream)
    threads = workers()
    assert threads
    if leave == "end":
        list(stream)
    else:
        stream.close()
    assert ended(threads)


def test_an_error_in_a_thread_reaches_the_caller_as_it_is():
    error = UserError("r.png: not an image")

    def load(i):
        raise error

    run = made(ready(atlas()._replace(load=load)))
    with pytest.raises(UserError) as caught:
        next(iterate_batches(run, start=0, stop=5))
    assert caught.value is error
    assert str(caught.value) == "r.png: not an image"
    assert ended(workers())  # although the traceback still holds the iterator


@pytest.mark.slow
def test_an_abandoned_run_leaves_quickly_and_says_nothing():
    script = (
        "import numpy as np\n"
        "from unet_jax.data import examples, pipeline, source, weights\n"
        "label = np.zeros((32, 32), np.int32)\n"
        "record = {'image': label[..., None], 'label': label, 'id': 'r'}\n"
        "s = source.Source('s', ('a',), (), 1, 3, lambda i: record)\n"
        "scale = lambda image: np.float32\n"
        "e = examples.prepare_examples(s, measure=scale, weigh=weights.border)\n"
        "b = pipeline.batch_dataset(\n"
        "    e, seed=0, crop=(16, 16), margin=(0, 0), batch_size=2\n"
        ")\n"
        "stream = pipeline.iterate_batches(b, start=0, stop=10**9)\n"
        "next(stream)\n"
    )
    root, pipe = pathlib.Path(__file__).parents[2], subprocess.PIPE
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=root, stdout=pipe, stderr=pipe, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_cache_keeps_what_fits_and_no_more():
    size = ready()[0]
    size = sum(size[k].nbytes for k in ("image", "label", "weight"))
    calls = []
    examples = ready(atlas(calls=calls), memory=MemoryBudget(3 * size + 1))
    for _ in range(2):
        for i in range(10):
            assert examples[i]["image"][0, 0, 0] == i
    assert Counter(calls) == {i: 1 if i < 3 else 2 for i in range(10)}
    with pytest.raises(ValueError, match="read-only"):
        examples[0]["image"][:] = 0


def test_the_last_is_held_even_without_room():
    calls = []
    examples = ready(atlas(calls=calls))
    for i in (0, 0, 1, 1, 0):
        assert examples[i]["image"][0, 0, 0] == i
    assert calls == [0, 1, 0]
    assert examples.shape(1) == examples[1]["weight"].shape
    assert calls == [0, 1, 0, 1]  # its shape was known


def test_threads_share_the_cache():
    calls = []
    run = made(ready(atlas(calls=calls), memory=MemoryBudget(2**20)), batch_size=10)
    list(iterate_batches(run, start=0, stop=30, threads=4))
    assert len(calls) <= 4 * 10  # not 300


IDS = np.array([[0, 1], [2, -1]], np.int32)
ONE_HOT = np.array([[[0, 0], [1, 0]], [[0, 1], [-1, -1]]], np.int32)


def tiny(**changes):
    record = {"image": np.zeros((2, 2, 1), np.uint8), "label": IDS, "id": "r7"}
    record |= changes
    return Source("tiny", ("none", "a", "b"), (), 1, 1, lambda i: record)


def test_a_task_may_change_the_label_and_the_weight_is_of_the_class_ids():
    def add_truth(example):
        assert example["image"].dtype == np.float32  # all else is done
        return example | {"label": ONE_HOT}

    example = ready(tiny(), add_truth=add_truth)[0]
    np.testing.assert_array_equal(example["label"], ONE_HOT)
    np.testing.assert_array_equal(example["weight"], [[1, 1], [1, 0]])


def test_a_task_may_make_the_label_of_other_arrays():
    def add_truth(example):
        return example | {"label": (example["instances"] > 0).astype(np.int32)}

    cells = np.array([[0, 7], [9, 9]], np.int32)
    record = {"image": np.zeros((2, 2, 1), np.uint8), "instances": cells, "id": "r7"}
    source = tiny()._replace(load=lambda i: record)
    seen = []

    def weigh(label, instances):
        seen.extend([label, instances])
        return weights.uniform(label)

    example = ready(source, weigh, add_truth=add_truth, needs=("instances",))[0]
    np.testing.assert_array_equal(example["label"], [[0, 1], [1, 1]])
    np.testing.assert_array_equal(seen[0], example["label"])
    np.testing.assert_array_equal(seen[1], cells)


def test_a_mistake_that_a_task_finds_names_the_record():
    def add_truth(example):
        raise UserError("it has no cells")

    with pytest.raises(UserError, match="^tiny, r7: it has no cells$"):
        ready(tiny(), add_truth=add_truth)[0]


def test_records_without_what_a_task_needs_are_named():
    with pytest.raises(UserError, match="^tiny, r7: has no target; add it"):
        ready(tiny(), needs=("label", "target"))[0]


def test_an_example_without_a_label_counts_everywhere():
    record = {"image": np.zeros((2, 2, 1), np.uint8), "id": "r7"}
    example = ready(tiny()._replace(load=lambda i: record), needs=())[0]
    np.testing.assert_array_equal(example["weight"], np.ones((2, 2)))


def test_channels_hold_0_and_1():
    with pytest.raises(UserError, match=r"^tiny, r7: .*holds 2"):
        ready(tiny(label=ONE_HOT * 2))[0]


def test_a_label_with_a_class_axis_keeps_it():
    seen = []

    def weigh(label, instances):
        seen.append(label)
        return weights.uniform(label)

    example = ready(tiny(label=ONE_HOT), weigh)[0]
    np.testing.assert_array_equal(example["label"], ONE_HOT)
    np.testing.assert_array_equal(seen[0], [[0, 1], [1, -1]])


BAD = {
    "2 channels": ({"image": np.zeros((2, 2, 2))}, r"\(2, 2, 2\).* 1 channel"),
    "sizes": ({"image": np.zeros((3, 2, 1))}, r"\(2, 2\).*\(3, 2\)"),
    "class axis": ({"label": np.zeros((2, 2, 3), int)}, r"\(2, 2, 3\).* 3 classes"),
    "instances": ({"instances": np.zeros((2, 3), int)}, r"\(2, 3\).*\(2, 2\)"),
    "nan": ({"image": np.full((2, 2, 1), np.nan)}, "NaN"),
    "ids": ({"label": IDS * 255}, "510"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_record_is_named_in_one_line(case):
    changes, message = BAD[case]
    examples = ready(tiny(**changes))
    with pytest.raises(UserError, match=rf"^tiny, r7: .*{message}") as error:
        examples[0]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": -1},
        {"margin": (2, 6)},
        {"batch_size": 3, "shard": (0, 2)},
        {"batch_size": 0},
        {"crop": (8, 8, 8), "margin": (2, 2, 2)},
    ],
)
def test_impossible_numbers_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        made(**wrong)[0]


def test_an_empty_source_is_refused():
    with pytest.raises(UserError, match="atlas holds no records"):
        ready(atlas(length=0))


def photographs(length=7, first=100, **arrays):
    """A source of images alone, whose pixels know where they come from."""

    def load(i):
        image = np.stack([np.full_like(PLACE, first + i), PLACE], -1)
        return {"image": image.astype(np.float32), "id": f"u{i}"} | arrays

    names = tuple(map(str, range(PLACE.size)))
    return Source("photographs", names, (), 2, length, load)


def extended():
    """The atlas with arrays that no part of the pipeline knows."""
    arrays = {
        "instances": PLACE + 1,
        "potential": PLACE / 2.0,
        "vector": np.stack([PLACE, -PLACE, PLACE], -1).astype(np.float32),
        "factors": np.array([1.0, 2.0, 3.0], np.float32),  # not spatial
    }
    plain = atlas()
    return plain._replace(load=lambda i: plain.load(i) | arrays)


def mixed(source=None, size=3, labelled=None, **kwargs):
    examples = labelled or ready()
    others = prepare_unlabelled(source or photographs(), examples[0], measure=as_it_is)
    given = {"batch_size": 5, "unlabelled": others, "unlabelled_size": size}
    return made(examples, **given | kwargs)


def test_every_array_of_an_example_is_in_the_batch():
    batch = made(ready(extended()))[0]
    got = {k: (v.dtype.name, v.shape) for k, v in batch.items()}
    assert got == {
        "image": ("float32", (4, 8, 12, 2)),
        "label": ("int32", (4, 8, 12)),
        "weight": ("float32", (4, 8, 12)),
        "instances": ("int32", (4, 8, 12)),
        "potential": ("float64", (4, 8, 12)),
        "vector": ("float32", (4, 8, 12, 3)),
        "factors": ("float32", (4, 3)),
        "seed": ("uint32", (4,)),
    }
    place = batch["label"]
    np.testing.assert_array_equal(batch["instances"], place + 1)
    np.testing.assert_array_equal(batch["potential"], place / 2)
    np.testing.assert_array_equal(batch["vector"][..., 1], -place)
    np.testing.assert_array_equal(batch["factors"], [[1, 2, 3]] * 4)


def test_labelled_rows_come_first_and_the_others_have_no_weight():
    batch = mixed()[0]
    rows = records(batch)
    assert all(row < 10 for row in rows[:2])
    assert all(row >= 100 for row in rows[2:])
    np.testing.assert_array_equal(batch["label"][:2], batch["image"][:2, ..., 1])
    assert (batch["label"][2:] == -1).all()
    assert (batch["weight"][:2] == 1).all()
    assert (batch["weight"][2:] == 0).all()
    assert batch["image"].shape == (5, 8, 12, 2)


def test_unlabelled_rows_have_blanks_for_all_other_arrays():
    batch = mixed(labelled=ready(extended()))[0]
    plain = made(ready(extended()))[0]
    assert batch.keys() == plain.keys()
    for name in plain:
        assert batch[name].dtype == plain[name].dtype
        assert batch[name].shape[1:] == plain[name].shape[1:]
        if name not in ("image", "label", "seed"):
            assert (batch[name][:2] != 0).any()
            assert (batch[name][2:] == 0).all()


def test_only_the_image_of_an_unlabelled_record_is_read():
    """A label that is not there is not an error, and one that is there is not used."""
    batch = mixed(photographs(label=np.full((3, 3), 10**6)))[0]
    assert (batch["label"][2:] == -1).all()
    wrong = photographs(image=np.full((*SHAPE, 2), np.nan))
    with pytest.raises(UserError, match="^photographs, u.: image has NaN"):
        mixed(wrong)[0]
    with pytest.raises(UserError, match="photographs holds no records"):
        mixed(photographs(length=0))


def test_unlabelled_images_change_no_labelled_example():
    """A step sees of them what a run without the others would see."""
    both, alone = mixed(), made(batch_size=2)
    for step in (0, 3, 11):
        first = {k: v[:2] for k, v in both[step].items()}
        same(first, alone[step])


def test_unlabelled_epochs_are_whole_and_in_an_order_of_their_own():
    run = mixed(photographs(length=10))
    streams = [
        sum((records(run[s])[i:j] for s in range(10)), []) for i, j in ((0, 2), (2, 5))
    ]
    labelled, others = streams
    for start in (0, 10):
        assert sorted(labelled[start : start + 10]) == list(range(10))
    for start in (0, 10, 20):
        assert sorted(others[start : start + 10]) == list(range(100, 110))
    assert [i - 100 for i in others[:20]] != labelled


def test_labelled_and_unlabelled_examples_draw_nothing_in_common():
    """With the same images in both, neither crops nor seeds are those of the other."""
    run = mixed(photographs(length=10, first=0))
    seeds, corners = {}, {}
    for step in range(20):
        batch = run[step]
        for row in range(5):
            kind = row >= 2
            corner = tuple(batch["image"][row, 0, 0].tolist())
            seeds.setdefault(kind, []).append(int(batch["seed"][row]))
            corners.setdefault(kind, []).append(corner)
    assert not set(seeds[False]) & set(seeds[True])
    assert len(set(seeds[True])) == len(seeds[True])
    met = Counter(corners[False]) & Counter(corners[True])
    assert met.total() < 10  # of 40: 13 x 9 places in each of 10 images


def test_a_mixed_step_is_always_the_same_batch_and_a_seed_makes_another_run():
    same(mixed()[7], mixed()[7])
    runs = [mixed(seed=s) for s in (3, 4)]
    orders = [sum((records(run[s])[2:] for s in range(5)), []) for run in runs]
    assert orders[0] != orders[1]
    assert not set(runs[0][0]["seed"]) & set(runs[1][0]["seed"])


def test_shards_cut_a_mixed_batch():
    whole = mixed(batch_size=6)[5]
    for count in (2, 3):
        shards = [mixed(batch_size=6, shard=(i, count))[5] for i in range(count)]
        same(whole, {k: np.concatenate([part[k] for part in shards]) for k in whole})


@pytest.mark.parametrize("threads", [0, 2])
def test_a_mixed_run_goes_on_in_the_middle(threads):
    run = mixed()
    steps = list(iterate_batches(mixed(), start=4, stop=9, threads=threads))
    for got, step in zip(steps, range(4, 9), strict=True):
        same(got, run[step])


@pytest.mark.parametrize("size", [5, 6])
def test_there_is_room_for_labelled_examples(size):
    with pytest.raises(UserError, match=f"{size} of 5 examples cannot be unlabelled"):
        mixed(size=size)


def test_unlabelled_rows_need_unlabelled_images():
    with pytest.raises(UserError, match="give unlabelled images"):
        made(unlabelled_size=2)
    plain = mixed(size=0)[0]
    same(plain, made(batch_size=5)[0])


def test_records_of_different_arrays_are_named():
    def load(i):
        record = {"image": np.ones((9, 9, 1)), "label": np.ones((9, 9), int)}
        more = {"instances": np.ones((9, 9), int)} if i == 1 else {}
        return record | more | {"id": f"r{i}"}

    source = Source("mixed", ("a", "b"), (), 1, 2, load)
    stream = made(ready(source), crop=(8, 8), margin=(0, 0))
    with pytest.raises(UserError, match="r1 has the arrays .*instances.*, and the fi"):
        list(map(stream.__getitem__, range(4)))
