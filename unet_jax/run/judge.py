"""Whole images against their labels: each measured alone, and the sums scored once."""

import itertools
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from unet_jax import pictures
from unet_jax.arrays import IGNORE
from unet_jax.build import Parts
from unet_jax.data.examples import Examples
from unet_jax.data.resample import Resampling
from unet_jax.inference import Want
from unet_jax.metrics import calibration_error, pixel_error
from unet_jax.metrics.case import Case
from unet_jax.metrics.scores import summarize
from unet_jax.postprocess import Segmentation, foreground_objects
from unet_jax.tiling import Answer
from unet_jax.views import View

Scores = dict[str, float | None]
PICTURED = 4  # images of a split that are drawn

# What a report shows, whatever the config asks for: a confusion matrix and a table.
CONFUSION, RELIABILITY = pixel_error(), calibration_error()


class Judged(NamedTuple):
    """What a split says of a model.

    Attributes:
      scores: of the whole split, 'val/dice' and so on.
      images: the same of each image, after its `id`.
      confusion: pixels of each truth (rows) and prediction, summed over the split.
      reliability: what `calibration.reliability` makes a table of.
      drawn: this process's first images, their truth and their prediction.
    """

    scores: Scores
    images: list[dict[str, Any]]
    confusion: np.ndarray
    reliability: np.ndarray
    drawn: pictures.Picture


class Measured(NamedTuple):
    """One image's share of it."""

    index: int
    id: str
    loss: float | None
    measures: list[np.ndarray]


def judge(
    parts: Parts,
    variables: Any,
    split: str,
    examples: Examples,
    *,
    as_predicted: bool,
) -> Judged:
    """Scores a split; every process of a run measures its share of the images.

    A metric of the split is that of the images' summed measures, not a mean of their
    scores. The loss is the mean of the images' losses; it does not exist of a mean over
    several views. Where images were resampled, probabilities and logits are brought
    back to the grid of the file, and all is measured there.

    Args:
      parts: the run.
      variables: of the network.
      split: what the names of the scores begin with.
      examples: the images.
      as_predicted: whether with the test-time augmentation and the post-processing of
        `config.predict`, or the network alone.
    """
    views = parts.predicting.views if as_predicted else (View(),)
    tools = (*(metric for _, metric in parts.metrics), CONFUSION, RELIABILITY)
    measured, rows = [], []
    for index, example, answer in _answers(parts, variables, examples, views):
        case = _case(parts, example, answer, mended=as_predicted)
        loss = None
        if "logits" in answer:
            loss = float(
                parts.loss(answer["logits"], example["label"], example["weight"])
            )
        measures = [np.asarray(tool.measure(case)) for tool in tools]
        measured.append(Measured(index, example["id"], loss, measures))
        if index < PICTURED * jax.process_count():
            rows.append((index, _draw(parts, example, case)))
    drawn = pictures.sheet([row for _, row in sorted(rows, key=lambda r: r[0])])
    return _score(parts, split, sorted(_over_processes(measured)), drawn)


def look(parts: Parts, variables: Any, examples: Examples, index: int) -> Case:
    """One image again, as it is predicted."""
    example = examples[index]
    shape = example["image"].shape[:-1]
    how = {"views": parts.predicting.views, "want": Want(probabilities=True)}
    here = parts.predicting.inference.here
    read = [lambda box: example["image"][tuple(box)]]
    members = [here.put_state(variables)]
    answer = next(parts.predicting.inference.whole(members, shape, read, **how))
    return _case(parts, example, _brought_back(parts, example, answer), mended=True)


def image_of(parts: Parts, example: dict[str, Any]) -> np.ndarray:
    """The image `f32[*S, C]` as the network sees it, on the grid of its truth."""
    return _resampling(parts, example).back(example["image"])


def _draw(parts: Parts, example: dict[str, Any], case: Case) -> pictures.Picture:
    """Input, truth, prediction and error."""
    colours = parts.predicting.preprocessing["colours"]
    image = image_of(parts, example)
    return pictures.row(image, case.truth, case.prediction, colours)


def _resampling(parts: Parts, example: dict[str, Any]) -> Resampling:
    own, spacing = example["weight"].shape, example.get("spacing")
    return parts.predicting.resampling(own, spacing)


def _brought_back(parts: Parts, example: dict[str, Any], answer: Answer) -> Answer:
    """What is said of an image, on the grid of its truth."""
    independent = parts.predicting.independent
    return _resampling(parts, example).answer(answer, independent=independent)


def _answers(
    parts: Parts, variables: Any, examples: Examples, views: tuple[View, ...]
) -> Iterator[tuple[int, dict[str, Any], Answer]]:
    """This process's images, those of one shape together, and what is said of them."""
    inference = parts.predicting.inference
    members = [inference.here.put_state(variables)]
    want = Want(probabilities=True, logits=len(views) == 1)
    mine = range(jax.process_index(), len(examples), jax.process_count())
    held: dict[int, dict[str, Any]] = {}  # from the reading to the judging

    def load(index: int) -> dict[str, Any]:
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
    parts: Parts, example: dict[str, Any], answer: Answer, *, mended: bool
) -> Case:
    truth = example["label"]
    label = answer["label"].astype(np.int32)
    probabilities = answer["probabilities"]
    independent = parts.predicting.independent
    segmented = Segmentation(label)
    if mended:
        segmented = parts.predicting.mend(segmented, probabilities)
    objects, true_objects = segmented.objects, example.get("instances")
    if objects is None:
        objects = foreground_objects(segmented.label, independent=independent)
    if true_objects is None:
        true_objects = foreground_objects(truth, independent=independent)
    unknown = truth == IGNORE
    if independent:
        unknown = unknown.all(-1)
    return Case(
        truth=truth,
        prediction=segmented.label,
        probabilities=probabilities,
        true_objects=np.where(unknown, IGNORE, true_objects),
        objects=objects,
        spacing=tuple(example.get("spacing", (1.0,) * unknown.ndim)),
    )


def _score(
    parts: Parts, split: str, measured: list[Measured], drawn: pictures.Picture
) -> Judged:
    classes = parts.predicting.classes
    losses = [one.loss for one in measured if one.loss is not None]
    *sums, confusion, reliability = [
        np.sum(each, axis=0)
        for each in zip(*(m.measures for m in measured), strict=True)
    ]
    scores = {f"{split}/loss": float(np.mean(losses)) if losses else None}
    scores |= summarize(sums, parts.metrics, classes, split)
    images = [
        {"id": one.id, "loss": one.loss}
        | summarize(one.measures[:-2], parts.metrics, classes, "")
        for one in measured
    ]
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
