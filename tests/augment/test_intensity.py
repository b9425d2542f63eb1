"""Intensity operations against scipy, and the properties that they keep."""

import functools

import jax
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats

from unet_jax import augment
from unet_jax.errors import UserError

KEY = jax.random.key(0)
KEYS = jax.random.split(KEY, 300)


def standard(shape, seed=0):
    """Returns an example with a standardised image."""
    image = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    plain = np.zeros(shape[:-1])
    return {"image": image, "label": plain.astype(np.int32), "weight": plain}


def images(operation, example, keys=KEYS, **kwargs):
    run = functools.partial(operation, **kwargs)
    every = jax.jit(jax.vmap(lambda key: run(key, example)["image"]))
    return np.asarray(every(keys))


@pytest.mark.parametrize(
    ("shape", "sigma"), [((20, 31, 2), 0.7), ((6, 12, 11, 1), 2.0), ((1, 9, 9, 1), 1.0)]
)
def test_blur_agrees_with_scipy(shape, sigma):
    example = standard(shape)
    got = images(augment.blur, example, KEYS[:1], low=sigma, high=sigma)[0]
    expected = scipy.ndimage.gaussian_filter(
        example["image"], (*[sigma] * (len(shape) - 1), 0), mode="mirror", truncate=4.0
    )
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_blur_draws_sigma_between_its_bounds():
    point = standard((15, 15, 1))
    point["image"][:] = 0
    point["image"][7, 7] = 1
    got = images(augment.blur, point, low=0.5, high=1.2)[..., 0]
    variance = (got.sum(1) * (np.arange(15) - 7) ** 2).sum(-1)
    assert 0.4 < np.sqrt(variance.min()) < 0.6
    assert 1.1 < np.sqrt(variance.max()) < 1.25


def test_gamma_is_a_power_of_the_range_of_each_channel():
    example = standard((9, 8, 2))
    example["image"][..., 1] *= 5
    got = augment.gamma(KEY, example, low=2.0, high=2.0)["image"]
    for c in range(2):
        image = example["image"][..., c]
        unit = (image - image.min()) / np.ptp(image)
        expected = unit**2 * np.ptp(image) + image.min()
        np.testing.assert_allclose(got[..., c], expected, atol=1e-5)


def test_gamma_keeps_a_constant_image():
    example = standard((4, 4, 1))
    example["image"][:] = 0.3
    np.testing.assert_array_equal(
        augment.gamma(KEY, example)["image"], example["image"]
    )


def test_gamma_is_log_uniform():
    example = standard((2, 2, 1))
    example["image"][..., 0] = [[0, 0.5], [0.5, 1]]
    powers = np.log2(1 / images(augment.gamma, example, low=0.5, high=2.0)[:, 0, 1, 0])
    uniform = scipy.stats.uniform(-1, 2)
    assert scipy.stats.kstest(np.log2(powers), uniform.cdf).pvalue > 0.01


def test_brightness_adds_one_normal_number_per_channel():
    example = standard((5, 4, 3))
    added = images(augment.brightness, example, sigma=0.5) - example["image"]
    assert np.ptp(added, axis=(1, 2)).max() < 1e-5
    offsets = added[:, 0, 0]
    np.testing.assert_allclose(offsets.std(0), 0.5, rtol=0.15)
    assert np.abs(np.corrcoef(offsets.T) - np.eye(3)).max() < 0.2


def test_contrast_keeps_the_mean_and_scales_around_it():
    example = standard((16, 16, 2))
    example["image"] += 3
    got = images(augment.contrast, example, low=0.5, high=2.0)
    np.testing.assert_allclose(
        got.mean((1, 2)), np.tile(example["image"].mean((0, 1)), (300, 1)), atol=1e-4
    )
    factors = got.std((1, 2)) / example["image"].std((0, 1))
    uniform = scipy.stats.uniform(-1, 2)
    assert scipy.stats.kstest(np.log2(factors[:, 0]), uniform.cdf).pvalue > 0.01


def test_noise_is_white_normal_and_of_uniform_strength():
    example = standard((32, 32, 1))
    added = images(augment.noise, example, sigma=0.4) - example["image"]
    strength = added.std((1, 2, 3))
    uniform = scipy.stats.uniform(0, 0.4)
    assert scipy.stats.kstest(strength, uniform.cdf).pvalue > 0.01
    one = (added[np.argmax(strength)] / strength.max()).ravel()
    assert scipy.stats.kstest(one, "norm").pvalue > 0.01
    assert abs(np.corrcoef(one[1:], one[:-1])[0, 1]) < 0.1


@pytest.mark.parametrize(
    ("operation", "kwargs"),
    [
        (augment.gamma, {"low": 3.0}),
        (augment.contrast, {"low": 2.0, "high": 1.0}),
        (augment.blur, {"low": 2.0}),
    ],
)
def test_bounds_in_the_wrong_order_raise_a_user_error(operation, kwargs):
    with pytest.raises(UserError, match="needs 0 <=? low"):
        operation(KEY, standard((4, 4, 1)), **kwargs)
