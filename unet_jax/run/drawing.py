"""Pictures of evaluated images, for any task."""

import functools

from unet_jax import pictures
from unet_jax.build.training import EvaluationParts
from unet_jax.metrics.metric import EvaluatedImage
from unet_jax.pictures import Picture


def panels(parts: EvaluationParts, case: EvaluatedImage) -> dict[str, Picture]:
    """Draws the truth, the prediction and the error of an evaluated image."""
    if case.value is not None:
        return {
            "truth": pictures.draw_image(case.target),
            "prediction": pictures.draw_image(case.value, like=case.target),
            "error": pictures.draw_deviation(case.target, case.value),
        }
    axes = case.probabilities.ndim - 1
    colours = parts.prediction.preprocessing["colours"]
    if parts.prediction.task.finds_objects:
        drawn = map(pictures.draw_objects, (case.true_objects, case.objects))
    else:
        draw = functools.partial(pictures.draw_label, colours=colours, axes=axes)
        drawn = map(draw, (case.truth, case.prediction))
    truth, prediction = drawn
    error = pictures.draw_errors(case.truth, case.prediction, axes=axes)
    return {"truth": truth, "prediction": prediction, "error": error}
