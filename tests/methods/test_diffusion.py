"""Diffusion against the papers' formulas and a Gaussian, whose denoiser is exact."""

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


def nothing(key, example):
    return example


def plus_three(key, example):
    return {**example, "image": example["image"] + 3}


def method(model, *, augment=nothing, tx=None, ema=0.0, **options):
    tx = optax.sgd(0.0) if tx is None else tx
    parts = Ingredients(model, None, None, augment, tx, ema)
    return diffusion(parts, **options)


def batch(size=8, shape=(8, 8), channels=1):
    image = np.random.default_rng(0).normal(size=(size, *shape, channels))
    return {"image": image.astype("f4"), "seed": np.arange(size, dtype="u4") * 7}


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def draw(learnt, variables, keys, shape=(4, 4, 1)):
    return np.asarray(jax.jit(learnt.sample, static_argnums=2)(variables, keys, shape))


class Denoiser(nn.Module):
    """A small network that needs the time, in the terms of `models`."""

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
    """The best denoiser of N(mean, covariance), which is its parameters.

    x_0 given x_t is normal, with mean m + a S (a^2 S + b^2)^-1 (x_t - a m) for a and b
    the factors of image and noise. A covariance of 0 is one image.
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
    """Predicts a velocity of -3 at the last time, and of 0 before."""

    def __call__(self, image, *, train=False, seed=None, time=None):
        return jnp.where(time.reshape(-1, 1, 1, 1) == 1, -3 * jnp.ones_like(image), 0)


class Cubic(nn.Module):
    """Predicts the velocity of an image of zeros, too high by the cube of the time."""

    a: tuple[float, ...]

    def __call__(self, image, *, train=False, seed=None, time=None):
        a = jnp.asarray(self.a)[jnp.rint(time * (len(self.a) - 1)).astype(int)]
        factor, error = jnp.sqrt(a / (1 - a)), time**3
        return factor.reshape(-1, 1, 1, 1) * image + error.reshape(-1, 1, 1, 1)


class Echo(nn.Module):
    """Takes x_T for a clean image, so that one step of sampling returns it."""

    a: float  # alpha bar of T

    def __call__(self, image, *, train=False, seed=None, time=None):
        return (self.a**0.5 - 1) / (1 - self.a) ** 0.5 * image


class Spy:
    """Stands where the model would, and keeps its inputs."""

    def __init__(self):
        self.seen = []

    def init(self, keys, image, **_):
        return {"params": jnp.zeros(())}

    def apply(self, variables, image, *, time, train, **_):
        self.seen.append((image, time, train))
        return jnp.zeros_like(image) + 0 * variables["params"], {}


def shown(data, key, **options):
    """Returns the noisy images, times and mode that a network sees in an update."""

    def update(data, key):
        spy = Spy()
        learnt = method(spy, **options)
        learnt.update(learnt.init(key, data["image"]), data, key)
        return spy.seen[0]

    return jax.jit(update)(data, key)


def cosine(steps):
    """Alpha bar by equation 17 of Nichol and Dhariwal, one number at a time."""
    numbers = [1.0]
    for t in range(1, steps + 1):
        f = [np.cos((u / steps + 0.008) / 1.008 * np.pi / 2) ** 2 for u in (t - 1, t)]
        numbers.append(numbers[-1] * (1 - min(1 - f[1] / f[0], 0.999)))
    return tuple(numbers)


def linear(steps):
    """Alpha bar of Ho et al., betas 1e-4 to 0.02 of 1000 steps."""
    numbers = [1.0]
    for t in range(steps):
        beta = (1e-4 + (0.02 - 1e-4) * t / (steps - 1)) * 1000 / steps
        numbers.append(numbers[-1] * (1 - min(beta, 0.999)))
    return tuple(numbers)


def strided(steps, count):
    """Pairs (t, s): evenly spaced from T to 1, rounded, and then 0."""
    gap = (steps - 1) / (count - 1) if count > 1 else 0
    times = [round(steps - i * gap) for i in range(count)]
    return list(zip(times, [*times[1:], 0], strict=True))


def ancestral(a, path, value, share=1.0):
    """Variance of what Ho et al. sample, by equations 6 and 7, of data of variance.

    The posterior variance, their smaller one, is `share` 1; the mean for another share
    is that of DDIM, equation 12.
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


def along(samples):
    """Coordinates of samples along the axes of the Gaussian, of variance 1 each."""
    return (samples.reshape(len(samples), -1) - MEAN) @ BASIS / VALUES**0.5


def test_the_cosine_schedule():
    """f(t) / f(0) by hand; the last beta would be 1 and is 0.999."""
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
    """1 - 1e-4, then times 1 - (1e-4 + 0.0199 / 999); other T take as much noise."""
    usual = compute_alpha_bar("linear", 1000)
    assert usual[[0, 1, 2, 500, 1000]] == pytest.approx(
        [1, 0.9999, 0.9997800921, 0.07858724288, 4.03582977e-5], rel=1e-8
    )
    half = compute_alpha_bar("linear", 500)
    assert half[[1, 500]] == pytest.approx([0.9998, 0.96 * half[499]], rel=1e-9)
    assert compute_alpha_bar("linear", 10)[10] / compute_alpha_bar("linear", 10)[
        9
    ] == pytest.approx(0.001)


def test_the_network_sees_images_with_the_noise_of_their_time():
    """x_t is N(sqrt(a) x_0, 1 - a), and t is uniform in 1..T; t / T is handed over."""
    data = {"image": jnp.zeros((4000, 2, 2, 1)), "seed": jnp.arange(4000)}
    noisy, time, train = shown(data, jax.random.key(1), augment=plus_three)
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
    _, time, _ = shown(data, jax.random.key(1), steps=4, sampling_steps=4)
    assert set(np.asarray(time).tolist()) == {0.25, 0.5, 0.75, 1.0}


def test_noise_and_time_belong_to_the_seed():
    data = batch() | {"image": jnp.zeros((8, 8, 8, 1)), "seed": jnp.arange(8) % 7}
    first, time, _ = shown(data, jax.random.key(1))
    reverse = jax.tree.map(lambda x: x[::-1], data)
    second, turned, _ = shown(reverse, jax.random.key(1))
    other, _, _ = shown(data, jax.random.key(2))
    np.testing.assert_array_equal(first, second[::-1])
    np.testing.assert_array_equal(time, turned[::-1])
    np.testing.assert_array_equal(first[0], first[7])
    assert len(set(map(float, time))) > 4
    assert np.abs(first[0] - first[1]).max() > 0.1
    assert np.abs(first - other).max() > 0.1


@pytest.mark.parametrize("predict", ["noise", "velocity"])
def test_a_network_that_is_right_has_no_loss(predict):
    """Of a data set of one image, noise and velocity follow from the noisy image."""
    image = batch()["image"][:1]
    data = batch() | {"image": np.repeat(image, 8, axis=0)}
    model = Gaussian(cosine(1000), predict)
    known = {"m": image.ravel(), "S": np.zeros((64, 64), "f4")}
    learnt = method(model, predict=predict)
    state = jax.jit(method(Spy()).init)(jax.random.key(0), image)
    state = state._replace(params=known, opt_state=optax.sgd(0.0).init(known))
    _, scalars = jax.jit(learnt.update)(state, data, jax.random.key(1))
    assert scalars["loss"] < 1e-6
    score = jax.jit(learnt.score)({"params": known}, data, jax.random.key(1))
    assert score.max() < 1e-6
    wrong = method(model, predict="noise" if predict == "velocity" else "velocity")
    _, scalars = jax.jit(wrong.update)(state, data, jax.random.key(1))
    assert scalars["loss"] > 0.1


def test_the_update_is_the_gradient_of_the_mean_squared_error():
    model, tx, data, key = Denoiser(), optax.adam(1e-2), batch(), jax.random.key(1)
    learnt = method(model, tx=tx, ema=0.75)
    before = jax.jit(learnt.init)(jax.random.key(0), data["image"])
    after, scalars = jax.jit(learnt.update)(before, data, key)
    noisy, time, _ = shown(data, key)
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
        *(learnt.variables(after)["params"], before.params, expected),
    )


@pytest.mark.parametrize(
    ("predict", "count"),
    [("velocity", 1), ("velocity", 7), ("velocity", 100), ("noise", 100)],
)
def test_sampling_without_fresh_noise_is_exact(predict, count):
    """Each axis of the Gaussian grows by the factor that DDIM's equation 12 gives it.

    The noise at the start, which is what an echo returns in one step, is normal.
    """
    model, variables = gaussian(predict)
    echo = method(Echo(cosine(1000)[-1]), sampling_steps=1)
    start = draw(echo, {}, keys(500)).reshape(500, -1)
    assert stats.kstest(start.ravel(), "norm").pvalue > 0.01
    samples = draw(
        method(model, predict=predict, sampling_steps=count), variables, keys(500)
    )
    path = strided(1000, count)
    factor = [ancestral(cosine(1000), path, v, share=0.0) ** 0.5 for v in VALUES]
    offset = MEAN @ BASIS * cosine(1000)[-1] ** 0.5  # of x_T, which is not quite noise
    start = start @ BASIS - offset
    np.testing.assert_allclose(along(samples) * VALUES**0.5, start * factor, atol=3e-4)


@pytest.mark.parametrize(
    ("schedule", "eta"), [("cosine", 1.0), ("linear", 1.0), ("cosine", 0.5)]
)
def test_sampling_has_the_moments_of_the_chain(schedule, eta):
    """Ten steps of Ho et al.: the moments are known, though not those of the data."""
    make = {"cosine": cosine, "linear": linear}[schedule]
    model, variables = gaussian(schedule=make)
    learnt = method(model, schedule=schedule, sampling_steps=10, eta=eta)
    found = along(draw(learnt, variables, keys(8000)))
    path = strided(1000, 10)
    expected = [ancestral(make(1000), path, v, eta) / v for v in VALUES]
    covariance = np.cov(found.T)
    ratio = np.diag(covariance) / expected
    assert ratio == pytest.approx(np.ones(16), abs=0.06)  # 4 standard errors
    assert ratio.mean() == pytest.approx(1, abs=0.015)  # 4 of the mean of 16
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 0.05
    assert np.abs(found.mean(0)).max() < 0.05


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_samples_of_a_gaussian_have_its_mean_and_covariance(eta):
    """Within the error of 4000 samples, and nearer the more steps there are."""
    model, variables = gaussian()
    errors = []
    for count in (10, 40, 160):
        learnt = method(model, sampling_steps=count, eta=eta)
        samples = draw(learnt, variables, keys(4000)).reshape(4000, -1)
        errors.append(np.abs(np.cov(samples.T) - COVARIANCE).max())
    assert np.abs(samples.mean(0) - MEAN).max() < 0.06
    assert errors[2] < 0.1
    assert errors[1] < errors[0] / 2.5
    assert errors[2] < errors[1] / 1.5


def test_an_image_depends_on_its_key_alone():
    model, variables = gaussian()
    learnt = method(model, sampling_steps=5, eta=1.0)
    every = keys(6)
    whole = draw(learnt, variables, every)
    parts = [draw(learnt, variables, every[i : i + 2]) for i in (0, 2, 4)]
    np.testing.assert_allclose(whole, np.concatenate(parts), atol=1e-5)
    assert np.abs(whole[0] - whole[1]).max() > 0.1


def test_what_is_predicted_of_the_image_is_limited():
    """T = 2 by hand: x_0 is sqrt(a) x_t - sqrt(1 - a) v, clipped; the noise follows."""
    a1, a2 = np.sqrt(cosine(2)[1:])
    b1, b2 = np.sqrt(1 - a1**2), np.sqrt(1 - a2**2)
    x2 = draw(method(Echo(cosine(2)[2]), steps=2, sampling_steps=1), {}, keys(50))
    clean = np.clip(a2 * x2 + b2 * 3, -0.8, 0.8)
    assert (clean == 0.8).mean() > 0.9
    x1 = a1 * clean + b1 * (x2 - a2 * clean) / b2
    expected = np.clip(a1 * x1, -0.8, 0.8)
    assert {-0.8, 0.8} < set(expected.ravel())
    found = draw(method(Late(), steps=2, sampling_steps=2, clip=0.8), {}, keys(50))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_defaults():
    learnt = method(Denoiser())
    stated = method(
        Denoiser(),
        steps=1000,
        schedule="cosine",
        predict="velocity",
        sampling_steps=100,
        eta=0.0,
        clip=0.0,
    )
    state = jax.jit(learnt.init)(jax.random.key(0), batch()["image"])
    variables = learnt.variables(state)
    one, two = (draw(m, variables, keys(2), (8, 8, 1)) for m in (learnt, stated))
    np.testing.assert_array_equal(one, two)


def test_volumes_are_learnt_and_drawn():
    learnt = method(Denoiser(channels=2), sampling_steps=2)
    data = batch(3, (4, 6, 8), channels=2)
    state = jax.jit(learnt.init)(jax.random.key(0), data["image"])
    state, scalars = jax.jit(learnt.update)(state, data, jax.random.key(1))
    image = draw(learnt, learnt.variables(state), keys(3), (4, 6, 8, 2))
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
    learnt = method(Cubic(cosine(steps)), steps=steps, sampling_steps=1)
    found = jax.jit(learnt.score)({}, data, jax.random.key(1))
    expected = np.mean([(t / steps) ** 6 for t in times])
    np.testing.assert_allclose(found, np.full(8, expected), rtol=1e-4)


def test_the_score_of_an_image_depends_on_no_other():
    learnt, data, key = method(Denoiser()), batch(), jax.random.key(1)
    variables = learnt.variables(jax.jit(learnt.init)(key, data["image"]))
    score = jax.jit(learnt.score)
    whole = score(variables, data, key)
    np.testing.assert_array_equal(whole, score(variables, data, key))
    weighted = score(variables, data | {"weight": np.zeros((8, 8, 8), "f4")}, key)
    np.testing.assert_array_equal(whole, weighted)
    half = score(variables, jax.tree.map(lambda x: x[4:], data), key)
    np.testing.assert_allclose(whole[4:], half, rtol=1e-5)
    assert len(set(map(float, whole))) == 8


def test_more_sampling_steps_than_steps_are_refused():
    method(Late(), steps=50, sampling_steps=50)
    with pytest.raises(UserError, match="sampling_steps=51 exceeds steps=50; set "):
        method(Late(), steps=50, sampling_steps=51)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda image: image[:, 1:-1, 1:-1], r"gives \(6, 6, 1\) for an image of \(8,"),
        (lambda image: jnp.concatenate([image, image], -1), r"gives \(8, 8, 2\)"),
        (lambda image: (image, image), "deep_supervision=False"),
    ],
    ids=["size", "channels", "levels"],
)
def test_an_output_that_is_no_image_is_refused(output, message):
    class Other(nn.Module):
        @nn.compact
        def __call__(self, image, *, train=False, seed=None, time=None):
            return output(nn.Conv(1, (1, 1))(image))

    learnt, data = method(Other()), batch()
    state = learnt.init(jax.random.key(0), data["image"])
    with pytest.raises(UserError, match=message):
        learnt.update(state, data, jax.random.key(1))
