"""One step of supervised learning, against the gradient of the mean loss."""

import functools

import jax
import numpy as np
import optax
import pytest

from tests.methods.parts import Small, host_batch, ingredients, on_device
from unet_jax import losses, methods
from unet_jax.models import UNet

KEY = jax.random.key(0)


@pytest.mark.slow
def test_the_update_is_the_gradient_of_the_mean_loss():
    model = UNet((2, 4), padding="SAME", dropout=0.0)
    method = methods.supervised(ingredients(model, optax.sgd(0.5)))
    data = on_device(host_batch()) | {"weight": np.ones((4, 16, 16), "f4")}
    before = jax.jit(method.init)(KEY, data["image"])

    def loss(params):
        logits = model.apply({"params": params}, data["image"])
        each = optax.softmax_cross_entropy_with_integer_labels(logits, data["label"])
        return each.mean()

    value, grads = jax.jit(jax.value_and_grad(loss))(before.params)
    after, scalars = jax.jit(method.update)(before, data, KEY)
    expected = jax.tree.map(lambda p, g: p - 0.5 * g, before.params, grads)
    close = functools.partial(np.testing.assert_allclose, atol=1e-5)
    jax.tree.map(close, after.params, expected)
    assert scalars["loss"] == pytest.approx(float(value), rel=1e-5)
    assert scalars["grad_norm"] == pytest.approx(float(optax.tree.norm(grads)), 1e-4)
    assert after.step == 1
    assert after.extra == ()


@pytest.mark.slow
def test_training_lowers_the_loss_and_labels_most_pixels():
    model = UNet((8, 16), padding="SAME", norm="batch", dropout=0.0)
    method = methods.supervised(ingredients(model, optax.adam(3e-3)))
    batch = on_device(host_batch())
    state, update = jax.jit(method.init)(KEY, batch["image"]), jax.jit(method.update)
    values = []
    for _ in range(30):
        state, scalars = update(state, batch, KEY)
        values.append(float(scalars["loss"]))
    assert values[0] > 0.6
    assert values[-1] < 0.3
    variables = method.variables(state)
    logits = model.apply(variables, batch["image"])
    right = np.mean(np.argmax(logits, -1) == batch["label"])
    assert variables["params"] is state.params  # selected, not computed
    assert right > 0.8


def test_batches_have_no_unlabelled_rows():
    assert methods.supervised(ingredients(Small())).unlabelled == 0


def test_a_loss_reads_the_outputs_and_targets_of_the_task():
    """This task doubles the outputs and swaps the two classes."""
    parts = ingredients(Small(norm=False))
    task = parts.task._replace(
        outputs=lambda output: {"label": 2 * output},
        targets=lambda batch: {"label": 1 - batch["label"]},
    )
    method = methods.supervised(parts._replace(task=task))
    data = on_device(host_batch())
    state = jax.jit(method.init)(KEY, data["image"])
    _, scalars = jax.jit(method.update)(state, data, KEY)
    logits = parts.model.apply(method.variables(state), data["image"])
    each = losses.cross_entropy(2 * logits, 1 - data["label"], data["weight"])
    assert scalars["loss"] == pytest.approx(float(each.mean()), rel=1e-5)
