"""Spatial operations: exact permutations, closed forms, arrays that move together."""

import functools
import itertools

import jax
import numpy as np
import pytest
import scipy.ndimage

from unet_jax import augment
from unet_jax.augment.displacement import apply_displacements, compute_source_points
from unet_jax.errors import UserError

KEYS = jax.random.split(jax.random.key(0), 32)


def cells(shape, seed=0):
    """Returns blobs of labels -1..2; the image is the label, the weight its square.

    Also pixel ids, a potential that is half the id, and a target with 2 channels.
    """
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = scipy.ndimage.gaussian_filter(noise, 2)
    edges = np.quantile(smooth, [0.25, 0.5, 0.75])
    label = np.digitize(smooth, edges).astype(np.int32) - 1
    image = label[..., None].astype(np.float32)
    place = np.arange(label.size, dtype=np.int32).reshape(shape)
    return {
        "image": image,
        "label": label,
        "weight": image[..., 0] ** 2,
        "instances": place,
        "potential": place / np.float32(2),
        "target": np.stack([noise, -noise], -1).astype(np.float32),
    }


def ramps(shape):
    """Returns an example whose channels are its pixel coordinates.

    After an operation the image holds the position that each pixel was read from.
    """
    image = np.moveaxis(np.indices(shape), 0, -1).astype(np.float32)
    return {"image": image, "label": image[..., 0], "weight": image[..., 0]}


def over_keys(*operations):
    """Returns a function that applies the operations under each of KEYS."""
    run = augment.compose([(1.0, operation) for operation in operations])
    every = jax.jit(jax.vmap(run, in_axes=(0, None)))
    return lambda example: every(KEYS, example)


def run_once(operation):
    """Compiles one operation and applies its displacements."""
    return jax.jit(lambda key, example: apply_displacements(operation(key, example)))


def identify(got, example, oracles):
    """Returns the names of the oracles whose results occur, bit for bit."""
    names = []
    for i in range(len(KEYS)):
        same = {
            name
            for name, oracle in oracles.items()
            if all(np.array_equal(got[k][i], oracle(example[k])) for k in example)
        }
        assert len(same) == 1
        names += same
    return set(names)


@pytest.mark.parametrize("shape", [(6, 9), (3, 4, 5)])
def test_flip_gives_each_mirror_image_and_nothing_else(shape):
    example, n = cells(shape), len(shape)
    subsets = [s for r in range(n + 1) for s in itertools.combinations(range(n), r)]
    oracles = {s: functools.partial(np.flip, axis=s) for s in subsets}
    assert identify(over_keys(augment.flip)(example), example, oracles) == set(subsets)


def test_flip_keeps_the_other_axes_and_undoes_itself():
    example = cells((5, 8))
    only = functools.partial(augment.flip, axes=(1,))
    for key in KEYS[:8]:
        once = only(key, example)
        assert np.array_equal(once["label"].sum(1), example["label"].sum(1))
        twice = augment.flip(key, augment.flip(key, example))
        jax.tree.map(np.testing.assert_array_equal, twice, example)


@pytest.mark.parametrize("shape", [(7, 7), (3, 6, 6)])
def test_turn_gives_each_quarter_turn_and_nothing_else(shape):
    example, plane = cells(shape), (len(shape) - 2, len(shape) - 1)
    oracles = {k: functools.partial(np.rot90, k=k, axes=plane) for k in range(4)}
    assert identify(over_keys(augment.turn)(example), example, oracles) == {0, 1, 2, 3}


@pytest.mark.slow
def test_permutations_of_pending_displacements_are_permutations_of_the_result():
    def pending_and_applied(key, example):
        moved = augment.elastic(key, augment.rotation(key, example), sigma=2.0)
        pending = augment.flip(key, augment.turn(key, moved))
        applied = augment.flip(key, augment.turn(key, apply_displacements(moved)))
        return apply_displacements(pending), applied

    run = jax.jit(jax.vmap(pending_and_applied, in_axes=(0, None)))
    got, expected = run(KEYS, cells((4, 10, 10)))
    for key in ("image", "target"):
        np.testing.assert_allclose(got[key], expected[key], atol=1e-3)
    np.testing.assert_allclose(got["potential"], expected["potential"], atol=0.05)
    for key in ("label", "weight", "instances"):
        assert np.mean(got[key] != expected[key]) < 1e-3  # ties


def test_scale_shift_and_rotation_read_the_right_positions():
    shape, middle = (41, 41), slice(15, 26)

    def read_positions(operation, **kwargs):
        done = over_keys(functools.partial(operation, **kwargs))(ramps(shape))
        return np.asarray(done["image"][3, middle, middle])

    rest = ramps(shape)["image"][middle, middle]
    magnified = read_positions(augment.scale, low=2.0, high=2.0)
    np.testing.assert_allclose(magnified, 20 + (rest - 20) / 2, atol=1e-4)
    step = read_positions(augment.shift, pixels=10.0) - rest
    assert np.ptp(step, axis=(0, 1)).max() < 1e-4
    assert 0.5 < np.abs(step).max() <= 10
    turned = read_positions(augment.rotation, degrees=90.0) - 20
    np.testing.assert_allclose(
        np.linalg.norm(turned, axis=-1), np.linalg.norm(rest - 20, axis=-1), atol=1e-3
    )
    assert np.abs(turned - (rest - 20)).max() > 1


@pytest.mark.slow
def test_rotation_then_shift_is_one_affine_map_sampled_once():
    shape, n, key = (20, 24, 22), 3, jax.random.key(5)
    centre = (np.array(shape) - 1) / 2
    first = functools.partial(augment.rotation, degrees=25.0)
    second = functools.partial(augment.shift, pixels=4.0)

    def fit_affine(operation, i):
        """Fits x -> matrix @ (x - centre) + offset to coordinate ramps."""
        done = run_once(operation)(jax.random.fold_in(key, i), ramps(shape))
        box = tuple(slice(s // 2 - 3, s // 2 + 4) for s in shape)
        x = np.moveaxis(np.indices(shape), 0, -1)[box].reshape(-1, n) - centre
        y = np.asarray(done["image"])[box].reshape(-1, n)
        fit = np.linalg.lstsq(np.c_[x, np.ones(len(x))], y, rcond=None)[0]
        return fit[:n].T, fit[n]

    (turn, about), (straight, offset) = fit_affine(first, 0), fit_affine(second, 1)
    np.testing.assert_allclose(turn @ turn.T, np.eye(n), atol=1e-4)
    np.testing.assert_allclose(np.linalg.det(turn), 1, atol=1e-4)
    np.testing.assert_allclose(about, centre, atol=1e-4)
    np.testing.assert_allclose(straight, np.eye(n), atol=1e-4)
    example = cells(shape)
    got = jax.jit(augment.compose([(1.0, first), (1.0, second)]))(key, example)
    expected = scipy.ndimage.affine_transform(
        example["image"][..., 0],
        turn,
        centre + turn @ (offset - centre - centre),
        order=1,
        mode="mirror",
    )
    np.testing.assert_allclose(got["image"][..., 0], expected, atol=1e-2)


def test_elastic_moves_all_arrays_alike():
    example = cells((48, 40))

    @jax.jit
    def run(key):
        pending = augment.rotation(key, augment.elastic(key, example))
        return compute_source_points(
            pending["displacements"], (48, 40)
        ), apply_displacements(pending)

    points, got = run(KEYS[0])
    sample_with_scipy = functools.partial(
        scipy.ndimage.map_coordinates, coordinates=np.asarray(points), mode="mirror"
    )
    linear = sample_with_scipy(example["image"][..., 0], order=1)
    np.testing.assert_allclose(got["image"][..., 0], linear, atol=1e-3)
    label = sample_with_scipy(example["label"], order=0)
    assert np.mean(got["label"] != label) < 1e-3  # ties
    np.testing.assert_array_equal(got["weight"], got["label"] ** 2)
    ids = sample_with_scipy(example["instances"], order=0)
    assert np.mean(got["instances"] != ids) < 1e-3
    potential = sample_with_scipy(example["potential"], order=1)
    np.testing.assert_allclose(got["potential"], potential, atol=0.05)
    for c in range(2):
        linear = sample_with_scipy(example["target"][..., c], order=1)
        np.testing.assert_allclose(got["target"][..., c], linear, atol=1e-3)
    assert np.mean(got["label"] != example["label"]) > 0.2


def test_elastic_displaces_the_control_points_by_sigma():
    shape, sigma = (33, 33), 4.0
    bend = functools.partial(augment.elastic, sigma=sigma, grid=3)
    example = ramps(shape)
    read = lambda key: compute_source_points(bend(key, example)["displacements"], shape)  # noqa: E731
    draw = jax.jit(jax.vmap(read))
    points = np.asarray(draw(jax.random.split(jax.random.key(1), 400)))
    steps = (points - np.indices(shape))[:, :, ::16, ::16]
    np.testing.assert_allclose(steps.std(0), sigma, rtol=0.15)
    np.testing.assert_allclose(steps.mean(0), 0, atol=4 * sigma / 20)
    across = np.corrcoef(steps.reshape(400, -1).T)
    assert np.abs(across - np.eye(18)).max() < 0.25  # independent


@pytest.mark.slow
def test_labels_gain_no_new_values():
    moves = (augment.elastic, augment.rotation, augment.scale, augment.shift)
    got = over_keys(*moves, augment.flip, augment.turn)(cells((32, 32)))
    assert set(np.unique(got["label"])) == {-1, 0, 1, 2}


def test_scale_in_chosen_axes_leaves_the_other_axes_unchanged():
    """A factor of 2 reads the middle half: positions (x + 2) / 2 of 5 pixels."""
    example = ramps((5, 5, 5))
    run = functools.partial(augment.scale, low=2.0, high=2.0, axes=(1, 2))
    got = augment.compose([(1.0, run)])(jax.random.key(0), example)["image"]
    x = np.arange(5.0)
    for axis, line in enumerate((x, (x + 2) / 2, (x + 2) / 2)):
        shape = [-1 if a == axis else 1 for a in range(3)]
        expected = np.broadcast_to(line.reshape(shape), (5, 5, 5))
        np.testing.assert_allclose(got[..., axis], expected, atol=1e-5)


def test_rotation_in_chosen_axes_leaves_the_other_axes_unchanged():
    flat = functools.partial(augment.rotation, axes=(1, 2))
    got = run_once(flat)(KEYS[0], ramps((3, 9, 9)))
    depth = np.broadcast_to(np.arange(3.0)[:, None, None], (3, 9, 9))
    np.testing.assert_allclose(got["image"][..., 0], depth, atol=1e-5)


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (augment.turn, r"the crop \(8, 6\) must"),
        (functools.partial(augment.flip, axes=(2,)), r"spatial axes \(0, 1\)"),
        (functools.partial(augment.rotation, axes=(1,)), "span no plane"),
        (functools.partial(augment.scale, low=2.0), "0 < low <= high"),
    ],
)
def test_invalid_options_raise_a_user_error(operation, message):
    with pytest.raises(UserError, match=message):
        operation(KEYS[0], cells((8, 6)))
