"""Scores and pictures of whole images.

Each image is measured alone. The score of a split is that of the summed measures.
"""

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence, Set
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from unet_jax import logs, pictures
from unet_jax.build import checks
from unet_jax.build.evaluation import EvaluationParts
from unet_jax.data.examples import Examples
from unet_jax.inference import NonFinitePredictionError
from unet_jax.metrics import calibration_error, pixel_error
from unet_jax.metrics.metric import EvaluatedImage
from unet_jax.metrics.object_errors import ObjectErrors, count_object_errors
from unet_jax.metrics.scores import (
    find_absent_classes,
    list_averaged,
    summarize,
)
from unet_jax.progress import show_progress
from unet_jax.run.cases import (
    PredictedExample,
    predict_examples,
    resample_image_back,
)
from unet_jax.run.panels import draw_panels, make_legend
from unet_jax.text import finite_or_none

Scores = dict[str, float | None]
PICTURES = 4  # images of a split that are drawn

SPLIT_NAMES = {"val": "validation", "test": "test"}

# Reports always show the confusion matrix and the reliability table.
CONFUSION, RELIABILITY = pixel_error(), calibration_error()
FAILED = -1  # the index of a prediction that is not finite


class ImageMeasures(NamedTuple):
    """The measures of one image.

    Attributes:
      index: of the image in its split; `FAILED` if its prediction is not finite.
      id: of the image; the error if its prediction is not finite.
      loss: of the image; None if it is undefined.
      measures: an `f64` or `i64` array for each metric, and then for each measure that
        `Evaluation.extra` names. Its shape is the same for every image.
    """

    index: int
    id: str
    loss: float | None
    measures: list[np.ndarray]


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
      measured: the measures of each image, in the order of `per_image`: those of the
        metrics, then those that `extra` names.
      extra: the names of the further measures.
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
    measured: tuple[ImageMeasures, ...] = ()
    extra: tuple[str, ...] = ()


def score_images(
    parts: EvaluationParts,
    members: Sequence[Any],
    split: str,
    examples: Examples,
    *,
    as_predicted: bool,
    on_case: Callable[[PredictedExample], None] = lambda case: None,
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
      on_case: is called for each image of this process.

    Raises:
      NonFinitePredictionError: the prediction of an image is not finite; all processes
        raise the error.
    """
    functions = [metric.measure for _, metric in parts.metrics]
    keys = frozenset(examples[0])  # all examples of a split have the same
    extra = _choose_extra_measures(parts, keys, as_predicted=as_predicted)
    functions += extra.values()
    measured, rows = [], []
    mine = range(jax.process_index(), len(examples), jax.process_count())
    cases = predict_examples(parts, members, examples, mine, as_predicted=as_predicted)
    text = f"evaluating {SPLIT_NAMES[split]} images"
    with _share_failure(measured), show_progress(text, len(mine)) as report:
        for case in cases:
            on_case(case)
            example, loss = case.example, None
            if case.output is not None and example["weight"].any():
                loss = finite_or_none(float(parts.loss(case.output, example)))
            measures = [np.asarray(measure(case.image)) for measure in functions]
            measured.append(ImageMeasures(case.index, example["id"], loss, measures))
            if case.index < PICTURES * jax.process_count():
                image = pictures.draw_image(resample_image_back(parts, example))
                row = [image, *draw_panels(parts, case.image).values()]
                rows.append((case.index, pictures.make_contact_sheet(row, len(row))))
            report(len(measured))
    picture = pictures.join_rows(
        [row for _, row in sorted(rows, key=lambda r: r[0])], make_legend(parts)
    )
    gathered = sorted(_gather_processes(measured))
    if gathered and gathered[0].index == FAILED:
        raise NonFinitePredictionError(gathered[0].id)
    evaluation = _compute_scores(parts, split, gathered, picture, list(extra))
    return evaluation._replace(keys=keys)


def pool_evaluations(
    parts: EvaluationParts, split: str, evaluations: Sequence[Evaluation]
) -> Evaluation:
    """Scores the images of several evaluations together, as one set.

    The measures of all images are summed; the result is not the mean of the scores. The
    picture is that of the first evaluation.

    Args:
      parts: the parts of one of the runs; all have the same metrics and classes.
      split: 'val' or 'test', for the names of the scores.
      evaluations: of different images.
    """
    first = evaluations[0]
    every = [image for each in evaluations for image in each.measured]
    measured = [image._replace(index=i) for i, image in enumerate(every)]
    pooled = _compute_scores(parts, split, measured, first.picture, first.extra)
    return pooled._replace(keys=first.keys)


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
        logs.warn(checks.describe_absent_classes(absent, split))


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
        measured=tuple(measured),
        extra=tuple(extra),
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
