"""Examples of records whose pixels have a size."""

import numpy as np
import pytest

from unet_jax import tasks
from unet_jax.data import normalize, weights
from unet_jax.data.examples import prepare_examples
from unet_jax.data.resample import make_resampling
from unet_jax.data.source import Source
from unet_jax.errors import UserError
from unet_jax.tasks import TaskData

RNG = np.random.default_rng(0)
LABEL = np.repeat(np.array([[0, 1, 2], [2, -1, 1]], np.int32), 4, 0).repeat(4, 1)
IMAGE = RNG.integers(0, 255, (*LABEL.shape, 1), dtype=np.uint8)
WANTED = (0.5, 1.5)
CHANNELS = tasks.multilabel(TaskData(("none", "a", "b"), axes=2, channels=1)).prepare


def ready(*spacings, record=(), **kwargs):
    base = {"image": IMAGE, "label": LABEL} | dict(record)

    def load(i):
        own = {"spacing": spacings[i]} if spacings[i] else {}
        return base | {"id": f"r{i}"} | own

    source = Source("scans", ("none", "a", "b"), (), 1, len(spacings), load)
    given = {
        "measure": normalize.in_memory(normalize.unit),
        "weigh": weights.border,
        "spacing": WANTED,
    }
    return prepare_examples(source, **given | kwargs)


def test_what_is_learnt_from_lies_on_one_grid():
    example = ready((1.0, 1.0), record={"instances": LABEL + 1})[0]
    assert example["spacing"] == WANTED
    assert example["image"].shape == (16, 8, 1)
    assert example["label"].shape == example["instances"].shape == (16, 8)
    change = make_resampling(LABEL.shape, (1.0, 1.0), WANTED)
    scaled = (IMAGE / 255).astype(np.float32)  # as 8 bits, before they are no integers
    np.testing.assert_array_equal(example["image"], change.image(scaled))
    after = weights.border(example["label"], example["instances"])
    np.testing.assert_array_equal(example["weight"], after)


def test_what_is_judged_keeps_the_truth_where_it_was_drawn():
    plain = ready((2.0, 3.0), spacing=())[0]
    examples = ready((2.0, 3.0), evaluation=True)
    example = examples[0]
    assert example["image"].shape == (32, 24, 1)
    assert examples.shape(0) == (32, 24)
    assert example["spacing"] == (2.0, 3.0)
    for key in ("label", "weight"):
        np.testing.assert_array_equal(example[key], plain[key])


def test_each_image_has_a_spacing_of_its_own():
    examples = ready((0.5, 1.5), (1.0, 1.5), (0.5, 3.0))
    assert [examples.shape(i) for i in range(3)] == [(8, 12), (16, 12), (8, 24)]
    as_it_is = ready((0.5, 1.5), spacing=())[0]
    for key, array in ready((0.5, 1.5))[0].items():
        np.testing.assert_array_equal(array, as_it_is[key])


def test_ids_become_channels_after_they_are_resampled():
    ids = ready((1.0, 1.0))[0]["label"]
    channels = ready((1.0, 1.0), add_truth=CHANNELS)[0]["label"]
    np.testing.assert_array_equal(channels[..., 0] == 1, ids == 1)
    np.testing.assert_array_equal((channels < 0).all(-1), ids < 0)


def test_an_image_without_a_spacing_is_named():
    with pytest.raises(UserError, match="^scans, r1: the size of its pixels is not"):
        ready((1.0, 1.0), None)[1]


def test_pixels_that_a_task_ignores_weigh_nothing():
    """Negative instances are ignored, and losses of vectors read no label."""
    instances = np.where(LABEL == 2, -1, LABEL)
    data = TaskData(("none", "cell"), axes=2, channels=1)
    record = {"instances": instances, "label": np.maximum(LABEL, 0) % 2}
    examples = ready((), record=record, spacing=(), add_truth=tasks.flow(data).prepare)
    weight = examples[0]["weight"]
    assert not weight[instances < 0].any()
    assert weight[instances >= 0].all()


def test_a_record_needs_what_the_task_needs():
    with pytest.raises(UserError, match="^scans, r0: has no instances; add it, or cho"):
        ready((1.0, 1.0), needs=("instances",))[0]
