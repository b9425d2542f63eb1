"""Sampling against scipy.ndimage, splines against scipy.interpolate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.interpolate
import scipy.ndimage

from unet_jax.augment.displacement import (
    compute_source_points,
    evaluate_displacement,
    sample_at,
)


def evaluate(displacement, points, shape):
    """Returns `evaluate_displacement` at some points, as a NumPy array."""
    points = [jnp.asarray(x, jnp.float32) for x in points]
    run = jax.jit(evaluate_displacement, static_argnums=2)
    return np.stack(run(jnp.asarray(displacement, jnp.float32), points, shape))


@pytest.mark.parametrize("shape", [(17, 24), (5, 9, 12), (1, 6, 7)])
def test_sample_agrees_with_scipy_inside_and_far_outside(shape):
    """Floats are interpolated; integers, masks and weights take the nearest pixel."""
    rng = np.random.default_rng(0)
    smooth = {
        "image": rng.normal(size=(*shape, 2)).astype(np.float32),
        "potential": rng.normal(size=shape).astype(np.float32),
        "target": rng.normal(size=(*shape, 3)).astype(np.float32),
    }
    nearest = {
        "label": rng.integers(-1, 4, shape).astype(np.int32),
        "weight": rng.uniform(size=shape).astype(np.float32),
        "instances": rng.integers(0, 1000, shape).astype(np.int32),
        "mask": rng.integers(0, 2, (*shape, 2)) > 0,
    }
    rest = {"factors": np.arange(3, dtype=np.float32), "seed": np.uint32(7)}
    size = np.array(shape).reshape(-1, *[1] * len(shape))
    points = (rng.uniform(-1.7, 2.7, (len(shape), *shape)) * size).astype(np.float32)
    got = jax.jit(sample_at)(smooth | nearest | rest, points)

    def sample_with_scipy(values, order):
        channels = values.reshape(*shape, -1)
        done = [
            scipy.ndimage.map_coordinates(
                channels[..., c], points, order=order, mode="mirror"
            )
            for c in range(channels.shape[-1])
        ]
        return np.stack(done, axis=-1).reshape(values.shape)

    for name, values in smooth.items():
        np.testing.assert_allclose(got[name], sample_with_scipy(values, 1), atol=1e-4)
    for name, values in nearest.items():
        np.testing.assert_array_equal(got[name], sample_with_scipy(values, 0), name)
    for name, values in (smooth | nearest | rest).items():
        assert got[name].dtype == values.dtype, name
    for name, values in rest.items():
        np.testing.assert_array_equal(got[name], values)


def test_sample_moves_independent_labels_with_their_pixel():
    label = np.stack([np.eye(4), 1 - np.eye(4)], axis=-1).astype(np.int32)
    example = {"image": np.zeros((4, 4, 1)), "label": label, "weight": np.ones((4, 4))}
    points = np.indices((4, 4)).astype(np.float32) + np.array([1, 0]).reshape(2, 1, 1)
    got = jax.jit(sample_at)(example, jnp.asarray(points))
    np.testing.assert_array_equal(got["label"], label[[1, 2, 3, 2]])


def test_spline_value_by_hand():
    # Values 0, 1, 0 at knots 0, 1, 2 with s'' = 0 at the ends: s'' = -3 in the middle,
    # so s(1/2) = 1/2 * (1 + 3/6) - 3/6 * 1/8 = 11/16. s' = 3/2 at 0; linear outside.
    got = evaluate([[0, 1, 0]], [[0.0, 2.0, 4.0, 8.0, -4.0, 12.0]], (9,))
    np.testing.assert_allclose(got, [[0, 11 / 16, 1, 0, -3 / 2, -3 / 2]], atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "grid"), [((33, 41), 3), ((30, 20), 6), ((9, 8, 7), 4)]
)
def test_displacement_is_the_tensor_product_of_natural_splines(shape, grid):
    n = len(shape)
    displacement = np.random.default_rng(1).normal(scale=10, size=(n, *[grid] * n))
    expected = displacement
    for axis, size in enumerate(shape, start=1):
        knots = np.linspace(0, size - 1, grid)
        spline = scipy.interpolate.make_interp_spline(
            knots, expected, k=3, bc_type="natural", axis=axis
        )
        expected = spline(np.arange(size))
    got = evaluate(displacement, np.indices(shape), shape)
    np.testing.assert_allclose(got, expected, atol=2e-4)


def test_displacement_passes_through_the_control_points():
    displacement = np.random.default_rng(2).normal(scale=10, size=(2, 3, 3))
    got = evaluate(displacement, np.indices((21, 41)), (21, 41))
    np.testing.assert_allclose(got[:, ::10, ::20], displacement, atol=1e-4)


def test_two_control_points_make_an_affine_map_also_outside_the_crop():
    # Over 11 rows the displacement grows from 0 to 5: half a pixel a row.
    displacement = np.zeros((2, 2, 2))
    displacement[0, 1] = 5
    got = evaluate(displacement, [[-4.0, 3.0, 20.0], [0.0, 50.0, -7.0]], (11, 8))
    np.testing.assert_allclose(got, [[-2, 1.5, 10], [0, 0, 0]], atol=1e-5)


def test_source_points_follow_displacements_from_the_last_to_the_first():
    double = np.zeros((1, 2))
    double[0, 1] = 10.0  # x -> 2x on 11 pixels
    one = np.ones((1, 2))  # x -> x + 1
    x = np.arange(11.0)
    displacements = [jnp.asarray(double, jnp.float32), jnp.asarray(one, jnp.float32)]
    np.testing.assert_allclose(
        compute_source_points(displacements, (11,))[0], 2 * (x + 1), atol=1e-5
    )
