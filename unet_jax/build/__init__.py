"""Config -> objects; nothing below this folder knows what a config is."""

from unet_jax.build.predicting import Predicting, predicting
from unet_jax.build.surveying import survey
from unet_jax.build.training import (
    Generating,
    Judging,
    Parts,
    build,
    generating,
    judging,
)

__all__ = [
    "Generating",
    "Judging",
    "Parts",
    "Predicting",
    "build",
    "generating",
    "judging",
    "predicting",
    "survey",
]
