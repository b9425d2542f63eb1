import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage import measure, morphology, segmentation

from unet_jax import postprocess, specs
from unet_jax.arrays import Segmentation
from unet_jax.errors import UserError

EACH = {
    "largest_component": postprocess.largest_component,
    "remove_small": functools.partial(postprocess.remove_small, pixels=4),
    "fill_holes": postprocess.fill_holes,
    "components": postprocess.components,
    "watershed": postprocess.watershed,
}
watershed = functools.partial(postprocess.watershed, pixels=1)  # seeds of any size
each_function = pytest.mark.parametrize("function", EACH.values(), ids=EACH)


def rows(*text):
    """A small label from text: `rows('.11', '2..')`."""
    return np.array([[0 if c == "." else int(c) for c in row] for row in text], "i4")


def certain(label, classes):
    """Probabilities 0 and 1 of a label."""
    return np.eye(classes, dtype=np.float32)[label]


def smooth(shape, classes, seed, sigma=1.5):
    """Smooth random probabilities, and the label of their maximum."""
    noise = np.random.default_rng(seed).normal(size=(*shape, classes))
    logits = ndimage.gaussian_filter(noise, (sigma,) * len(shape) + (0,))
    odds = np.exp(6 * logits / logits.std())
    probabilities = (odds / odds.sum(-1, keepdims=True)).astype(np.float32)
    return probabilities, probabilities.argmax(-1).astype(np.int32)


def bumps(shape, centres, radius):
    """The probability of the foreground: 1 at the centres, 1/2 at the radius."""
    grid = np.stack(np.indices(shape), -1)
    distance = np.min([np.linalg.norm(grid - c, axis=-1) for c in centres], axis=0)
    inside = np.clip(1 - distance / (2 * radius), 0, 1)
    return np.stack([1 - inside, inside], -1).astype(np.float32)


def same_parts(a, b):
    """True if two arrays of ids have the same parts, and 0 at the same pixels."""
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    once = all(len(np.unique(p)) == len(p) for p in pairs)
    return once and ((pairs[0] == 0) == (pairs[1] == 0)).all()


# Against results by hand.


def test_the_largest_component_of_each_class_is_kept():
    label = rows(
        "11.2",
        "1..2",
        "..1.",
        "22..",
    )
    expected = rows("11.2", "1..2", "....", "....")
    out = postprocess.largest_component(Segmentation(label), certain(label, 3))
    np.testing.assert_array_equal(out.label, expected)
    assert out.objects is None


def test_small_components_are_removed_or_small_objects():
    label = rows(
        "11.2",
        "11.2",
        "..1.",  # a shared corner is not a shared face
    )
    p = certain(label, 3)
    out = postprocess.remove_small(Segmentation(label), p, pixels=2)
    np.testing.assert_array_equal(out.label, rows("11.2", "11.2", "...."))

    objects = rows("13.2", "11.2", "..4.")
    out = postprocess.remove_small(Segmentation(label, objects), p, pixels=2)
    np.testing.assert_array_equal(out.label, rows("1..2", "11.2", "...."))
    np.testing.assert_array_equal(out.objects, rows("1..2", "11.2", "...."))


def test_a_hole_has_one_class_around_it():
    label = rows(
        "111.222",
        "1.1.2.1",  # the second hole also touches class 1
        "111.222",
        "1.1....",  # open to the edge
    )
    expected = label.copy()
    expected[1, 1] = 1
    objects = (label > 0) * (1 + (np.arange(7) > 3))
    out = postprocess.fill_holes(Segmentation(label, objects), certain(label, 3))
    np.testing.assert_array_equal(out.label, expected)
    np.testing.assert_array_equal(out.objects, (expected > 0) * objects.max(0))


def test_independent_classes_are_corrected_one_by_one():
    ring, dot = rows("111", "1.1", "111"), rows("...", ".1.", "..1")
    label = np.stack([ring, dot], -1)
    fill = postprocess.fill_holes(Segmentation(label), label.astype(np.float32))
    np.testing.assert_array_equal(fill.label[..., 0], 1)
    np.testing.assert_array_equal(fill.label[..., 1], dot)
    small = postprocess.remove_small(
        Segmentation(label), label.astype(np.float32), pixels=2
    )
    np.testing.assert_array_equal(small.label, np.stack([ring, 0 * dot], -1))
    found = postprocess.components(label, label.astype(np.float32))
    np.testing.assert_array_equal(found.objects, 1)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_two_bumps_that_touch_become_two_objects(axes):
    centres = [(8,) * axes, (8,) * (axes - 1) + (16,)]
    p = bumps((17,) * (axes - 1) + (25,), centres, radius=5)
    label = (p[..., 1] > 0.5).astype(np.int32)
    assert ndimage.label(label)[1] == 1
    objects = watershed(label, p).objects
    # The plane between the two, 4 from both centres, may go to either.
    left = np.broadcast_to(np.arange(25) < 12, label.shape)
    right = np.broadcast_to(np.arange(25) > 12, label.shape)
    np.testing.assert_array_equal(objects[left], label[left])
    np.testing.assert_array_equal(objects[right], 2 * label[right])


def test_a_border_class_divides_the_foreground():
    label = rows("1121133")  # 2 is the border, 3 is another class
    p = certain(label, 4)
    whole = watershed(label, p)
    np.testing.assert_array_equal(whole.objects, [[1] * 7])
    parted = watershed(label, p, border=2)
    np.testing.assert_array_equal(parted.objects, rows("1112222"))
    np.testing.assert_array_equal(parted.label, label)
    independent = p[..., 1:].astype(np.int32)
    parted = watershed(independent, p[..., 1:], border=2)
    np.testing.assert_array_equal(parted.objects, rows("1112222"))


def test_the_border_is_subtracted_from_the_inside():
    """No pixel has the border as its class, but 0.5 - 0.4 is below the seed level."""
    inside = np.array([0.8, 0.5, 0.8], np.float32)
    border = np.array([0.1, 0.4, 0.1], np.float32)
    p = np.stack([1 - inside - border, inside, border], -1)
    seeded = functools.partial(watershed, rows("111")[0], p)
    assert seeded(seed=0.3).objects.max() == 1
    assert seeded(seed=0.3, border=2).objects.max() == 2


def test_foreground_without_a_seed_is_one_object():
    label = rows("11.11")
    inside = np.where(label > 0, 0.6, 0.1).astype(np.float32)
    inside[0, 0] = 0.9
    p = np.stack([1 - inside, inside], -1)
    out = watershed(label, p)
    np.testing.assert_array_equal(out.objects, rows("11.22"))


@pytest.mark.parametrize(("border", "classes"), [(3, 3), (1, 2)])
def test_a_border_that_is_not_a_class_or_the_only_one_is_refused(border, classes):
    label = rows("11")
    with pytest.raises(UserError, match=f"border={border} must be a class from 1"):
        postprocess.watershed(label, certain(label, classes), border=border)


# Against scikit-image.


@pytest.mark.parametrize("shape", [(40, 50), (12, 14, 16)])
def test_sizes_holes_and_components_against_skimage(shape):
    p, label = smooth(shape, classes=3, seed=0, sigma=1.0)
    start = Segmentation(label)
    same = postprocess.components(label, p)
    assert same_parts(same.objects, measure.label(label, connectivity=1))
    assert same.objects.max() > 5

    small = postprocess.remove_small(start, p, pixels=9)
    large = postprocess.largest_component(start, p)
    for k in (1, 2):
        parts = measure.label(label == k, connectivity=1)
        np.testing.assert_array_equal(
            small.label == k, morphology.remove_small_objects(parts, max_size=8) > 0
        )
        regions = measure.regionprops(parts)
        largest = max(regions, key=lambda region: region.area)
        np.testing.assert_array_equal(large.label == k, parts == largest.label)

    label = (np.random.default_rng(1).random(shape) < 0.7).astype(np.int32)
    filled = postprocess.fill_holes(Segmentation(label), certain(label, 2)).label
    np.testing.assert_array_equal(filled, ndimage.binary_fill_holes(label))
    assert (filled != label).any()


def test_watershed_against_skimage():
    """The two may differ at a few of the pixels where objects meet."""
    rng = np.random.default_rng(0)
    centres = 16 + 24 * np.stack(np.indices((3, 3)), -1).reshape(-1, 2)
    p = bumps((80, 80), centres + rng.integers(-3, 4, centres.shape), radius=14)
    label = (p[..., 1] > 0.5).astype(np.int32)
    assert ndimage.label(label)[1] == 1
    seeds, count = ndimage.label(p[..., 1] > 0.8)
    assert count == 9
    theirs = segmentation.watershed(-p[..., 1], seeds, mask=label > 0)
    ours = postprocess.watershed(label, p).objects
    lines = segmentation.find_boundaries(theirs)
    np.testing.assert_array_equal(ours[~lines], theirs[~lines])
    assert (ours != theirs).mean() < 0.002


# Against properties of every function.


def _apply(function, segmentation, p):
    finds = postprocess.finds_objects(function)
    return function(segmentation.label if finds else segmentation, p)


@each_function
@given(seed=st.integers(0, 2**32 - 1), before=st.sampled_from([None, *EACH]))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_each_function_is_idempotent_and_only_fill_holes_adds(function, seed, before):
    p, label = smooth((16, 18), classes=3, seed=seed)
    start = Segmentation(label)
    if before is not None:
        start = _apply(EACH[before], start, p)
    once = _apply(function, start, p)
    twice = _apply(function, once, p)
    np.testing.assert_array_equal(once.label, twice.label)
    added = (once.label > 0) & (start.label == 0)
    changed = (once.label > 0) & (start.label > 0) & (once.label != start.label)
    assert not changed.any()
    assert function is postprocess.fill_holes or not added.any()
    assert once.label.dtype == np.int32
    if once.objects is not None:
        assert once.objects.dtype == np.int32
        np.testing.assert_array_equal(once.objects, twice.objects)
        np.testing.assert_array_equal(once.objects > 0, once.label > 0)
    if function is postprocess.watershed:
        assert same_parts(once.objects, measure.label(once.objects, connectivity=1))


@each_function
@pytest.mark.parametrize("value", [0, 1])
def test_a_label_of_one_class_is_unchanged(function, value):
    label = np.full((5, 6), value, np.int32)
    out = _apply(function, Segmentation(label), certain(label, 2))
    np.testing.assert_array_equal(out.label, label)
    if out.objects is not None:
        np.testing.assert_array_equal(out.objects, label)


def test_composed_functions_run_in_order():
    label = rows("111.1", "1.1..", "111..")
    config = ({"name": "remove_small", "pixels": 2}, {"name": "fill_holes"})
    bound = [specs.bind(postprocess, spec, "predict.postprocess") for spec in config]
    out = postprocess.chain_functions(bound)(Segmentation(label), certain(label, 2))
    np.testing.assert_array_equal(out.label, rows("111..", "111..", "111.."))
    nothing = postprocess.chain_functions(())(Segmentation(label), certain(label, 2))
    assert nothing.label is label


def test_all_public_functions_are_tested():
    assert set(EACH) == set(postprocess.__all__)


def test_a_peak_that_is_too_small_makes_no_object():
    """A cell with one noisy pixel beside its middle is one cell."""
    p = bumps((24, 24), [(12, 12)], 9)
    p[:] = np.where(p > 0.9, p, np.minimum(p, 0.75))
    p[12, 17] = 0.01, 0.99
    segmented = p.argmax(-1).astype(np.int32)
    every = postprocess.watershed(segmented, p, seed=0.8, pixels=1)
    assert every.objects.max() == 2
    real = postprocess.watershed(segmented, p, seed=0.8, pixels=2)
    assert real.objects.max() == 1


def test_the_remaining_objects_are_numbered_from_1():
    label = rows("1.11.1111", "1........")
    small = functools.partial(postprocess.remove_small, pixels=3)
    function = postprocess.chain_functions([postprocess.components, small])
    out = function(Segmentation(label), certain(label, 2))
    np.testing.assert_array_equal(out.objects, rows(".....1111", "........."))


def test_objects_of_independent_classes_are_those_of_their_union():
    label = np.stack([rows("11..."), rows(".11.1")], axis=-1)
    found = postprocess.find_foreground_objects(label, independent=True)
    np.testing.assert_array_equal(found, rows("111.2"))
