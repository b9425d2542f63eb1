"""The flow task against the paper's iteration, geometry and values by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from skimage.segmentation import expand_labels

from unet_jax import augment, losses, views
from unet_jax.arrays import IGNORE
from unet_jax.data import cells
from unet_jax.tasks import TaskData, flow
from unet_jax.tasks.vector_field import (
    compute_potential,
    compute_vectors,
    follow_vectors,
    group_end_points,
)

CLASSES = ("background", "cell")


def make_task(axes=2, **options):
    return flow(TaskData(CLASSES, axes, 1), **options)


def draw_ball(shape, centre, radius):
    grid = np.indices(shape)
    away = grid - np.reshape(centre, (-1, *[1] * len(shape)))
    return (away**2).sum(axis=0) <= radius**2


def compute_exact_vectors(instances):
    return compute_vectors(compute_potential(instances), instances, instances.ndim)


def predict_exactly(instances):
    """Returns the prediction of a perfect network."""
    inside = (instances > 0)[..., None]
    prediction = [compute_exact_vectors(instances), inside]
    return np.concatenate(prediction, axis=-1).astype(np.float32)


def segment(prediction, axes=2, **options):
    task = make_task(axes, **options)
    return task.segment(np.asarray(task.decide(prediction), np.int32), prediction)


def measure_angles(vectors, others):
    """Returns the degrees between two vector fields where both are not 0."""
    both = np.linalg.norm(vectors, axis=-1) * np.linalg.norm(others, axis=-1)
    cosine = (vectors * others).sum(axis=-1)[both > 0] / both[both > 0]
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def match_objects(found, true):
    """Returns the share of correct pixels of true objects, matched one to one."""
    pairs, number = np.unique(
        [found[true > 0], true[true > 0]], axis=1, return_counts=1
    )
    best = {}
    for (f, t), n in zip(pairs.T, number, strict=True):
        if f and n > best.get(t, (0, 0))[0]:
            best[t] = n, f
    assert len({f for _, f in best.values()}) == len(best) == len(np.unique(true)) - 1
    assert found.max() == len(best)
    return sum(n for n, _ in best.values()) / (true > 0).sum()


def draw_snake(shape, width):
    """Draws a wave of two periods along the last axis, `width` pixels thick."""
    t = np.linspace(0, 1, 5000)
    across = (0.5 + 0.35 * np.sin(4 * np.pi * t)) * shape[0]
    line = np.ones(shape, bool)
    along = np.rint(10 + t * (shape[1] - 20)).astype(int)
    line[np.rint(across).astype(int), along] = False
    return (ndimage.distance_transform_edt(line) <= width / 2).astype(np.int32)


def iterate_heat(inside, centre, repetitions=4000):
    heat = np.zeros(inside.shape)
    for _ in range(repetitions):
        heat[centre] += 1
        heat = ndimage.uniform_filter(heat, 3, mode="constant") * inside
    return heat


# The potential.


@pytest.mark.parametrize("shape", [(15, 18), (8, 12, 10)])
def test_potential_is_the_limit_of_the_papers_iteration(shape):
    axes = len(shape)
    instances = np.zeros(shape, np.uint16)
    middle = (shape[0] // 2, 5) + (4,) * (axes - 2)
    instances[draw_ball(shape, middle, 3.2)] = 65535
    bar = (slice(1, 7), slice(9, None), *[slice(2, 5)] * (axes - 2))  # at the border
    instances[bar] = 3
    expected = np.zeros(shape)
    for k in (65535, 3):
        inside = instances == k
        points = np.argwhere(inside)
        far = ((points - np.median(points, axis=0)) ** 2).sum(axis=1)
        expected += iterate_heat(inside, tuple(points[far.argmin()]))
    potential = compute_potential(instances)
    assert potential.dtype == np.float32
    inside = instances > 0
    np.testing.assert_allclose(np.exp(potential)[inside], expected[inside], rtol=1e-5)


def test_potential_of_tiny_objects_by_hand():
    """One pixel: T = (T + 1) / 9. Two pixels: both are (T + T + 1) / 9."""
    instances = np.array([[5, 0, 0, 0, 7, 7], [0, 0, 0, 0, 0, 0], [-1, 2, 0, 0, 0, 0]])
    heat = np.exp(compute_potential(instances))
    np.testing.assert_allclose(heat[0, [0, 4, 5]], [1 / 8, 1 / 7, 1 / 7], rtol=1e-5)
    np.testing.assert_allclose(heat[2, 1], 1 / 8, rtol=1e-5)
    one = compute_potential(np.ones((1, 1, 1), np.int32))
    np.testing.assert_allclose(np.exp(one), 1 / 26, rtol=1e-5)


def test_potential_outside_is_that_of_the_nearest_object():
    instances = np.array([[4, 0, 0, 0, 0, 0, 9, 9]])
    heat = np.exp(compute_potential(instances))[0]
    np.testing.assert_allclose(heat, [1 / 8] * 4 + [1 / 7] * 4, rtol=1e-5)
    nothing = compute_potential(np.full((3, 4), -1))
    np.testing.assert_array_equal(nothing, np.zeros((3, 4), np.float32))


def test_touching_objects_do_not_exchange_heat():
    halves = np.array([[1, 1, 1, 2, 2, 2]])
    apart = np.array([[1, 1, 1, 0, 2, 2, 2]])
    np.testing.assert_allclose(
        np.delete(compute_potential(apart), 3, axis=1),
        compute_potential(halves),
    )
    corners = np.array([[6, 0], [0, 6]])  # two pieces of one object
    np.testing.assert_allclose(np.exp(compute_potential(corners)), 1 / 8, rtol=1e-5)


def test_potential_is_precise_along_a_thin_line():
    """T_i = (T_i-1 + T_i + T_i+1) / 9 falls by 4 - sqrt(15) a pixel, to 1e-535."""
    instances = np.zeros((3, 1201), np.int32)
    instances[1] = 1
    fall = np.diff(compute_potential(instances)[1, 620:1190])
    np.testing.assert_allclose(fall, math.log(4 - math.sqrt(15)), rtol=1e-3)


# The vector field.


@pytest.mark.parametrize("axes", [2, 3])
def test_vectors_of_a_ball_point_to_its_centre(axes):
    shape, centre = (25,) * axes, (12,) * axes
    inside = draw_ball(shape, centre, 10)
    vectors = compute_exact_vectors(inside.astype(np.int32))
    assert vectors.dtype == np.float32
    away = np.moveaxis(np.indices(shape) - 12.0, 0, -1)
    error = measure_angles(vectors[inside], -away[inside])
    assert error.mean() < 3.5
    assert error.max() < 20  # at a corner of the discrete surface
    length = np.linalg.norm(vectors, axis=-1)
    assert length[centre] < 0.1
    inside[centre] = False
    np.testing.assert_allclose(length[inside], 1, atol=1e-5)
    inside[centre] = True
    np.testing.assert_array_equal(vectors[~inside], 0)


def test_vectors_of_touching_discs_point_to_the_centre_of_each():
    instances = np.zeros((30, 50), np.int32)
    instances[draw_ball((30, 50), (15, 14), 10)] = 1
    instances[draw_ball((30, 50), (15, 35), 10.5)] = 2
    assert (instances[:, 24] == 1).any()
    assert (instances[:, 25] == 2).any()
    vectors, away = (
        compute_exact_vectors(instances),
        np.moveaxis(np.indices((30, 50)), 0, -1),
    )
    for k, centre in ((1, (15, 14)), (2, (15, 35))):
        error = measure_angles(vectors[instances == k], (centre - away)[instances == k])
        assert error.mean() < 3
        assert error.max() < 15


def test_vectors_by_hand():
    """Down: 6 - 2. Right: 0 - 3, as the right neighbour is in another object."""
    heat = np.array([[1, 2, 5], [3, 9, 4], [7, 6, 8]], np.float32)
    ids = np.array([[1, 1, 2], [1, 1, 2], [1, 1, 1]])
    vectors = compute_vectors(np.log(heat), ids, 2)
    np.testing.assert_allclose(vectors[1, 1], [4 / 5, -3 / 5], rtol=1e-5)
    # At the border twice the difference to the one neighbour: 2 (7 - 3), 9 - 0.
    np.testing.assert_allclose(
        vectors[1, 0], np.array([7 - 1, 2 * (9 - 3)]) / math.hypot(6, 12), rtol=1e-5
    )
    # Below is the border, above another object: no difference to extrapolate.
    np.testing.assert_allclose(vectors[2, 2], [0, 1], rtol=1e-5)


@pytest.mark.parametrize(("slope", "length"), [(1e-3, 1), (1e-6, 0.02)])
def test_vectors_of_a_flat_potential_are_not_rounding_errors(slope, length):
    potential = slope * np.arange(5, dtype=np.float32)[None]
    vectors = compute_vectors(potential, np.ones((1, 5), np.int32), 2)
    np.testing.assert_allclose(vectors[0, :, 1], length, rtol=0.1)


def test_vectors_are_finite_at_a_steep_potential():
    potential = np.array([[0, 300, 600, 900, 0]], np.float32)
    vectors = compute_vectors(potential, np.ones((1, 5), np.int32), 2)
    np.testing.assert_allclose(vectors[0, :3, 1], 1, rtol=1e-5)


def test_device_and_host_compute_the_same_vectors():
    instances = cells(shape=(32, 40), train=1).train.load(0)["instances"]
    potential = compute_potential(instances)
    on_host = compute_vectors(potential, instances, 2)
    on_device = jax.jit(compute_vectors, static_argnums=2)(
        jnp.asarray(potential)[None], jnp.asarray(instances)[None], 2
    )
    np.testing.assert_allclose(on_device[0], on_host, atol=1e-4)


# Targets after augmentation.


def compute_targets(example, axes):
    batch = {k: jnp.asarray(v)[None] for k, v in example.items()}
    targets = jax.jit(make_task(axes).targets)(batch)
    return {kind: np.asarray(value[0]) for kind, value in targets.items()}


def augment_with_seeds(operation, example, seeds):
    """Returns the example augmented with each seed."""
    keys = jnp.stack([jax.random.key(seed) for seed in range(seeds)])
    run = jax.jit(jax.vmap(augment.compose([(1.0, operation)]), in_axes=(0, None)))
    done = run(keys, {k: jnp.asarray(v) for k, v in example.items()})
    return [{k: np.asarray(v[i]) for k, v in done.items()} for i in range(seeds)]


def make_example(shape=(40, 40), grow=2, margin=0):
    instances = cells(shape=shape, train=1, diameter=14).train.load(0)["instances"]
    instances = np.pad(expand_labels(instances, grow), margin).astype(np.int32)
    image = np.zeros((*instances.shape, 1), np.float32)
    return make_task(len(shape)).prepare({"image": image, "instances": instances})


@pytest.mark.parametrize("shape", [(24, 30), (9, 14, 14)])
def test_vectors_rotate_with_the_view(shape):
    axes = len(shape)
    data = make_example(shape)
    value = compute_targets(data, axes)["value"]
    run = jax.jit(make_task(axes).targets)
    for view in {*views.d4(axes), *views.flips(axes)}:
        viewed = {
            k: views.apply_view(jnp.asarray(data[k])[None, ..., None], view)[..., 0]
            for k in ("instances", "potential", "label")
        }
        back = views.invert_view(run(viewed)["value"], view, vectors=axes)
        np.testing.assert_allclose(back[0], value, atol=1e-4)


@pytest.mark.parametrize("operation", [augment.flip, augment.turn])
def test_flips_and_turns_give_the_vectors_of_the_transformed_object(operation):
    """The object is a lens with a unique median pixel, so the centre moves with it."""
    balls = (draw_ball((33, 33), centre, 9) for centre in ((16, 10), (12, 14)))
    instances = np.logical_and(*balls).astype("i4")
    image = np.zeros((33, 33, 1), np.float32)
    data = make_task().prepare({"image": image, "instances": instances})
    moved = 0
    for done in augment_with_seeds(operation, data, 6):
        moved += not np.array_equal(done["instances"], instances)
        expected = 5 * compute_exact_vectors(done["instances"])
        value = compute_targets(done, 2)["value"]
        np.testing.assert_allclose(value, expected, atol=2e-3)
    assert moved


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "operation"),
    [
        ((64, 64), augment.rotation),
        ((20, 24, 24), augment.rotation),
        ((64, 64), augment.scale),
        ((64, 64), augment.elastic),
    ],
)
def test_smooth_operations_give_nearly_the_vectors_of_the_transformed_objects(
    shape, operation
):
    if operation is augment.elastic:
        operation = lambda key, example: augment.elastic(key, example, sigma=4.0)  # noqa: E731
    data = make_example(shape, margin=12)
    errors = []
    for done in augment_with_seeds(operation, data, 3):
        value = compute_targets(done, len(shape))["value"]
        errors.append(measure_angles(value, compute_exact_vectors(done["instances"])))
    errors = np.concatenate(errors)
    assert errors.mean() < 9.5
    assert np.quantile(errors, 0.9) < 20


# Targets, outputs and predictions.


@pytest.mark.slow
def test_targets_and_outputs_fit_together():
    data = make_example()
    batch = {k: jnp.asarray(v)[None] for k, v in data.items()}
    task, output = make_task(), jnp.ones((1, 40, 40, 3))
    targets, outputs = task.targets(batch), task.outputs(output)
    assert targets["label"].shape == outputs["label"].shape == (1, 40, 40, 1)
    assert targets["value"].shape == outputs["value"].shape == (1, 40, 40, 2)
    assert targets["label"].dtype == jnp.int32
    assert targets["value"].dtype == jnp.float32
    length = np.linalg.norm(targets["value"], axis=-1)
    assert np.median(length[data["instances"][None] > 0]) == pytest.approx(5, rel=1e-5)
    np.testing.assert_array_equal(length[data["instances"][None] == 0], 0)
    weight = jnp.ones((1, 40, 40))
    for loss in (losses.cross_entropy, losses.dice):
        good = loss(20.0 * targets["label"] - 10, targets["label"], weight)
        bad = loss(10 - 20.0 * targets["label"], targets["label"], weight)
        assert 0 <= good[0] < 0.01 < bad[0]


def test_outputs_are_five_times_the_prediction():
    output = jnp.array([5.0, -2.5, 0.0])
    assert make_task().outputs(output)["value"].tolist() == [5, -2.5]
    assert make_task().activate(output).tolist() == [1, -0.5, 0.5]


def test_ignored_pixels():
    instances = np.array([[0, 300, 300, -1, 0]])
    image = np.zeros((1, 5, 1), np.float32)
    label = np.array([[-1, 2, 2, 0, 0]])
    bare = make_task().prepare({"image": image, "instances": instances})
    assert set(bare) == {"image", "instances", "label", "potential"}
    assert bare["label"].tolist() == [[0, 1, 1, IGNORE, 0]]
    assert bare["label"].dtype == np.int32
    record = {"image": image, "instances": instances}
    full = make_task().prepare({**record, "label": label})
    assert full["label"].tolist() == [[IGNORE, 1, 1, IGNORE, 0]]
    channels = np.stack([label, label], axis=-1)
    both = make_task().prepare({**record, "label": channels})
    np.testing.assert_array_equal(both["label"], full["label"])
    targets = compute_targets(full, 2)
    assert targets["label"][0, :, 0].tolist() == [IGNORE, 1, 1, IGNORE, 0]


def test_decision_probabilities_and_entropy_of_a_pixel():
    task = make_task()
    assert task.decide(np.array([[1, 1, 0.4], [0, 0, 0.6]])).tolist() == [0, 1]
    prediction = np.array([3.0, 4.0, 0.25])
    for array in (prediction, jnp.asarray(prediction)):
        assert task.probabilities(array).tolist() == [0.75, 0.25]
        nats = -0.25 * math.log(0.25) - 0.75 * math.log(0.75)
        entropy = task.entropy(task.probabilities(array))
        assert float(entropy) == pytest.approx(nats, rel=1e-5)
        assert type(task.probabilities(array)) is type(task.decide(array) * array)
    assert task.decide(prediction[None]).dtype == np.uint8
    assert task.decide(jnp.asarray(prediction)).dtype == jnp.uint8


@pytest.mark.parametrize("axes", [2, 3])
def test_channels_and_classes(axes):
    task = make_task(axes)
    assert task.channels == axes + 1
    assert task.vectors == axes
    assert task.classes == CLASSES
    data = TaskData(("sky", "a", "b"), axes, 1)
    assert flow(data).classes == ("background", "object")


# Objects.


@pytest.mark.parametrize("grow", [0, 3])
@pytest.mark.parametrize("shape", [(128, 128), (24, 40, 40)])
def test_exact_vectors_give_the_objects_back(shape, grow):
    instances = cells(shape=shape, train=1).train.load(0)["instances"]
    instances = expand_labels(instances, grow).astype(np.int64) * 5001
    found = segment(predict_exactly(instances), len(shape), pixels=1)
    assert found.objects.dtype == found.label.dtype == np.int32
    np.testing.assert_array_equal(found.label, found.objects > 0)
    assert match_objects(found.objects, instances) > 0.999
    np.testing.assert_array_equal(found.objects > 0, instances > 0)


@pytest.mark.parametrize("width", [3, 7])
def test_a_long_thin_snake_is_one_object(width):
    instances = draw_snake((90, 190), width)
    instances = np.concatenate([instances, 2 * instances[::-1]])
    found = segment(predict_exactly(instances), steps=400)
    assert found.objects.max() == 2
    assert match_objects(found.objects, instances) == 1


def test_noise_does_not_split_objects():
    instances = cells(shape=(128, 128), train=1).train.load(0)["instances"]
    noise = np.random.default_rng(0).normal(0, 0.3, (128, 128, 3))
    noise = ndimage.gaussian_filter(noise, (1, 1, 0)) * 3.5 * [1, 1, 0]
    found = segment((predict_exactly(instances) + noise).astype(np.float32))
    assert match_objects(found.objects, instances) > 0.98


def test_an_empty_prediction_has_no_objects():
    for shape in ((12, 10), (4, 5, 6)):
        found = segment(np.zeros((*shape, len(shape) + 1), np.float32), len(shape))
        assert found.objects.shape == found.label.shape == shape
        assert not found.objects.any()
        assert not found.label.any()
        assert found.objects.dtype == found.label.dtype == np.int32


def test_an_object_with_wrong_vectors_is_removed():
    instances = np.zeros((30, 60), np.int32)
    instances[draw_ball((30, 60), (15, 14), 10)] = 1
    instances[draw_ball((30, 60), (15, 44), 10)] = 2
    prediction = predict_exactly(instances)
    prediction[instances == 1, :2] = [0, 0.9]  # parallel vectors
    found = segment(prediction)
    assert (found.objects > 0)[instances == 2].all()
    assert not found.objects[instances != 2].any()
    np.testing.assert_array_equal(found.label, found.objects > 0)
    kept = segment(prediction, flow_threshold=0.0)
    assert (kept.objects > 0)[instances == 2].all()
    assert kept.objects.max() > 1


@pytest.mark.parametrize(("error", "kept"), [(0.39, True), (0.41, False)])
def test_flow_threshold(error, kept):
    """Vectors of length 1 - e instead of 1 have the squared distance e^2."""
    instances = draw_ball((41, 41), (20, 20), 18).astype(np.int32)
    prediction = predict_exactly(instances)
    prediction[..., :2] *= 1 - math.sqrt(error)
    assert segment(prediction).label.any() == kept
    threshold = 0.38 if kept else 0.42
    assert segment(prediction, flow_threshold=threshold).label.any() != kept


def test_steps():
    """The ends of a line are 180 or 220 pixels from its centre; the default is 200."""
    for half, options, whole in (
        (180, {}, True),
        (220, {}, False),
        (220, {"steps": 240}, True),
    ):
        instances = np.zeros((3, 2 * half + 21), np.int32)
        instances[1, 10:-10] = 1
        found = segment(
            predict_exactly(instances), flow_threshold=0.0, pixels=1, **options
        )
        assert (found.objects.max() == 1) == whole


def test_probability():
    instances = draw_ball((21, 21), (10, 10), 8).astype(np.int32)
    prediction = predict_exactly(instances)
    for p, options, there in (
        (0.49, {}, False),
        (0.51, {}, True),
        (0.69, {"probability": 0.7}, False),
        (0.71, {"probability": 0.7}, True),
    ):
        prediction[instances > 0, 2] = p
        assert segment(prediction, **options).label.any() == there
        assert make_task(**options).decide(prediction).any() == there


def test_pixels():
    instances = np.zeros((12, 40), np.int32)
    instances[2:4, 2:9] = 1  # 14 pixels
    instances[2:5, 12:17] = 2  # 15
    instances[9, 30] = 3
    found = segment(predict_exactly(instances))
    np.testing.assert_array_equal(found.label, instances == 2)
    found = segment(predict_exactly(instances), pixels=14)
    np.testing.assert_array_equal(found.label, (instances > 0) & (instances < 3))
    found = segment(predict_exactly(instances), pixels=1)
    assert match_objects(found.objects, instances) == 1


def test_follow_vectors_by_hand():
    """Half a pixel to the right per step, for 3 pixels of a row of 6."""
    vectors = np.zeros((2, 6, 2), np.float32)
    vectors[..., 1] = 0.5
    inside = np.zeros((2, 6), bool)
    inside[1, :3] = True
    ends = follow_vectors(vectors, inside, 2)
    assert ends.dtype == np.float32
    # From 1: 1.5, 2. From 2: 2.5, and then a step of 0.25, interpolated at the edge.
    np.testing.assert_allclose(ends, [[1, 1, 1], [1, 2, 2.75]])
    inside[:] = True
    ends = follow_vectors(vectors, inside, 30)
    np.testing.assert_allclose(ends[1], 5)  # not beyond the image
    np.testing.assert_allclose(ends[0], np.repeat([0, 1], 6))


def test_group_end_points_by_hand():
    """Three ends at one position are a core; cores 2 pixels apart are one object."""
    core = [0, 0, 0, 2, 2.4, 1.6, 5, 5, 5]
    beside = [6, 6]  # adjacent to the core at 5
    alone = [10, 11, 13, 13, 15, 15]
    places = np.array([core + beside + alone, [0] * 17], np.float32)
    found = group_end_points(places, (20, 1))
    assert found.dtype == np.int32
    assert found.tolist() == [1] * 6 + [2] * 5 + [3, 3, 4, 4, 5, 5]
