"""Pictures of judged images, whatever their task."""

import numpy as np

from unet_jax import pictures
from unet_jax.build.training import Judging
from unet_jax.metrics.metric import EvaluatedImage
from unet_jax.pictures import Picture


def row(parts: Judging, image: np.ndarray, case: EvaluatedImage) -> Picture:
    """Draws input, truth, prediction and error side by side.

    Args:
      parts: of the run.
      image: `f32[*S, C]` as the network sees it.
      case: the judged image.
    """
    return pictures.row([pictures.grey(image), *panels(parts, case).values()])


def panels(parts: Judging, case: EvaluatedImage) -> dict[str, Picture]:
    """Draws the truth, the prediction and the error of a judged image."""
    if case.value is not None:
        return {
            "truth": pictures.grey(case.target),
            "prediction": pictures.grey(case.value, like=case.target),
            "error": pictures.deviation(case.target, case.value),
        }
    axes = case.probabilities.ndim - 1
    colours = parts.predicting.preprocessing["colours"]
    if not parts.predicting.task.finds_objects:
        return {
            "truth": pictures.paint(case.truth, colours, axes=axes),
            "prediction": pictures.paint(case.prediction, colours, axes=axes),
            "error": pictures.differ(case.truth, case.prediction, axes=axes),
        }
    return {
        "truth": pictures.paint_objects(case.true_objects),
        "prediction": pictures.paint_objects(case.objects),
        "error": pictures.differ(case.truth, case.prediction, axes=axes),
    }
