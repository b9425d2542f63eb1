"""Scores and pictures of whole images.

Each image is measured alone. The score of a split is that of the summed measures.
"""

import contextlib
import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator, Sequence, Set
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from unet_jax import logs, pictures
from unet_jax.arrays import IGNORE, Example
from unet_jax.build import checks
from unet_jax.build.evaluation import EvaluationParts
from unet_jax.data.examples import Examples
from unet_jax.data.resample import Resampling
from unet_jax.inference import NonFinitePredictionError, Request
from unet_jax.logs import show_progress
from unet_jax.metrics import calibration_error, pixel_error
from unet_jax.metrics.metric import EvaluatedImage
from unet_jax.metrics.object_errors import ObjectErrors, count_object_errors
from unet_jax.metrics.scores import (
    find_absent_classes,
    list_averaged,
    summarize,
)
from unet_jax.postprocess import find_foreground_objects
from unet_jax.run.panels import draw_panels, make_legend
from unet_jax.text import finite_or_none
from unet_jax.tiling import Results
from unet_jax.views import View

Scores = dict[str, float | None]
PICTURES = 4  # images of a split that are drawn

SPLIT_NAMES = {"val": "validation", "test": "test"}

# Reports always show the confusion matrix and the reliability table.
CONFUSION, RELIABILITY = pixel_error(), calibration_error()
FAILED = -1  # the index of a prediction that is not finite


class Evaluation(NamedTuple):
    """Scores of a model on one split.

    Attributes:
      scores: of the whole split, by name: 'val/dice'.
      per_image: the `id` of each image and its scores.
      confusion: `i64[K, K]`, number of pixels of each true class (rows) and predicted
        class, summed over the split; None without classes.
      reliability: the summed measures of `calibration_error`; None without classes.
      object_errors: the counts of `ObjectErrors`, summed over the split; None if
        objects were not counted. Each image in `per_image` has its own as `objects`.
      picture: the first images of this process with truth and prediction.
      averaged: the metrics whose score is the mean over the classes that count.
      absent: the classes that have no pixel in the truth of the split, but the
        background only if it counts in the means.
      keys: the keys of the examples, such as 'instances' and 'spacing'.
    """

    scores: Scores
    per_image: list[dict[str, Any]]
    confusion: np.ndarray | None
    reliability: np.ndarray | None
    object_errors: np.ndarray | None
    picture: pictures.Picture
    averaged: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    keys: frozenset[str] = frozenset()


class ImageMeasures(NamedTuple):
    """The measures of one image, one array for each metric."""

    index: int
    id: str
    loss: float | None
    measures: list[np.ndarray]


def score_images(
    parts: EvaluationParts,
    members: Sequence[Any],
    split: str,
    examples: Examples,
    *,
    as_predicted: bool,
) -> Evaluation:
    """Scores the images of a split; each process of a run measures its share of them.

    The score of the split is computed from the summed measures of its images; it is not
    the mean of their scores. The loss is the mean of the images' losses; it is
    undefined for a mean over several views or members, and for an image without
    annotation. Predictions of resampled images are resampled back and measured on the
    grid of the file.

    Args:
      parts: the parts of the run that evaluate it.
      members: the variables of the networks; their predictions are averaged.
      split: 'val' or 'test', for the names of the scores.
      examples: the images.
      as_predicted: True to apply the test-time augmentation and the post-processing of
        `config.predict`; False to score the output of the networks alone.
    """
    views = parts.prediction.views if as_predicted else (View(),)
    functions = [metric.measure for _, metric in parts.metrics]
    keys = frozenset(examples[0])  # all examples of a split have the same
    extra = _choose_extra_measures(parts, keys, as_predicted=as_predicted)
    functions += extra.values()
    measured, rows = [], []
    mine = range(jax.process_index(), len(examples), jax.process_count())
    predicted = _predict_images(parts, members, examples, mine, views)
    text = f"evaluating {SPLIT_NAMES[split]} images"
    with _share_failure(measured), show_progress(text, len(mine)) as report:
        for index, example, answer in predicted:
            case = _make_case(parts, example, answer, postprocess=as_predicted)
            loss = None
            if "output" in answer and example["weight"].any():
                loss = finite_or_none(float(parts.loss(answer["output"], example)))
            measures = [np.asarray(measure(case)) for measure in functions]
            measured.append(ImageMeasures(index, example["id"], loss, measures))
            if index < PICTURES * jax.process_count():
                image = pictures.draw_image(resample_image_back(parts, example))
                row = [image, *draw_panels(parts, case).values()]
                rows.append((index, pictures.make_contact_sheet(row, len(row))))
            report(len(measured))
    picture = pictures.join_rows(
        [row for _, row in sorted(rows, key=lambda r: r[0])], make_legend(parts)
    )
    gathered = sorted(_gather_processes(measured))
    if gathered and gathered[0].index == FAILED:
        raise NonFinitePredictionError(gathered[0].id)
    evaluation = _compute_scores(parts, split, gathered, picture, list(extra))
    return evaluation._replace(keys=keys)


def _choose_extra_measures(
    parts: EvaluationParts, keys: Set[str], *, as_predicted: bool
) -> dict[str, Callable[[EvaluatedImage], np.ndarray]]:
    """Returns the measures that reports show besides the metrics, by their names.

    Objects are counted in the test split, if the data set, the task or a metric
    distinguishes them.
    """
    task = parts.prediction.task
    if not task.classes:
        return {}
    extra = {"confusion": CONFUSION.measure, "reliability": RELIABILITY.measure}
    if as_predicted and (
        task.finds_objects
        or any(metric.kind == "objects" for _, metric in parts.metrics)
        or "instances" in keys
    ):
        extra["object_errors"] = count_object_errors
    return extra


@contextlib.contextmanager
def _share_failure(measured: list[ImageMeasures]) -> Iterator[None]:
    """Adds a prediction that is not finite to the measures, with its error as the id.

    A process that raised the error here would leave the others waiting.
    """
    try:
        yield
    except NonFinitePredictionError as error:
        measured.append(ImageMeasures(FAILED, str(error), None, []))


def warn_of_absent_classes(absent: Sequence[str], split: str) -> None:
    """Prints a line if classes have no pixel in the truth of a split."""
    if absent:
        logs.say(f"warning: {checks.describe_absent_classes(absent, split)}")


def predict_case(
    parts: EvaluationParts, members: Sequence[Any], examples: Examples, index: int
) -> EvaluatedImage:
    """Predicts one image again, for the report."""
    views = parts.prediction.views
    predicted = _predict_images(parts, members, examples, [index], views)
    _, example, answer = next(predicted)
    return _make_case(parts, example, answer, postprocess=True)


def resample_image_back(parts: EvaluationParts, example: Example) -> np.ndarray:
    """Returns the normalised image `f32[*S, C]` on the grid of the file."""
    return _resampling(parts, example).invert(example["image"])


def _resampling(parts: EvaluationParts, example: Example) -> Resampling:
    own, spacing = example["weight"].shape, example.get("spacing")
    return parts.prediction.plan_resampling(own, spacing)


def _predict_images(
    parts: EvaluationParts,
    members: Sequence[Any],
    examples: Examples,
    indices: Sequence[int],
    views: tuple[View, ...],
) -> Iterator[tuple[int, Example, Results]]:
    """Yields images and their results on the grid of the truth, grouped by shape."""
    inference, task = parts.prediction.inference, parts.prediction.task
    members = [inference.place(variables) for variables in members]
    request = Request(prediction=True, output=len(views) * len(members) == 1)
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
    case = EvaluatedImage(
        spacing=tuple(example.get("spacing", (1.0,) * axes)),
        background=task.background,
    )
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
    extra: Sequence[str],
) -> Evaluation:
    classes, omit = parts.prediction.task.classes, parts.omits_background
    losses = [image.loss for image in measured if image.loss is not None]
    sums = [
        np.sum(measures, axis=0)
        for measures in zip(*(image.measures for image in measured), strict=True)
    ]
    scores = {f"{split}/loss": float(np.mean(losses)) if losses else None}
    count = len(parts.metrics)
    scores |= summarize(
        sums[:count], parts.metrics, classes, split, omit_background=omit
    )
    per_image = [
        {"id": image.id, "loss": image.loss}
        | summarize(
            image.measures[:count], parts.metrics, classes, omit_background=omit
        )
        for image in measured
    ]
    if "object_errors" in extra:
        place = count + extra.index("object_errors")
        for row, image in zip(per_image, measured, strict=True):
            row["objects"] = name_object_errors(image.measures[place])
    named = dict(zip(extra, sums[count:], strict=True))
    confusion, absent = named.get("confusion"), ()
    if confusion is not None:
        absent = find_absent_classes(confusion, classes, omit_background=omit)
    return Evaluation(
        scores=scores,
        per_image=per_image,
        confusion=confusion,
        reliability=named.get("reliability"),
        object_errors=named.get("object_errors"),
        picture=picture,
        averaged=list_averaged(sums[:count], parts.metrics),
        absent=absent,
    )


def name_object_errors(counts: np.ndarray) -> dict[str, int]:
    """Returns the counts of `ObjectErrors` as JSON data, by name."""
    return ObjectErrors(*counts.tolist())._asdict()


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
