"""Properties of every metric of labels and objects that a spec may name."""

import dataclasses

import numpy as np
import pytest

from unet_jax import metrics, specs
from unet_jax.errors import UserError
from unet_jax.metrics.scores import summarize

LOWER = {
    "brier",
    "calibration_error",
    "hausdorff",
    "hausdorff95",
    "pixel_error",
    "rand_error",
    "surface_distance",
    "warping_error",
}
VALUE = {"mae", "psnr", "ssim"}  # see test_values.py
CLASSES = ("a", "b", "c")
every_metric = pytest.mark.parametrize("name", sorted({*metrics.__all__} - VALUE))
each_kind = pytest.mark.parametrize("independent", [False, True])


def compute_score(name, sums):
    """Computes the score of summed measures; of all classes, if there are any."""
    named = [(name, bind_metric(name))]
    return summarize([sums], named, CLASSES, omit_background=False)[name]


def bind_metric(name):
    return specs.bind(metrics, {"name": name}, "config.metrics[0]")()


def blobs(independent, shape=(14, 17), seed=0):
    """Returns blocks of three classes; a third of the pixels is foreground."""
    rng = np.random.default_rng(seed)
    coarse = [-(-size // 2) for size in shape]
    if independent:
        label = rng.random((*coarse, 3)) < 0.12
    else:
        label = rng.choice(3, coarse, p=(0.66, 0.17, 0.17))
    for axis in range(len(shape)):
        label = label.repeat(2, axis=axis)
    return label[tuple(slice(size) for size in shape)].astype(np.int32)


@pytest.fixture
def draw_noisy(make_image):
    """Returns a function that draws an image; 2/5 of its probabilities are random."""

    def draw(independent, shape=(14, 17), seed=0):
        truth = blobs(independent, shape, seed)
        rng = np.random.default_rng(seed + 100)
        certain = truth if independent else truth[..., None] == np.arange(3)
        p = np.where(rng.random((*shape, 1)) < 0.4, rng.random((*shape, 3)), certain)
        if independent:
            prediction = p > 0.5
        else:
            p = p / p.sum(axis=-1, keepdims=True)
            prediction = p.argmax(axis=-1)
        p = p.astype(np.float32)
        return make_image(truth, prediction, independent=independent, probabilities=p)

    return draw


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"name": "surface_dice", "tolerance": -1.0}, "tolerance"),
        ({"name": "v_rand", "thresholds": (0.5, 2.0)}, "thresholds"),
        ({"name": "f1", "threshold": "half"}, "threshold"),
        ({"name": "calibration_error", "bins": 0}, "bins"),
        ({"name": "summarize"}, "name"),
    ],
)
def test_options_are_checked_by_their_annotations(spec, field):
    with pytest.raises(UserError, match=rf"config\.metrics\[0\]\.{field}"):
        specs.bind(metrics, spec, "config.metrics[0]")


@pytest.mark.parametrize("name", metrics.__all__)
def test_a_metric_reads_only_the_fields_of_its_kind(draw_noisy, name):
    """The other fields can be None."""
    image, metric = draw_noisy(independent=False), bind_metric(name)
    assert (metric.kind == "value") == (name in VALUE)
    if metric.kind == "label":
        others = {"objects": None}
    elif metric.kind == "objects":
        others = {"truth": None, "prediction": None, "probabilities": None}
    else:
        arrays = {"target": np.eye(12)[..., None], "value": np.ones((12, 12, 1))}
        image = dataclasses.replace(image, **arrays)
        fields = (field.name for field in dataclasses.fields(image))
        others = {field: None for field in fields if field not in arrays}
    expected = metric.measure(image)
    alone = metric.measure(dataclasses.replace(image, **others))
    np.testing.assert_array_equal(alone, expected)


@every_metric
@each_kind
@pytest.mark.parametrize("shape", [(14, 17), (6, 7, 8)])
def test_a_perfect_prediction_scores_better_than_a_noisy_one(
    make_image, draw_noisy, name, independent, shape
):
    metric = bind_metric(name)
    perfect = 0 if metric.lower else 1
    assert metric.lower == (name in LOWER)

    truth = blobs(independent, shape)
    same = make_image(truth, truth, independent=independent, classes=3)
    score = metric.score(metric.measure(same))
    mean = compute_score(name, metric.measure(same))
    assert mean == pytest.approx(perfect, abs=1e-12)
    if score.classes is not None:
        defined = score.classes[~np.isnan(score.classes)]
        assert score.classes.shape == (3,)
        np.testing.assert_allclose(defined, perfect, atol=1e-12)

    fair = compute_score(name, metric.measure(draw_noisy(independent, shape)))
    assert fair > 0 if metric.lower else 0 <= fair < 1


@every_metric
@each_kind
def test_empty_truth_or_prediction(make_image, name, independent):
    """It causes no warning. Without any annotation the score is undefined."""
    metric = bind_metric(name)
    there = blobs(independent)
    nothing, ignored = np.zeros_like(there), np.full_like(there, -1)
    total = 0
    for truth, prediction in [(there, nothing), (nothing, there), (nothing, nothing)]:
        sums = metric.measure(
            make_image(truth, prediction, independent=independent, classes=3)
        )
        assert np.isfinite(sums).all()
        metric.score(sums)
        total = total + sums
    assert compute_score(name, total) is not None

    unknown = make_image(ignored, there, independent=independent, classes=3)
    assert compute_score(name, metric.measure(unknown)) is None


@every_metric
@each_kind
def test_images_of_any_size_add_up(draw_noisy, name, independent):
    """An image counted twice scores the same; another image changes the score."""
    metric = bind_metric(name)
    one = metric.measure(draw_noisy(independent))
    other = metric.measure(draw_noisy(independent, (11, 8), seed=1))
    assert one.shape == other.shape
    alone, twice, both = (
        compute_score(name, sums) for sums in (one, one + one, one + other)
    )
    np.testing.assert_allclose(alone, twice)
    assert np.isfinite(both)
    assert both != alone


@every_metric
@each_kind
def test_ignored_pixels_change_nothing(draw_noisy, name, independent):
    metric = bind_metric(name)
    image = draw_noisy(independent)
    truth, true_objects = image.truth.copy(), image.true_objects.copy()
    truth[4:9, 5:11], true_objects[4:9, 5:11] = -1, -1
    image = dataclasses.replace(image, truth=truth, true_objects=true_objects)
    expected = metric.measure(image)

    prediction, objects = image.prediction.copy(), image.objects.copy()
    probabilities = image.probabilities.copy()
    prediction[4:9, 5:11] = 1 - prediction[4:9, 5:11] // 2
    probabilities[4:9, 5:11] = np.nan
    objects[4:9, 5:11] = 10**6
    changed = dataclasses.replace(
        image, prediction=prediction, probabilities=probabilities, objects=objects
    )
    np.testing.assert_array_equal(metric.measure(changed), expected)


@every_metric
@each_kind
def test_swapped_classes_have_swapped_scores(draw_noisy, name, independent):
    metric = bind_metric(name)
    image = draw_noisy(independent)
    order = [0, 2, 1]
    if independent:
        labels = image.truth[..., order], image.prediction[..., order]
    else:
        labels = np.array(order)[image.truth], np.array(order)[image.prediction]
    swapped = dataclasses.replace(
        image,
        truth=labels[0],
        prediction=labels[1],
        probabilities=image.probabilities[..., order],
    )
    measures = [metric.measure(each) for each in (image, swapped)]
    means = [compute_score(name, measure) for measure in measures]
    np.testing.assert_allclose(*means)
    before, after = (metric.score(measure) for measure in measures)
    if before.classes is not None:
        np.testing.assert_allclose(before.classes[order], after.classes)
        assert before.classes[1] != before.classes[2]
