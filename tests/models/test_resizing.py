"""Poolings and interpolations against their textbook forms."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax.models import resizing


@pytest.fixture(params=[(6, 8), (4, 6, 2)], ids=["2d", "3d"])
def image(request):
    return jax.random.normal(jax.random.key(0), (2, *request.param, 3))


def get_uneven_strides(image):
    """Returns strides that differ between the axes and divide the sizes of `image`."""
    return (2, 4) if image.ndim == 4 else (4, 3, 1)


@pytest.mark.parametrize("even", [True, False])
def test_max_pool_and_its_gradient(image, even):
    """The same pixel is chosen among equal ones, of which ReLU makes many."""
    strides = (2,) * (image.ndim - 2) if even else get_uneven_strides(image)

    def gradient(pool):
        loss = lambda x: (pool(jax.nn.relu(x)) ** 3).sum()  # noqa: E731
        return jax.value_and_grad(loss)(jnp.round(image * 2) / 2)

    ours = gradient(lambda x: resizing.max_pool(x, (2,) if even else strides))
    theirs = gradient(lambda x: nn.max_pool(x, window_shape=strides, strides=strides))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_max_pool_propagates_nan():
    image = jnp.array([1.0, jnp.nan, jnp.nan, 1.0, 0.0, 1.0]).reshape(1, 6, 1)
    pooled = resizing.max_pool(image, (2,)).ravel()
    np.testing.assert_array_equal(pooled, [np.nan, np.nan, 1.0])


def test_average_pool_is_a_mean(image):
    strides = get_uneven_strides(image)
    theirs = nn.avg_pool(image, window_shape=strides, strides=strides)
    np.testing.assert_allclose(resizing.average_pool(image, strides), theirs, atol=1e-6)


@pytest.mark.parametrize("even", [True, False])
def test_interpolations(image, even):
    strides = (2,) * (image.ndim - 2) if even else get_uneven_strides(image)
    given = (2,) if even else strides
    size = (n * s for n, s in zip(image.shape[1:-1], strides, strict=True))
    shape = (2, *size, 3)
    linear = jax.image.resize(image, shape, "linear")
    nearest = jax.image.resize(image, shape, "nearest")
    np.testing.assert_allclose(
        resizing.upsample_linear(image, given), linear, atol=1e-6
    )
    np.testing.assert_array_equal(resizing.upsample_nearest(image, given), nearest)


def test_the_pooling_of_a_resnet(image):
    """A kernel of 3, a stride of 2 and a padding of 1, and its gradient."""
    axes = image.ndim - 2
    window = {"window_shape": (3,) * axes, "strides": (2,) * axes}

    def gradient(pool):
        return jax.value_and_grad(lambda x: (pool(x) ** 3).sum())(image)

    ours = gradient(resizing.max_pool_overlapping)
    theirs = gradient(lambda x: nn.max_pool(x, **window, padding=[(1, 1)] * axes))
    close = partial(np.testing.assert_allclose, atol=1e-4)
    jax.tree.map(close, ours, theirs)


def test_aligned_corners_by_hand():
    """Three pixels become six: at 0, 2/5, 4/5, 6/5, 8/5 and 2."""
    image = jnp.array([0.0, 5.0, 15.0]).reshape(1, 3, 1)
    got = resizing.upsample_aligned(image, (2,)).ravel()
    np.testing.assert_allclose(got, [0, 2, 4, 7, 11, 15], atol=1e-5)
    single = resizing.upsample_aligned(jnp.full((1, 1, 1), 3.0), (2,))
    np.testing.assert_array_equal(single.ravel(), [3, 3])
