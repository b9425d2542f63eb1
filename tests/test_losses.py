import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from unet_jax import losses
from unet_jax.errors import UserError

EXCLUSIVE = {name: getattr(losses, name) for name in losses.__all__} | {
    "steep focal": functools.partial(losses.focal, gamma=0.5),
    "bare dice": functools.partial(losses.dice, smooth=0.0),
    "foreground dice": functools.partial(losses.dice, background=False),
    "uneven tversky": functools.partial(losses.tversky, alpha=0.3, beta=0.7),
    "focal tversky": functools.partial(losses.tversky, gamma=0.75),
}
INDEPENDENT = {k: v for k, v in EXCLUSIVE.items() if k != "foreground dice"}
CASES = [
    pytest.param(loss, independent, id=f"{name}, {kind}")
    for kind, independent, cases in (
        ("exclusive", False, EXCLUSIVE),
        ("independent", True, INDEPENDENT),
    )
    for name, loss in cases.items()
]
each_loss = pytest.mark.parametrize(("loss", "independent"), CASES)


def draw(independent, shape=(2, 4, 6), classes=3, seed=0):
    """Random logits, label and weight; the label has no ignored pixel."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(*shape, classes)).astype(np.float32)
    if independent:
        label = rng.integers(0, 2, (*shape, classes))
    else:
        label = rng.integers(0, classes, shape)
    weight = rng.uniform(0.5, 2, shape).astype(np.float32)
    return jnp.asarray(logits), jnp.asarray(label, jnp.int32), jnp.asarray(weight)


@functools.partial(jax.jit, static_argnums=0)  # one compilation for most tests
def value_and_grad(loss, logits, label, weight):
    """The losses `[B]` and the gradient of their sum."""
    value, pull = jax.vjp(lambda x: loss(x, label, weight), logits)
    return value, pull(jnp.ones_like(value))[0]


# What holds for every loss.


@each_loss
def test_only_the_pixels_that_count_matter_and_not_their_layout(loss, independent):
    """Row 1 has weight 0 and row 2 is ignored; their logits are anything at all. The
    same loss and gradient come from the other two rows, laid out as a volume."""
    plane = draw(independent)
    volume = [x[:, ::3].reshape(2, 2, 2, 3, *x.shape[3:]) for x in plane]
    expected, gradient = value_and_grad(loss, *volume)

    logits, label, weight = plane
    anything = np.array([[0], [1e4], [-1e4], [3e38], [np.inf], [np.nan]])
    value, grad = value_and_grad(
        loss,
        logits.at[:, 1:3].set(anything * [1, -1, 1]),
        label.at[:, 2].set(-1),
        weight.at[:, 1].set(0),
    )
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_array_equal(grad[:, 1:3], 0)
    gradient = gradient.reshape(2, 2, 6, 3)
    np.testing.assert_allclose(grad[:, ::3], gradient, rtol=1e-4, atol=1e-7)
    assert np.abs(gradient).max() > 1e-4


@each_loss
def test_an_example_without_weight_costs_nothing(loss, independent):
    logits, label, weight = draw(independent)
    value, grad = value_and_grad(loss, 1e4 * logits, label, weight.at[0].set(0))
    assert value.shape == (2,)
    assert value[0] == 0
    assert value[1] > 0
    np.testing.assert_array_equal(grad[0], 0)
    assert np.isfinite(grad).all()


@each_loss
def test_the_right_answer_costs_nothing_and_the_wrong_one_does(loss, independent):
    _, label, weight = draw(independent)
    truth = label if independent else jax.nn.one_hot(label, 3)
    sure = 100.0 * (2 * truth - 1)
    value, grad = value_and_grad(loss, sure, label, weight)
    np.testing.assert_allclose(value, 0, atol=1e-6)
    np.testing.assert_allclose(grad, 0, atol=1e-6)
    assert (value_and_grad(loss, -sure, label, weight)[0] > 0.5).all()


@each_loss
def test_a_step_down_the_gradient_lowers_the_loss(loss, independent):
    logits, label, weight = draw(independent)
    before, grad = value_and_grad(loss, logits, label, weight)
    after, _ = value_and_grad(loss, logits - 0.1 * grad, label, weight)
    assert (after < before).all()


@each_loss
def test_shapes_that_do_not_belong_together_are_refused(loss, independent):
    logits, label, weight = draw(independent)
    with pytest.raises(AssertionError):
        loss(logits, label[:, 1:], weight)


# Cross-entropy and focal loss.


def test_cross_entropy_by_hand():
    """Two pixels: p(truth) = 3/4 with weight 1, p(truth) = 1/5 with weight 3."""
    logits = jnp.log(jnp.array([[[[1.0, 3.0], [1.0, 4.0]]]]))
    label, weight = jnp.array([[[1, 0]]]), jnp.array([[[1.0, 3.0]]])
    right, wrong = -np.log(3 / 4), -np.log(1 / 5)
    np.testing.assert_allclose(
        losses.cross_entropy(logits, label, weight), [(right + 3 * wrong) / 4], 1e-6
    )
    np.testing.assert_allclose(
        losses.cross_entropy(logits, label, weight, class_weights=(2.0, 0.5)),
        [(0.5 * right + 2 * 3 * wrong) / 4],
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        losses.focal(logits, label, weight, gamma=2.0),
        [((1 / 4) ** 2 * right + 3 * (4 / 5) ** 2 * wrong) / 4],
        rtol=1e-5,
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_against_optax(smoothing):
    logits, label, weight = draw(independent=False)
    truth = optax.losses.smooth_labels(jax.nn.one_hot(label, 3), smoothing)
    cost = optax.losses.softmax_cross_entropy(logits, truth)
    np.testing.assert_allclose(
        losses.cross_entropy(logits, label, weight, label_smoothing=smoothing),
        np.average(cost, (1, 2), weight),
        rtol=1e-5,
    )
    logits, label, weight = draw(independent=True)
    yes_no = optax.losses.smooth_labels(jax.nn.one_hot(label, 2), smoothing)
    cost = optax.losses.sigmoid_binary_cross_entropy(logits, yes_no[..., 1])
    np.testing.assert_allclose(
        losses.cross_entropy(logits, label, weight, label_smoothing=smoothing),
        np.average(cost.mean(-1), (1, 2), weight),
        rtol=1e-5,
    )


def test_an_independent_answer_may_be_missing():
    """The mean runs over the answers that are there, here 3 of 4."""
    logits, label, _ = draw(independent=True, shape=(1, 1, 2), classes=2)
    cost = optax.losses.sigmoid_binary_cross_entropy(logits, label)
    np.testing.assert_allclose(
        losses.cross_entropy(logits, label.at[0, 0, 0, 0].set(-1), jnp.ones((1, 1, 2))),
        [cost.ravel()[1:].mean()],
        rtol=1e-6,
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_against_optax(gamma):
    logits, label, weight = draw(independent=True)
    cost = optax.losses.sigmoid_focal_loss(logits, label, gamma=gamma)
    np.testing.assert_allclose(
        losses.focal(logits, label, weight, gamma=gamma),
        np.average(cost.mean(-1), (1, 2), weight),
        rtol=1e-5,
    )


def test_a_softmax_of_two_is_a_sigmoid_of_the_difference():
    logits, label, weight = draw(independent=False, classes=2)
    difference = logits[..., 1:] - logits[..., :1]
    for loss in (losses.cross_entropy, losses.focal):
        np.testing.assert_allclose(
            loss(logits, label, weight),
            loss(difference, label[..., None], weight),
            rtol=1e-5,
        )


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.focal])
def test_class_weights_of_the_wrong_length_name_both_lengths(loss):
    with pytest.raises(UserError, match=r"length 2 .* 3 classes"):
        jax.jit(functools.partial(loss, class_weights=(1.0, 2.0)))(*draw(False))


# Dice and Tversky.


def test_dice_and_tversky_by_hand():
    """Two pixels of class 1 and 0, of weight 1 and 2; p of class 1 is 3/4 and 1/5."""
    logits = jnp.log(jnp.array([[[[1.0, 3.0], [4.0, 1.0]]]]))
    label, weight = jnp.array([[[1, 0]]]), jnp.array([[[1.0, 2.0]]])
    first = 1 - (2 * 2 * 4 / 5 + 1) / ((1 / 4 + 2 * 4 / 5) + 2 + 1)
    second = 1 - (2 * 3 / 4 + 1) / ((3 / 4 + 2 / 5) + 1 + 1)
    one = functools.partial(losses.dice, logits, label, weight)
    np.testing.assert_allclose(one(), [(first + second) / 2], rtol=1e-5)
    np.testing.assert_allclose(one(background=False), [second], rtol=1e-5)

    # Class 1 has TP = 3/4, FP = 2 * 1/5 and FN = 1/4.
    index = (3 / 4 + 1) / (3 / 4 + 0.3 * 2 / 5 + 0.7 * 1 / 4 + 1)
    value = losses.tversky(
        logits, label, weight, alpha=0.3, beta=0.7, gamma=0.75, background=False
    )
    np.testing.assert_allclose(value, [(1 - index) ** 0.75], rtol=1e-5)


def test_tversky_against_optax():
    logits, label, _ = draw(independent=False)
    np.testing.assert_allclose(
        losses.tversky(
            logits, label, jnp.ones(label.shape), alpha=0.3, beta=0.7, smooth=2.0
        ),
        optax.losses.dice_loss(
            logits, jax.nn.one_hot(label, 3), alpha=0.3, beta=0.7, smooth=2.0
        ),
        rtol=1e-5,
    )


@pytest.mark.parametrize("independent", [False, True])
def test_dice_is_an_even_tversky(independent):
    batch = draw(independent)
    np.testing.assert_allclose(
        losses.dice(*batch, smooth=3.0),
        losses.tversky(*batch, alpha=0.5, beta=0.5, smooth=1.5),
        rtol=1e-6,
    )


@pytest.mark.parametrize("loss", [losses.dice, losses.tversky])
def test_independent_classes_have_no_background(loss):
    with pytest.raises(UserError, match="background=False needs exclusive classes"):
        loss(*draw(independent=True), background=False)


# Lovász.


def jaccard_extension(errors, truth):
    """Berman et al. 2018, definition 2, with sets: sum of m_i (J(i) - J(i - 1))."""
    truth_set = set(np.flatnonzero(truth))

    def jaccard(wrong):
        union = truth_set | wrong
        return 1 - len(truth_set - wrong) / len(union) if union else 0.0

    total, wrong = 0.0, set()
    for pixel in np.argsort(-errors):
        total += errors[pixel] * (jaccard(wrong | {pixel}) - jaccard(wrong))
        wrong = wrong | {pixel}
    return total


@pytest.mark.parametrize("classes", ["present", "all"])
def test_lovasz_softmax_by_its_definition(classes):
    logits, label, weight = draw(independent=False, classes=4)
    label = jnp.where(label == 3, 2, label).at[0, :2].set(-1)  # nothing is class 3
    p = np.asarray(jax.nn.softmax(logits), np.float64)
    expected = []
    for example in range(2):
        there = np.asarray(label[example]) >= 0
        expected.append(
            np.mean(
                [
                    jaccard_extension(np.abs(g - p[example, there, k]), g)
                    for k in range(3 if classes == "present" else 4)
                    for g in [np.asarray(label[example])[there] == k]
                ]
            )
        )
    value = losses.lovasz(logits, label, weight, classes=classes)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_lovasz_hinge_by_its_definition():
    logits, label, weight = draw(independent=True)
    label = label.at[1, ..., 2].set(0)  # an absent class still counts
    x, g = np.asarray(logits, np.float64), np.asarray(label)
    errors = np.maximum(0, 1 - x * (2 * g - 1)).reshape(2, -1, 3)
    expected = [
        np.mean([jaccard_extension(e[:, k], t[:, k]) for k in range(3)])
        for e, t in zip(errors, g.reshape(2, -1, 3), strict=True)
    ]
    np.testing.assert_allclose(
        losses.lovasz(logits, label, weight), expected, rtol=1e-5
    )


def test_lovasz_of_a_sure_prediction_is_one_minus_iou():
    _, label, weight = draw(independent=False)
    prediction = np.asarray(draw(independent=False, seed=1)[1])
    truth = np.asarray(label)
    iou = [
        np.mean(
            [
                ((p == k) & (t == k)).sum() / ((p == k) | (t == k)).sum()
                for k in range(3)
            ]
        )
        for p, t in zip(prediction, truth, strict=True)
    ]
    value = losses.lovasz(1e3 * jax.nn.one_hot(prediction, 3), label, weight)
    np.testing.assert_allclose(value, 1 - np.array(iou), rtol=1e-5)


def test_lovasz_gradient_of_a_large_image():
    """A pixel counts by the rise of the Jaccard loss, here in float64; it is about
    1e-5, and differences of float32 Jaccard losses would miss it by a percent."""
    rng = np.random.default_rng(0)
    truth = rng.random((1, 256, 256, 1)) < 0.3
    logits = rng.permutation(truth.size).reshape(truth.shape) / truth.size
    grad = jax.grad(
        lambda x: losses.lovasz(
            x, jnp.asarray(truth, jnp.int32), jnp.ones((1, 256, 256))
        ).sum()
    )(jnp.asarray(logits, jnp.float32))

    sign = np.where(truth, 1, -1).ravel()
    order = np.argsort(sign * logits.ravel())
    hit = truth.ravel()[order]
    jaccard = 1 - (hit.sum() - hit.cumsum()) / (hit.sum() + (~hit).cumsum())
    rise = np.empty(hit.size)
    rise[order] = np.diff(jaccard, prepend=0)
    np.testing.assert_allclose(grad.ravel(), -sign * rise, rtol=1e-5, atol=1e-11)


# The sum of several.


def test_weighted_sum_adds_up_and_skips_what_counts_nothing():
    def never(logits, label, weight):
        raise RuntimeError("computed")

    batch = draw(independent=False)
    total = losses.weighted_sum(
        [(0.25, losses.cross_entropy), (0.0, never), (2.0, losses.dice)]
    )
    np.testing.assert_allclose(
        total(*batch),
        0.25 * losses.cross_entropy(*batch) + 2 * losses.dice(*batch),
        rtol=1e-6,
    )
    with pytest.raises(UserError, match="scale"):
        losses.weighted_sum([(0.0, never)])


def test_the_public_names_are_all_tested_here():
    tested = {getattr(f, "func", f).__name__ for f in EXCLUSIVE.values()}
    assert tested == set(losses.__all__)
