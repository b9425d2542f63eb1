import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax import augment, losses, specs, tasks
from unet_jax.data import normalize
from unet_jax.data.examples import prepare_examples
from unet_jax.errors import UserError

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 255, (6, 6, 1), dtype=np.uint8)
CLEAN = RNG.integers(0, 100, (6, 6, 2)).astype(np.uint16)


def make_data(channels=1, target_channels=1):
    return tasks.TaskData((), 2, channels, target_channels)


def prepare_example(task, judged=False, **record):
    """Returns the example of one record, whose image has its own scale."""
    source = types.SimpleNamespace(
        name="pairs/train",
        classes=(),
        channels=1,
        target_channels=2,
        length=1,
        load=lambda index: {"id": "a", "image": IMAGE, **record},
    )
    return prepare_examples(
        source,
        measure=normalize.in_memory(normalize.standard),
        weigh=lambda ids, instances: np.ones(ids.shape, np.float32),
        add_truth=task.prepare,
        needs=task.needs,
        evaluation=judged,
    )[0]


@pytest.mark.parametrize(
    ("channels", "target_channels", "options", "expected"),
    [
        (1, 1, {}, (1, "image")),
        (3, 3, {}, (3, "image")),
        (1, 2, {}, (2, "image")),
        (3, 2, {"units": "own"}, (2, "own")),
        (3, 0, {"target": "image"}, (3, "image")),
        (3, 2, {"target": "image"}, (3, "image")),
    ],
)
def test_channels_and_units(channels, target_channels, options, expected):
    bound = specs.bind(tasks, {"name": "regression", **options}, "config.task")
    task = bound(make_data(channels, target_channels))
    assert (task.channels, task.units) == expected
    assert task.classes == ()
    assert task.losses == task.metrics == ("value",)
    assert task.needs == (() if options.get("target") == "image" else ("target",))
    functions = (task.decide, task.segment, task.probabilities, task.entropy)
    assert functions == (None,) * 4


def test_the_prediction_is_the_output_and_is_compared_with_the_target():
    task = tasks.regression(make_data(2, 2))
    output, target = (jnp.asarray(RNG.normal(size=(3, 4, 5, 2)), "f4") for _ in "ab")
    np.testing.assert_array_equal(task.activate(output), output)
    loss = losses.combine_losses([(2.0, losses.l1)])
    batch = {"image": output, "target": target, "weight": jnp.ones((3, 4, 5))}
    value = loss(task.outputs(output), task.targets(batch), batch["weight"])
    expected = 2 * np.abs(output - target).mean((1, 2, 3))
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_file_targets_have_the_scale_of_their_image():
    """Both are scaled by the mean and the deviation of the image, and scaled back."""
    task = tasks.regression(make_data(1, 2))
    learnt = prepare_example(task, target=CLEAN)
    expected = (CLEAN - IMAGE.mean()) / IMAGE.std()
    np.testing.assert_allclose(learnt["target"], expected, atol=1e-5)

    judged = prepare_example(task, target=CLEAN, judged=True)
    np.testing.assert_array_equal(judged["target"], CLEAN)
    back = judged["scale"].invert(learnt["target"])
    np.testing.assert_allclose(back, CLEAN, rtol=1e-5, atol=1e-4)


def test_the_image_as_target_moves_with_the_image_and_keeps_its_intensities():
    task = tasks.regression(make_data(1, 0), target="image")
    example = prepare_example(task)
    assert example["target"].dtype == np.float32
    np.testing.assert_allclose(example["target"].mean(), 0, atol=1e-5)
    np.testing.assert_array_equal(example["target"], example["image"])

    arrays = {name: jnp.asarray(example[name]) for name in ("image", "target")}
    moved = augment.compose([(1.0, augment.turn), (1.0, augment.flip)])
    for key in jax.random.split(jax.random.key(0), 4):
        after = moved(key, arrays)
        np.testing.assert_array_equal(after["target"], after["image"])
    brighter = augment.compose([(1.0, augment.brightness)])(key, arrays)
    np.testing.assert_array_equal(brighter["target"], arrays["target"])
    assert (brighter["image"] != arrays["image"]).all()


def test_the_image_as_target_replaces_the_target_of_a_file():
    task = tasks.regression(make_data(1, 2), target="image")
    example = prepare_example(task, target=CLEAN)
    np.testing.assert_array_equal(example["target"], example["image"])
    raw = task.prepare({"image": IMAGE})["target"]
    assert raw.dtype == np.float32
    np.testing.assert_array_equal(raw, IMAGE)


# Errors.


def test_data_without_targets_raise_a_user_error():
    with pytest.raises(UserError, match=r"no targets; add .* targets/ .*task\.name"):
        tasks.regression(make_data(1, 0))
    with pytest.raises(UserError, match="pairs/train, a: has no target; add it"):
        prepare_example(tasks.regression(make_data()))


def test_image_units_with_other_channels_raise_a_user_error():
    words = r"config\.task\.units='image' .* 3 channels .* have 2; .*units=own$"
    with pytest.raises(UserError, match=words):
        tasks.regression(make_data(3, 2))


def test_own_units_with_the_image_as_target_raise_a_user_error():
    with pytest.raises(UserError, match=r"config\.task\.units='own' .*units=image$"):
        tasks.regression(make_data(), target="image", units="own")


@pytest.mark.parametrize("option", ["target", "units"])
def test_options_are_checked_by_their_annotations(option):
    with pytest.raises(UserError, match=rf"config\.task\.{option} must be '"):
        specs.bind(tasks, {"name": "regression", option: "x"}, "config.task")
