"""Random numbers between two bounds that the user sets."""

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
