"""From a config to objects; below this room nothing knows what a config is."""

from unet_jax.build.predicting import Predicting, predicting
from unet_jax.build.surveying import survey
from unet_jax.build.training import Parts, build

__all__ = ["Parts", "Predicting", "build", "predicting", "survey"]
