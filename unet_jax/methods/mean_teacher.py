"""Semi-supervised learning with a teacher that is a moving average of the student.

Tarvainen and Valpola 2017: Mean teachers are better role models, arXiv:1703.01780.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from unet_jax.arrays import Batch, Image
from unet_jax.errors import UserError
from unet_jax.methods.method import (
    Ingredients,
    Method,
    Scalars,
    State,
    Variables,
    augment_batch,
    compute_loss,
    count_unlabelled_rows,
    draw_noise,
    fold_in_seeds,
    forward,
    init_state,
    take_step,
)
from unet_jax.specs import BelowOne, NonNegative, Whole


def mean_teacher(
    parts: Ingredients,
    *,
    unlabelled: BelowOne = 0.5,
    consistency: NonNegative = 1.0,
    ramp_up: Whole = 1000,
    decay: BelowOne = 0.99,
    noise: NonNegative = 0.1,
) -> Method:
    """Learns from labelled and unlabelled images, with an averaged teacher.

    The student minimises the mean loss of the labelled examples plus a consistency loss
    of all examples. The teacher is the exponential moving average of the student's
    parameters and running statistics. Both see the same augmented crop, each with its
    own noise. The consistency loss is the mean squared difference of their predictions,
    over pixels, channels and examples. Its gradient reaches the student only.

    The teacher that gives the targets is the one that predicts later. It has no dropout
    and uses its averaged running statistics (Cai et al. 2021, arXiv:2101.08482), so its
    target for an example does not depend on the rest of the batch.

    Args:
      parts: the ingredients; `ema` must be 0, since the teacher is such an average.
      unlabelled: the share of unlabelled images in every batch. They are the last rows
        of a batch and have weight 0.
      consistency: the weight of the consistency loss after the ramp-up.
      ramp_up: the number of steps t over which that weight grows as exp(-5 (1 - step /
        t)^2), from 0.7% to 100%. With 0 it is 100% from the start.
      decay: the decay of the average. After t updates it is at most 1 - 1/t, so that
        the teacher starts as the plain mean of the students so far.
      noise: the standard deviation of the Gaussian noise, in units of the normalised
        image.

    Raises:
      UserError: `ema` of the ingredients is not 0.
    """
    if parts.ema:
        raise UserError(
            f"ema={parts.ema:g}: mean_teacher averages the parameters itself, with "
            "the option decay; set --config.ema=0"
        )

    def init(key: jax.Array, image: Image, variables: Variables | None = None) -> State:
        state = init_state(parts, key, image, variables)
        # A copy, since the training step donates the buffers of the state.
        return state._replace(extra=jax.tree.map(jnp.copy, _get_student(state)))

    def update(
        state: State, batch: Batch, key: jax.Array, axis_name: str | None = None
    ) -> tuple[State, Scalars]:
        size = len(batch["seed"])
        size *= 1 if axis_name is None else jax.lax.axis_size(axis_name)
        labelled = size - count_unlabelled_rows(unlabelled, size)
        weight = consistency * _compute_ramp(state.step, ramp_up)
        batch = augment_batch(parts, batch, key)
        student_batch = _add_noise(batch, jax.random.fold_in(key, 2), noise)
        teacher_batch = _add_noise(batch, jax.random.fold_in(key, 3), noise)
        output: Any = parts.model.apply(state.extra, teacher_batch["image"])
        target = parts.task.predict(output)

        def objective(params: Any) -> tuple[jax.Array, Any]:
            output, stats = forward(parts, params, state.stats, student_batch, key)
            # Unlabelled rows have loss 0. Averaged over replicas, this is the mean over
            # all labelled rows, whichever replicas they are on.
            losses = compute_loss(parts, output, student_batch, axis_name)
            supervised = losses.mean() * (size / labelled)
            finest = output if isinstance(output, jax.Array) else output[0]
            difference = jnp.mean((parts.task.predict(finest) - target) ** 2)
            scalars = {"supervised": supervised, "consistency": difference}
            return supervised + weight * difference, (stats, scalars)

        new, scalars = take_step(parts, state, objective, axis_name)
        share = 1 - jnp.minimum(decay, 1 - 1 / (state.step + 1))
        teacher = optax.incremental_update(_get_student(new), state.extra, share)
        return new._replace(extra=teacher), scalars

    return Method(
        init=init,
        update=update,
        variables=lambda state: state.extra,
        unlabelled=unlabelled,
    )


def _get_student(state: State) -> Variables:
    return {"params": state.params, "batch_stats": state.stats}


def _compute_ramp(step: jax.Array, steps: int) -> jax.Array:
    """Rises from exp(-5) at step 0 to 1 at step `steps`, and then stays at 1."""
    left = jnp.maximum(1 - step / steps, 0) if steps else jnp.zeros(())
    return jnp.exp(-5 * left**2)


def _add_noise(batch: Batch, key: jax.Array, sigma: float) -> Batch:
    """Adds Gaussian noise to each image, from a key that depends on its seed."""
    image, keys = batch["image"], fold_in_seeds(key, batch["seed"])
    return {**batch, "image": image + sigma * draw_noise(keys, image)}
