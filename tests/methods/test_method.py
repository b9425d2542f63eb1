"""The steps that methods share, by hand and by invariants."""

import functools
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.methods.parts import Linear, Small, host_batch, ingredients, on_device
from unet_jax import methods
from unet_jax.errors import UserError
from unet_jax.methods import method
from unet_jax.methods.layer_outputs import watch_layers
from unet_jax.models import UNet

KEY = jax.random.key(0)
close = functools.partial(np.testing.assert_allclose, atol=1e-5)


def start(parts):
    image = host_batch()["image"]
    return jax.jit(functools.partial(method.init_state, parts))(KEY, image)


def step_with_ones(parts, state):
    """Returns the state and the scalars after a step with a gradient of ones."""
    grads = jax.tree.map(jnp.ones_like, state.params)
    step = jax.jit(functools.partial(method.apply_gradients, parts))
    return step(state, jnp.float32(2), state.stats, grads)


def test_the_arrays_of_an_initial_state_share_no_memory():
    """A training step donates the buffers of the state."""
    state = method.init_state(ingredients(Small(), ema=0.9), KEY, host_batch()["image"])
    assert state.step == 0
    assert jax.tree.leaves(state.stats)
    params, ema = jax.tree.leaves(state.params), jax.tree.leaves(state.ema)
    for one, other in zip(params, ema, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.unsafe_buffer_pointer() != other.unsafe_buffer_pointer()
    assert start(ingredients(Small())).ema == ()


def test_the_average_of_the_parameters_is_used_for_prediction():
    """ema <- d ema + (1 - d) params.

    After t updates d is the decay or (1 + t) / (10 + t), if that is less: 0.1 at first.
    """
    parts = ingredients(Linear(), optax.sgd(0.5), ema=0.75)
    before = start(parts)  # parameters of 1, which every step lowers by 0.5
    after, _ = step_with_ones(parts, before)
    close(after.ema["scale"], 0.1 * 1 + 0.9 * 0.5)
    assert method.select_variables(after)["params"] is after.ema
    late, _ = step_with_ones(parts, after._replace(step=jnp.int32(1000)))
    close(late.ema["scale"], 0.75 * after.ema["scale"] + 0.25 * 0.0)
    off = start(ingredients(Linear()))
    assert method.select_variables(off)["params"] is off.params


def test_the_scalars_of_a_step_by_hand():
    parts = ingredients(Linear(), optax.sgd(0.5))
    after, scalars = step_with_ones(parts, start(parts))
    assert int(after.step) == 1
    assert scalars.keys() == {"loss", "grad_norm", "param_norm"}
    assert float(scalars["loss"]) == 2
    assert float(scalars["grad_norm"]) == pytest.approx(2**0.5)  # of (1, 1)
    assert float(scalars["param_norm"]) == pytest.approx(0.5**0.5)  # of (1/2, 1/2)


def test_a_step_keeps_the_extra_arrays():
    parts = ingredients(Linear())
    state = start(parts)._replace(extra={"own": jnp.arange(3)})
    after, _ = step_with_ones(parts, state)
    close(after.extra["own"], [0, 1, 2])


def test_param_norm_is_that_of_the_updated_parameters():
    """It shows a gradient that is not finite even if the loss is finite."""

    def cliff(outputs, targets, weight):
        return jnp.sqrt(jnp.maximum(0 * outputs["label"], 0)).sum((1, 2, 3))

    supervised = methods.supervised(ingredients(Linear(), loss=cliff))
    data = on_device(host_batch())
    _, scalars = supervised.update(supervised.init(KEY, data["image"]), data, KEY)
    assert scalars["loss"] == 0
    assert not np.isfinite(scalars["param_norm"])


def test_augmentation_depends_on_the_seed_only():
    """The position in the batch makes no difference."""

    def augment(key, example):
        return example | {"image": jax.random.normal(key, example["image"].shape)}

    parts = ingredients(Linear(), augment=augment)
    data = on_device(host_batch()) | {"seed": jnp.array([5, 6, 7, 5], jnp.uint32)}
    given, reverse = data, jax.tree.map(lambda rows: rows[::-1], data)
    first, second = (
        method.augment_batch(parts, batch, KEY)["image"] for batch in (given, reverse)
    )
    close(first, second[::-1])
    close(first[0], first[3])
    assert np.abs(first[0] - first[1]).max() > 0.1
    other = method.augment_batch(parts, data, jax.random.key(1))["image"]
    assert np.abs(first[0] - other[0]).max() > 0.1


def test_augmentation_receives_every_array_of_an_example():
    def augment(key, example):
        assert example["potential"].shape == (16, 16)
        return example | {"potential": example["potential"] + 1}

    data = on_device(host_batch()) | {"potential": jnp.zeros((4, 16, 16))}
    got = method.augment_batch(ingredients(Linear(), augment=augment), data, KEY)
    assert got.keys() == data.keys()
    np.testing.assert_array_equal(got["potential"], 1)


def test_dropout_depends_on_the_seed_and_the_key_only():
    parts, data = ingredients(Small(dropout=0.5)), on_device(host_batch())
    state = start(parts)

    @jax.jit
    def output(data, key):
        return method.forward(parts, state.params, state.stats, data, key)[0]

    first = output(data, KEY)
    reverse = output(jax.tree.map(lambda rows: rows[::-1], data), KEY)
    close(first, reverse[::-1])
    assert np.abs(first - output(data, jax.random.key(1))).max() > 1e-3
    again = output(data | {"seed": data["seed"] + 1}, KEY)
    assert np.abs(first - again).max() > 1e-3


def test_the_forward_pass_returns_new_statistics():
    """The running mean starts at 0 and moves a tenth of the way to the batch mean."""
    parts, data = ingredients(Small()), on_device(host_batch())
    state = start(parts)
    _, stats = method.forward(parts, state.params, state.stats, data, KEY)
    before = nn.Conv(4, (3, 3)).apply({"params": state.params["Conv_0"]}, data["image"])
    close(stats["BatchNorm_0"]["mean"], 0.1 * before.mean((0, 1, 2)))
    plain = ingredients(Linear())
    assert method.forward(plain, start(plain).params, {}, data, KEY)[1] == {}


def test_a_coarse_output_is_compared_with_the_middle_at_its_stride():
    """Output 0 covers the middle; output 1 has 1/2 of its rows, 1/3 of its columns."""
    label = jnp.arange(12 * 12, dtype=jnp.int32).reshape(1, 12, 12)
    seen = []

    def loss(outputs, targets, weight):
        seen.append((targets["label"][0].tolist(), weight[0].tolist()))
        return jnp.full(1, outputs["label"].mean())

    class Strided(Linear):
        def geometry(self, axes):
            assert axes == 2
            return SimpleNamespace(strides=((1, 1), (2, 3)))

    parts = ingredients(Strided(), loss=loss)
    batch = {"image": jnp.zeros((1, 12, 12, 1)), "label": label, "weight": label * 1.0}
    outputs = (jnp.full((1, 4, 6, 2), 3.0), jnp.full((1, 2, 2, 2), 9.0))
    value = method.compute_loss(parts, outputs, batch)
    middle = np.asarray(label)[0, 4:8, 3:9]
    assert seen[0] == (middle.tolist(), middle.tolist())
    assert seen[1] == (middle[1::2, 1::3].tolist(),) * 2
    assert value[0] == pytest.approx((3.0 + 9.0 / 2) / 1.5)
    alone = method.compute_loss(parts, outputs[0], batch)
    assert alone[0] == pytest.approx(3.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("padding", "size", "sizes"), [("SAME", 64, [64, 32]), ("VALID", 60, [20, 12])]
)
def test_deep_supervision_is_aligned_with_the_image(padding, size, sizes):
    """A network that passes its skips through returns a ramp at its own position.

    The maximum of two pixels of a ramp is the second, which is the one that the coarse
    label keeps. If the skip were not the first input, the output would be 0.
    """
    model = UNet((1, 1, 1), padding=padding, dropout=0.0, deep_supervision=True)
    ramp = jnp.arange(size * size, dtype=jnp.int32).reshape(1, size, size)
    image = ramp[..., None].astype(jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), image)

    def pass_skips_through(path, shape):
        zeros = jnp.zeros(shape.shape)
        if "kernel" not in str(path[-1]) or "upconv" in str(path[1]):
            return zeros
        centre = (0, 0) if "head" in str(path[1]) else (1, 1)
        return zeros.at[(*centre, 0)].set(1.0)

    params = jax.tree_util.tree_map_with_path(pass_skips_through, shapes)
    outputs = model.apply(params, image, train=True)
    seen = []

    def loss(outputs, targets, weight):
        seen.append(outputs["label"].shape[1])
        np.testing.assert_array_equal(outputs["label"][..., 0], targets["label"])
        return jnp.zeros(1)

    batch = {"image": image, "label": ramp, "weight": jnp.ones(ramp.shape)}
    method.compute_loss(ingredients(model, loss=loss), outputs, batch)
    assert seen == sizes


def test_average_over_replicas():
    values = {"a": jnp.arange(8.0), "b": jnp.ones((8, 2))}
    over = jax.pmap(
        lambda tree: method.average_replicas(tree, "replica"), axis_name="replica"
    )
    got = over(values)
    np.testing.assert_array_equal(got["a"], 3.5)
    np.testing.assert_array_equal(got["b"], 1)
    assert method.average_replicas(values, None) is values


@pytest.mark.parametrize(
    ("share", "size", "rows"),
    [
        (0.0, 4, 0),
        (0.5, 4, 2),
        (0.7, 10, 7),
        (0.3, 4, 1),
        (0.4, 4, 2),
        (0.01, 4, 1),  # at least one of each kind
        (0.99, 4, 3),
        (0.0, 1, 0),
    ],
)
def test_a_share_of_a_batch_becomes_a_number_of_rows(share, size, rows):
    assert method.count_unlabelled_rows(share, size) == rows


def test_a_batch_of_one_row_cannot_have_unlabelled_rows():
    with pytest.raises(UserError, match="1 is too small for .*; set 2 or more"):
        method.count_unlabelled_rows(0.5, 1)


def step_on(pixels, state, parts):
    """Returns the state and the scalars after a guarded step on images of one value."""
    batch = host_batch()
    batch["image"] = np.full_like(batch["image"], pixels)
    update = method.skip_non_finite(methods.supervised(parts).update)
    return jax.jit(update, static_argnums=3)(state, batch, KEY, None)


def test_a_step_that_is_not_finite_changes_nothing_but_the_step():
    """Parameters, running statistics, moments and averages stay; the next step counts.

    The loss may be finite: an image of 1e30 has an infinite variance only.
    """
    parts = ingredients(Small(), optax.adam(0.1), ema=0.9)
    first, scalars = step_on(1.0, start(parts), parts)
    assert scalars["skipped"] == 0
    for pixels in (np.nan, np.inf, 1e30):
        second, scalars = step_on(pixels, first, parts)
        assert scalars["skipped"] == 1
        assert second.step == 2
        jax.tree.map(
            np.testing.assert_array_equal,
            second._replace(step=None),
            first._replace(step=None),
        )
    third, scalars = step_on(2.0, second, parts)
    assert scalars["skipped"] == 0
    assert optax.tree.norm(optax.tree.sub(third.params, second.params)) > 0


def test_a_number_that_always_was_infinite_does_not_skip_steps():
    """An optimizer may start with an infinite value, such as the best loss so far."""
    tx = optax.contrib.reduce_on_plateau()
    extra = optax.GradientTransformation(
        init=lambda params: {"best": jnp.float32(jnp.inf), "inner": tx.init(params)},
        update=lambda updates, state, params=None: (updates, state),
    )
    parts = ingredients(Linear(), optax.chain(optax.sgd(0.1), extra))
    _, scalars = step_on(1.0, start(parts), parts)
    assert scalars["skipped"] == 0


class Steps(nn.Module):
    """Layers whose second output is infinite for large images."""

    @nn.compact
    def __call__(self, image, *, train=False, seed=None):
        hidden = nn.Dense(2, name="first")(image)
        hidden = Square(name="second")(hidden)
        return nn.Dense(2, name="third")(hidden)

    def geometry(self, axes):
        return SimpleNamespace(strides=((1,) * axes,))


class Square(nn.Module):
    """A layer with a layer inside, which fails first."""

    @nn.compact
    def __call__(self, image):
        return nn.Dense(2, name="inner")(image**2)


@pytest.mark.parametrize(("pixels", "path"), [(1.0, None), (1e30, "second/inner")])
def test_the_first_layer_whose_output_is_not_finite_is_found(pixels, path):
    parts = ingredients(Steps())
    batch = host_batch()
    batch["image"] = np.full_like(batch["image"], pixels)
    found = {}
    update = watch_layers(methods.supervised(parts).update, found.__setitem__)
    jax.jit(update, static_argnums=3)(start(parts), batch, KEY, None)
    jax.effects_barrier()
    assert found.get(min(found, default=0)) == path


def test_frozen_statistics_do_not_change():
    parts = ingredients(Small())
    state = start(parts)
    made = methods.supervised(parts)
    names = {p[0].key for p, _ in jax.tree_util.tree_leaves_with_path(state.stats)}
    frozen = sorted(names)[0]
    update = method.keep_statistics(made.update, lambda path: path[0].key == frozen)
    batch = on_device(host_batch())
    kept, _ = jax.jit(update)(state, batch, KEY)
    plain, _ = jax.jit(made.update)(state, batch, KEY)
    for name in names:
        expected = state.stats[name] if name == frozen else plain.stats[name]
        jax.tree.map(np.testing.assert_array_equal, kept.stats[name], expected)
    assert any(
        (a != b).any()
        for a, b in zip(
            jax.tree.leaves(plain.stats[frozen]),
            jax.tree.leaves(state.stats[frozen]),
            strict=True,
        )
    )
    jax.tree.map(np.testing.assert_array_equal, kept.params, plain.params)
