"""Denoising diffusion: a network that learns to remove noise and so generates images.

An image x_0 becomes noise in T steps. With a_t (alpha bar), which falls from 1 to about
0, and N(0, 1) noise (Ho et al. 2020, equation 4),

    x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise,    t = 1..T.

The network sees x_t and t / T. Sampling goes back from x_T, which is noise, to an image
x_0.

- Ho, Jain and Abbeel 2020, arXiv:2006.11239: the method and the linear schedule.
- Nichol and Dhariwal 2021, arXiv:2102.09672: the cosine schedule, and sampling in fewer
  steps than T.
- Song, Meng and Ermon 2021, arXiv:2010.02502 (DDIM): sampling without fresh noise.
- Salimans and Ho 2022, arXiv:2202.00512: prediction of the velocity.
"""

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unet_jax.arrays import Batch, Image, Seed
from unet_jax.errors import UserError
from unet_jax.methods.method import (
    Ingredients,
    Method,
    Scalars,
    State,
    Variables,
    augment_batch,
    draw_noise,
    fold_in_seeds,
    forward,
    init_state,
    select_variables,
    take_step,
)
from unet_jax.specs import Iterations, NonNegative, Proportion

Schedule = Literal["cosine", "linear"]
Predicted = Literal["velocity", "noise"]

LOSS_TIMES = 10  # number of times t at which the validation loss is computed


def diffusion(
    parts: Ingredients,
    *,
    steps: Iterations = 1000,
    schedule: Schedule = "cosine",
    predict: Predicted = "velocity",
    sampling_steps: Iterations = 100,
    eta: Proportion = 0.0,
    clip: NonNegative = 0.0,
) -> Method:
    """Learns to generate images, from images alone.

    The loss of an example is the mean squared error of the network's prediction at a
    time drawn uniformly from 1..T (`L_simple`, equation 14 of Ho et al. 2020). Labels,
    weights and the loss of the config are not read, and all pixels of an image count.

    Args:
      parts: the ingredients. The model is `(image, train, seed, time) -> output` with
        `time f32[B]` = t / T. Its output has the shape of the image.
      steps: T.
      schedule: the schedule of a_t, see `compute_alpha_bar`.
      predict: the quantity that the network predicts. 'velocity' is
        `sqrt(a_t) noise - sqrt(1 - a_t) x_0` (Salimans and Ho 2022, section 4). 'noise'
        is the choice of Ho et al.; x_0 then follows from a division by sqrt(a_t), which
        is almost 0 at the start of sampling, so that errors become large there unless
        `clip` bounds them.
      sampling_steps: the number of sampling steps, evenly spaced from T to 1 (Nichol
        and Dhariwal 2021, section 4); at most `steps`.
      eta: the share of fresh noise in each sampling step. 1 is the sampling of Ho et
        al. with their smaller variance. With 0 the initial noise x_T determines the
        image, and fewer steps are needed (DDIM, equations 12 and 16 and table 1).
      clip: in each sampling step x_0 is limited to -clip..clip, in units of the
        normalised image. 0 means no limit.

    Raises:
      UserError: `sampling_steps` exceeds `steps`. Also, when the method is first used,
        if the network's output does not have the shape of its input.
    """
    if sampling_steps > steps:
        raise UserError(
            f"sampling_steps={sampling_steps} exceeds steps={steps}; "
            f"set sampling_steps to {steps} or less"
        )
    alpha_bars = compute_alpha_bar(schedule, steps)
    corrupt = functools.partial(_corrupt, alpha_bars, predict)

    def apply_network(variables: Variables, noisy: Image, t: jax.Array) -> Image:
        """Applies the network to images that have the same time t."""
        time = jnp.full(len(noisy), t / steps)
        output = parts.model.apply(variables, noisy, train=False, time=time)
        return _check_output(output, noisy)

    def update(
        state: State, batch: Batch, key: jax.Array, axis_name: str | None = None
    ) -> tuple[State, Scalars]:
        batch = augment_batch(parts, batch, key)
        image, keys = batch["image"], _make_keys(key, batch["seed"])
        draw = jax.vmap(lambda key: jax.random.randint(key, (), 1, steps + 1))
        t = draw(_fold_in(keys, 0))
        noisy, target = corrupt(image, draw_noise(_fold_in(keys, 1), image), t)
        batch, time = {**batch, "image": noisy}, t / steps

        def objective(params: Any) -> tuple[jax.Array, Any]:
            output, stats = forward(parts, params, state.stats, batch, key, time=time)
            error = _compute_error(_check_output(output, noisy), target)
            return error.mean(), (stats, {})

        return take_step(parts, state, objective, axis_name)

    def val_loss(variables: Variables, batch: Batch, key: jax.Array) -> jax.Array:
        image, keys = batch["image"], _make_keys(key, batch["seed"])

        def compute_error_at(t: jax.Array) -> jax.Array:
            noise = draw_noise(_fold_in(keys, t), image)
            noisy, target = corrupt(image, noise, jnp.full(len(image), t))
            return _compute_error(apply_network(variables, noisy, t), target)

        # The middles of equal parts of 1..T.
        times = (2 * np.arange(LOSS_TIMES) + 1) * steps // (2 * LOSS_TIMES) + 1
        return jax.lax.map(compute_error_at, jnp.asarray(times)).mean(0)

    def sample(variables: Variables, keys: jax.Array, shape: tuple[int, ...]) -> Image:
        def denoise(x: Image, step: _SamplingStep) -> tuple[Image, None]:
            output = apply_network(variables, x, step.t)
            x = _denoise(x, output, step, predict, clip)
            if eta:
                x = x + step.fresh * draw_noise(_fold_in(keys, step.s), x)
            return x, None

        start = draw_noise(_fold_in(keys, steps), jnp.empty((len(keys), *shape)))
        path = _make_sampling_steps(alpha_bars, sampling_steps, eta)
        return jax.lax.scan(denoise, start, path)[0]

    return Method(
        init=functools.partial(init_state, parts),
        update=update,
        variables=select_variables,
        sample=sample,
        val_loss=val_loss,
    )


def compute_alpha_bar(schedule: Schedule, steps: int) -> np.ndarray:
    """Computes the signal's share of the variance of x_t, `f64[steps + 1]`.

    Element t is `(1 - beta_1) ... (1 - beta_t)`; element 0 is 1.

    - 'cosine': a_t = f(t) / f(0) with f(t) = cos^2((t / T + s) / (1 + s) pi / 2), s =
      0.008 and beta at most 0.999 (Nichol and Dhariwal 2021, equation 17).
    - 'linear': beta rises from 1e-4 to 0.02 for T = 1000 (Ho et al. 2020, section 4).
      For other T it is multiplied by 1000 / T, so that a_T stays about 4e-5; beta is at
      most 0.999.
    """
    if schedule == "cosine":
        t = np.arange(steps + 1) / steps
        f = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
        beta = 1 - f[1:] / f[:-1]
    else:
        beta = np.linspace(1e-4, 0.02, steps) * 1000 / steps
    return np.append(1.0, np.cumprod(1 - np.minimum(beta, 0.999)))


def _corrupt(
    alpha_bars: np.ndarray, predict: Predicted, image: Image, noise: Image, t: jax.Array
) -> tuple[Image, Image]:
    """Returns x_t and the target of the network; t is `i32[B]`."""
    shape = (len(image), *[1] * (image.ndim - 1))
    factors = np.sqrt(alpha_bars), np.sqrt(1 - alpha_bars)
    signal, sigma = (
        jnp.asarray(factor, jnp.float32)[t].reshape(shape) for factor in factors
    )
    target = noise if predict == "noise" else signal * noise - sigma * image
    return signal * image + sigma * noise, target


class _SamplingStep(NamedTuple):
    """The numbers of a sampling step from x_t to x_s, stacked over all steps."""

    t: Any
    s: Any
    signal: Any  # factor of x_0 in x_t
    sigma: Any  # factor of the noise in x_t
    clean: Any  # factor of x_0 in x_s
    noise: Any  # factor of the same noise in x_s
    fresh: Any  # factor of new noise in x_s


def _make_sampling_steps(
    alpha_bars: np.ndarray, sampling_steps: int, eta: float
) -> _SamplingStep:
    """Returns the sampling steps; the last of them gives x_0."""
    t = np.rint(np.linspace(len(alpha_bars) - 1, 1, sampling_steps)).astype(np.int32)
    s = np.append(t[1:], np.int32(0))
    a_t, a_s = alpha_bars[t], alpha_bars[s]
    fresh = eta * np.sqrt((1 - a_s) / (1 - a_t) * (1 - a_t / a_s))
    noise = np.sqrt(1 - a_s - fresh**2)
    numbers = (np.sqrt(a_t), np.sqrt(1 - a_t), np.sqrt(a_s), noise, fresh)
    return _SamplingStep(t, s, *(number.astype(np.float32) for number in numbers))


def _denoise(
    x: Image, output: Image, step: _SamplingStep, predict: Predicted, clip: float
) -> Image:
    """Returns x_s without new noise, from x_t and the output of the network."""
    if predict == "noise":
        clean = (x - step.sigma * output) / step.signal
    else:
        clean = step.signal * x - step.sigma * output
    if clip:
        clean = jnp.clip(clean, -clip, clip)
    noise = (x - step.signal * clean) / step.sigma
    return step.clean * clean + step.noise * noise


def _check_output(output: Any, image: Image) -> Image:
    """Returns the output; raises UserError if its shape is not that of the image."""
    if not isinstance(output, jax.Array):
        raise UserError(
            "model: returns one output for each level, and diffusion needs a single "
            "one; set --config.model.deep_supervision=False"
        )
    if output.shape != image.shape:
        raise UserError(
            f"model: returns {output.shape[1:]} for an image of {image.shape[1:]}, and "
            "diffusion needs the same size and channels; set "
            "--config.model.padding=SAME and a task with the channels of the image"
        )
    return output


def _compute_error(output: Image, target: Image) -> jax.Array:
    """Computes the mean squared error of each example, `f32[B]`."""
    return jnp.square(output - target).mean(tuple(range(1, output.ndim)))


def _make_keys(key: jax.Array, seed: Seed) -> jax.Array:
    """Returns one key per example. `fold_in(key, 1)` is used by dropout."""
    return fold_in_seeds(jax.random.fold_in(key, 2), seed)


def _fold_in(keys: jax.Array, number: Any) -> jax.Array:
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number)
