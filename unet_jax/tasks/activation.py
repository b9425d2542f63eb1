"""Activations as data, so that other programs can compute them, too."""

import itertools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

Function = Literal["softmax", "sigmoid", "identity"]
Array = Any  # a NumPy array on the host, a JAX array on the device


class Activation(NamedTuple):
    """The activation of consecutive channels.

    Attributes:
      function: 'softmax' is over these channels.
      channels: their number.
      factor: the result is multiplied by it.
    """

    function: Function
    channels: int
    factor: float = 1.0


class Activations(NamedTuple):
    """The activation of all channels: a function `f32[..., C] -> f32[..., C]`.

    Attributes:
      parts: the activations of the first channels, of the next ones, and so on.
    """

    parts: tuple[Activation, ...]

    def __call__(self, output: Array) -> Array:
        """Computes the activations, on the host for NumPy arrays."""
        xp = np if isinstance(output, np.ndarray) else jnp
        ends = list(itertools.accumulate(part.channels for part in self.parts))
        pieces = xp.split(output, ends[:-1], axis=-1)
        results = list(map(_activate, self.parts, pieces))
        return results[0] if len(results) == 1 else xp.concatenate(results, axis=-1)


def _activate(part: Activation, x: Array) -> Array:
    if part.function == "softmax":
        host = isinstance(x, np.ndarray)
        x = special.softmax(x, axis=-1) if host else jax.nn.softmax(x)
    elif part.function == "sigmoid":
        x = special.expit(x) if isinstance(x, np.ndarray) else jax.nn.sigmoid(x)
    return x if part.factor == 1 else x * part.factor
