from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax.models import UNet


def parameters(widths, channels, classes, kernel=9, up=4):
    """Counted by hand from figure 1: weights and a bias for every convolution."""
    total, c = 0, channels
    for w in widths:
        total += (c * kernel + 1) * w + (w * kernel + 1) * w
        c = w
    for w in reversed(widths[:-1]):
        total += c * up * w + w  # the up-convolution halves the channels
        total += (2 * w * kernel + 1) * w + (w * kernel + 1) * w
        c = w
    return total + c * classes + classes


def test_the_network_of_the_paper():
    model, image = UNet(), jnp.zeros((1, 572, 572, 1))
    shapes = jax.eval_shape(model.init, jax.random.key(0), image)
    count = sum(x.size for x in jax.tree.leaves(shapes))
    assert count == parameters((64, 128, 256, 512, 1024), 1, 2) == 31_030_658
    logits = jax.eval_shape(model.apply, shapes, image)
    assert logits.shape == (1, 388, 388, 2)


def start(model, image):
    """Compiled whole: op by op, these tests would take minutes."""
    return jax.jit(model.init)(jax.random.key(1), image)


def apply(model, *args, **kwargs):
    return jax.jit(lambda *a: model.apply(*a, **kwargs))(*args)


VARIANTS = {
    "paper": {},
    "same": {"padding": "SAME", "norm": "batch"},
    "nearest": {"upsample": "nearest", "norm": "group"},
    "linear": {"upsample": "linear", "activation": "gelu"},
    "residual": {"padding": "SAME", "residual": True, "norm": "instance"},
    "attention": {"attention": True},
    "all": {
        "padding": "SAME",
        "residual": True,
        "attention": True,
        "upsample": "linear",
        "deep_supervision": True,
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", [(61, 50), (45, 46, 47)], ids=["2d", "3d"])
def test_any_size_and_any_number_of_axes(variant, shape):
    model = UNet((2, 4), classes=3, **VARIANTS[variant])
    image = jnp.zeros((2, *shape, 2))
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    logits = jax.eval_shape(model.apply, variables, image)
    assert logits.shape == (2, *(n - 2 * model.margin for n in shape), 3)
    assert logits.dtype == jnp.float32


@pytest.mark.parametrize(
    ("upsample", "attention"), [("transpose", False), ("linear", True)]
)
def test_every_skip_reaches_the_output(upsample, attention):
    """Nothing but the skip of a level can carry what its up-convolution is denied."""
    model = UNet(
        (2, 3, 4), padding="SAME", upsample=upsample, attention=attention, dropout=0.0
    )
    image = jax.random.normal(jax.random.key(0), (1, 16, 16, 1))
    params = start(model, image)["params"]
    forward = jax.jit(lambda p, x: model.apply({"params": p}, x))
    gradient = jax.jit(jax.grad(lambda p: (forward(p, image) ** 2).sum()))(params)
    for level in (0, 1):
        width = model.widths[level]
        kernel = gradient[f"up{level}"]["Conv_0"]["kernel"]
        assert kernel.shape == (3, 3, 2 * width, width)
        assert np.abs(kernel[:, :, :width]).max() > 0  # the skip comes first
        assert np.abs(kernel[:, :, width:]).max() > 0

        silent = jax.tree.map(jnp.array, params)
        silent[f"upconv{level}"] = jax.tree.map(
            jnp.zeros_like, params[f"upconv{level}"]
        )
        # with everything from below silenced, the image still arrives by the skip
        moved = forward(silent, image + 1.0) - forward(silent, image)
        assert np.abs(moved).max() > 1e-3


@pytest.mark.parametrize("upsample", ["transpose", "nearest", "linear"])
@pytest.mark.parametrize("shape", [(76, 60), (60, 50, 50)], ids=["2d", "3d"])
def test_valid_output_ignores_how_borders_are_treated(upsample, shape):
    """A shift of the window by 2^depth shifts the output, to the bit."""
    model = UNet((2, 3, 2), upsample=upsample)
    shape = tuple(model.valid_size(n) for n in shape)
    image = jax.random.normal(jax.random.key(0), (1, *shape, 1))
    params = start(model, image)
    part = image[:, 4:]
    part = part[:, : model.valid_size(part.shape[1] - 3)]
    whole, piece = apply(model, params, image), apply(model, params, part)
    np.testing.assert_allclose(whole[:, 4 : 4 + piece.shape[1]], piece, atol=1e-6)


def test_an_odd_size_is_padded_by_reflection():
    model = UNet((2, 3), padding="SAME")
    image = jax.random.normal(jax.random.key(0), (1, 9, 8, 1))
    params = start(model, image)
    padded = jnp.pad(image, [(0, 0), (0, 1), (0, 0), (0, 0)], mode="reflect")
    np.testing.assert_array_equal(
        apply(model, params, image), apply(model, params, padded)[:, :9]
    )


def test_too_small_an_image_is_refused_with_the_least_size():
    with pytest.raises(ValueError, match="188"):
        UNet((1,) * 5).init(jax.random.key(0), jnp.zeros((1, 184, 188, 1)))


def test_remat_changes_nothing_but_memory():
    image = jax.random.normal(jax.random.key(0), (1, 16, 16, 1))
    plain = UNet((4, 8), padding="SAME", norm="group")
    remat = plain.clone(remat=True)
    params = start(plain, image)

    def gradient(model):
        loss = jax.grad(lambda p: (model.apply(p, image) ** 2).sum())
        return jax.jit(loss)(params), str(jax.make_jaxpr(loss)(params))

    (expected, without), (got, with_remat) = gradient(plain), gradient(remat)
    assert "remat" in with_remat
    assert "remat" not in without
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), got, expected
    )


def test_mixed_precision_keeps_parameters_and_logits_in_float32():
    model = UNet((4, 8), padding="SAME", norm="batch", dtype=jnp.bfloat16)
    image = jax.random.normal(jax.random.key(0), (1, 16, 16, 1))
    variables = start(model, image)
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    logits = apply(model, variables, image)
    exact = apply(model.clone(dtype=jnp.float32), variables, image)
    assert logits.dtype == jnp.float32
    assert 0 < np.abs(logits - exact).max() < 0.1 * np.abs(exact).max()


def test_deep_supervision_gives_a_level_for_every_scale():
    model = UNet((2, 4, 8), padding="SAME", deep_supervision=True)
    image = jnp.zeros((1, 32, 16, 1))
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    rngs = {"dropout": jax.random.key(0)}
    train = partial(model.apply, train=True, rngs=rngs)
    full, half = jax.eval_shape(train, variables, image)
    assert full.shape == (1, 32, 16, 2)
    assert half.shape == (1, 16, 8, 2)
    assert jax.eval_shape(model.apply, variables, image).shape == full.shape
