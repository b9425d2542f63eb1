import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from unet_jax import losses
from unet_jax.errors import UserError

PUBLIC = {name: getattr(losses, name) for name in losses.__all__}
VALUE = {name: f for name, f in PUBLIC.items() if losses.get_kind(f) == "value"}
EXCLUSIVE = {name: f for name, f in PUBLIC.items() if name not in VALUE} | {
    "focal, small gamma": functools.partial(losses.focal, gamma=0.5),
    "dice, not smoothed": functools.partial(losses.dice, smooth=0.0),
    "dice, foreground only": functools.partial(losses.dice, background=False),
    "dice, of the batch": functools.partial(losses.dice, batch=True),
    "tversky, unequal": functools.partial(losses.tversky, alpha=0.3, beta=0.7),
    "focal tversky": functools.partial(losses.tversky, gamma=0.75),
}
INDEPENDENT = {k: v for k, v in EXCLUSIVE.items() if k != "dice, foreground only"}
CASES = [
    pytest.param(loss, target, id=f"{name}, {target}")
    for target, cases in (
        ("exclusive", EXCLUSIVE),
        ("independent", INDEPENDENT),
        ("value", VALUE),
    )
    for name, loss in cases.items()
]
each_loss = pytest.mark.parametrize(("loss", "target"), CASES)


def draw(target, shape=(2, 4, 6), classes=3, seed=0):
    """Returns a random output, target and weight; no label is ignored."""
    rng = np.random.default_rng(seed)
    output = rng.normal(size=(*shape, classes)).astype(np.float32)
    if target == "independent":
        truth = rng.integers(0, 2, (*shape, classes))
    elif target == "exclusive":
        truth = rng.integers(0, classes, shape)
    else:
        truth = rng.normal(size=output.shape)
    weight = rng.uniform(0.5, 2, shape).astype(np.float32)
    truth = jnp.asarray(truth, jnp.float32 if target == "value" else jnp.int32)
    return jnp.asarray(output), truth, jnp.asarray(weight)


@functools.partial(jax.jit, static_argnums=0)  # one compilation for most tests
def value_and_grad(loss, output, truth, weight):
    """Returns the losses `[B]` and the gradient of their sum."""
    value, pull = jax.vjp(lambda x: loss(x, truth, weight), output)
    return value, pull(jnp.ones_like(value))[0]


# Invariants of every loss.


@each_loss
def test_ignored_pixels_and_the_number_of_axes_make_no_difference(loss, target):
    """Row 1 has weight 0. Row 2 is ignored, or has weight 0 where nothing is ignored.

    The outputs of both are arbitrary. The same loss and gradient follow from the other
    two rows, reshaped to a volume.
    """
    plane = draw(target)
    volume = [x[:, ::3].reshape(2, 2, 2, 3, *x.shape[3:]) for x in plane]
    expected, gradient = value_and_grad(loss, *volume)

    output, truth, weight = plane
    arbitrary = np.array([[0], [1e4], [-1e4], [3e38], [np.inf], [np.nan]])
    if target == "value":
        truth, weight = truth.at[:, 2].set(np.nan), weight.at[:, 2].set(0)
    else:
        truth = truth.at[:, 2].set(-1)
    value, grad = value_and_grad(
        loss,
        output.at[:, 1:3].set(arbitrary * [1, -1, 1]),
        truth,
        weight.at[:, 1].set(0),
    )
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_array_equal(grad[:, 1:3], 0)
    gradient = gradient.reshape(2, 2, 6, 3)
    np.testing.assert_allclose(grad[:, ::3], gradient, rtol=1e-4, atol=1e-7)
    assert np.abs(gradient).max() > 1e-4


@each_loss
def test_an_example_without_weight_has_loss_zero(loss, target):
    output, truth, weight = draw(target)
    value, grad = value_and_grad(loss, 1e4 * output, truth, weight.at[0].set(0))
    assert value.shape == (2,)
    assert value[0] == 0
    assert value[1] > 0
    np.testing.assert_array_equal(grad[0], 0)
    assert np.isfinite(grad).all()


@each_loss
def test_a_right_output_has_the_least_loss_and_a_wrong_one_a_high_loss(loss, target):
    """The least value is 0, and for `charbonnier` its epsilon, 0.001."""
    _, truth, weight = draw(target)
    if target == "value":
        right, wrong = truth, truth + 1
    else:
        truths = truth if target == "independent" else jax.nn.one_hot(truth, 3)
        right = 100.0 * (2 * truths - 1)
        wrong = -right
    least = 1e-3 if loss is losses.charbonnier else 0
    value, grad = value_and_grad(loss, right, truth, weight)
    np.testing.assert_allclose(value, least, atol=1e-6)
    np.testing.assert_allclose(grad, 0, atol=1e-6)
    assert (value_and_grad(loss, wrong, truth, weight)[0] > 0.5).all()


@each_loss
def test_a_step_down_the_gradient_lowers_the_loss(loss, target):
    output, truth, weight = draw(target)
    before, grad = value_and_grad(loss, output, truth, weight)
    after, _ = value_and_grad(loss, output - 0.1 * grad, truth, weight)
    assert (after < before).all()


@each_loss
def test_shapes_that_do_not_fit_raise_an_assertion_error(loss, target):
    output, truth, weight = draw(target)
    for wrong in (
        (output, truth[:, 1:], weight),
        (output, truth, weight[:, 1:]),
        (output[:, 1:], truth, weight),
        (output[..., :1], truth, weight),
    ):
        if target == "exclusive" and wrong[0].shape[-1] == 1:
            continue  # class ids do not determine the number of classes
        with pytest.raises(AssertionError):
            loss(*wrong)


# Cross-entropy and focal loss.


def test_cross_entropy_by_hand():
    """Two pixels: p(truth) = 3/4 with weight 1, p(truth) = 1/5 with weight 3."""
    logits = jnp.log(jnp.array([[[[1.0, 3.0], [1.0, 4.0]]]]))
    label, weight = jnp.array([[[1, 0]]]), jnp.array([[[1.0, 3.0]]])
    right, wrong = -np.log(3 / 4), -np.log(1 / 5)
    np.testing.assert_allclose(
        losses.cross_entropy(logits, label, weight), [(right + 3 * wrong) / 4], 1e-5
    )
    np.testing.assert_allclose(
        losses.cross_entropy(logits, label, weight, class_weights=(2.0, 0.5)),
        [(0.5 * right + 2 * 3 * wrong) / 4],
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        losses.focal(logits, label, weight, gamma=2.0),
        [((1 / 4) ** 2 * right + 3 * (4 / 5) ** 2 * wrong) / 4],
        rtol=1e-5,
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_against_optax(smoothing):
    logits, label, weight = draw("exclusive")
    truth = optax.losses.smooth_labels(jax.nn.one_hot(label, 3), smoothing)
    cost = optax.losses.softmax_cross_entropy(logits, truth)
    np.testing.assert_allclose(
        losses.cross_entropy(logits, label, weight, label_smoothing=smoothing),
        np.average(cost, (1, 2), weight),
        rtol=1e-5,
    )
    logits, label, weight = draw("independent")
    yes_no = optax.losses.smooth_labels(jax.nn.one_hot(label, 2), smoothing)
    cost = optax.losses.sigmoid_binary_cross_entropy(logits, yes_no[..., 1])
    np.testing.assert_allclose(
        losses.cross_entropy(logits, label, weight, label_smoothing=smoothing),
        np.average(cost.mean(-1), (1, 2), weight),
        rtol=1e-5,
    )


def test_an_independent_class_can_be_ignored_at_a_pixel():
    """The mean is over the other answers, here 3 of 4."""
    logits, label, _ = draw("independent", shape=(1, 1, 2), classes=2)
    cost = optax.losses.sigmoid_binary_cross_entropy(logits, label)
    np.testing.assert_allclose(
        losses.cross_entropy(logits, label.at[0, 0, 0, 0].set(-1), jnp.ones((1, 1, 2))),
        [cost.ravel()[1:].mean()],
        rtol=1e-5,
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_against_optax(gamma):
    logits, label, weight = draw("independent")
    cost = optax.losses.sigmoid_focal_loss(logits, label, gamma=gamma)
    np.testing.assert_allclose(
        losses.focal(logits, label, weight, gamma=gamma),
        np.average(cost.mean(-1), (1, 2), weight),
        rtol=1e-5,
    )


def test_a_softmax_of_two_classes_is_a_sigmoid_of_the_difference():
    logits, label, weight = draw("exclusive", classes=2)
    difference = logits[..., 1:] - logits[..., :1]
    for loss in (losses.cross_entropy, losses.focal):
        np.testing.assert_allclose(
            loss(logits, label, weight),
            loss(difference, label[..., None], weight),
            rtol=1e-5,
        )


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.focal])
def test_class_weights_of_the_wrong_length_raise_a_user_error(loss):
    with pytest.raises(UserError, match=r"length 2 .* 3 classes"):
        jax.jit(functools.partial(loss, class_weights=(1.0, 2.0)))(*draw("exclusive"))


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


def test_batch_dice_is_the_dice_of_the_joined_examples():
    """The third example has no weight: it changes nothing, and its own loss is 0."""
    logits, label, weight = draw("exclusive", (3, 4, 6))
    weight = weight.at[2].set(0)
    options = {"smooth": 1e-5, "background": False}
    joined = [x[:2].reshape(1, 8, 6, *x.shape[3:]) for x in (logits, label, weight)]
    expected = losses.dice(*joined, **options)[0]
    value = losses.dice(logits, label, weight, batch=True, **options)
    np.testing.assert_allclose(value, [expected, expected, 0], rtol=1e-5)


def test_batch_dice_of_nnunet_by_hand():
    """Its formula, `1 - (2 I + s) / (G + P + s)`: a class that one image lacks."""
    p = np.array([[0.75, 0.5], [0.25, 0.5]])  # of class 1, two images of two pixels
    g = np.array([[1, 1], [0, 0]])
    logits = jnp.log(jnp.stack([1 - p, p], -1))[:, None]
    given = logits, jnp.asarray(g)[:, None], jnp.ones((2, 1, 2))
    options = {"smooth": 1e-5, "background": False}
    batch = 1 - (2 * 1.25 + 1e-5) / (2 + 2 + 1e-5)
    value = losses.dice(*given, batch=True, **options)
    np.testing.assert_allclose(value, [batch, batch], rtol=1e-5)
    each = [1 - (2 * 1.25 + 1e-5) / (2 + 1.25 + 1e-5), 1 - 1e-5 / (0.75 + 1e-5)]
    np.testing.assert_allclose(losses.dice(*given, **options), each, rtol=1e-5)


def test_tversky_against_optax():
    logits, label, _ = draw("exclusive")
    np.testing.assert_allclose(
        losses.tversky(
            logits, label, jnp.ones(label.shape), alpha=0.3, beta=0.7, smooth=2.0
        ),
        optax.losses.dice_loss(
            logits, jax.nn.one_hot(label, 3), alpha=0.3, beta=0.7, smooth=2.0
        ),
        rtol=1e-5,
    )


@pytest.mark.parametrize("target", ["exclusive", "independent"])
def test_dice_is_a_tversky_loss_with_equal_weights(target):
    batch = draw(target)
    np.testing.assert_allclose(
        losses.dice(*batch, smooth=3.0),
        losses.tversky(*batch, alpha=0.5, beta=0.5, smooth=1.5),
        rtol=1e-5,
    )


@pytest.mark.parametrize("loss", [losses.dice, losses.tversky])
def test_independent_classes_have_no_background(loss):
    with pytest.raises(UserError, match="background=False needs exclusive classes"):
        loss(*draw("independent"), background=False)


# Lovász.


def jaccard_extension(errors, truth):
    """Computes the sum of m_i (J(i) - J(i - 1)) (Berman et al. 2018, definition 2)."""
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
    logits, label, weight = draw("exclusive", classes=4)
    label = jnp.where(label == 3, 2, label).at[0, :2].set(-1)  # class 3 is absent
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
    logits, label, weight = draw("independent")
    label = label.at[1, ..., 2].set(0)  # absent classes count
    x, g = np.asarray(logits, np.float64), np.asarray(label)
    errors = np.maximum(0, 1 - x * (2 * g - 1)).reshape(2, -1, 3)
    expected = [
        np.mean([jaccard_extension(e[:, k], t[:, k]) for k in range(3)])
        for e, t in zip(errors, g.reshape(2, -1, 3), strict=True)
    ]
    np.testing.assert_allclose(
        losses.lovasz(logits, label, weight), expected, rtol=1e-5
    )


def test_lovasz_of_a_certain_prediction_is_one_minus_iou():
    _, label, weight = draw("exclusive")
    prediction = np.asarray(draw("exclusive", seed=1)[1])
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


@pytest.mark.slow
def test_lovasz_gradient_of_a_large_image():
    """The gradient is the increase of the Jaccard loss, here computed in float64.

    It is about 1e-5. Differences of float32 Jaccard losses would have a 1% error.
    """
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


# Losses of values.


def test_value_losses_by_hand():
    """Two pixels of two channels with weights 1 and 3, and one pixel with weight 0.

    `charbonnier` gets Pythagorean triples: 1.8, 0.75, 1.95 and so on.
    """
    output = jnp.array([[[1.0, 2.0], [0.0, 0.4], [9.0, 9.0]]])
    value = jnp.array([[[1.0, 3.8], [-1.0, 0.0], [0.0, 0.0]]])
    weight = jnp.array([[1.0, 3.0, 0.0]])
    smooth = functools.partial(losses.charbonnier, epsilon=0.75)
    for loss, expected in (
        (losses.l1, (0 + 1.8 + 3 * (1 + 0.4)) / 8),
        (losses.l2, (0 + 3.24 + 3 * (1 + 0.16)) / 8),
        (smooth, (0.75 + 1.95 + 3 * (1.25 + 0.85)) / 8),
    ):
        np.testing.assert_allclose(loss(output, value, weight), [expected], rtol=1e-5)


def test_l2_against_optax():
    output, value, weight = draw("value")
    cost = optax.losses.squared_error(output, value).mean(-1)
    expected = np.average(cost, (1, 2), weight)
    np.testing.assert_allclose(losses.l2(output, value, weight), expected, rtol=1e-5)


# Sums of losses, and outputs of several sizes.


def test_the_second_argument_names_the_kind_of_target():
    assert losses.get_kind(losses.l1) == "value"
    assert losses.get_kind(functools.partial(losses.dice, smooth=0.0)) == "label"

    def other(prediction, truth, weight):
        return weight

    with pytest.raises(
        UserError, match=r"are \(prediction, truth, weight\); name them"
    ):
        losses.get_kind(other)
    with pytest.raises(UserError, match=r"are \(output, value\); name them"):
        losses.get_kind(lambda output, value: output)


def test_combined_losses_are_summed_without_terms_of_scale_zero():
    def never(logits, label, weight):
        raise RuntimeError("computed")

    logits, label, weight = draw("exclusive")
    output, value, _ = draw("value", seed=1)
    total = losses.combine_losses(
        [(0.25, losses.cross_entropy), (0.0, never), (2.0, losses.l1)]
    )
    np.testing.assert_allclose(
        total(
            {"label": logits, "value": output}, {"label": label, "value": value}, weight
        ),
        0.25 * losses.cross_entropy(logits, label, weight)
        + 2 * losses.l1(output, value, weight),
        rtol=1e-5,
    )
    with pytest.raises(UserError, match="scale"):
        losses.combine_losses([(0.0, never)])


@pytest.mark.slow
def test_deep_supervision_by_hand():
    """Both outputs are smaller than the target.

    One covers every pixel, the other every second row and fourth column with half the
    weight.
    """
    _, value, weight = draw("value", (2, 10, 12))
    _, label, _ = draw("exclusive", (2, 10, 12))
    fine, coarse = draw("value", (2, 8, 8))[0], draw("value", (2, 4, 2), seed=1)[0]
    total = losses.combine_losses([(1.0, losses.l1), (1.0, losses.cross_entropy)])

    def crop(rows, columns, output):
        cut = (slice(None), rows, columns)
        both = {"label": output, "value": output}
        return both, {"label": label[cut], "value": value[cut]}, weight[cut]

    first = crop(slice(1, 9), slice(2, 10), fine)
    # In the middle 8 x 8 pixels: rows 1, 3, 5, 7 and columns 2, 6.
    second = crop(slice(2, 9, 2), slice(4, 10, 4), coarse)
    targets = {"label": label, "value": value}
    given = total, [first[0], second[0]], targets, weight, [(1, 1), (2, 4)]
    np.testing.assert_allclose(
        losses.compute_deep_supervision(*given),
        2 / 3 * total(*first) + 1 / 3 * total(*second),
        rtol=1e-5,
    )
    without = losses.compute_deep_supervision(*given, coarsest=False)
    np.testing.assert_allclose(without, total(*first), rtol=1e-5)


@pytest.mark.parametrize(
    ("coarsest", "factors"),
    [(True, [8 / 15, 4 / 15, 2 / 15, 1 / 15]), (False, [4 / 7, 2 / 7, 1 / 7, 0])],
)
def test_deep_supervision_halves_the_weight_from_level_to_level(coarsest, factors):
    levels = [{"value": jnp.full((1, 8 >> i, 8 >> i, 1), 10.0**i)} for i in range(4)]
    value, weight = jnp.zeros((1, 8, 8, 1)), jnp.ones((1, 8, 8))
    got = losses.compute_deep_supervision(
        losses.combine_losses([(1.0, losses.l1)]),
        levels,
        {"value": value},
        weight,
        [(1 << i,) * 2 for i in range(4)],
        coarsest=coarsest,
    )
    expected = sum(f * 10**i for i, f in enumerate(factors))
    np.testing.assert_allclose(got, [expected], rtol=1e-5)
