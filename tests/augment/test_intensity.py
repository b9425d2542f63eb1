"""Intensity operations against scipy, and the properties that they keep."""

import functools

import jax
import numpy as np
import pytest
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


def test_gamma_is_a_power_of_the_range_of_each_channel():
    example = standard((9, 8, 2))
    example["image"][..., 1] *= 5
    got = augment.gamma(KEY, example, low=2.0, high=2.0)["image"]
    for c in range(2):
        image = example["image"][..., c]
        unit = (image - image.min()) / np.ptp(image)
        expected = unit**2 * np.ptp(image) + image.min()
        np.testing.assert_allclose(got[..., c], expected, atol=1e-5)


def test_inverted_gamma_is_a_power_of_the_distance_to_the_maximum():
    example = standard((2, 2, 1))
    example["image"][..., 0] = [[1, 2], [3, 5]]  # the distances are 4, 3, 2 and 0 of 4
    got = augment.gamma(KEY, example, low=2.0, high=2.0, invert=True)["image"]
    expected = 5 - 4 * np.array([[1, 9 / 16], [1 / 4, 0]])
    np.testing.assert_allclose(got[..., 0], expected, atol=1e-5)


@pytest.mark.parametrize("invert", [False, True])
def test_gamma_can_retain_the_mean_and_the_standard_deviation(invert):
    example = standard((9, 8, 2))
    plain, kept = (
        np.asarray(
            augment.gamma(
                KEY, example, low=2.0, high=2.0, invert=invert, retain_stats=retain
            )["image"]
        )
        for retain in (False, True)
    )
    image = example["image"]
    np.testing.assert_allclose(kept.mean((0, 1)), image.mean((0, 1)), atol=1e-5)
    np.testing.assert_allclose(kept.std((0, 1)), image.std((0, 1)), rtol=1e-5)
    for c in range(2):  # otherwise it is the same curve
        assert np.corrcoef(plain[..., c].ravel(), kept[..., c].ravel())[0, 1] > 1 - 1e-5


def test_gamma_keeps_a_constant_image():
    example = standard((4, 4, 1))
    example["image"][:] = 0.3
    for options in ({}, {"invert": True}, {"retain_stats": True}):
        got = augment.gamma(KEY, example, **options)["image"]
        np.testing.assert_array_equal(got, example["image"])


def test_gamma_is_log_uniform_for_each_channel():
    example = standard((2, 2, 2))
    example["image"][:] = np.array([[0, 0.5], [0.5, 1]])[..., None]
    powers = np.log2(1 / images(augment.gamma, example, low=0.5, high=2.0)[:, 0, 1])
    uniform = scipy.stats.uniform(-1, 2)
    for c in range(2):
        assert scipy.stats.kstest(np.log2(powers[:, c]), uniform.cdf).pvalue > 0.01
    assert abs(np.corrcoef(np.log2(powers).T)[0, 1]) < 0.2


def test_brightness_adds_one_normal_number_per_channel():
    example = standard((5, 4, 3))
    added = images(augment.brightness, example, sigma=0.5) - example["image"]
    assert np.ptp(added, axis=(1, 2)).max() < 1e-5
    offsets = added[:, 0, 0]
    np.testing.assert_allclose(offsets.std(0), 0.5, rtol=0.15)
    assert np.abs(np.corrcoef(offsets.T) - np.eye(3)).max() < 0.2


def test_multiplicative_brightness_is_one_log_uniform_factor_per_channel():
    example = standard((5, 4, 2))
    got = images(augment.multiplicative_brightness, example, low=0.5, high=2.0)
    factors = got[:, 0, 0] / example["image"][0, 0]
    expected = factors[:, None, None] * example["image"]
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    uniform = scipy.stats.uniform(-1, 2)
    assert scipy.stats.kstest(np.log2(factors[:, 0]), uniform.cdf).pvalue > 0.01
    assert abs(np.corrcoef(np.log2(factors).T)[0, 1]) < 0.2


def test_contrast_can_preserve_the_range():
    example = standard((2, 2, 1))
    example["image"][..., 0] = [[0, 1], [2, 5]]  # of mean 2
    options = {"low": 1.5, "high": 1.5, "preserve_range": True}
    got = augment.contrast(KEY, example, **options)["image"]
    np.testing.assert_allclose(got[..., 0], [[0, 0.5], [2, 5]], atol=1e-6)


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
        (augment.multiplicative_brightness, {"low": 1.3}),
    ],
)
def test_bounds_in_the_wrong_order_raise_a_user_error(operation, kwargs):
    with pytest.raises(UserError, match="needs 0 < low"):
        operation(KEY, standard((4, 4, 1)), **kwargs)
