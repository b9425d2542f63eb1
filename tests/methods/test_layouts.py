"""All layouts give the same result: jit, pmap on 8 devices, mesh(1) and mesh(4).

To add a method, add it to `CASES` and to `METHODS`, with the number of unlabelled rows
in its batches of 8.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.methods.parts import Linear, host_batch, ingredients
from unet_jax import augment, losses, methods, parallel
from unet_jax.models import UNet

AUGMENT = augment.compose(
    [
        (1.0, augment.flip),
        (0.5, functools.partial(augment.elastic, sigma=2.0)),
        (1.0, augment.noise),
    ]
)
METHODS = {
    "supervised": (methods.supervised, 0),
    "mean_teacher": (
        functools.partial(methods.mean_teacher, unlabelled=0.4, ramp_up=1),
        3,
    ),
    "diffusion": (methods.diffusion, 0),
}
LAYOUTS = {
    "pmap": parallel.pmap,
    "mesh(1)": parallel.mesh,
    "mesh(4)": functools.partial(parallel.mesh, space=4),
}
NETWORKS = {
    "same": ({"padding": "SAME", "norm": "batch", "dropout": 0.3}, (16, 16)),
    "valid": ({"padding": "VALID", "norm": "none", "dropout": 0.3}, (28, 28)),
    "time": (
        {"padding": "SAME", "norm": "batch", "dropout": 0.3}
        | {"time_features": 4, "outputs": 1},
        (16, 16),
    ),
}
CASES = [
    ("supervised", "same"),
    ("supervised", "valid"),
    ("mean_teacher", "same"),
    ("diffusion", "time"),
]


def train_two_steps(name, layout, options, shape):
    """Trains two steps of a method under a layout; None is plain jit."""
    make, unlabelled = METHODS[name]
    axis_name = layout.axis_name if layout else None
    model = UNet((4, 8), axis_name=axis_name, **options)
    ema = 0.0 if name == "mean_teacher" else 0.9
    # a large eps, or Adam would turn the rounding of a small gradient into a whole step
    tx = optax.adam(1e-3, eps=1e-3)
    parts = ingredients(model, tx, augment=AUGMENT, ema=ema)
    method = make(parts)
    batch = host_batch(8, unlabelled, shape)
    state = jax.jit(method.init)(jax.random.key(0), jnp.zeros((1, *shape, 1)))
    if layout is None:
        update, put = jax.jit(method.update), lambda batch: batch
    else:
        update, put = layout.compile_train(method.update), layout.put_batch
        state = layout.put_state(state)
    for _ in range(2):
        state, scalars = update(state, put(batch), jax.random.key(3))
    return jax.device_get((state, scalars))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "network"), CASES)
def test_layouts_agree(name, network):
    options, shape = NETWORKS[network]
    state, scalars = train_two_steps(name, None, options, shape)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((state, scalars)))
    for layout, make in LAYOUTS.items():
        other, numbers = train_two_steps(name, make(), options, shape)
        for a, b in zip(jax.tree.leaves(other), jax.tree.leaves(state), strict=True):
            assert a.shape == b.shape, layout
            np.testing.assert_allclose(a, b, atol=2e-5, err_msg=layout)
        assert numbers.keys() == scalars.keys()
        for key in scalars:
            np.testing.assert_allclose(
                numbers[key],
                scalars[key],
                rtol=1e-4,
                atol=1e-6,
                err_msg=f"{layout}: {key}",
            )


def compute_batch_dice(scale, image, label, weight):
    """Returns the Dice loss of class 1 over all pixels of a batch (nnU-Net)."""
    p = jax.nn.sigmoid(image[..., 0] * (scale[1] - scale[0]))
    overlap = jnp.sum(weight * p * label)
    return 1 - (2 * overlap + 1e-5) / (jnp.sum(weight * p + weight * label) + 1e-5)


@pytest.mark.parametrize("layout", [None, *LAYOUTS])
@pytest.mark.parametrize("name", ["supervised", "mean_teacher"])
def test_batch_dice_sums_over_all_devices(name, layout):
    """One step of SGD on the network `image * scale`, against the gradient by hand.

    Unlabelled rows, which some devices have only, count nothing.
    """
    make, unlabelled = METHODS[name]
    if unlabelled:
        make = functools.partial(make, noise=0.0, consistency=0.0)
    options = {"smooth": 1e-5, "background": False, "batch": True}
    dice = functools.partial(losses.dice, **options)
    loss = losses.combine_losses([(1.0, dice)])
    method = make(ingredients(Linear(), optax.sgd(0.5), loss=loss))
    batch = host_batch(8, unlabelled)
    batch["label"][0] = 0  # a device without class 1
    rows = [batch[key][: 8 - unlabelled] for key in ("image", "label", "weight")]
    scale = jnp.array([0.5, 1.25])
    value, gradient = jax.value_and_grad(compute_batch_dice)(scale, *rows)

    state = method.init(jax.random.key(0), jnp.zeros((1, 16, 16, 1)))
    state = state._replace(params={"scale": scale})
    if layout is None:
        update, put = jax.jit(method.update), lambda batch: batch
    else:
        made = LAYOUTS[layout]()
        update, put = made.compile_train(method.update), made.put_batch
        state = made.put_state(state)
    state, scalars = update(state, put(batch), jax.random.key(3))
    np.testing.assert_allclose(scalars["loss"], value, rtol=1e-5)
    np.testing.assert_allclose(
        state.params["scale"], scale - 0.5 * gradient, rtol=1e-5, atol=1e-6
    )
    assert np.abs(gradient).min() > 0.01
