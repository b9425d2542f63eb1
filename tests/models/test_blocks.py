"""The fast forms equal the textbook ones."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax.models import blocks


@pytest.fixture(params=[(6, 8), (4, 6, 2)], ids=["2d", "3d"])
def image(request):
    return jax.random.normal(jax.random.key(0), (2, *request.param, 3))


def test_max_pool_and_its_gradient(image):
    """The same pixel wins, also among equals, of which a ReLU leaves many."""
    twos = (2,) * (image.ndim - 2)

    def gradient(pool):
        loss = lambda x: (pool(jax.nn.relu(x)) ** 3).sum()  # noqa: E731
        return jax.value_and_grad(loss)(jnp.round(image * 2) / 2)

    theirs = gradient(lambda x: nn.max_pool(x, window_shape=twos, strides=twos))
    jax.tree.map(np.testing.assert_array_equal, gradient(blocks.max_pool), theirs)


def test_up_convolution_is_a_transposed_convolution(image):
    n = image.ndim - 2
    ours = blocks.UpConv(5)
    params = ours.init(jax.random.key(1), image)["params"]
    theirs = nn.ConvTranspose(5, (2,) * n, (2,) * n, transpose_kernel=True)
    kernel = params["kernel"].reshape(3, *(2,) * n, 5)
    kernel = jnp.moveaxis(kernel, 0, -1)  # transpose_kernel wants [*2, out, in]
    expected = theirs.apply(
        {"params": {"kernel": kernel, "bias": params["bias"]}}, image
    )
    np.testing.assert_allclose(ours.apply({"params": params}, image), expected, 1e-5)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_convolution_of_two_inputs_is_that_of_their_concatenation(image, padding):
    image = jnp.concatenate([image, image], axis=-2)  # VALID needs 3 pixels an axis
    other = jax.random.normal(jax.random.key(2), (*image.shape[:-1], 4))
    ours = blocks.Conv(5, 3, padding)
    params = ours.init(jax.random.key(1), image, other)["params"]
    theirs = nn.Conv(5, (3,) * (image.ndim - 2), padding=padding)
    expected = theirs.apply(
        {"params": params}, jnp.concatenate([image, other], axis=-1)
    )
    got = ours.apply({"params": params}, image, other)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_interpolations(image):
    shape = (2, *(2 * n for n in image.shape[1:-1]), 3)
    linear = jax.image.resize(image, shape, "linear")
    nearest = jax.image.resize(image, shape, "nearest")
    np.testing.assert_allclose(blocks.double_linear(image), linear, atol=1e-6)
    np.testing.assert_array_equal(blocks.double_nearest(image), nearest)


def test_initialisation_is_the_papers():
    """N(0, sqrt(2 / N)), N the incoming nodes: 9 * 64 for the paper's own example."""
    image = jnp.zeros((1, 8, 8, 64))
    conv = blocks.Conv(128).init(jax.random.key(0), image)["params"]["kernel"]
    assert np.std(conv) == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)
    up = blocks.UpConv(32).init(jax.random.key(0), image)["params"]["kernel"]
    assert np.std(up) == pytest.approx((2 / 64) ** 0.5, rel=0.03)
    # normal, not truncated: some 0.27 % lie beyond three deviations
    assert np.mean(np.abs(conv) > 3 * np.std(conv)) == pytest.approx(0.0027, rel=0.3)


def test_dropout_belongs_to_the_example():
    x = jnp.ones((4, 8, 8, 16))
    seed = jnp.array([7, 8, 9, 7], jnp.uint32)
    drop = lambda x, seed: blocks.Dropout(0.5).apply(  # noqa: E731
        {}, x, seed, train=True, rngs={"dropout": jax.random.key(0)}
    )
    whole = drop(x, seed)
    np.testing.assert_array_equal(whole[:2], drop(x[:2], seed[:2]))
    np.testing.assert_array_equal(whole[0], whole[3])
    assert not np.array_equal(whole[0], whole[1])
    assert set(np.unique(whole)) == {0.0, 2.0}
    assert whole.mean() == pytest.approx(1.0, abs=0.05)


def test_instance_norm_normalises_each_image_and_channel(image):
    norm = blocks.Normalization("instance")
    y, _ = norm.init_with_output(jax.random.key(0), 5 * image + 3, train=True)
    axes = tuple(range(1, image.ndim - 1))
    np.testing.assert_allclose(y.mean(axes), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(axes), 1, atol=1e-3)
