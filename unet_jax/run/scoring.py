"""Scores and pictures of whole images.

Each image is measured alone. The score of a split is that of the summed measures.
"""

import dataclasses
import functools
import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from unet_jax import pictures
from unet_jax.arrays import IGNORE, Example
from unet_jax.build.training import EvaluationParts
from unet_jax.data.examples import Examples
from unet_jax.data.resample import Resampling
from unet_jax.inference import Request
from unet_jax.metrics import calibration_error, pixel_error
from unet_jax.metrics.metric import EvaluatedImage
from unet_jax.metrics.scores import summarize
from unet_jax.postprocess import find_foreground_objects
from unet_jax.tiling import Results
from unet_jax.views import View

Scores = dict[str, float | None]
PICTURES = 4  # images of a split that are drawn

# Reports always show the confusion matrix and the reliability table.
CONFUSION, RELIABILITY = pixel_error(), calibration_error()


class Evaluation(NamedTuple):
    """Scores of a model on one split.

    Attributes:
      scores: of the whole split, by name: 'val/dice'.
      per_image: the `id` of each image and its scores.
      confusion: `i64[K, K]`, number of pixels of each true class (rows) and predicted
        class, summed over the split; None without classes.
      reliability: the summed measures of `calibration_error`; None without classes.
      picture: the first images of this process with truth and prediction.
    """

    scores: Scores
    per_image: list[dict[str, Any]]
    confusion: np.ndarray | None
    reliability: np.ndarray | None
    picture: pictures.Picture


class ImageMeasures(NamedTuple):
    """The measures of one image, one array for each metric."""

    index: int
    id: str
    loss: float | None
    measures: list[np.ndarray]


def score_images(
    parts: EvaluationParts,
    variables: Any,
    split: str,
    examples: Examples,
    *,
    as_predicted: bool,
) -> Evaluation:
    """Scores the images of a split; each process of a run measures its share of them.

    The score of the split is computed from the summed measures of its images; it is not
    the mean of their scores. The loss is the mean of the images' losses; it is
    undefined for a mean over several views. Predictions of resampled images are
    resampled back and measured on the grid of the file.

    With `as_predicted`, the test-time augmentation and the post-processing of
    `config.predict` are applied; else the output of the network alone is scored.
    """
    views = parts.prediction.views if as_predicted else (View(),)
    metrics = [metric for _, metric in parts.metrics]
    if parts.prediction.task.classes:
        metrics += [CONFUSION, RELIABILITY]
    measured, rows = [], []
    mine = range(jax.process_index(), len(examples), jax.process_count())
    predicted = _predict_images(parts, variables, examples, mine, views)
    for index, example, answer in predicted:
        case = _make_case(parts, example, answer, postprocess=as_predicted)
        loss = None
        if "output" in answer:
            loss = float(parts.loss(answer["output"], example))
        measures = [np.asarray(metric.measure(case)) for metric in metrics]
        measured.append(ImageMeasures(index, example["id"], loss, measures))
        if index < PICTURES * jax.process_count():
            image = pictures.draw_image(resample_image_back(parts, example))
            row = [image, *draw_panels(parts, case).values()]
            rows.append((index, pictures.make_contact_sheet(row, len(row))))
    picture = pictures.join_rows([row for _, row in sorted(rows, key=lambda r: r[0])])
    gathered = sorted(_gather_processes(measured))
    return _compute_scores(parts, split, gathered, picture)


def predict_case(
    parts: EvaluationParts, variables: Any, examples: Examples, index: int
) -> EvaluatedImage:
    """Predicts one image again, for the report."""
    views = parts.prediction.views
    predicted = _predict_images(parts, variables, examples, [index], views)
    _, example, answer = next(predicted)
    return _make_case(parts, example, answer, postprocess=True)


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
    colours = parts.prediction.preprocessing["colours"]
    if parts.prediction.task.finds_objects:
        drawn = map(pictures.draw_objects, (case.true_objects, case.objects))
    else:
        draw = functools.partial(pictures.draw_label, colours=colours, axes=axes)
        drawn = map(draw, (case.truth, case.prediction))
    truth, prediction = drawn
    error = pictures.draw_errors(case.truth, case.prediction, axes=axes)
    return {"truth": truth, "prediction": prediction, "error": error}


def resample_image_back(parts: EvaluationParts, example: Example) -> np.ndarray:
    """Returns the normalised image `f32[*S, C]` on the grid of the file."""
    return _resampling(parts, example).invert(example["image"])


def _resampling(parts: EvaluationParts, example: Example) -> Resampling:
    own, spacing = example["weight"].shape, example.get("spacing")
    return parts.prediction.plan_resampling(own, spacing)


def _predict_images(
    parts: EvaluationParts,
    variables: Any,
    examples: Examples,
    indices: Sequence[int],
    views: tuple[View, ...],
) -> Iterator[tuple[int, Example, Results]]:
    """Yields images and their results on the grid of the truth, grouped by shape."""
    inference, task = parts.prediction.inference, parts.prediction.task
    members = [inference.devices.put_state(variables)]
    request = Request(prediction=True, output=len(views) == 1)
    loaded: dict[int, Example] = {}  # kept from reading until scoring

    def load(index: int) -> Example:
        if index not in loaded:
            loaded[index] = examples[index]
        return loaded[index]

    by_shape = sorted(indices, key=examples.shape)
    for shape, group in itertools.groupby(by_shape, examples.shape):
        same = list(group)
        reads = [lambda box, i=i: load(i)["image"][tuple(box)] for i in same]
        answers = inference.predict_images(
            members, shape, reads, views=views, request=request
        )
        for index, answer in zip(same, answers, strict=True):
            back = _resampling(parts, load(index)).invert_results
            yield index, load(index), back(answer, task.decide, task.vectors)
            del loaded[index]


def _make_case(
    parts: EvaluationParts, example: Example, answer: Results, *, postprocess: bool
) -> EvaluatedImage:
    """Returns an image with its truth and its prediction."""
    task, prediction = parts.prediction.task, answer["prediction"]
    axes = example["image"].ndim - 1
    case = EvaluatedImage(spacing=tuple(example.get("spacing", (1.0,) * axes)))
    if task.classes:
        arrays = _segment_case(parts, example, answer, postprocess=postprocess)
        case = dataclasses.replace(case, **arrays)
    if task.units:
        case = dataclasses.replace(
            case, target=example["target"], value=example["scale"].invert(prediction)
        )
    return case


def _segment_case(
    parts: EvaluationParts, example: Example, answer: Results, *, postprocess: bool
) -> dict[str, np.ndarray]:
    """Returns the classes and the objects of a case, by the names of its fields."""
    task, prediction = parts.prediction.task, answer["prediction"]
    truth, probabilities = task.truth(example["label"]), task.probabilities(prediction)
    segmented = parts.prediction.segment(
        answer["label"], prediction, postprocess=postprocess
    )
    independent = truth.ndim == probabilities.ndim
    objects, true_objects = segmented.objects, example.get("instances")
    if objects is None:
        objects = find_foreground_objects(segmented.label, independent=independent)
    if true_objects is None:
        true_objects = find_foreground_objects(truth, independent=independent)
    unknown = truth == IGNORE
    if independent:
        unknown = unknown.all(-1)
    return {
        "truth": truth,
        "prediction": segmented.label,
        "probabilities": probabilities,
        "true_objects": np.where(unknown, IGNORE, true_objects),
        "objects": objects,
    }


def _compute_scores(
    parts: EvaluationParts,
    split: str,
    measured: list[ImageMeasures],
    picture: pictures.Picture,
) -> Evaluation:
    classes = parts.prediction.task.classes
    losses = [image.loss for image in measured if image.loss is not None]
    sums = [
        np.sum(measures, axis=0)
        for measures in zip(*(image.measures for image in measured), strict=True)
    ]
    scores = {f"{split}/loss": float(np.mean(losses)) if losses else None}
    count = len(parts.metrics)
    scores |= summarize(sums[:count], parts.metrics, classes, split)
    per_image = [
        {"id": image.id, "loss": image.loss}
        | summarize(image.measures[:count], parts.metrics, classes, "")
        for image in measured
    ]
    confusion, reliability = sums[count:] or (None, None)
    return Evaluation(scores, per_image, confusion, reliability, picture)


def _gather_processes(measured: list[ImageMeasures]) -> list[ImageMeasures]:
    """Returns the measures of all processes, in every process."""
    if jax.process_count() == 1:
        return measured
    encoded = _encode(measured)
    sizes = multihost_utils.process_allgather(np.asarray(len(encoded)))
    padded = np.pad(encoded, (0, int(sizes.max()) - len(encoded)))
    texts = np.asarray(multihost_utils.process_allgather(padded))
    return [
        ImageMeasures(index, name, loss, [np.asarray(m) for m in measures])
        for size, text in zip(sizes, texts, strict=True)
        for index, name, loss, measures in json.loads(text[:size].tobytes())
    ]


def _encode(measured: list[ImageMeasures]) -> np.ndarray:
    """Returns `u8` JSON text, because JAX would cut 64-bit numbers to 32 bits."""
    rows = [[*image[:3], [m.tolist() for m in image.measures]] for image in measured]
    return np.frombuffer(json.dumps(rows).encode(), np.uint8)
