"""Builds the parts of a run that evaluate it."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from unet_jax.arrays import Example
from unet_jax.build import binding, field_checks
from unet_jax.build.dataset import load_splits
from unet_jax.build.learning import Learning, build_learning, make_task
from unet_jax.build.prediction import (
    PredictionParts,
    build_prediction,
    check_runtime,
    make_value_scale,
)
from unet_jax.build.preprocessing import Preprocessing, check_label_map, make_measure
from unet_jax.data import examples, weights
from unet_jax.data.examples import Examples
from unet_jax.data.source import Source
from unet_jax.errors import prefix_errors
from unet_jax.losses import Loss
from unet_jax.methods import Method
from unet_jax.metrics.metric import Metric
from unet_jax.tasks import Task


class EvaluationParts(NamedTuple):
    """The parts of a run that evaluate it.

    Attributes:
      prediction: the parts that predict.
      method: the method of training.
      metrics: the metrics with their names.
      loss: `(output f32[*S, channels], example) -> f32[]` of a whole image.
      test: the test split.
      crop: the spatial shape of a training crop.
      files: the image files of the records, by their ids; empty if the data set does
        not name them.
      tiff_axes: the order in which the axes of TIFF files were read.
    """

    prediction: PredictionParts
    method: Method
    metrics: tuple[tuple[str, Metric], ...]
    loss: Callable[[np.ndarray, Example], jax.Array]
    test: Examples
    crop: tuple[int, ...]
    files: Mapping[str, Path] = MappingProxyType({})
    tiff_axes: str = ""

    @property
    def omits_background(self) -> bool:
        """True if the mean of a score over the classes leaves out class 0.

        Runs that are older than `config.data.background` average all classes.
        """
        task, preprocessing = self.prediction.task, self.prediction.preprocessing
        return task.background and "background" in preprocessing


def build_evaluation(
    config: ConfigDict, preprocessing: Preprocessing, notes: Mapping[str, str]
) -> EvaluationParts:
    """Builds the parts of a run that evaluate it. Only the test split is prepared.

    The arguments are those of `build_prediction` and of `training.build`.

    Raises:
      UserError: a field of the config is wrong, or the data cannot be found.
    """
    field_checks.check_fields(config)
    check_runtime(config)
    binding.build_task(config, binding.ANY_DATA)
    splits = load_splits(config, notes)
    check_label_map(preprocessing, splits)
    task = make_task(config, splits.train)
    memory = examples.MemoryBudget(config.cache * 2**30)
    prepare = make_prepare(config, splits.train, task, preprocessing, memory)
    with prefix_errors("config.data"):
        test = prepare(splits.test, evaluation=True)
    learning = build_learning(config, task, None)
    parts = collect_evaluation(config, preprocessing, learning, test, training=False)
    if (report := splits.report) is None:
        return parts
    root = Path(report.root)
    files = {r.id: root / r.image for r in report.records if r.split == "test"}
    return parts._replace(files=files, tiff_axes=report.tiff_axes)


def collect_evaluation(
    config: ConfigDict,
    preprocessing: Preprocessing,
    learning: Learning,
    test: Examples,
    *,
    training: bool,
) -> EvaluationParts:
    """Returns the parts that evaluate, from those that learn and the test split.

    `training` is that of `build_prediction`.
    """
    return EvaluationParts(
        prediction=build_prediction(config, preprocessing, training=training),
        method=learning.method,
        metrics=learning.metrics,
        loss=_make_image_loss(learning.task, learning.loss),
        test=test,
        crop=tuple(config.crop),
    )


def make_prepare(
    config: ConfigDict,
    train: Source,
    task: Task,
    preprocessing: Preprocessing,
    memory: examples.MemoryBudget,
) -> Callable[..., Examples]:
    """Returns `prepare_examples` for a run, with a memory budget for all splits."""
    weigh = binding.bind_field(weights, config, "weight_map")
    count = weights.pixel_counter(train)

    @prefix_errors("config.weight_map")
    def weight_map(label: np.ndarray, instances: np.ndarray | None) -> np.ndarray:
        return weigh(label, instances, count)

    return functools.partial(
        examples.prepare_examples,
        measure=make_measure(config, train.channels),
        weigh=weight_map,
        add_truth=task.prepare,
        needs=task.needs,
        value_scale=make_value_scale(task, preprocessing["target_scale"]),
        memory=memory,
        spacing=tuple(config.spacing),
    )


def _make_image_loss(
    task: Task, loss: Loss
) -> Callable[[np.ndarray, Example], jax.Array]:
    """Returns the loss of one whole image, without augmentation."""

    @jax.jit
    def compute(output: jax.Array, arrays: dict[str, jax.Array]) -> jax.Array:
        output, batch = jax.tree.map(lambda x: x[None], (output, arrays))
        targets = task.targets(batch)
        return loss(task.outputs(output), targets, batch["weight"])[0]

    def image_loss(output: np.ndarray, example: Example) -> jax.Array:
        arrays = {k: v for k, v in example.items() if isinstance(v, np.ndarray)}
        if task.units:  # targets of an evaluation are in the units of the files
            arrays["target"] = example["scale"](example["target"])
        return compute(output, arrays)

    return image_loss
