import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import entropy
from skimage.metrics import adapted_rand_error, variation_of_information

from unet_jax import metrics
from unet_jax.errors import UserError
from unet_jax.metrics.clustering import thin_borders


def compute_score(metric, image):
    return metric.score(metric.measure(image)).overall


@pytest.mark.parametrize("shape", [(12, 15), (4, 5, 6)])
@pytest.mark.parametrize("seed", range(3))
def test_rand_error_against_scikit_image(make_image, shape, seed):
    """Ids are arbitrary, the predicted background is a segment, and pixels without a
    true object or without an annotation do not count."""
    rng = np.random.default_rng(seed)
    true = rng.choice([0, 3, 7, 10**6], shape)
    objects = np.where(rng.random(shape) < 0.3, rng.choice([0, 5, 9], shape), true)
    expected, _, _ = adapted_rand_error(true, objects)
    true[true == 0] = rng.choice([-1, 0], (true == 0).sum())
    image = make_image(true > 0, objects > 0, true_objects=true, objects=objects)
    np.testing.assert_allclose(compute_score(metrics.rand_error(), image), expected)


# Thinning.


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ([1, 0, 1], [1, 0, 2]),
        ([1, 0, 0, 1], [1, 0, 2, 2]),
        ([0, 1, 0, 0, 0, 1, 0], [1, 1, 1, 0, 2, 2, 2]),
        ([0, 0, 1, 0], [1, 1, 1, 1]),
        ([0, 0], [0, 0]),
    ],
)
def test_thinning_of_a_row(mask, expected):
    np.testing.assert_array_equal(thin_borders(np.array(mask, bool)), expected)


@pytest.mark.parametrize(
    ("shape", "part"), [((14, 15), 0.03), ((24, 25), 0.2), ((6, 7, 5), 0.03)]
)
def test_thinning_grows_every_component_evenly_and_keeps_them_apart(shape, part):
    mask = np.random.default_rng(0).random(shape) < part
    parts, count = ndimage.label(mask)
    segments = thin_borders(mask)
    np.testing.assert_array_equal(segments[mask], parts[mask])
    points = np.argwhere(mask)
    for point in np.argwhere(segments > 0):
        steps = np.abs(points - point).sum(axis=1)
        nearest = parts[tuple(points[steps == steps.min()].T)]
        assert segments[tuple(point)] in nearest
    faces = ndimage.generate_binary_structure(mask.ndim, 1)
    for k in range(1, count + 1):
        touched = segments[ndimage.binary_dilation(segments == k, faces)]
        assert set(touched) <= {0, k}
    # A border pixel has another one's segment, or border, across a face.
    assert 0 < (segments == 0).mean() < 0.5


# V^Rand and V^Info.


def make_row(make_image, truth, foreground):
    """Returns a row of cells with the given foreground probability."""
    p = np.array([foreground], np.float32)
    return make_image([truth], p > 0.5, probabilities=np.stack([1 - p, p], axis=-1))


def test_a_merger_by_hand(make_image):
    """Two cells of 4 pixels are predicted as one: 2 * 4^2 pairs, of 2 * 4^2 and 8^2.

    The two clusterings share no information."""
    image = make_row(make_image, [1, 1, 1, 1, 0, 1, 1, 1, 1], [1] * 9)
    assert compute_score(metrics.v_rand(), image) == 2 * 32 / (32 + 64)
    assert compute_score(metrics.v_info(), image) == 0


def test_a_split_by_hand(make_image):
    """A cell of 8 pixels is predicted as 3 and 4 pixels with a border of 1 between.

    The border is a segment of its own."""
    image = make_row(make_image, [1] * 8 + [0], [1, 1, 1, 0, 1, 1, 1, 1, 0])
    assert compute_score(metrics.v_rand(), image) == 2 * (9 + 1 + 16) / (26 + 64)
    assert compute_score(metrics.v_info(), image) == 0


def test_a_wide_border_costs_nothing(make_image):
    image = make_row(make_image, [1, 1, 1, 0, 1, 1, 1, 1], [0, 1, 0, 0, 0, 0, 1, 0])
    assert compute_score(metrics.v_rand(), image) == 1
    assert compute_score(metrics.v_info(), image) == pytest.approx(1)


def test_a_single_segment_shares_all_the_information(make_image):
    image = make_row(make_image, [0, 1, 1, 1, 0], [0, 1, 1, 1, 0])
    assert compute_score(metrics.v_info(), image) == 1


@pytest.mark.parametrize("shape", [(13, 16), (5, 6, 7)])
@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_scores_at_a_threshold_are_those_of_all_pairs(make_image, shape, threshold):
    rng = np.random.default_rng(1)
    truth = (rng.random(shape) < 0.6).astype(int)
    p = np.clip(truth + rng.normal(0, 0.4, shape), 0, 1).astype(np.float32)
    image = make_image(truth, p > 0.5, probabilities=np.stack([1 - p, p], axis=-1))

    true = ndimage.label(truth)[0]
    proposed = thin_borders(1 - (1 - p) > threshold)
    border = proposed == 0
    proposed[border] = 1000 + np.arange(border.sum())
    true, proposed = true[true > 0], proposed[true > 0]
    together = [ids[:, None] == ids for ids in (true, proposed)]
    both = (together[0] & together[1]).sum()
    expected = 2 * both / (together[0].sum() + together[1].sum())
    got = compute_score(metrics.v_rand(thresholds=(threshold,)), image)
    np.testing.assert_allclose(got, expected)

    split, merge = variation_of_information(true, proposed)
    bits = sum(
        entropy(np.unique(ids, return_counts=True)[1], base=2)
        for ids in (true, proposed)
    )
    got = compute_score(metrics.v_info(thresholds=(threshold,)), image)
    np.testing.assert_allclose(got, 1 - (split + merge) / bits)


def test_the_threshold_is_chosen_once_for_the_set(make_image):
    """Two cells joined by a pixel of 0.4, and a cell that only 0.3 finds whole."""
    leaky = make_row(make_image, [1, 1, 0, 1, 1], [0.9, 0.9, 0.4, 0.9, 0.9])
    faint = make_row(make_image, [0, 1, 1, 1, 1], [0.0, 0.9, 0.35, 0.9, 0.9])
    metric = metrics.v_rand(thresholds=(0.3, 0.6))
    sums = [metric.measure(image) for image in (leaky, faint)]
    low = [2 * 8 / (8 + 16), 1]
    high = [1, 2 * (1 + 1 + 4) / (6 + 16)]
    np.testing.assert_allclose(sums, [[low[0], high[0], 1], [low[1], high[1], 1]])
    assert metric.score(sums[0]).overall == 1
    assert metric.score(sums[1]).overall == 1
    assert metric.score(sum(sums)).overall == (low[0] + low[1]) / 2


def test_independent_classes_are_one_foreground(make_image):
    """Two cells of two classes, a pixel apart; the larger probability counts."""
    truth = np.zeros((1, 5, 2), int)
    truth[0, :2, 0], truth[0, 3:, 1] = 1, 1
    p = np.where(truth == 1, 0.8, 0.1).astype(np.float32)
    image = make_image(truth, truth, independent=True, probabilities=p)
    at = metrics.v_rand(thresholds=(0.05, 0.5))
    np.testing.assert_allclose(at.measure(image), [2 / 3, 1, 1])


def test_an_empty_tuple_of_thresholds_raises_a_user_error():
    for metric in (metrics.v_rand, metrics.v_info):
        with pytest.raises(UserError, match="thresholds is empty"):
            metric(thresholds=())
