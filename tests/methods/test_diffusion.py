"""Diffusion against the papers' formulas, and a Gaussian whose denoiser is known."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from unet_jax.errors import UserError
from unet_jax.methods import Ingredients, diffusion
from unet_jax.methods.diffusion import compute_alpha_bar

AXIS = np.arange(4)
MEAN = np.linspace(-1, 1, 16)
COVARIANCE = np.kron(*[0.8 ** np.abs(AXIS - AXIS[:, None])] * 2)  # of 4 x 4 pixels
VALUES, BASIS = np.linalg.eigh(COVARIANCE)  # 0.02 to 8.5


def augment_nothing(key, example):
    return example


def add_three(key, example):
    return {**example, "image": example["image"] + 3}


def make_method(model, *, augment=augment_nothing, tx=None, ema=0.0, **options):
    tx = optax.sgd(0.0) if tx is None else tx
    parts = Ingredients(model, None, None, augment, tx, ema)
    return diffusion(parts, **options)


def batch(size=8, shape=(8, 8), channels=1):
    image = np.random.default_rng(0).normal(size=(size, *shape, channels))
    return {"image": image.astype("f4"), "seed": np.arange(size, dtype="u4") * 7}


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def draw(method, variables, keys, shape=(4, 4, 1)):
    return np.asarray(jax.jit(method.sample, static_argnums=2)(variables, keys, shape))


class Denoiser(nn.Module):
    """A small network that reads the time and has the interface of `models`."""

    channels: int = 1

    @nn.compact
    def __call__(self, image, *, train=False, seed=None, time=None):
        axes = image.ndim - 2
        time = jnp.zeros(len(image)) if time is None else time
        x = nn.Conv(4, (3,) * axes, use_bias=False)(image)
        x = nn.BatchNorm(not train, momentum=0.9)(x)
        scale = nn.Dense(4)(jnp.stack([time, jnp.cos(9 * time)], -1))
        x = nn.silu(x * scale.reshape(-1, *[1] * axes, 4))
        return nn.Conv(self.channels, (3,) * axes)(x)


class Gaussian(nn.Module):
    """The best denoiser of N(m, S); m and S are its parameters.

    x_0 given x_t is normal, with mean m + a S (a^2 S + b^2)^-1 (x_t - a m), where a and
    b are the factors of image and noise. A covariance of 0 stands for a single image.
    """

    a: tuple[float, ...]  # alpha bar of t
    predict: str = "velocity"

    def __call__(self, image, *, train=False, seed=None, time=None):
        mean, covariance = (self.get_variable("params", k) for k in ("m", "S"))
        values, basis = jnp.linalg.eigh(covariance)
        t = jnp.rint(time * (len(self.a) - 1)).astype(int)
        a, b = (jnp.sqrt(jnp.asarray(x))[t][:, None] for x in (self.a, self.b))
        x = image.reshape(len(image), -1)
        gain = a * values[None] / (a**2 * values[None] + b**2)
        high = functools.partial(jnp.matmul, precision="highest")
        clean = mean[None] + high(high(x - a * mean[None], basis) * gain, basis.T)
        noise = (x - a * clean) / b
        output = noise if self.predict == "noise" else a * noise - b * clean
        return output.reshape(image.shape)

    @property
    def b(self):
        return tuple(1 - a for a in self.a)


class Late(nn.Module):
    """Predicts a velocity of -3 at the last time and 0 at all others."""

    def __call__(self, image, *, train=False, seed=None, time=None):
        return jnp.where(time.reshape(-1, 1, 1, 1) == 1, -3 * jnp.ones_like(image), 0)


class Cubic(nn.Module):
    """Predicts the velocity of an image of zeros plus the cube of the time."""

    a: tuple[float, ...]

    def __call__(self, image, *, train=False, seed=None, time=None):
        a = jnp.asarray(self.a)[jnp.rint(time * (len(self.a) - 1)).astype(int)]
        factor, error = jnp.sqrt(a / (1 - a)), time**3
        return factor.reshape(-1, 1, 1, 1) * image + error.reshape(-1, 1, 1, 1)


class Echo(nn.Module):
    """Predicts that x_T is a clean image, so that one sampling step returns it."""

    a: float  # alpha bar of T

    def __call__(self, image, *, train=False, seed=None, time=None):
        return (self.a**0.5 - 1) / (1 - self.a) ** 0.5 * image


class Spy:
    """Replaces the model and records its inputs."""

    def __init__(self):
        self.inputs = []

    def init(self, keys, image, **_):
        return {"params": jnp.zeros(())}

    def apply(self, variables, image, *, time, train, **_):
        self.inputs.append((image, time, train))
        return jnp.zeros_like(image) + 0 * variables["params"], {}


def record_inputs(data, key, **options):
    """Returns the noisy images, times and mode that a network gets in an update."""

    def update(data, key):
        spy = Spy()
        method = make_method(spy, **options)
        method.update(method.init(key, data["image"]), data, key)
        return spy.inputs[0]

    return jax.jit(update)(data, key)


def cosine(steps):
    """Computes alpha bar by equation 17 of Nichol and Dhariwal, in a loop."""
    numbers = [1.0]
    for t in range(1, steps + 1):
        f = [np.cos((u / steps + 0.008) / 1.008 * np.pi / 2) ** 2 for u in (t - 1, t)]
        numbers.append(numbers[-1] * (1 - min(1 - f[1] / f[0], 0.999)))
    return tuple(numbers)


def linear(steps):
    """Computes alpha bar of Ho et al., with betas 1e-4 to 0.02 for 1000 steps."""
    numbers = [1.0]
    for t in range(steps):
        beta = (1e-4 + (0.02 - 1e-4) * t / (steps - 1)) * 1000 / steps
        numbers.append(numbers[-1] * (1 - min(beta, 0.999)))
    return tuple(numbers)


def strided(steps, count):
    """Returns pairs (t, s): evenly spaced from T to 1, rounded, and then 0."""
    gap = (steps - 1) / (count - 1) if count > 1 else 0
    times = [round(steps - i * gap) for i in range(count)]
    return list(zip(times, [*times[1:], 0], strict=True))


def sample_variance(a, path, value, share=1.0):
    """Computes the variance of samples for data of variance `value`.

    `share` 1 is the chain of Ho et al., equations 6 and 7, with their smaller variance.
    Other shares take the mean of DDIM, equation 12.
    """
    variance = 1.0
    for t, s in path:
        beta = 1 - a[t] / a[s]
        fresh = share**2 * (1 - a[s]) / (1 - a[t]) * beta
        gain = a[t] ** 0.5 * value / (a[t] * value + 1 - a[t])  # x_0 from x_t
        if share == 1:
            of_clean = a[s] ** 0.5 * beta / (1 - a[t])
            of_noisy = (1 - beta) ** 0.5 * (1 - a[s]) / (1 - a[t])
        else:
            of_noisy = ((1 - a[s] - fresh) / (1 - a[t])) ** 0.5
            of_clean = a[s] ** 0.5 - of_noisy * a[t] ** 0.5
        variance = (of_clean * gain + of_noisy) ** 2 * variance + fresh
    return variance


def gaussian(predict="velocity", schedule=cosine, steps=1000):
    variables = {"params": {"m": jnp.float32(MEAN), "S": jnp.float32(COVARIANCE)}}
    return Gaussian(schedule(steps), predict), variables


def whiten(samples):
    """Returns coordinates along the axes of the Gaussian, with variance 1 each."""
    return (samples.reshape(len(samples), -1) - MEAN) @ BASIS / VALUES**0.5


def test_the_cosine_schedule():
    """f(t) / f(0) by hand; the last beta is limited from 1 to 0.999."""
    np.testing.assert_allclose(
        compute_alpha_bar("cosine", 4),
        [1, 0.8470121613, 0.4938435904, 0.1442721024, 0.0001442721024],
        rtol=1e-8,
    )
    usual = compute_alpha_bar("cosine", 1000)
    assert usual[[100, 500, 999, 1000]] == pytest.approx(
        [0.9720927371, 0.4938435904, 2.428766907e-6, 2.428766907e-9], rel=1e-8
    )


def test_the_linear_schedule():
    """1 - 1e-4, then times 1 - (1e-4 + 0.0199 / 999); other T reach the same noise."""
    usual = compute_alpha_bar("linear", 1000)
    assert usual[[0, 1, 2, 500, 1000]] == pytest.approx(
        [1, 0.9999, 0.9997800921, 0.07858724288, 4.03582977e-5], rel=1e-8
    )
    half = compute_alpha_bar("linear", 500)
    assert half[[1, 500]] == pytest.approx([0.9998, 0.96 * half[499]], rel=1e-9)
    short = compute_alpha_bar("linear", 10)
    assert short[10] / short[9] == pytest.approx(0.001)


def test_the_network_gets_images_with_the_noise_of_their_time():
    """x_t is N(sqrt(a) x_0, 1 - a), t is uniform in 1..T, and the time is t / T."""
    data = {"image": jnp.zeros((4000, 2, 2, 1)), "seed": jnp.arange(4000)}
    noisy, time, train = record_inputs(data, jax.random.key(1), augment=add_three)
    assert train
    assert time.dtype == jnp.float32
    t = np.rint(np.asarray(time) * 1000).astype(int)
    np.testing.assert_allclose(time, t / 1000, atol=1e-6)
    assert stats.kstest(t / 1000, "uniform").pvalue > 0.01
    a = np.asarray(cosine(1000))[t].reshape(-1, 1, 1, 1)
    noise = (np.asarray(noisy) - a**0.5 * 3) / (1 - a) ** 0.5
    assert stats.kstest(noise.ravel(), "norm").pvalue > 0.01
    assert abs(np.corrcoef(noise[:, 0, 0, 0], t)[0, 1]) < 0.05
    assert np.abs(np.corrcoef(noise.reshape(-1, 4).T) - np.eye(4)).max() < 0.07
    _, time, _ = record_inputs(data, jax.random.key(1), steps=4, sampling_steps=4)
    assert set(np.asarray(time).tolist()) == {0.25, 0.5, 0.75, 1.0}


def test_noise_and_time_depend_on_the_seed():
    data = batch() | {"image": jnp.zeros((8, 8, 8, 1)), "seed": jnp.arange(8) % 7}
    first, time, _ = record_inputs(data, jax.random.key(1))
    reverse = jax.tree.map(lambda x: x[::-1], data)
    second, turned, _ = record_inputs(reverse, jax.random.key(1))
    other, _, _ = record_inputs(data, jax.random.key(2))
    assert_close = functools.partial(np.testing.assert_allclose, atol=1e-6)
    assert_close(first, second[::-1])
    assert_close(time, turned[::-1])
    assert_close(first[0], first[7])
    assert len(set(map(float, time))) > 4
    assert np.abs(first[0] - first[1]).max() > 0.1
    assert np.abs(first - other).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("predict", ["noise", "velocity"])
def test_an_exact_network_has_loss_zero(predict):
    """With a single image in the data set, the noise follows from the noisy image."""
    image = batch()["image"][:1]
    data = batch() | {"image": np.repeat(image, 8, axis=0)}
    model = Gaussian(cosine(1000), predict)
    known = {"m": image.ravel(), "S": np.zeros((64, 64), "f4")}
    method = make_method(model, predict=predict)
    state = jax.jit(make_method(Spy()).init)(jax.random.key(0), image)
    state = state._replace(params=known, opt_state=optax.sgd(0.0).init(known))
    _, scalars = jax.jit(method.update)(state, data, jax.random.key(1))
    assert scalars["loss"] < 1e-6
    score = jax.jit(method.val_loss)({"params": known}, data, jax.random.key(1))
    assert score.max() < 1e-6
    wrong = make_method(model, predict="noise" if predict == "velocity" else "velocity")
    _, scalars = jax.jit(wrong.update)(state, data, jax.random.key(1))
    assert scalars["loss"] > 0.1


@pytest.mark.slow
def test_the_update_is_the_gradient_of_the_mean_squared_error():
    model, tx, data, key = Denoiser(), optax.adam(1e-2), batch(), jax.random.key(1)
    method = make_method(model, tx=tx, ema=0.75)
    before = jax.jit(method.init)(jax.random.key(0), data["image"])
    after, scalars = jax.jit(method.update)(before, data, key)
    noisy, time, _ = record_inputs(data, key)
    a = jnp.asarray(cosine(1000))[jnp.rint(time * 1000).astype(int)]
    a, b = (jnp.sqrt(x).reshape(-1, 1, 1, 1) for x in (a, 1 - a))
    velocity = a * (noisy - a * data["image"]) / b - b * data["image"]

    def loss(params):
        output, _ = model.apply(
            {"params": params, "batch_stats": before.stats},
            noisy,
            train=True,
            time=time,
            mutable="batch_stats",
        )
        return ((output - velocity) ** 2).mean()

    value, grads = jax.jit(jax.value_and_grad(loss))(before.params)
    updates, _ = tx.update(grads, before.opt_state)
    close = functools.partial(np.testing.assert_allclose, atol=2e-5)
    expected = optax.apply_updates(before.params, updates)
    jax.tree.map(close, after.params, expected)
    assert scalars["loss"] == pytest.approx(float(value), rel=1e-4)
    assert scalars["grad_norm"] == pytest.approx(float(optax.tree.norm(grads)), 1e-3)
    assert after.step == 1
    jax.tree.map(
        lambda average, old, new: close(average, 0.1 * old + 0.9 * new),
        *(method.variables(after)["params"], before.params, expected),
    )


@pytest.mark.parametrize(
    ("predict", "count"),
    [("velocity", 1), ("velocity", 7), ("velocity", 100), ("noise", 100)],
)
def test_sampling_without_fresh_noise_is_exact(predict, count):
    """Each axis of the Gaussian is scaled by the factor of DDIM's equation 12.

    `Echo` returns the initial noise, which is normal, in one step.
    """
    model, variables = gaussian(predict)
    echo = make_method(Echo(cosine(1000)[-1]), sampling_steps=1)
    start = draw(echo, {}, keys(500)).reshape(500, -1)
    assert stats.kstest(start.ravel(), "norm").pvalue > 0.01
    samples = draw(
        make_method(model, predict=predict, sampling_steps=count), variables, keys(500)
    )
    path = strided(1000, count)
    factor = [sample_variance(cosine(1000), path, v, share=0.0) ** 0.5 for v in VALUES]
    offset = MEAN @ BASIS * cosine(1000)[-1] ** 0.5  # of x_T, which is not quite noise
    start = start @ BASIS - offset
    np.testing.assert_allclose(whiten(samples) * VALUES**0.5, start * factor, atol=3e-4)


@pytest.mark.parametrize(
    ("schedule", "eta"), [("cosine", 1.0), ("linear", 1.0), ("cosine", 0.5)]
)
def test_sampling_has_the_moments_of_the_chain(schedule, eta):
    """The moments of ten steps are known, and differ from those of the data."""
    make = {"cosine": cosine, "linear": linear}[schedule]
    model, variables = gaussian(schedule=make)
    method = make_method(model, schedule=schedule, sampling_steps=10, eta=eta)
    found = whiten(draw(method, variables, keys(8000)))
    path = strided(1000, 10)
    expected = [sample_variance(make(1000), path, v, eta) / v for v in VALUES]
    covariance = np.cov(found.T)
    ratio = np.diag(covariance) / expected
    assert ratio == pytest.approx(np.ones(16), abs=0.06)  # 4 standard errors
    assert ratio.mean() == pytest.approx(1, abs=0.015)  # 4 of the mean of 16
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 0.05
    assert np.abs(found.mean(0)).max() < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_samples_of_a_gaussian_have_its_mean_and_covariance(eta):
    """Within the error of 4000 samples; more steps come closer."""
    model, variables = gaussian()
    errors = []
    for count in (10, 40, 160):
        method = make_method(model, sampling_steps=count, eta=eta)
        samples = draw(method, variables, keys(4000)).reshape(4000, -1)
        errors.append(np.abs(np.cov(samples.T) - COVARIANCE).max())
    assert np.abs(samples.mean(0) - MEAN).max() < 0.06
    assert errors[2] < 0.1
    assert errors[1] < errors[0] / 2.5
    assert errors[2] < errors[1] / 1.5


@pytest.mark.slow
def test_an_image_depends_on_its_own_key_only():
    model, variables = gaussian()
    method = make_method(model, sampling_steps=5, eta=1.0)
    every = keys(6)
    whole = draw(method, variables, every)
    parts = [draw(method, variables, every[i : i + 2]) for i in (0, 2, 4)]
    np.testing.assert_allclose(whole, np.concatenate(parts), atol=1e-5)
    assert np.abs(whole[0] - whole[1]).max() > 0.1


def test_clip_limits_the_predicted_image():
    """T = 2 by hand: x_0 is sqrt(a) x_t - sqrt(1 - a) v, clipped."""
    a1, a2 = np.sqrt(cosine(2)[1:])
    b1, b2 = np.sqrt(1 - a1**2), np.sqrt(1 - a2**2)
    x2 = draw(make_method(Echo(cosine(2)[2]), steps=2, sampling_steps=1), {}, keys(50))
    clean = np.clip(a2 * x2 + b2 * 3, -0.8, 0.8)
    assert (clean == 0.8).mean() > 0.9
    x1 = a1 * clean + b1 * (x2 - a2 * clean) / b2
    expected = np.clip(a1 * x1, -0.8, 0.8)
    assert {-0.8, 0.8} < set(expected.ravel())
    found = draw(make_method(Late(), steps=2, sampling_steps=2, clip=0.8), {}, keys(50))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_defaults():
    method = make_method(Denoiser())
    stated = make_method(
        Denoiser(),
        steps=1000,
        schedule="cosine",
        predict="velocity",
        sampling_steps=100,
        eta=0.0,
        clip=0.0,
    )
    state = jax.jit(method.init)(jax.random.key(0), batch()["image"])
    variables = method.variables(state)
    one, two = (draw(m, variables, keys(2), (8, 8, 1)) for m in (method, stated))
    np.testing.assert_allclose(one, two, atol=1e-5)


@pytest.mark.slow
def test_training_and_sampling_of_volumes():
    method = make_method(Denoiser(channels=2), sampling_steps=2)
    data = batch(3, (4, 6, 8), channels=2)
    state = jax.jit(method.init)(jax.random.key(0), data["image"])
    state, scalars = jax.jit(method.update)(state, data, jax.random.key(1))
    image = draw(method, method.variables(state), keys(3), (4, 6, 8, 2))
    assert image.shape == (3, 4, 6, 8, 2)
    assert image.dtype == np.float32
    assert np.isfinite(image).all()
    assert np.isfinite(scalars["loss"])


@pytest.mark.parametrize(
    ("steps", "times"),
    [(1000, range(51, 1000, 100)), (3, [1, 1, 1, 2, 2, 2, 2, 3, 3, 3])],
)
def test_the_score_is_the_loss_at_ten_times_spread_evenly(steps, times):
    data = batch() | {"image": np.zeros((8, 8, 8, 1), "f4")}
    method = make_method(Cubic(cosine(steps)), steps=steps, sampling_steps=1)
    found = jax.jit(method.val_loss)({}, data, jax.random.key(1))
    expected = np.mean([(t / steps) ** 6 for t in times])
    np.testing.assert_allclose(found, np.full(8, expected), rtol=1e-4)


def test_the_score_of_an_image_does_not_depend_on_the_other_images():
    method, data, key = make_method(Denoiser()), batch(), jax.random.key(1)
    variables = method.variables(jax.jit(method.init)(key, data["image"]))
    score = jax.jit(method.val_loss)
    whole = score(variables, data, key)
    np.testing.assert_array_equal(whole, score(variables, data, key))
    weighted = score(variables, data | {"weight": np.zeros((8, 8, 8), "f4")}, key)
    np.testing.assert_array_equal(whole, weighted)
    half = score(variables, jax.tree.map(lambda x: x[4:], data), key)
    np.testing.assert_allclose(whole[4:], half, rtol=1e-5)
    assert len(set(map(float, whole))) == 8


def test_more_sampling_steps_than_steps_raise_a_user_error():
    make_method(Late(), steps=50, sampling_steps=50)
    with pytest.raises(UserError, match="sampling_steps=51 exceeds steps=50; set "):
        make_method(Late(), steps=50, sampling_steps=51)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            lambda image: image[:, 1:-1, 1:-1],
            r"returns \(6, 6, 1\) for an image of \(8,",
        ),
        (lambda image: jnp.concatenate([image, image], -1), r"returns \(8, 8, 2\)"),
        (lambda image: (image, image), "deep_supervision=False"),
    ],
    ids=["size", "channels", "levels"],
)
def test_an_output_of_another_shape_than_the_image_raises_a_user_error(output, message):
    class Other(nn.Module):
        @nn.compact
        def __call__(self, image, *, train=False, seed=None, time=None):
            return output(nn.Conv(1, (1, 1))(image))

    method, data = make_method(Other()), batch()
    state = method.init(jax.random.key(0), data["image"])
    with pytest.raises(UserError, match=message):
        method.update(state, data, jax.random.key(1))
