import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax import arrays


@pytest.mark.parametrize("shape", [(5, 7), (4, 3, 6)])
def test_cut_window_reflects_as_numpy_does(shape):
    array = np.random.default_rng(0).normal(size=(*shape, 2))
    before, after = 3, 9  # more than one reflection on the short axes
    pad = [(before, after)] * len(shape) + [(0, 0)]
    expected = np.pad(array, pad, mode="reflect")
    size = [n + before + after for n in shape]
    got = arrays.cut_window(array, [-before] * len(shape), size)
    np.testing.assert_array_equal(got, expected)


def test_crop_centre_takes_the_middle():
    array = jnp.arange(7)[None, :, None]
    np.testing.assert_array_equal(arrays.crop_centre(array, (3,))[0, :, 0], [2, 3, 4])


def test_check_shapes_reports_the_shapes():
    logits = jnp.zeros((2, 4, 4, 3))
    arrays.check_shapes(logits, jnp.zeros((2, 4, 4)), jnp.zeros((2, 4, 4)))
    arrays.check_shapes(logits, jnp.zeros((2, 4, 4, 3)), jnp.zeros((2, 4, 4)))
    with pytest.raises(AssertionError, match=r"\(2, 4, 5\)"):
        arrays.check_shapes(logits, jnp.zeros((2, 4, 5)), jnp.zeros((2, 4, 4)))


def test_spatial_arrays_have_the_pixels_of_the_image():
    example = {
        "image": np.zeros((4, 6, 2), np.float32),
        "label": np.zeros((4, 6), np.int32),
        "weight": jnp.ones((4, 6)),
        "target": np.zeros((4, 6, 3), np.float16),
        "seed": np.uint32(3),
        "grade": np.zeros(4),
        "spacing": (1.0, 2.0),
    }
    assert arrays.list_spatial(example) == ["image", "label", "weight", "target"]
    smooth = [
        k for k in arrays.list_spatial(example) if arrays.is_interpolated(k, example[k])
    ]
    assert smooth == ["image", "target"]
    assert arrays.is_interpolated("image", jnp.zeros((4, 6), jnp.bfloat16))
