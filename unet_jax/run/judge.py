"""Scores of whole images: each is measured alone, and the sums are scored once."""

import dataclasses
import itertools
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from unet_jax import pictures
from unet_jax.arrays import IGNORE, Example
from unet_jax.build.training import Judging
from unet_jax.data.examples import Examples
from unet_jax.data.resample import Resampling
from unet_jax.inference import Want
from unet_jax.metrics import calibration_error, pixel_error
from unet_jax.metrics.case import Case
from unet_jax.metrics.scores import summarize
from unet_jax.postprocess import foreground_objects
from unet_jax.run import drawing
from unet_jax.tiling import Answer
from unet_jax.views import View

Scores = dict[str, float | None]
PICTURED = 4  # images of a split that are drawn

# What a report shows, whatever the config asks for: a confusion matrix and a table.
CONFUSION, RELIABILITY = pixel_error(), calibration_error()


class Judged(NamedTuple):
    """The scores of a model on one split.

    Attributes:
      scores: of the whole split, 'val/dice' and so on.
      images: the same of each image, after its `id`.
      confusion: pixels of each truth (rows) and prediction, summed over the split; None
        without classes.
      reliability: the sums of `calibration_error`; None without classes.
      drawn: this process's first images, their truth and their prediction.
    """

    scores: Scores
    images: list[dict[str, Any]]
    confusion: np.ndarray | None
    reliability: np.ndarray | None
    drawn: pictures.Picture


class Measured(NamedTuple):
    """The measures of one image."""

    index: int
    id: str
    loss: float | None
    measures: list[np.ndarray]


def judge(
    parts: Judging,
    variables: Any,
    split: str,
    examples: Examples,
    *,
    as_predicted: bool,
) -> Judged:
    """Scores a split; every process of a run measures its share of the images.

    A metric of the split is that of the images' summed measures, not a mean of their
    scores. The loss is the mean of the images' losses; it is undefined for a mean over
    several views. Where images were resampled, predictions are brought back to the grid
    of the file, and everything is measured there.

    Args:
      parts: of the run.
      variables: of the network.
      split: the prefix of the names of the scores.
      examples: the images.
      as_predicted: True for the test-time augmentation and the post-processing of
        `config.predict`, False for the network alone.
    """
    views = parts.predicting.views if as_predicted else (View(),)
    classes = bool(parts.predicting.task.classes)
    tools = [metric for _, metric in parts.metrics]
    tools += [CONFUSION, RELIABILITY] if classes else []
    measured, rows = [], []
    for index, example, answer in _answers(parts, variables, examples, views):
        case = _case(parts, example, answer, postprocess=as_predicted)
        loss = None
        if "output" in answer:
            loss = float(parts.loss(answer["output"], example))
        measures = [np.asarray(tool.measure(case)) for tool in tools]
        measured.append(Measured(index, example["id"], loss, measures))
        if index < PICTURED * jax.process_count():
            drawn = drawing.row(parts, image_of(parts, example), case)
            rows.append((index, drawn))
    drawn = pictures.sheet([row for _, row in sorted(rows, key=lambda r: r[0])])
    return _score(parts, split, sorted(_over_processes(measured)), drawn)


def predict_case(
    parts: Judging, variables: Any, examples: Examples, index: int
) -> Case:
    """Predicts one image again, for the report."""
    example = examples[index]
    shape = example["image"].shape[:-1]
    how = {"views": parts.predicting.views, "want": Want(prediction=True)}
    here = parts.predicting.inference.here
    read = [lambda box: example["image"][tuple(box)]]
    members = [here.put_state(variables)]
    answer = next(parts.predicting.inference.whole(members, shape, read, **how))
    answer = _brought_back(parts, example, answer)
    return _case(parts, example, answer, postprocess=True)


def image_of(parts: Judging, example: Example) -> np.ndarray:
    """Returns the image `f32[*S, C]` of the network, on the grid of its truth."""
    return _resampling(parts, example).invert(example["image"])


def _resampling(parts: Judging, example: Example) -> Resampling:
    own, spacing = example["weight"].shape, example.get("spacing")
    return parts.predicting.resampling(own, spacing)


def _brought_back(parts: Judging, example: Example, answer: Answer) -> Answer:
    """The results for an image, on the grid of its truth."""
    task = parts.predicting.task
    return _resampling(parts, example).invert_results(answer, task.decide, task.vectors)


def _answers(
    parts: Judging, variables: Any, examples: Examples, views: tuple[View, ...]
) -> Iterator[tuple[int, Example, Answer]]:
    """This process's images, those of one shape together, with their results."""
    inference = parts.predicting.inference
    members = [inference.here.put_state(variables)]
    want = Want(prediction=True, output=len(views) == 1)
    mine = range(jax.process_index(), len(examples), jax.process_count())
    held: dict[int, Example] = {}  # from the reading to the judging

    def load(index: int) -> Example:
        if index not in held:
            held[index] = examples[index]
        return held[index]

    def reader(index: int) -> Any:
        return lambda box: load(index)["image"][tuple(box)]

    for shape, same in itertools.groupby(
        sorted(mine, key=examples.shape), examples.shape
    ):
        indices = list(same)
        reads = list(map(reader, indices))
        answers = inference.whole(members, shape, reads, views=views, want=want)
        for index, answer in zip(indices, answers, strict=True):
            yield index, load(index), _brought_back(parts, load(index), answer)
            del held[index]


def _case(
    parts: Judging, example: Example, answer: Answer, *, postprocess: bool
) -> Case:
    """An image with its truth and its prediction."""
    task, prediction = parts.predicting.task, answer["prediction"]
    axes = example["image"].ndim - 1
    case = Case(spacing=tuple(example.get("spacing", (1.0,) * axes)))
    if task.classes:
        case = dataclasses.replace(
            case, **_labels(parts, example, answer, postprocess=postprocess)
        )
    if task.units:
        case = dataclasses.replace(
            case, target=example["target"], value=example["scale"].invert(prediction)
        )
    return case


def _labels(
    parts: Judging, example: Example, answer: Answer, *, postprocess: bool
) -> dict[str, np.ndarray]:
    """The classes and the objects of a case."""
    task, prediction = parts.predicting.task, answer["prediction"]
    truth, probabilities = task.truth(example["label"]), task.probabilities(prediction)
    segmented = parts.predicting.segment(
        answer["label"], prediction, postprocess=postprocess
    )
    independent = truth.ndim == probabilities.ndim
    objects, true_objects = segmented.objects, example.get("instances")
    if objects is None:
        objects = foreground_objects(segmented.label, independent=independent)
    if true_objects is None:
        true_objects = foreground_objects(truth, independent=independent)
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


def _score(
    parts: Judging, split: str, measured: list[Measured], drawn: pictures.Picture
) -> Judged:
    classes = parts.predicting.task.classes
    losses = [one.loss for one in measured if one.loss is not None]
    sums = [
        np.sum(each, axis=0)
        for each in zip(*(m.measures for m in measured), strict=True)
    ]
    scores = {f"{split}/loss": float(np.mean(losses)) if losses else None}
    count = len(parts.metrics)
    scores |= summarize(sums[:count], parts.metrics, classes, split)
    images = [
        {"id": one.id, "loss": one.loss}
        | summarize(one.measures[:count], parts.metrics, classes, "")
        for one in measured
    ]
    confusion, reliability = sums[count:] or (None, None)
    return Judged(scores, images, confusion, reliability, drawn)


def _over_processes(measured: list[Measured]) -> list[Measured]:
    """Every process's images, in every process."""
    if jax.process_count() == 1:
        return measured
    text = _packed(measured)
    sizes = multihost_utils.process_allgather(np.asarray(len(text)))
    padded = np.pad(text, (0, int(sizes.max()) - len(text)))
    texts = np.asarray(multihost_utils.process_allgather(padded))
    return [
        Measured(index, name, loss, [np.asarray(m) for m in measures])
        for size, text in zip(sizes, texts, strict=True)
        for index, name, loss, measures in json.loads(text[:size].tobytes())
    ]


def _packed(measured: list[Measured]) -> np.ndarray:
    """`u8`: JSON, which keeps all 64 bits of a number where JAX would cut 32 off."""
    rows = [[*one[:3], [m.tolist() for m in one.measures]] for one in measured]
    return np.frombuffer(json.dumps(rows).encode(), np.uint8)
