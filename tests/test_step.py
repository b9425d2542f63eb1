"""One step, by hand and by invariants; the layouts are in test_parallel.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from unet_jax import losses, step
from unet_jax.models import UNet


def nothing(key, example):
    return example


def batch(size=4, shape=(16, 16)):
    image = jax.random.normal(jax.random.key(1), (size, *shape, 1))
    return {
        "image": image,
        "label": (image[..., 0] > 0).astype(jnp.int32),
        "weight": jnp.ones((size, *shape)),
        "seed": jnp.arange(size, dtype=jnp.uint32),
    }


def start(model, tx, ema=0.0):
    image = batch()["image"]
    init = functools.partial(step.init, model=model, tx=tx, ema=ema)
    return jax.jit(init)(jax.random.key(0), image)


def one(model, tx, **options):
    options = {"loss": losses.cross_entropy, "augment": nothing} | options
    return jax.jit(functools.partial(step.train_step, model=model, tx=tx, **options))


def test_the_update_is_the_gradient_of_the_mean_loss():
    model, tx = UNet((2, 4), padding="SAME", dropout=0.0), optax.sgd(0.5)
    before, data = start(model, tx), batch()

    def loss(params):
        logits = model.apply({"params": params}, data["image"])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, data["label"])
        return losses.mean()

    value, grads = jax.jit(jax.value_and_grad(loss))(before.params)
    after, scalars = one(model, tx)(before, data, jax.random.key(0))
    expected = jax.tree.map(lambda p, g: p - 0.5 * g, before.params, grads)
    close = functools.partial(np.testing.assert_allclose, atol=1e-6)
    jax.tree.map(close, after.params, expected)
    assert scalars["loss"] == pytest.approx(float(value), rel=1e-5)
    assert scalars["grad_norm"] == pytest.approx(float(optax.tree.norm(grads)), 1e-4)
    assert after.step == 1


def test_training_learns():
    model, tx = UNet((8, 16), padding="SAME", norm="batch"), optax.adam(3e-3)
    state, update = start(model, tx), one(model, tx)
    values = []
    for _ in range(30):
        state, scalars = update(state, batch(), jax.random.key(0))
        values.append(float(scalars["loss"]))
    assert values[0] > 0.6
    assert values[-1] < 0.3


def test_the_average_of_parameters():
    """ema <- d ema + (1 - d) params, and it is what the model is evaluated with.

    After t updates d is (1 + t) / (10 + t) until that exceeds the decay: 0.1 at first.
    """
    model, tx = UNet((2, 4), padding="SAME"), optax.sgd(0.5)
    before = start(model, tx, ema=0.75)
    after, _ = one(model, tx, ema=0.75)(before, batch(), jax.random.key(0))
    expected = jax.tree.map(
        lambda old, new: 0.1 * old + 0.9 * new, before.params, after.params
    )
    close = functools.partial(np.testing.assert_allclose, atol=1e-6)
    jax.tree.map(close, after.variables["params"], expected)
    late = after._replace(step=jnp.int32(1000))
    last, _ = one(model, tx, ema=0.75)(late, batch(), jax.random.key(0))
    jax.tree.map(
        lambda old, new, got: close(got, 0.75 * old + 0.25 * new),
        *(late.ema, last.params, last.ema),
    )


def test_the_norm_is_of_the_parameters_that_come_out():
    """A loss that is finite and whose gradient is not must not go unseen."""
    model, tx = UNet((2, 4), padding="SAME"), optax.sgd(0.5)

    def cliff(logits, label, weight):
        return jnp.sqrt(jnp.maximum(0 * logits, 0)).sum((1, 2, 3))

    state, scalars = one(model, tx, loss=cliff)(
        start(model, tx), batch(), jax.random.key(0)
    )
    assert scalars["loss"] == 0
    assert not np.isfinite(scalars["param_norm"])


def test_augmentation_depends_on_the_seed_alone():
    """Neither the step nor the place in the batch changes what an example becomes."""
    seen = []

    def augment(key, example):
        return example | {"image": jax.random.normal(key, example["image"].shape)}

    class Spy:
        """Stands where the model would, and looks at its input."""

        def apply(self, variables, image, **_):
            seen.append(image)
            logits = jnp.concatenate([image, image], axis=-1) * variables["params"]
            return logits, {}

    tx = optax.sgd(0.0)
    state = step.State(jnp.zeros(()), jnp.ones(()), {}, tx.init(jnp.ones(())), ())
    data = batch()
    data["seed"] = jnp.array([5, 6, 7, 5], jnp.uint32)
    for order in (data, jax.tree.map(lambda x: x[::-1], data)):
        step.train_step(
            state,
            order,
            jax.random.key(0),
            model=Spy(),
            loss=losses.cross_entropy,
            augment=augment,
            tx=tx,
        )
    first, second = (jax.device_get(image) for image in seen)
    np.testing.assert_array_equal(first, second[::-1])
    np.testing.assert_array_equal(first[0], first[3])
    assert np.abs(first[0] - first[1]).max() > 0.1


def test_supervise_compares_the_middle_and_every_other_pixel():
    label = jnp.arange(8 * 8, dtype=jnp.int32).reshape(1, 8, 8)
    seen = []

    def loss(logits, label, weight):
        seen.append(label[0].tolist())
        return jnp.full(1, logits.mean())

    logits = (jnp.full((1, 4, 4, 2), 3.0), jnp.full((1, 4, 2, 2), 9.0))
    strides = ((1, 1), (1, 2), (2, 4))
    value = step.supervise(loss, logits, label, jnp.ones((1, 8, 8)), strides)
    middle = np.asarray(label)[0, 2:6, 2:6]
    assert seen[0] == middle.tolist()
    assert seen[1] == middle[:, 1::2].tolist()
    assert value[0] == pytest.approx((3.0 + 9.0 / 2) / 1.5)


@pytest.mark.parametrize(("padding", "size"), [("SAME", 64), ("VALID", 60)])
def test_deep_supervision_lines_up_with_the_image(padding, size):
    """A network that hands its skips through, shown a ramp, answers for its place.

    The maximum of two pixels of a ramp is the second, which is the one that the coarse
    label keeps. If the skip did not come first, the answer would be 0.
    """
    model = UNet((1, 1, 1), padding=padding, dropout=0.0, deep_supervision=True)
    ramp = jnp.arange(size * size, dtype=jnp.int32).reshape(1, size, size)
    image = ramp[..., None].astype(jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), image)

    def hand_through(path, shape):
        zeros = jnp.zeros(shape.shape)
        if "kernel" not in str(path[-1]) or "upconv" in str(path[1]):
            return zeros
        centre = (0, 0) if "head" in str(path[1]) else (1, 1)
        return zeros.at[(*centre, 0)].set(1.0)

    params = jax.tree_util.tree_map_with_path(hand_through, shapes)
    logits = model.apply(params, image, train=True)
    seen = []

    def loss(logits, label, weight):
        seen.append(logits.shape[1])
        np.testing.assert_array_equal(logits[..., 0], label)
        return jnp.zeros(1)

    strides = model.geometry(2).strides
    step.supervise(loss, logits, ramp, jnp.ones(ramp.shape), strides)
    assert len(seen) == 2
    assert seen[0] == size - 2 * model.geometry(2).margin[0]


def test_the_loss_of_a_whole_image_is_that_of_a_batch_of_one():
    data = batch()
    logits = np.random.default_rng(1).normal(size=(*data["label"].shape, 2))
    logits = logits.astype("f4")
    alone = step.image_loss(
        logits[2], data["label"][2], data["weight"][2], loss=losses.dice
    )
    every = losses.dice(logits, data["label"], data["weight"])
    assert alone == pytest.approx(float(every[2]), rel=1e-6)
