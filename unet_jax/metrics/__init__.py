"""Metrics: what is summed on the devices and scored once, on the host, at the end.

`__all__` holds what a spec may name: functions of a summed confusion matrix.
"""

from unet_jax.metrics.overlap import (
    accuracy,
    dice,
    iou,
    pixel_error,
    precision,
    recall,
)

LOWER_IS_BETTER = ("pixel_error",)

__all__ = ["accuracy", "dice", "iou", "pixel_error", "precision", "recall"]
