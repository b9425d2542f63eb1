"""Methods: ways to learn, `(parts: Ingredients, *, <options>) -> Method`.

A spec names one: `{'name': 'supervised'}`. The loop, the layouts and the checkpoints do
not depend on which one runs.
"""

from unet_jax.methods.diffusion import diffusion
from unet_jax.methods.mean_teacher import mean_teacher
from unet_jax.methods.method import Ingredients as Ingredients
from unet_jax.methods.method import Method as Method
from unet_jax.methods.method import State as State
from unet_jax.methods.supervised import supervised

__all__ = ["diffusion", "mean_teacher", "supervised"]
