"""Properties of every operation that a spec may name."""

import functools
import inspect
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax import augment
from unet_jax.specs import bind

IDENTITY = {  # options under which an operation changes nothing
    "blur": {"low": 0.0, "high": 0.0},
    "brightness": {"sigma": 0.0},
    "contrast": {"low": 1.0, "high": 1.0},
    "elastic": {"sigma": 0.0},
    "gamma": {"low": 1.0, "high": 1.0},
    "low_resolution": {"low": 1.0, "high": 1.0},
    "multiplicative_brightness": {"low": 1.0, "high": 1.0},
    "noise": {"sigma": 0.0},
    "rotation": {"degrees": 0.0},
    "scale": {"low": 1.0, "high": 1.0},
    "shift": {"pixels": 0.0},
}


def batch(shape, classes=()):
    rng = np.random.default_rng(0)
    return {
        "image": jnp.asarray(rng.normal(size=(2, *shape, 2)), jnp.float32),
        "label": jnp.asarray(rng.integers(-1, 3, (2, *shape, *classes)), jnp.int8),
        "weight": jnp.asarray(rng.uniform(size=(2, *shape)), jnp.float32),
        "seed": jnp.arange(2, dtype=jnp.uint32),
        "instances": jnp.asarray(rng.integers(0, 9, (2, *shape)), jnp.int32),
        "potential": jnp.asarray(rng.normal(size=(2, *shape)), jnp.float32),
        "target": jnp.asarray(rng.normal(size=(2, *shape, 3)), jnp.float32),
        "factors": jnp.asarray(rng.normal(size=(2, 5)), jnp.float32),  # not spatial
    }


def example(shape):
    return jax.tree.map(lambda x: x[0], batch(shape))


@pytest.mark.parametrize("name", augment.__all__)
def test_key_and_example_come_first_and_options_have_defaults(name):
    operation = getattr(augment, name)
    key, example, *options = inspect.signature(operation).parameters.values()
    assert (key.name, example.name) == ("key", "example")
    hints = typing.get_type_hints(operation)
    for option in options:
        assert option.kind == inspect.Parameter.KEYWORD_ONLY
        assert hints[option.name] in (float, int, bool, tuple[int, ...])
        assert option.default is not inspect.Parameter.empty
    bind(augment, {"name": name}, "config.augment[0]")


@pytest.mark.parametrize("name", augment.__all__)
@pytest.mark.parametrize(("shape", "classes"), [((8, 8), (3,)), ((3, 8, 8), ())])
def test_shapes_and_dtypes_are_kept(name, shape, classes):
    run = jax.vmap(augment.compose([(0.5, getattr(augment, name))]))
    given = batch(shape, classes)
    got = jax.eval_shape(run, jax.random.split(jax.random.key(1), 2), given)
    assert got == jax.eval_shape(lambda same: same, given)


def run_all(operations, example):
    """Returns the result of each operation alone, under one key."""
    chains = {name: augment.compose([(1.0, op)]) for name, op in operations.items()}
    run = jax.jit(lambda key: {name: op(key, example) for name, op in chains.items()})
    return run(jax.random.key(0)).items()


@pytest.mark.slow
def test_every_operation_changes_the_image_and_keeps_it_finite():
    """Intensity operations change the image alone."""
    spatial = {"elastic", "flip", "rotation", "scale", "shift", "turn"}
    given = example((8, 8))
    for name, got in run_all({n: getattr(augment, n) for n in augment.__all__}, given):
        same = {k for k in given if np.array_equal(got[k], given[k])}
        assert "image" not in same, name
        assert np.isfinite(got["image"]).all(), name
        if name not in spatial:
            assert same == given.keys() - {"image"}, name
        else:
            assert not same & {"potential", "target"}, name


@pytest.mark.slow
def test_operations_of_strength_zero_are_the_identity():
    identities = {
        n: functools.partial(getattr(augment, n), **k) for n, k in IDENTITY.items()
    }
    given = example((3, 5, 6))
    for name, got in run_all(identities, given):
        assert got.keys() == given.keys()
        for key in ("image", "potential", "target"):
            np.testing.assert_allclose(got[key], given[key], atol=1e-5, err_msg=name)
        for key in ("label", "weight", "seed", "instances", "factors"):
            np.testing.assert_array_equal(got[key], given[key], name)


@pytest.mark.slow
def test_spatial_sharding_gives_the_same_example():
    if jax.device_count() < 2:
        pytest.skip("one device: set JAX_NUM_CPU_DEVICES=2 to run this")
    kinds = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((2,), ("space",), axis_types=kinds, devices=jax.devices()[:2])
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "space"))
    operations = (augment.elastic, augment.turn, augment.blur)
    run = jax.jit(jax.vmap(augment.compose([(1.0, each) for each in operations])))
    keys, given = jax.random.split(jax.random.key(4), 2), batch((16, 16))
    del given["seed"], given["factors"]
    whole, shards = run(keys, given), run(keys, jax.device_put(given, rows))
    for key in ("image", "potential", "target"):
        np.testing.assert_allclose(shards[key], whole[key], atol=1e-3)
    for key in ("label", "instances"):
        assert np.mean(shards[key] != whole[key]) < 0.01  # ties
