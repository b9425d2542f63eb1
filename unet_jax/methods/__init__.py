"""Training methods, `(parts: Ingredients, *, <options>) -> Method`.

A spec names a method: `{'name': 'supervised'}`. The training loop, the layouts and the
checkpoints work in the same way for every method.
"""

from unet_jax.methods.diffusion import diffusion
from unet_jax.methods.mean_teacher import mean_teacher
from unet_jax.methods.method import Ingredients as Ingredients
from unet_jax.methods.method import Method as Method
from unet_jax.methods.method import State as State
from unet_jax.methods.supervised import supervised

__all__ = ["diffusion", "mean_teacher", "supervised"]
