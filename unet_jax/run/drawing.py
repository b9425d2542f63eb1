"""Pictures of judged images, whatever their task."""

import numpy as np

from unet_jax import pictures
from unet_jax.build.training import EvaluationParts
from unet_jax.metrics.metric import EvaluatedImage
from unet_jax.pictures import Picture


def row(parts: EvaluationParts, image: np.ndarray, case: EvaluatedImage) -> Picture:
    """Draws input, truth, prediction and error side by side.

    Args:
      parts: of the run.
      image: `f32[*S, C]` as the network sees it.
      case: the judged image.
    """
    return pictures.join_row(
        [pictures.draw_image(image), *panels(parts, case).values()]
    )


def panels(parts: EvaluationParts, case: EvaluatedImage) -> dict[str, Picture]:
    """Draws the truth, the prediction and the error of a judged image."""
    if case.value is not None:
        return {
            "truth": pictures.draw_image(case.target),
            "prediction": pictures.draw_image(case.value, like=case.target),
            "error": pictures.draw_deviation(case.target, case.value),
        }
    axes = case.probabilities.ndim - 1
    colours = parts.prediction.preprocessing["colours"]
    if not parts.prediction.task.finds_objects:
        return {
            "truth": pictures.draw_label(case.truth, colours, axes=axes),
            "prediction": pictures.draw_label(case.prediction, colours, axes=axes),
            "error": pictures.draw_errors(case.truth, case.prediction, axes=axes),
        }
    return {
        "truth": pictures.draw_objects(case.true_objects),
        "prediction": pictures.draw_objects(case.objects),
        "error": pictures.draw_errors(case.truth, case.prediction, axes=axes),
    }
