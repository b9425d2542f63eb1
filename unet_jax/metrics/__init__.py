"""Metrics, measured on every image, summed over the images, and scored at the end.

A spec may name the functions in `__all__`. Each takes options and returns a `Metric`.
"""

from unet_jax.metrics.boundary import (
    hausdorff,
    hausdorff95,
    surface_dice,
    surface_distance,
)
from unet_jax.metrics.calibration import brier, calibration_error
from unet_jax.metrics.clustering import rand_error, v_info, v_rand
from unet_jax.metrics.metric import EvaluatedImage as EvaluatedImage
from unet_jax.metrics.metric import Metric as Metric
from unet_jax.metrics.metric import Score as Score
from unet_jax.metrics.objects import (
    aggregated_jaccard,
    average_precision,
    det,
    f1,
    panoptic_quality,
    seg,
)
from unet_jax.metrics.overlap import accuracy, dice, iou, pixel_error, precision, recall
from unet_jax.metrics.values import mae, psnr, ssim
from unet_jax.metrics.warping import warping_error

__all__ = [
    "accuracy",
    "aggregated_jaccard",
    "average_precision",
    "brier",
    "calibration_error",
    "det",
    "dice",
    "f1",
    "hausdorff",
    "hausdorff95",
    "iou",
    "mae",
    "panoptic_quality",
    "pixel_error",
    "precision",
    "psnr",
    "rand_error",
    "recall",
    "seg",
    "ssim",
    "surface_dice",
    "surface_distance",
    "v_info",
    "v_rand",
    "warping_error",
]
