"""Pictures of an evaluated image: its truth, prediction and errors, with a legend."""

import functools

from unet_jax import pictures
from unet_jax.build.evaluation import EvaluationParts
from unet_jax.metrics.metric import EvaluatedImage


def draw_panels(
    parts: EvaluationParts, case: EvaluatedImage
) -> dict[str, pictures.Picture]:
    """Draws the truth, the prediction and the error of an evaluated image."""
    if case.value is not None:
        return {
            "truth": pictures.draw_image(case.target),
            "prediction": pictures.draw_image(case.value, like=case.target),
            "error": pictures.draw_deviation(case.target, case.value),
        }
    axes = case.probabilities.ndim - 1
    preprocessing = parts.prediction.preprocessing
    if parts.prediction.task.finds_objects:
        drawn = map(pictures.draw_objects, (case.true_objects, case.objects))
    else:
        colours = preprocessing["colours"]
        draw = functools.partial(pictures.draw_label, colours=colours, axes=axes)
        drawn = map(draw, (case.truth, case.prediction))
    truth, prediction = drawn
    error = pictures.draw_errors(
        case.truth,
        case.prediction,
        axes=axes,
        background=preprocessing.get("background", True),
    )
    return {"truth": truth, "prediction": prediction, "error": error}


def make_legend(parts: EvaluationParts) -> pictures.Legend:
    """Returns the names and colours of the classes and errors in `draw_panels`.

    Classes are left out if each object has a colour of its own.
    """
    task, preprocessing = parts.prediction.task, parts.prediction.preprocessing
    if parts.method.sample:
        return []
    if not task.classes:
        return [("too low", pictures.TOO_LOW), ("too high", pictures.TOO_HIGH)]
    names, colours = preprocessing["classes"], map(tuple, preprocessing["colours"])
    errors = pictures.make_error_legend(
        2 if task.finds_objects else len(names),
        background=preprocessing.get("background", True),
        independent=task.overlapping,
    )
    return [
        *(() if task.finds_objects else zip(names, colours, strict=True)),
        *errors,
    ]
