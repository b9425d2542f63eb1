import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from unet_jax import optimizers, schedules
from unet_jax.configs import nnunet2d
from unet_jax.errors import UserError

PARAMS = {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([3.0])}
GRADS = {"kernel": jnp.array([[0.3, 0.4]]), "bias": jnp.array([0.0])}


def update(tx, steps=1):
    params, state = PARAMS, tx.init(PARAMS)
    for _ in range(steps):
        updates, state = tx.update(GRADS, state, params)
        params = optax.apply_updates(params, updates)
    return params


def test_sgd_by_hand():
    """Two steps of v = m v + g, w -= r v."""
    tx = optimizers.sgd(lambda _: 0.1, learning_rate=0.1, momentum=0.9)
    expected = 1.0 - 0.1 * 0.3 - 0.1 * (0.9 * 0.3 + 0.3)
    assert update(tx, 2)["kernel"][0, 0] == pytest.approx(expected)


def test_the_optimizer_of_nnunet_by_hand():
    """torch.optim.SGD: v = 0.99 v + g + w d and w -= r (g + w d + 0.99 v).

    The gradients are 24 and 6, of which the first is clipped to 12. The decay d of
    kernels comes after the clipping.
    """
    config = nnunet2d.get_config()
    options = {k: v for k, v in config.optimizer.items() if k != "name"}
    schedule = schedules.polynomial(0.01, 4, power=config.schedule.power)
    tx = optimizers.sgd(schedule, **options)
    w, v = np.array([[100.0]]), 0.0
    params = {"kernel": jnp.asarray(w)}
    state = tx.init(params)
    for step, (gradient, clipped) in enumerate([(24.0, 12.0), (6.0, 6.0)]):
        decayed = clipped + 3e-5 * w
        v = 0.99 * v + decayed
        w = w - 0.01 * (1 - step / 4) ** 0.9 * (decayed + 0.99 * v)
        updates, state = tx.update(
            {"kernel": jnp.full((1, 1), gradient)}, state, params
        )
        params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(params["kernel"], w, rtol=1e-6)


def test_clip_bounds_the_global_norm():
    tx = optimizers.sgd(lambda _: 1.0, learning_rate=1.0, momentum=0.0, clip=0.05)
    moved = update(tx)["kernel"] - PARAMS["kernel"]
    np.testing.assert_allclose(moved, [[-0.03, -0.04]], rtol=1e-5)


@pytest.mark.parametrize("name", optimizers.__all__)
def test_weight_decay_skips_biases_and_norms(name):
    make = getattr(optimizers, name)
    rate = {"learning_rate": 0.1}
    plain = update(make(lambda _: 0.1, **rate, weight_decay=0.0))
    decayed = update(make(lambda _: 0.1, **rate, weight_decay=0.5))
    np.testing.assert_array_equal(plain["bias"], decayed["bias"])
    assert np.abs(plain["kernel"] - decayed["kernel"]).max() > 1e-3


@pytest.mark.parametrize("name", optimizers.__all__)
def test_optimizers_agree_with_optax(name):
    keywords = {"sgd": {"momentum": 0.9}, "adamw": {"weight_decay": 1e-4}}
    theirs = getattr(optax, name)(0.1, **keywords.get(name, {}))
    ours = getattr(optimizers, name)(lambda _: 0.1, learning_rate=0.1)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3)  # noqa: E731
    jax.tree.map(close, update(ours), update(theirs))


def test_frozen_parameters_have_no_update_and_do_not_count_in_the_clip():
    params = {"down0": PARAMS, "head0": PARAMS}
    grads = {"down0": {"kernel": jnp.full((1, 2), 1e3), "bias": jnp.ones(1)}}
    grads["head0"] = GRADS  # of norm 1/2
    sgd = optimizers.sgd(
        lambda _: 1.0, learning_rate=1.0, momentum=0.0, weight_decay=0.1, clip=1.0
    )
    tx = optimizers.freeze(sgd, ("down*",), params)
    updates, _ = tx.update(grads, tx.init(params), params)
    np.testing.assert_array_equal(updates["down0"]["kernel"], 0)
    np.testing.assert_array_equal(updates["down0"]["bias"], 0)
    expected = -(GRADS["kernel"] + 0.1 * PARAMS["kernel"])
    np.testing.assert_allclose(
        updates["head0"]["kernel"], expected, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", optimizers.__all__)
def test_multipliers_scale_the_updates_of_parameters(name):
    """A factor of 0 also takes the gradient out of the norm for clipping."""
    make = getattr(optimizers, name)
    options = {"learning_rate": 0.1, "weight_decay": 0.1}
    params = {"down0": PARAMS, "down1": PARAMS, "head0": PARAMS}
    grads = dict.fromkeys(params, GRADS)

    def find(tx):
        return tx.update(grads, tx.init(params), params)[0]

    plain = find(make(lambda _: 0.1, **options))
    factors = (("down0*", 0.25), ("down*", 0))
    got = find(make(lambda _: 0.1, **options, multipliers=factors))
    jax.tree.map(np.testing.assert_array_equal, got["head0"], plain["head0"])
    quarter = 0.25 * plain["down0"]["kernel"]
    np.testing.assert_allclose(got["down0"]["kernel"], quarter, rtol=1e-6)
    assert not any(leaf.any() for leaf in jax.tree.leaves(got["down1"]))

    large = {**grads, "down1": jax.tree.map(lambda x: 1e6 + x, GRADS)}
    tx = optimizers.sgd(
        lambda _: 1.0, learning_rate=1.0, momentum=0.0, clip=1.0, multipliers=factors
    )
    got = tx.update(large, tx.init(params), params)[0]
    np.testing.assert_allclose(got["head0"]["kernel"], -GRADS["kernel"], rtol=1e-6)


def test_freeze_takes_shell_patterns():
    params = {"down0": PARAMS, "down10": PARAMS, "head0": PARAMS}
    tx = optimizers.freeze(optax.sgd(1.0), ("down?/*", "*/bias"), params)
    updates, _ = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
    frozen = {name for name in params if not updates[name]["kernel"].any()}
    assert frozen == {"down0"}
    assert not any(updates[name]["bias"].any() for name in params)
    with pytest.raises(
        UserError, match="'up' matches no parameter; the names begin with d"
    ):
        optimizers.freeze(optax.sgd(1.0), ("up",), params)
