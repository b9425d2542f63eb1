"""The mean teacher: its average, its ramp and its consistency, computed by hand."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.methods.parts import Linear, Small, host_batch, ingredients, on_device
from unet_jax import methods
from unet_jax.errors import UserError
from unet_jax.methods import method

KEY = jax.random.key(0)
close = functools.partial(np.testing.assert_allclose, atol=1e-5)
AT_ONCE = {"ramp_up": 0, "noise": 0.0}


def compile_method(parts, **options):
    teacher = methods.mean_teacher(parts, **options)
    return teacher._replace(init=jax.jit(teacher.init), update=jax.jit(teacher.update))


def linear(student, teacher, **options):
    """Returns a method and a state whose student and teacher multiply by numbers.

    The predictions are twice the outputs. No image has a label, so that the loss is the
    consistency alone.
    """
    parts = ingredients(Linear(), optax.sgd(0.01))
    task = parts.task._replace(activate=lambda output: 2 * output)
    mean_teacher = compile_method(parts._replace(task=task), **AT_ONCE | options)
    state = mean_teacher.init(KEY, jnp.zeros((1, 4, 4, 1)))

    def fill(tree, value):
        return jax.tree.map(lambda x: jnp.full_like(x, value), tree)

    params, extra = fill(state.params, student), fill(state.extra, teacher)
    return mean_teacher, state._replace(params=params, extra=extra)


def with_unequal_scales(state):
    """Returns the state with two different scales, equal in student and teacher."""
    params = {"scale": jnp.array([1.0, -0.5])}
    return state._replace(params=params, extra=state.extra | {"params": params})


def blank(value, shape=(4, 4)):
    """Returns images of one value, with weight 0."""
    data = on_device(host_batch(4, unlabelled=4, shape=shape))
    return data | {"image": jnp.full_like(data["image"], value)}


@pytest.mark.parametrize("shape", [(4, 4), (2, 4, 6)])
def test_the_consistency_by_hand(shape):
    """Student 3 and teacher 1 predict 30 and 10 for an image of 5: (30 - 10)^2 = 400.

    The mean is over two scales. Each has the gradient w/2 * 2 (30 - 10) * 2 * 5 =
    200 w, which changes the student only.
    """
    mean_teacher, state = linear(3.0, 1.0, consistency=0.5, decay=0.9)
    after, scalars = mean_teacher.update(state, blank(5.0, shape), KEY)
    assert float(scalars["supervised"]) == 0
    assert float(scalars["consistency"]) == pytest.approx(400)
    assert float(scalars["loss"]) == pytest.approx(0.5 * 400)
    assert float(scalars["grad_norm"]) == pytest.approx(100 * 2**0.5, 1e-5)
    close(after.params["scale"], 3 - 0.01 * 100)


def test_the_teacher_is_an_average_and_gets_no_gradient():
    """It is the plain mean of the students until the decay limits the share."""
    mean_teacher, state = linear(3.0, 7.0, consistency=0.0, decay=0.6)
    expected, students = 7.0, []
    for share in (1.0, 1 / 2, 0.4, 0.4):  # 1 - min(decay, 1 - 1 / t), t = 1, 2, ...
        value = 2.0 + len(students)
        state = state._replace(params={"scale": jnp.full(2, value)})
        state, _ = mean_teacher.update(state, blank(5.0), KEY)
        students.append(value)
        expected = share * value + (1 - share) * expected
        close(mean_teacher.variables(state)["params"]["scale"], expected)
    close(expected, 0.6 * (0.6 * (2 + 3) / 2 + 0.4 * 4) + 0.4 * 5)


@pytest.mark.slow
def test_running_statistics_are_averaged_like_parameters():
    mean_teacher = compile_method(ingredients(Small()), decay=0.99)
    data = on_device(host_batch(4, unlabelled=2))
    state = mean_teacher.init(KEY, data["image"])
    assert jax.tree.leaves(state.extra["batch_stats"])
    students = []
    for _ in range(2):
        state, _ = mean_teacher.update(state, data, KEY)
        students.append({"params": state.params, "batch_stats": state.stats})
    jax.tree.map(
        lambda got, a, b: close(got, (a + b) / 2),
        mean_teacher.variables(state),
        *students,
    )


def test_student_and_teacher_start_equal_and_share_no_memory():
    """A training step donates the buffers of both."""
    init = methods.mean_teacher(ingredients(Small())).init
    state = init(KEY, jnp.zeros((1, 4, 4, 1)))
    student = {"params": state.params, "batch_stats": state.stats}
    pairs = zip(jax.tree.leaves(student), jax.tree.leaves(state.extra), strict=True)
    for one, other in pairs:
        np.testing.assert_array_equal(one, other)
        assert one.unsafe_buffer_pointer() != other.unsafe_buffer_pointer()


def test_the_teacher_predicts_and_is_selected_not_computed():
    mean_teacher, state = linear(3.0, 1.0)
    assert mean_teacher.variables(state) is state.extra
    assert state.ema == ()


def test_the_ramp_by_hand():
    """exp(-5 (1 - step / 10)^2)."""
    mean_teacher, state = linear(3.0, 1.0, consistency=7.0, ramp_up=10)
    for step, exponent in ((0, -5), (5, -1.25), (9, -0.05), (10, 0), (25, 0)):
        now = state._replace(step=jnp.int32(step))
        _, scalars = mean_teacher.update(now, blank(5.0), KEY)
        weight = 7 * math.exp(exponent)
        assert float(scalars["loss"]) == pytest.approx(400 * weight, rel=1e-5)


@pytest.mark.parametrize(
    ("coarse", "padding"), [(False, "SAME"), (True, "SAME"), (False, "VALID")]
)
def test_targets_come_from_the_teacher_in_prediction_mode(coarse, padding):
    """Without dropout, with its running statistics, at the finest level."""
    parts = ingredients(Small(dropout=0.5, coarse=coarse, padding=padding))
    mean_teacher = compile_method(parts, **AT_ONCE)
    data = on_device(host_batch(4, unlabelled=2))
    state, _ = mean_teacher.update(mean_teacher.init(KEY, data["image"]), data, KEY)

    @jax.jit
    def expected(state):
        output, _ = method.forward(parts, state.params, state.stats, data, KEY)
        finest = output[0] if coarse else output
        target = parts.model.apply(state.extra, data["image"])
        difference = jax.nn.softmax(finest) - jax.nn.softmax(target)
        return jnp.mean(difference**2)

    _, scalars = mean_teacher.update(state, data, KEY)
    assert float(scalars["consistency"]) == pytest.approx(float(expected(state)), 1e-4)
    assert float(scalars["consistency"]) > 1e-4


@pytest.mark.slow
def test_without_consistency_unlabelled_rows_change_nothing():
    model = Small(norm=False, dropout=0.3)
    rows, others = 4, 2
    data = on_device(host_batch(rows + others, unlabelled=others))
    options = {"unlabelled": others / (rows + others), "consistency": 0.0, "noise": 0.0}
    parts = ingredients(model)
    alone, both = methods.supervised(parts), compile_method(parts, **options)
    state = both.init(KEY, data["image"])
    labelled = {name: array[:rows] for name, array in data.items()}
    expected, numbers = jax.jit(alone.update)(state, labelled, KEY)
    after, scalars = both.update(state, data, KEY)
    jax.tree.map(close, after.params, expected.params)
    for name in ("loss", "grad_norm", "param_norm"):
        assert float(scalars[name]) == pytest.approx(float(numbers[name]), rel=1e-5)
    assert float(scalars["supervised"]) == pytest.approx(float(numbers["loss"]), 1e-5)
    jax.tree.map(close, both.variables(after)["params"], after.params)


@pytest.mark.slow
@pytest.mark.parametrize(("consistency", "moved"), [(0.0, False), (5.0, True)])
def test_unlabelled_images_change_the_student_only_by_consistency(consistency, moved):
    data = on_device(host_batch(4, unlabelled=2))
    other = data | {"image": data["image"].at[2:].multiply(-2.0)}
    options = {"consistency": consistency, "ramp_up": 0, "noise": 0.3}
    mean_teacher = compile_method(ingredients(Small(norm=False)), **options)
    state = mean_teacher.init(KEY, data["image"])
    first, second = (
        mean_teacher.update(state, b, KEY)[0].params for b in (data, other)
    )
    apart = optax.tree.norm(jax.tree.map(jnp.subtract, first, second))
    assert (float(apart) > 1e-4) == moved


def test_student_and_teacher_get_independent_noise_of_the_given_deviation():
    """The mean square of 2 (student noise - teacher noise) is 4 (s^2 + s^2)."""
    mean_teacher, state = linear(1.0, 1.0, noise=0.3)
    _, scalars = mean_teacher.update(state, blank(5.0, (64, 64)), KEY)
    pixels = 4 * 64 * 64
    expected, deviation = 8 * 0.3**2, 8 * 0.3**2 * (2 / pixels) ** 0.5
    assert abs(float(scalars["consistency"]) - expected) < 4 * deviation


def test_the_noise_of_the_student():
    """A teacher of scale 0 always predicts 0, so only the student's noise is left."""
    mean_teacher, state = linear(1.0, 0.0, noise=0.3)
    _, scalars = mean_teacher.update(state, blank(0.0, (64, 64)), KEY)
    assert float(scalars["consistency"]) == pytest.approx(4 * 0.3**2, rel=0.05)


def test_noise_depends_on_the_seed_of_the_example():
    """The order of a batch and its other rows do not change an example's noise."""
    mean_teacher, state = linear(1.0, 0.0, noise=0.3)

    def consistency(batch, key=KEY):
        return float(mean_teacher.update(state, batch, key)[1]["consistency"])

    data = blank(0.0)
    reverse = jax.tree.map(lambda rows: rows[::-1], data)
    assert consistency(data) == pytest.approx(consistency(reverse), rel=1e-5)
    parts = [jax.tree.map(lambda rows, i=i: rows[i : i + 2], data) for i in (0, 2)]
    halves = [consistency(part) for part in parts]
    assert np.mean(halves) == pytest.approx(consistency(data), rel=1e-5)
    assert halves[0] != pytest.approx(halves[1], rel=1e-3)
    again = consistency(data | {"seed": data["seed"] + 1})
    assert again != pytest.approx(consistency(data), rel=1e-3)
    assert consistency(data, jax.random.key(1)) != pytest.approx(again, rel=1e-3)


@pytest.mark.slow
def test_student_and_teacher_see_the_same_augmented_crop():
    def augment(key, example):
        return example | {"image": jax.random.normal(key, example["image"].shape)}

    parts = ingredients(Linear(), augment=augment)
    mean_teacher = compile_method(parts, **AT_ONCE)
    data = on_device(host_batch(4, unlabelled=2))
    state = with_unequal_scales(mean_teacher.init(KEY, data["image"]))
    _, scalars = mean_teacher.update(state, data, KEY)
    assert float(scalars["consistency"]) == 0
    seen = method.augment_batch(parts, data, KEY)
    logits = parts.model.apply({"params": state.params}, seen["image"])
    expected = method.compute_loss(parts, logits, seen).sum() / 2
    assert float(scalars["supervised"]) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("share", "labelled"), [(0.5, 4), (0.25, 6), (0.0, 8)])
def test_the_supervised_loss_is_the_mean_over_labelled_rows(share, labelled):
    parts = ingredients(Linear())
    mean_teacher = compile_method(parts, unlabelled=share, **AT_ONCE)
    assert mean_teacher.unlabelled == share
    data = on_device(host_batch(8, unlabelled=8 - labelled))
    state = with_unequal_scales(mean_teacher.init(KEY, data["image"]))
    _, scalars = mean_teacher.update(state, data, KEY)
    logits = parts.model.apply({"params": state.params}, data["image"])
    each = method.compute_loss(parts, logits, data)
    expected = float(each[:labelled].mean())
    assert float(scalars["supervised"]) == pytest.approx(expected, rel=1e-5)


def test_a_second_average_of_the_parameters_raises_a_user_error():
    with pytest.raises(
        UserError, match=r"ema=0.9: .* the option decay; set --config.ema=0"
    ):
        methods.mean_teacher(ingredients(Linear(), ema=0.9))
