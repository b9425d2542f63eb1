"""Resampling, against scipy's own zoom and against what can be worked out by hand."""

import numpy as np
import pytest
from scipy import ndimage

from unet_jax import tasks
from unet_jax.data.resample import make_resampling
from unet_jax.errors import UserError
from unet_jax.tasks import TaskData

OWN, SPACING, TARGET = (9, 14, 11), (1.0, 0.7, 2.0), (0.8, 1.1, 1.5)


def noise(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def zoomed(array, shape, order):
    factors = np.divide(shape, array.shape)
    return ndimage.zoom(array, factors, order=order, mode="reflect", grid_mode=True)


def test_the_new_shape_covers_the_same_space():
    assert make_resampling(OWN, SPACING, TARGET).shape == (
        11,
        9,
        15,
    )  # 11.25, 8.9, 14.7
    assert make_resampling((10, 1), (1.0, 1.0), (3.0, 5.0)).shape == (3, 1)
    assert make_resampling((10, 7), None, ()).shape == (10, 7)


@pytest.mark.parametrize("order", [1, 3])
def test_splines_are_those_of_scipy(order):
    change = make_resampling(OWN, SPACING, TARGET)
    if order == 3:
        image = noise(*OWN, 2)
        got = np.moveaxis(change.image(image), -1, 0)
        want = [zoomed(image[..., c], change.shape, 3) for c in range(2)]
    else:
        image = noise(*change.shape)
        got, want = change.invert(image), zoomed(image, OWN, 1)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, atol=2e-6)


def test_a_ramp_stays_the_ramp_at_the_centres_of_pixels():
    ramp = np.arange(40, dtype=np.float32)[:, None]
    for target in (0.5, 1.6, 2.0):  # pixels of 1 mm: centres at 0.5, 1.5, ... mm
        change = make_resampling((40,), (1.0,), (target,))
        size = 40 / change.shape[0]
        want = (np.arange(change.shape[0]) + 0.5) * size - 0.5
        middle = slice(round(8 / size), round(-8 / size))  # an edge bends a spline
        got = change.image(ramp)[middle, 0]
        np.testing.assert_allclose(got, want[middle], atol=1e-3)
        again = change.invert(want[:, None].astype(np.float32))[4:-4]
        np.testing.assert_allclose(again, ramp[4:-4], atol=1e-5)


def test_what_is_constant_stays_so_and_one_pixel_is_enough():
    for own in [(9, 14, 11), (1, 5, 1)]:
        flat = np.full((*own, 1), 3.0, np.float32)
        change = make_resampling(own, SPACING, (0.3, 0.4, 0.5))
        np.testing.assert_allclose(change.image(flat), 3, rtol=1e-6)


def test_the_wanted_spacing_changes_nothing_to_the_bit():
    change = make_resampling(OWN, SPACING, SPACING)
    image, label = noise(*OWN, 1), np.zeros(OWN, np.int32)
    assert not change.changes
    assert change.image(image) is image
    assert change.label(label) is label
    results = {"label": label, "prediction": noise(*OWN, 2)}
    assert change.invert_results(results, None) is results


def test_along_slices_that_are_far_apart_the_nearest_is_taken():
    change = make_resampling((4, 8, 8), (3.5, 1.0, 1.0), (1.0, 1.0, 1.0))
    image = noise(4, 8, 8, 1)
    assert change.shape == (14, 8, 8)
    slices = ((np.arange(14) + 0.5) // 3.5).astype(int)  # that hold 0.5, 1.5, ... mm
    np.testing.assert_array_equal(change.image(image), image[slices])
    near = make_resampling(
        (4, 8, 8), (3.0, 1.0, 1.0), (1.0, 1.0, 1.0)
    )  # not more than 3 times
    want = zoomed(image[..., 0], (12, 8, 8), 3)
    np.testing.assert_allclose(near.image(image)[..., 0], want, atol=2e-6)


def test_a_label_becomes_the_class_with_the_largest_share():
    label = np.array([0, 0, 1, 1, 2, 2, 2, 1, -1, -1], np.int32)
    change = make_resampling((10,), (1.0,), (0.5,))
    want = np.repeat(label, 2)
    np.testing.assert_array_equal(change.label(label), want)
    coarser = make_resampling(
        (10,), (1.0,), (2.0,)
    )  # pairs; 2 and 1 tie: the lowest has it
    np.testing.assert_array_equal(coarser.label(label), [0, 1, 2, 1, -1])
    both = np.stack([label > 0, label == 2], -1).astype(np.int32)
    both[label < 0] = -1
    np.testing.assert_array_equal(
        coarser.label(both), [[0, 0], [1, 0], [1, 1], [1, 0], [-1, -1]]
    )


def test_a_ball_keeps_its_volume():
    """1 x 1 x 3 mm to 1 mm: in cubic millimetres."""
    spacing = np.array([3.0, 1.0, 1.0])
    centres = [
        (np.arange(n) + 0.5) * s for n, s in zip((16, 48, 48), spacing, strict=True)
    ]
    far = sum((g - 24) ** 2 for g in np.meshgrid(*centres, indexing="ij", sparse=True))
    ball = (far < 15**2).astype(np.int32)
    change = make_resampling(ball.shape, spacing, (1.0, 1.0, 1.0))
    assert change.shape == (48, 48, 48)
    volume = change.label(ball).sum()
    assert volume == pytest.approx(ball.sum() * 3, rel=0.02)
    assert volume == pytest.approx(4 / 3 * np.pi * 15**3, rel=0.03)


def test_instances_keep_their_numbers():
    ids = np.array([[0, 7], [900, 0]], np.int32)
    got = make_resampling((2, 2), (2.0, 2.0), (1.0, 1.0)).nearest(ids)
    np.testing.assert_array_equal(got, ids.repeat(2, 0).repeat(2, 1))


def test_an_answer_is_decided_on_the_grid_of_the_file():
    change = make_resampling((4,), (1.0,), (2.0,))
    kind = TaskData(("background", "cell"), axes=1, channels=1)
    exclusive, overlapping = tasks.semantic(kind), tasks.multilabel(kind)
    p = np.array([0.1, 0.7], np.float32)  # at 1 and 3 mm: 0.1, 0.25, 0.55, 0.7
    said = {
        "label": np.array([0, 1], np.uint8),
        "prediction": np.stack([1 - p, p], -1),
    }
    got = change.invert_results(said, exclusive.decide)
    np.testing.assert_allclose(got["prediction"][:, 1], [0.1, 0.25, 0.55, 0.7])
    assert got["label"].dtype == np.uint8
    np.testing.assert_array_equal(got["label"], [0, 0, 1, 1])
    alone = {"label": said["label"][:, None], "prediction": p[:, None]}
    got = change.invert_results(alone, overlapping.decide)
    np.testing.assert_array_equal(got["label"], [[0], [0], [1], [1]])
    values = change.invert_results({"prediction": p[:, None]}, None)
    assert list(values) == ["prediction"]  # a task without classes has no label


@pytest.mark.parametrize(
    ("spacing", "target", "words"),
    [
        (None, (1.0, 1.0), "not known, and config.spacing=1,1 needs it"),
        ((), (1.0, 1.0), "not known"),
        ((1.0, 1.0, 1.0), (1.0, 1.0), "2 spatial axes, a spacing of 1,1,1"),
        ((0.0, 1.0), (1.0, 1.0), "its spacing is 0,1"),
        ((1.0, np.nan), (1.0, 1.0), "its spacing is 1,nan"),
        (
            (1.0, 1.0),
            (1e-4, 1e-4),
            "would become one of 300000,300000; give .* in the units",
        ),
    ],
)
def test_what_cannot_be_resampled_is_told_in_one_line(spacing, target, words):
    with pytest.raises(UserError, match=words) as error:
        make_resampling((30, 30), spacing, target)
    assert "\n" not in str(error.value)


def test_vectors_point_in_directions_of_the_files_grid():
    """A diagonal of the network, whose rows are three of the file's, is steep there."""
    change = make_resampling((12, 4), (1.0, 1.0), (3.0, 1.0))
    assert change.shape == (4, 4)
    vector = np.broadcast_to(np.float32([0.6, 0.8, 7.0]), (4, 4, 3))
    got = change.invert_results({"prediction": vector}, None, vectors=2)["prediction"]
    expected = np.array([3 * 0.6, 0.8]) / np.hypot(1.8, 0.8)
    np.testing.assert_allclose(got[5, 2], [*expected, 7.0], rtol=1e-6)
    as_it_is = change.invert_results({"prediction": vector}, None)["prediction"]
    np.testing.assert_allclose(as_it_is[5, 2], [0.6, 0.8, 7.0], rtol=1e-6)
