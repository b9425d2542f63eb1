"""Metrics, measured on every image, summed over the images, and scored at the end.

A spec may name the functions in `__all__`. Each takes options and returns a `Metric`.
"""

from unet_jax.metrics import (
    boundary,
    calibration,
    clustering,
    objects,
    overlap,
    values,
    warping,
)
from unet_jax.metrics.boundary import *
from unet_jax.metrics.calibration import *
from unet_jax.metrics.clustering import *
from unet_jax.metrics.metric import EvaluatedImage as EvaluatedImage
from unet_jax.metrics.metric import Metric as Metric
from unet_jax.metrics.metric import Score as Score
from unet_jax.metrics.objects import *
from unet_jax.metrics.overlap import *
from unet_jax.metrics.values import *
from unet_jax.metrics.warping import *

__all__: list[str] = []
__all__ += boundary.__all__
__all__ += calibration.__all__
__all__ += clustering.__all__
__all__ += objects.__all__
__all__ += overlap.__all__
__all__ += values.__all__
__all__ += warping.__all__
