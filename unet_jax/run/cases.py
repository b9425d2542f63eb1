"""Images of a split with their truth and their prediction."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from unet_jax.arrays import IGNORE, Example, Segmentation
from unet_jax.build.evaluation import EvaluationParts
from unet_jax.data.examples import Examples
from unet_jax.data.resample import Resampling
from unet_jax.inference import Request
from unet_jax.metrics.metric import EvaluatedImage
from unet_jax.postprocess import find_foreground_objects
from unet_jax.tiling import Results
from unet_jax.views import View


class PredictedExample(NamedTuple):
    """An example and its prediction, on the grid of the file.

    Attributes:
      index: the place of the example in its split.
      example: the example; only its image is resampled.
      image: the truth and the prediction, for the metrics.
      output: the output of the network; None for a mean over views or members.
      has_objects: True if the task or the post-processing found the objects.
    """

    index: int
    example: Example
    image: EvaluatedImage
    output: np.ndarray | None
    has_objects: bool


def predict_examples(
    parts: EvaluationParts,
    members: Sequence[Any],
    examples: Examples,
    indices: Sequence[int],
    *,
    as_predicted: bool,
) -> Iterator[PredictedExample]:
    """Yields the predictions of examples, grouped by the shape of their images.

    Args:
      parts: the parts of the run that evaluate it.
      members: the variables of the networks; their predictions are averaged.
      examples: a split.
      indices: the examples of the split to predict.
      as_predicted: True to apply the test-time augmentation and the post-processing of
        `config.predict`.
    """
    views = parts.prediction.views if as_predicted else (View(),)
    for index, example, answer in _predict(parts, members, examples, indices, views):
        yield _compare(parts, index, example, answer, postprocess=as_predicted)


def resample_image_back(parts: EvaluationParts, example: Example) -> np.ndarray:
    """Returns the normalised image `f32[*S, C]` on the grid of the file."""
    return _resampling(parts, example).invert(example["image"])


def _resampling(parts: EvaluationParts, example: Example) -> Resampling:
    own, spacing = example["weight"].shape, example.get("spacing")
    return parts.prediction.plan_resampling(own, spacing)


def _predict(
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
    loaded: dict[int, Example] = {}  # from reading until scoring

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


def _compare(
    parts: EvaluationParts,
    index: int,
    example: Example,
    answer: Results,
    *,
    postprocess: bool,
) -> PredictedExample:
    """Puts the truth of an example and the results for it side by side."""
    task, prediction = parts.prediction.task, answer["prediction"]
    axes = example["image"].ndim - 1
    arrays: dict[str, np.ndarray] = {}
    has_objects = False
    if task.classes:
        segmented = parts.prediction.segment(
            answer["label"], prediction, postprocess=postprocess
        )
        has_objects = segmented.objects is not None
        arrays |= _segment(parts, example, prediction, segmented)
    if task.units:
        value = example["scale"].invert(prediction)
        arrays |= {"target": example["target"], "value": value}
    image = EvaluatedImage(
        spacing=tuple(example.get("spacing", (1.0,) * axes)),
        background=task.background,
        **arrays,
    )
    return PredictedExample(index, example, image, answer.get("output"), has_objects)


def _segment(
    parts: EvaluationParts,
    example: Example,
    prediction: np.ndarray,
    segmented: Segmentation,
) -> dict[str, np.ndarray]:
    """Returns the classes and the objects by the fields of `EvaluatedImage`."""
    task = parts.prediction.task
    truth, probabilities = task.truth(example["label"]), task.probabilities(prediction)
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
