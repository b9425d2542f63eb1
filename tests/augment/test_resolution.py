"""Blur against scipy, low resolution against numpy's interpolation."""

import functools
import itertools

import jax
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats

from unet_jax import augment
from unet_jax.errors import UserError

KEY = jax.random.key(0)
KEYS = jax.random.split(KEY, 300)
OPERATIONS = [augment.blur, augment.low_resolution]


def standard(shape):
    """Returns an example with a standardised image."""
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
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


def shrink_and_enlarge(image, factor, axis):
    """Takes the nearest pixels, then interpolates linearly between their centres."""
    size = image.shape[axis]
    count = round(size * factor)
    middles = (np.arange(count) + 0.5) * size / count  # of the small pixels
    small = np.take(image, np.floor(middles).astype(int), axis)
    at = np.arange(size) + 0.5
    return np.apply_along_axis(lambda line: np.interp(at, middles, line), axis, small)


@pytest.mark.parametrize(
    ("shape", "factor"), [((33, 20), 0.5), ((33, 20), 0.77), ((9, 16, 11), 0.63)]
)
def test_low_resolution_is_nearest_down_and_linear_up(shape, factor):
    example = standard((*shape, 2))
    options = {"low": factor, "high": factor}
    got = augment.low_resolution(KEY, example, **options)["image"]
    expected = example["image"]
    for axis in range(len(shape)):
        expected = shrink_and_enlarge(expected, factor, axis)
    np.testing.assert_allclose(got, expected, atol=1e-4)
    got = augment.low_resolution(KEY, example, axes=(1,), **options)["image"]
    expected = shrink_and_enlarge(example["image"], factor, 1)
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_low_resolution_by_hand():
    """4 pixels become pixels 1 and 3, whose centres lie at 1 and 3 of 0 to 4."""
    example = standard((4, 1, 1))
    example["image"][:, 0, 0] = [9, 10, 9, 20]
    got = augment.low_resolution(KEY, example, low=0.5, high=0.5)["image"]
    np.testing.assert_allclose(got[:, 0, 0], [10, 12.5, 17.5, 20])


def test_low_resolution_draws_a_uniform_factor_for_each_channel():
    line = standard((101, 1, 2))
    line["image"][:] = np.random.default_rng(1).normal(size=(101, 1, 1))
    got = images(augment.low_resolution, line, low=0.5, high=1.0)[:, :, 0]
    factors = np.arange(50, 102) / 101  # round(50.5) is 50
    each = [shrink_and_enlarge(line["image"][:, 0, :1], f, 0)[:, 0] for f in factors]
    distances = np.abs(got[:, :, None, :] - np.array(each).T[..., None]).max(1)
    assert distances.min(1).max() < 1e-4
    drawn = factors[distances.argmin(1)]
    uniform = scipy.stats.uniform(0.5, 0.5)
    for c in range(2):
        assert scipy.stats.kstest(drawn[:, c], uniform.cdf).pvalue > 0.01
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.2


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_channel_is_changed_with_its_own_probability(operation):
    example = standard((6, 6, 2))
    got = images(operation, example, high=0.6, channel_probability=0.7)
    changed = (got != example["image"]).any((1, 2))
    np.testing.assert_allclose(changed.mean(0), 0.7, atol=0.1)
    both = {p: (changed == p).all(1).mean() for p in itertools.product((0, 1), (0, 1))}
    assert both[1, 1] == pytest.approx(0.49, abs=0.1)
    assert both[0, 0] == pytest.approx(0.09, abs=0.06)


@pytest.mark.parametrize(
    ("operation", "options", "message"),
    [
        (augment.blur, {"low": 2.0}, "needs 0 <= low <= high"),
        (augment.low_resolution, {"low": 0.9, "high": 0.8}, "needs 0 <= low <= high"),
        (augment.low_resolution, {"high": 1.1}, "high <= 1"),
        (augment.low_resolution, {"axes": (2,)}, "choose from these"),
    ],
)
def test_wrong_options_raise_a_user_error(operation, options, message):
    with pytest.raises(UserError, match=message):
        operation(KEY, standard((4, 4, 1)), **options)
