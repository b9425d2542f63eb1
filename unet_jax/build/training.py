"""Builds a whole run from its config: data, network, method and metrics."""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from unet_jax import augment, optimizers, parallel
from unet_jax.arrays import Batch, Example
from unet_jax.build import binding, checks
from unet_jax.build.dataset import get_network_shapes, load_splits
from unet_jax.build.prediction import (
    PredictionParts,
    bind_options,
    build_prediction,
    make_value_scale,
    read_task_data,
)
from unet_jax.data import examples, normalize, pipeline, sampling, weights
from unet_jax.data.examples import Examples
from unet_jax.data.source import Source, Splits
from unet_jax.errors import prefix_errors
from unet_jax.losses import Loss
from unet_jax.methods import Ingredients, Method
from unet_jax.methods.method import count_unlabelled_rows
from unet_jax.metrics.metric import Metric
from unet_jax.specs import Proportion
from unet_jax.tasks import Task, TaskData

MAX_MEASURED = 64  # training images for the scale of generated images


class EvaluationParts(NamedTuple):
    """The parts of a run that evaluate it.

    Attributes:
      prediction: the parts that predict.
      method: the method of training.
      metrics: the metrics with their names.
      loss: `(output f32[*S, channels], example) -> f32[]` of a whole image.
      test: the test split.
      crop: the spatial shape of a training crop.
    """

    prediction: PredictionParts
    method: Method
    metrics: tuple[tuple[str, Metric], ...]
    loss: Callable[[np.ndarray, Example], jax.Array]
    test: Examples
    crop: tuple[int, ...]


class TrainingParts(NamedTuple):
    """The parts of a run that train it.

    Attributes:
      evaluation: the parts that evaluate it.
      model: the network.
      schedule: the learning rate, step -> rate.
      layout: the placement of arrays on the devices.
      train_step: `(state, batch, key) -> (state, scalars)`, compiled for the layout.
      init: `(key, variables=None) -> state`, not yet on the devices.
      train: the training split.
      val: the validation split.
      unlabelled: the images without labels; None if the method uses none.
      read_batches: `(start, stop) -> iterator` of this process's rows of the batches of
        the steps `start` to `stop - 1`. Threads read ahead of the steps.
      notes: JSON data for the run folder, by file name.
    """

    evaluation: EvaluationParts
    model: nn.Module
    schedule: optax.Schedule
    layout: parallel.Layout
    train_step: Callable
    init: Callable
    train: Examples
    val: Examples
    unlabelled: Examples | None
    read_batches: Callable[[int, int], Iterator[Batch]]
    notes: Mapping[str, Any]


class GenerationParts(NamedTuple):
    """The parts of a run that generate images.

    Attributes:
      method: the method, with its `sample`.
      variables: the shapes of the variables of the network.
      shape: the shape `(*S, C)` of an image.
      devices: the devices of this process.
    """

    method: Method
    variables: Any
    shape: tuple[int, ...]
    devices: parallel.LocalDevices


class _Learning(NamedTuple):
    """The parts of a run that are built from its config and its task alone."""

    task: Task
    method: Method
    model: nn.Module
    schedule: optax.Schedule
    loss: Loss
    metrics: tuple[tuple[str, Metric], ...]
    operations: checks.Terms
    terms: checks.Terms


def build(
    config: ConfigDict,
    *,
    notes: Mapping[str, str] = MappingProxyType({}),
    splits: Splits | None = None,
) -> TrainingParts:
    """Builds the parts of a run that train it. The step is not compiled yet.

    The config is checked before the data are read.

    Args:
      config: the config of the run.
      notes: as in `dataset.load_splits`.
      splits: the data, if they have already been read.

    Raises:
      UserError: a field of the config is wrong, or the data have errors.
    """
    checks.check_fields(config)
    layout = binding.build_part(parallel, config, "parallel", parallel.Layout)
    checks.check_sizes(config, binding.build_model(config, layout.axis_name), layout)
    task = binding.build_task(config, binding.ANY_DATA)
    draft = _build_learning(config, task, layout.axis_name)
    checks.check_first_metric(draft.metrics)
    bind_options(config, draft.task)
    with prefix_errors("config.batch_size"):
        unlabelled_size = count_unlabelled_rows(
            draft.method.unlabelled, config.batch_size
        )

    splits = splits or load_splits(config, notes)
    source = splits.train
    checks.check_unlabelled(config, splits, unlabelled_size)
    task = _make_task(config, source)
    learning = _build_learning(config, task, layout.axis_name)
    preprocessing = _collect_preprocessing(config, splits, learning)
    memory = examples.MemoryBudget(config.cache * 2**30)
    prepare = _make_prepare(config, source, task, preprocessing, memory)
    chances = binding.bind_field(sampling, config, "sampling")
    with prefix_errors("config.data"):
        train = prepare(source, chances=chances)
        val = prepare(splits.val, evaluation=True)
        test = prepare(splits.test, evaluation=True)
    first = train[0]  # checks the example; it stays in memory
    shapes = get_network_shapes(config, splits.report) or [train.shape(0)]
    margin = learning.model.geometry(len(config.crop)).margin
    checks.check_crop(config, source, shapes, margin)
    checks.check_cache(config, first, shapes)
    checks.check_terms(config, learning.operations, learning.terms, task, first)
    unlabelled = None
    if unlabelled_size and splits.unlabelled is not None:
        unlabelled = examples.prepare_unlabelled(
            splits.unlabelled,
            first,
            measure=_make_measure(config, splits.unlabelled.channels),
            memory=memory,
            spacing=tuple(config.spacing),
        )

    def read_batches(start: int, stop: int) -> Iterator[Batch]:
        batches = pipeline.batch_dataset(
            train,
            seed=config.seed,
            crop=config.crop,
            margin=margin,
            batch_size=config.batch_size,
            shard=(jax.process_index(), jax.process_count()),
            unlabelled=unlabelled,
            unlabelled_size=unlabelled_size,
        )
        return pipeline.iterate_batches(
            batches, start=start, stop=stop, threads=config.threads
        )

    return TrainingParts(
        evaluation=_collect_evaluation(config, preprocessing, learning, test),
        model=learning.model,
        schedule=learning.schedule,
        layout=layout,
        train_step=layout.compile_train(learning.method.update),
        init=binding.make_init(config, learning.method, source.channels),
        train=train,
        val=val,
        unlabelled=unlabelled,
        read_batches=read_batches,
        notes=splits.notes,
    )


def build_evaluation(
    config: ConfigDict, preprocessing: dict[str, Any], notes: Mapping[str, str]
) -> EvaluationParts:
    """Builds the parts of a run that evaluate it. Only the test split is prepared.

    The arguments are those of `build_prediction` and of `build`.

    Raises:
      UserError: a field of the config is wrong, or the data cannot be found.
    """
    checks.check_fields(config)
    binding.build_task(config, binding.ANY_DATA)
    splits = load_splits(config, notes)
    task = _make_task(config, splits.train)
    memory = examples.MemoryBudget(config.cache * 2**30)
    prepare = _make_prepare(config, splits.train, task, preprocessing, memory)
    with prefix_errors("config.data"):
        test = prepare(splits.test, evaluation=True)
    learning = _build_learning(config, task, None)
    return _collect_evaluation(config, preprocessing, learning, test)


def build_generation(
    config: ConfigDict, preprocessing: dict[str, Any]
) -> GenerationParts:
    """Builds the parts of a run that generate images; needs no data set.

    The arguments are those of `build_prediction`.

    Raises:
      UserError: a field of the config is wrong.
    """
    checks.check_fields(config)
    task = binding.build_task(config, read_task_data(preprocessing))
    learning = _build_learning(config, task, None)
    channels = preprocessing["channels"]
    init = binding.make_init_variables(config, learning.model, channels)
    return GenerationParts(
        method=learning.method,
        variables=jax.eval_shape(init),
        shape=(*config.crop, channels),
        devices=parallel.local_devices(),
    )


def _make_task(config: ConfigDict, source: Source) -> Task:
    """Returns the task of a run for the data set of its training images."""
    channels = source.channels, source.target_channels
    return binding.build_task(
        config, TaskData(source.classes, len(config.crop), *channels)
    )


def _build_learning(config: ConfigDict, task: Task, axis_name: str | None) -> _Learning:
    total, terms = binding.build_loss(config, task)
    operations = binding.bind_terms(
        augment, config, "augment", "probability", Proportion
    )
    schedule, tx = binding.build_optimizer(config)
    model = binding.build_model(config, axis_name).clone(outputs=task.channels)
    if config.freeze:
        shapes = jax.eval_shape(binding.make_init_variables(config, model))["params"]
        with prefix_errors("config.freeze"):
            tx = optimizers.freeze(tx, config.freeze, shapes)
    parts = Ingredients(
        model=model,
        task=task,
        loss=total,
        augment=augment.compose(operations),
        tx=tx,
        ema=config.ema,
    )
    method = binding.build_method(config, parts)
    if method.sample:
        method = method._replace(
            sample=jax.jit(method.sample, static_argnums=2),
            val_loss=jax.jit(method.val_loss),
        )
    metrics = binding.build_metrics(config, task)
    checks.check_metrics(config, method, metrics)
    return _Learning(
        task=task,
        method=method,
        model=model,
        schedule=schedule,
        loss=total,
        metrics=metrics,
        operations=operations,
        terms=terms,
    )


def _collect_evaluation(
    config: ConfigDict,
    preprocessing: dict[str, Any],
    learning: _Learning,
    test: Examples,
) -> EvaluationParts:
    return EvaluationParts(
        prediction=build_prediction(config, preprocessing),
        method=learning.method,
        metrics=learning.metrics,
        loss=_make_image_loss(learning.task, learning.loss),
        test=test,
        crop=tuple(config.crop),
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


def _make_prepare(
    config: ConfigDict,
    train: Source,
    task: Task,
    preprocessing: dict[str, Any],
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
        measure=_make_measure(config, train.channels),
        weigh=weight_map,
        add_truth=task.prepare,
        needs=task.needs,
        value_scale=make_value_scale(task, preprocessing["target_scale"]),
        memory=memory,
        spacing=tuple(config.spacing),
    )


def _make_measure(config: ConfigDict, channels: int) -> Callable:
    """Returns the function that measures the scale of an image."""
    measure = normalize.in_memory(binding.bind_field(normalize, config, "normalize"))
    with prefix_errors("config.normalize"):
        measure(np.zeros((1, 1, channels), np.float32))  # raises errors of the spec
    return measure


def _collect_preprocessing(
    config: ConfigDict, splits: Splits, learning: _Learning
) -> dict[str, Any]:
    """Returns the JSON data about pre-processing that prediction needs."""
    source, report = splits.train, splits.report
    own = learning.task.units == "own"
    generates = learning.method.sample is not None
    return {
        "classes": list(source.classes),
        "colours": [list(colour) for colour in source.colours],
        "channels": source.channels,
        "target_channels": source.target_channels,
        "spatial_axes": len(config.crop),
        "normalize": checks.to_plain(config.normalize),
        "convert": source.convert,
        "label_map": [list(pair) for pair in report.label_map] if report else [],
        "spacing": list(config.spacing),
        "file_spacing": list(source.spacing),
        "target_scale": _measure_target_scale(source) if own else [],
        "samples": _measure_sample_scale(config, source) if generates else {},
    }


def _measure_target_scale(source: Source) -> list[list[float]]:
    """Returns the mean and the deviation of all training targets, per channel."""
    targets = (source.load(i)["target"] for i in range(source.length))
    first = next(targets)
    scale = normalize.standard(lambda: itertools.chain([first], targets))
    return [scale.offset.tolist(), scale.width.tolist()]


def _measure_sample_scale(config: ConfigDict, source: Source) -> dict[str, Any]:
    """Returns the mean scale and the type of training images, for generated ones."""
    measure = _make_measure(config, source.channels)
    images = [source.load(i)["image"] for i in range(min(source.length, MAX_MEASURED))]
    scales = [measure(image) for image in images]
    return {
        "offset": np.mean([scale.offset for scale in scales], axis=0).tolist(),
        "width": np.mean([scale.width for scale in scales], axis=0).tolist(),
        "dtype": str(images[0].dtype),
    }
