"""Composed operations: order, probability, random numbers, applied displacements."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax import augment

KEY = jax.random.key(3)


def example(shape=(12, 12)):
    rng = np.random.default_rng(0)
    return {
        "image": jnp.asarray(rng.normal(size=(*shape, 1)), jnp.float32),
        "label": jnp.asarray(rng.integers(-1, 3, shape), jnp.int32),
        "weight": jnp.asarray(rng.uniform(size=shape), jnp.float32),
        "seed": jnp.uint32(7),
    }


def add(key, example, *, amount):
    return {**example, "image": example["image"] + amount}


def run_over(keys, run, example):
    return jax.jit(jax.vmap(run, in_axes=(0, None)))(keys, example)


def test_operations_run_in_order():
    double = lambda key, e: {**e, "image": e["image"] * 2}  # noqa: E731
    three = functools.partial(add, amount=3.0)
    both = augment.compose([(1.0, three), (1.0, double)])(KEY, example())
    np.testing.assert_allclose(both["image"], (example()["image"] + 3) * 2)


def test_probability_zero_is_the_identity():
    never = [(0.0, getattr(augment, name)) for name in augment.__all__]
    got = jax.jit(augment.compose(never))(KEY, example())
    jax.tree.map(np.testing.assert_array_equal, got, example())


def test_no_operations_are_the_identity():
    assert augment.compose([])(KEY, example()).keys() == example().keys()


@pytest.mark.slow
def test_chance_is_independent_for_each_example_and_operation():
    ones = functools.partial(add, amount=1.0)
    tens = functools.partial(add, amount=10.0)
    move = functools.partial(augment.rotation, degrees=0.0)
    run = augment.compose([(0.25, ones), (0.5, move), (0.5, tens)])
    keys = jax.random.split(KEY, 1000)
    got = run_over(keys, run, example((2, 2)))["image"]
    added = np.rint(got[:, 0, 0, 0] - example((2, 2))["image"][0, 0, 0])
    counts = [np.mean(added == amount) for amount in (0, 1, 10, 11)]
    # Three standard errors of 1000 draws.
    np.testing.assert_allclose(counts, [0.375, 0.125, 0.375, 0.125], atol=0.046)


def test_a_displacement_is_applied_to_all_pixels_or_to_none():
    run = augment.compose([(0.5, augment.elastic), (0.5, augment.noise)])
    keys = jax.random.split(KEY, 30)
    got = run_over(keys, run, example())
    still = [np.array_equal(label, example()["label"]) for label in got["label"]]
    assert 5 < sum(still) < 25


def test_an_operation_added_at_the_end_does_not_change_the_others():
    short = [(0.5, augment.shift), (0.5, augment.noise)]
    long = [*short, (1.0, functools.partial(augment.brightness, sigma=0.0))]
    one, two = (jax.jit(augment.compose(c))(KEY, example()) for c in (short, long))
    assert_close = functools.partial(np.testing.assert_allclose, atol=1e-4)
    jax.tree.map(assert_close, one, two)


@pytest.mark.slow
def test_the_key_determines_the_result_and_vmap_equals_a_loop():
    operations = (augment.elastic, augment.turn, augment.blur)
    run = augment.compose([(0.7, operation) for operation in operations])
    one, several = jax.jit(run), jax.jit(jax.vmap(run, in_axes=(0, None)))
    keys = jax.random.split(KEY, 3)
    got = several(keys, example())
    for i, key in enumerate(keys):
        alone = one(key, example())
        np.testing.assert_allclose(got["image"][i], alone["image"], atol=1e-3)
        assert np.mean(got["label"][i] != alone["label"]) < 0.01  # ties
        jax.tree.map(np.testing.assert_array_equal, one(key, example()), alone)
    assert not np.allclose(got["image"][0], got["image"][1])
