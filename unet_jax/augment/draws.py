"""Random numbers between two bounds that the user sets, and their use by channel."""

import math

import jax
import jax.numpy as jnp

from unet_jax.errors import UserError


def draw_log_uniform(
    key: jax.Array, low: float, high: float, shape: tuple[int, ...] = ()
) -> jax.Array:
    """Draws factors in low..high whose logarithm is uniform.

    A factor between 1/2 and 1 is as likely as one between 1 and 2.

    Raises:
      UserError: `0 < low <= high` does not hold.
    """
    if not 0 < low <= high:
        raise UserError(f"needs 0 < low <= high, not low={low}, high={high}")
    return jnp.exp(
        jax.random.uniform(key, shape, minval=math.log(low), maxval=math.log(high))
    )


def draw_uniform(
    key: jax.Array, low: float, high: float, shape: tuple[int, ...] = ()
) -> jax.Array:
    """Draws numbers that are uniform in low..high.

    Raises:
      UserError: `0 <= low <= high` does not hold.
    """
    if not 0 <= low <= high:
        raise UserError(f"needs 0 <= low <= high, not low={low}, high={high}")
    return jax.random.uniform(key, shape, minval=low, maxval=high)


def broadcast_channels(values: jax.Array, image: jax.Array) -> jax.Array:
    """Reshapes one number for each channel, `[C]`, to broadcast to an image."""
    return values.reshape(*[1] * (image.ndim - 1), -1)


def select_channels(
    key: jax.Array, probability: float, changed: jax.Array, image: jax.Array
) -> jax.Array:
    """Takes each channel from the changed image with a probability, else unchanged."""
    coins = jax.random.bernoulli(key, probability, image.shape[-1:])
    return jnp.where(broadcast_channels(coins, image), changed, image)
