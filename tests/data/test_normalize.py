import functools

import numpy as np
import pytest
from skimage import exposure

from unet_jax import arrays
from unet_jax.data import normalize
from unet_jax.errors import UserError


def normalized_by(measure):
    """The function that measures an image and applies its scale."""
    scale = normalize.in_memory(measure)
    return lambda image: scale(image)(image)


standard = normalized_by(normalize.standard)
unit = normalized_by(normalize.unit)
percentile = normalized_by(normalize.percentile)
ALL = [standard, unit, percentile]


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 65536, (40, 30, 2)).astype(np.uint16)


def test_standard_by_hand():
    image = np.array([[[1, 5], [3, 5]]], np.uint8)
    np.testing.assert_array_equal(standard(image), [[[-1, 0], [1, 0]]])


@pytest.mark.parametrize("scale", [1.0, 1.7e6])
def test_standard_keeps_small_differences_on_a_high_floor(scale):
    rng = np.random.default_rng(0)
    image = (scale + rng.integers(0, 16, (512, 512, 1))).astype(np.float32)
    out = standard(image)
    assert abs(out.mean(dtype=np.float64)) < 1e-6
    assert out.std(dtype=np.float64) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("dtype", "full"), [(np.uint8, 255), (np.uint16, 65535)])
def test_unit_maps_the_dtype_to_one(dtype, full):
    image = np.array([[0], [51], [full]], dtype)
    np.testing.assert_allclose(unit(image), [[0], [51 / full], [1]])


def test_unit_leaves_floats():
    image = np.array([[-3.5], [1e4]], np.float32)
    np.testing.assert_array_equal(unit(image), image)


def test_percentile_is_rescale_intensity_of_each_channel(image):
    out = normalized_by(functools.partial(normalize.percentile, low=2.0, high=90.0))(
        image
    )
    for c in range(2):
        ends = tuple(np.percentile(image[..., c], (2, 90)))
        want = exposure.rescale_intensity(
            image[..., c].astype(float), in_range=ends, out_range=(0, 1)
        )
        np.testing.assert_allclose(out[..., c], want, atol=1e-6)


def test_percentile_needs_its_ends_in_order(image):
    with pytest.raises(UserError, match="low < high"):
        normalize.percentile(lambda: iter([image]), low=99.0, high=1.0)


@pytest.mark.parametrize("function", [standard, percentile])
@pytest.mark.parametrize("value", [np.uint8(7), np.float32(0.1), np.float64(0.1)])
def test_a_constant_channel_is_zero(function, value):
    np.testing.assert_array_equal(function(np.full((33, 7, 1), value)), 0)


@pytest.mark.parametrize("function", ALL)
def test_channels_never_mix_and_axes_do_not_matter(function, image):
    out = function(image)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out[..., 1:], function(image[..., 1:]))
    np.testing.assert_array_equal(
        out.reshape(4, 10, 30, 2), function(image.reshape(4, 10, 30, 2))
    )


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("low", [0.0, 0.3, 50.0])
def test_percentiles_are_numpys(dtype, low):
    rng = np.random.default_rng(1)
    image = (rng.normal(0, 300, (41, 30, 2))).astype(dtype)
    measure = functools.partial(normalize.percentile, low=low, high=97.7)
    scale = measure(lambda: iter([image[:17], image[17:]]))
    bottom, top = np.percentile(image.astype(np.float64), (low, 97.7), axis=(0, 1))
    np.testing.assert_allclose(scale.offset, bottom, rtol=1e-12)
    np.testing.assert_allclose(scale.width, top - bottom, rtol=1e-12)


def test_a_mean_of_pieces_is_that_of_the_whole(monkeypatch, image):
    pieces = [image[:7], image[7:8], image[8:]]
    scale = normalize.standard(lambda: iter(pieces))
    np.testing.assert_allclose(scale.offset, image.mean((0, 1)), rtol=1e-14)
    np.testing.assert_allclose(scale.width, image.std((0, 1)), rtol=1e-14)
    monkeypatch.setattr(arrays, "CHUNK_SIZE", 300)
    assert [s.start for s in arrays.chunk_slices((40, 30))] == [0, 10, 20, 30]
    np.testing.assert_allclose(standard(image), scale(image), atol=1e-6)


@pytest.mark.parametrize("measure", [normalize.standard, normalize.unit])
def test_a_scale_goes_back_to_the_units_of_the_image(measure):
    image = np.random.default_rng(0).integers(0, 60000, (9, 8, 2), dtype=np.uint16)
    scale = normalize.in_memory(measure)(image)
    np.testing.assert_allclose(scale.invert(scale(image)), image, rtol=1e-5, atol=0.01)


def test_fixed_by_hand():
    image = np.array([[[10, 100], [50, 300]]], np.uint16)
    measure = functools.partial(
        normalize.fixed, mean=(10.0, 100.0), std=(20.0,), low=(0.0,), high=(255.0,)
    )
    np.testing.assert_allclose(normalized_by(measure)(image), [[[0, 0], [2, 7.75]]])
    wrong = functools.partial(normalize.fixed, mean=(1.0, 2.0, 3.0), std=(1.0,))
    with pytest.raises(UserError, match="mean has 3 numbers, and the images have 2"):
        normalized_by(wrong)(image)


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_the_schemes_of_nnunet_by_hand(chunk):
    """zscore and rescale ignore a border of zeros, as nnU-Net cuts it off."""
    rng = np.random.default_rng(0)
    image = np.zeros((20, 30, 5))
    inside = (slice(3, -2), slice(4, -5))
    image[inside] = rng.uniform(20, 90, (15, 21, 5))
    scale = normalize.nnunet(
        lambda: iter([image[i : i + chunk] for i in range(0, 20, chunk)]),
        schemes=("zscore", "ct", "rescale", "rgb", "none"),
        mean=(0.0, 50.0, 0.0, 0.0, 0.0),
        std=(1.0, 10.0, 1.0, 1.0, 1.0),
        low=(0.0, 30.0, 0.0, 0.0, 0.0),
        high=(0.0, 80.0, 0.0, 0.0, 0.0),
    )
    got, part = scale(image)[inside], image[inside]
    expected = [
        (part[..., 0] - part[..., 0].mean()) / part[..., 0].std(),
        (part[..., 1].clip(30, 80) - 50) / 10,
        (part[..., 2] - part[..., 2].min()) / np.ptp(part[..., 2]),
        part[..., 3] / 255,
        part[..., 4],
    ]
    np.testing.assert_allclose(got, np.stack(expected, -1), rtol=1e-5, atol=1e-5)


def test_nnunet_needs_a_scheme_and_numbers_for_each_channel(image):
    for keywords, words in (
        ({"schemes": ("zscore",)}, "schemes needs one entry for each of the 2"),
        ({"schemes": ("ct", "ct"), "mean": (1.0,)}, "mean needs one entry for each"),
    ):
        with pytest.raises(UserError, match=words):
            normalized_by(functools.partial(normalize.nnunet, **keywords))(image)
