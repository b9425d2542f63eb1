"""A whole run, built: network, method, data."""

import functools
import itertools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from unet_jax import augment, optimizers, parallel
from unet_jax.arrays import Example
from unet_jax.build import binding, checks
from unet_jax.build.predicting import (
    Predicting,
    data_of,
    options,
    predicting,
    value_scale,
)
from unet_jax.build.surveying import resampled, sound
from unet_jax.data import examples, normalize, sampling, weights
from unet_jax.data.examples import Examples
from unet_jax.data.source import Source, Splits
from unet_jax.errors import naming
from unet_jax.losses import Loss
from unet_jax.methods import Ingredients, Method
from unet_jax.methods.method import unlabelled_rows
from unet_jax.metrics.case import Metric
from unet_jax.specs import Proportion
from unet_jax.tasks import Task

MEASURED = 64  # training images that the scale of samples is measured on, at most


class Judging(NamedTuple):
    """The parts that score a run.

    Attributes:
      predicting: the parts that predict.
      method: the way to learn.
      metrics: names and metrics.
      loss: of one whole image, `(output f32[*S, channels], example) -> f32[]`.
      test: the test split.
      crop: the spatial shape of a training crop.
    """

    predicting: Predicting
    method: Method
    metrics: tuple[tuple[str, Metric], ...]
    loss: Callable[[np.ndarray, Example], jax.Array]
    test: Examples
    crop: tuple[int, ...]


class Parts(NamedTuple):
    """A run, built.

    Attributes:
      judging: the parts that score it.
      model: the network.
      schedule: the learning rate, step -> rate.
      layout: where arrays live.
      train_step: `(state, batch, key) -> (state, scalars)`, compiled for the layout.
      init: `(key, variables=None) -> state`, not yet on the devices.
      train: the training split.
      val: the validation split.
      unlabelled: images without annotations; None if the method takes none.
      unlabelled_size: how many examples of a batch are of these.
      notes: JSON data for the run folder, by file name.
    """

    judging: Judging
    model: nn.Module
    schedule: optax.Schedule
    layout: parallel.Layout
    train_step: Callable
    init: Callable
    train: Examples
    val: Examples
    unlabelled: Examples | None
    unlabelled_size: int
    notes: Mapping[str, Any]


class Generating(NamedTuple):
    """The parts that draw images.

    Attributes:
      method: with its `sample`.
      variables: shapes of the variables of the network.
      shape: of one image, `(*S, C)`.
      here: the devices of this process.
    """

    method: Method
    variables: Any
    shape: tuple[int, ...]
    here: parallel.Here


class Learning(NamedTuple):
    """The parts of a config that need no data, bound to a task."""

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
) -> Parts:
    """Builds everything that training needs; compiles and computes nothing yet.

    Args:
      config: of the run.
      notes: keywords of the data set that name files of the run folder.
      splits: the data, where they have been read already.

    Raises:
      UserError: a field of the config is wrong; cheap checks come before the data.
    """
    checks.fields(config)
    make_layout = binding.field(parallel, config, "parallel")
    with naming("config.parallel"):
        layout = make_layout()
    checks.sizes(config, binding.model(config, layout.axis_name), layout)
    draft = _learning(config, binding.task(config, binding.ANY_DATA), layout.axis_name)
    checks.can_choose(draft.metrics)
    options(config, draft.task)
    with naming("config.batch_size"):
        share = unlabelled_rows(draft.method.unlabelled, config.batch_size)

    splits = splits or sound(config, notes)
    source = splits.train
    checks.has_unlabelled(config, splits, share)
    task = binding.task(config, binding.data_of(config, splits))
    learning = _learning(config, task, layout.axis_name)
    preprocessing = _preprocessing(config, splits, learning)
    memory = examples.MemoryBudget(config.cache * 2**30)
    prepare = _preparing(config, splits, task, preprocessing, memory)
    with naming("config.data"):
        train = prepare(splits.train)
        val = prepare(splits.val, evaluation=True)
        test = prepare(splits.test, evaluation=True)
    first = train[0]  # is checked, and kept
    shapes = resampled(config, splits.report) or [train.shape(0)]
    margin = learning.model.geometry(len(config.crop)).margin
    checks.crop(config, source, shapes, margin)
    checks.cache(config, first, shapes)
    checks.rehearse(config, learning.operations, learning.terms, task, first)
    return Parts(
        judging=_judging(config, preprocessing, learning, test),
        model=learning.model,
        schedule=learning.schedule,
        layout=layout,
        train_step=layout.compile_train(learning.method.update),
        init=binding.init(config, learning.method, source.channels),
        train=train,
        val=val,
        unlabelled=_unlabelled(config, splits, first, memory) if share else None,
        unlabelled_size=share,
        notes=splits.notes,
    )


def judging(
    config: ConfigDict, preprocessing: dict[str, Any], notes: Mapping[str, str]
) -> Judging:
    """Builds the parts that score a finished run, on its test split alone.

    Args:
      config: of the run.
      preprocessing: what was saved with its checkpoints.
      notes: as in `build`.

    Raises:
      UserError: a field of the config is wrong, or the data cannot be found.
    """
    checks.fields(config)
    binding.task(config, binding.ANY_DATA)
    splits = sound(config, notes)
    task = binding.task(config, binding.data_of(config, splits))
    memory = examples.MemoryBudget(config.cache * 2**30)
    prepare = _preparing(config, splits, task, preprocessing, memory)
    with naming("config.data"):
        test = prepare(splits.test, evaluation=True)
    return _judging(config, preprocessing, _learning(config, task, None), test)


def generating(config: ConfigDict, preprocessing: dict[str, Any]) -> Generating:
    """Builds the parts that draw images, without data.

    Args:
      config: of the run.
      preprocessing: what was saved with its checkpoints.

    Raises:
      UserError: a field of the config is wrong.
    """
    checks.fields(config)
    learning = _learning(config, binding.task(config, data_of(preprocessing)), None)
    channels = preprocessing["channels"]
    shapes = jax.eval_shape(binding.variables(config, learning.model, channels))
    return Generating(
        method=learning.method,
        variables=shapes,
        shape=(*config.crop, channels),
        here=parallel.here(),
    )


def _learning(config: ConfigDict, task: Task, axis_name: str | None) -> Learning:
    total, terms = binding.loss(config, task)
    operations = binding.terms(augment, config, "augment", "probability", Proportion)
    schedule, tx = binding.optimizer(config)
    model = binding.model(config, axis_name).clone(outputs=task.channels)
    if config.freeze:
        shapes = jax.eval_shape(binding.variables(config, model))["params"]
        with naming("config.freeze"):
            tx = optimizers.frozen(tx, config.freeze, shapes)
    parts = Ingredients(
        model=model,
        task=task,
        loss=total,
        augment=augment.chain(operations),
        tx=tx,
        ema=config.ema,
    )
    method = binding.method(config, parts)
    if method.sample:
        method = method._replace(
            sample=jax.jit(method.sample, static_argnums=2), score=jax.jit(method.score)
        )
    return Learning(
        task=task,
        method=method,
        model=model,
        schedule=schedule,
        loss=total,
        metrics=checks.scored(config, method, binding.scores(config, task)),
        operations=operations,
        terms=terms,
    )


def _judging(
    config: ConfigDict,
    preprocessing: dict[str, Any],
    learning: Learning,
    test: Examples,
) -> Judging:
    return Judging(
        predicting=predicting(config, preprocessing),
        method=learning.method,
        metrics=learning.metrics,
        loss=_whole_loss(learning.task, learning.loss),
        test=test,
        crop=tuple(config.crop),
    )


def _whole_loss(task: Task, loss: Loss) -> Callable[[np.ndarray, Example], jax.Array]:
    """The loss of one whole image, without augmentation."""

    @jax.jit
    def of_batch(output: jax.Array, batch: dict[str, jax.Array]) -> jax.Array:
        output, batch = jax.tree.map(lambda x: x[None], (output, batch))
        targets = task.targets(batch)
        return loss(task.outputs(output), targets, batch["weight"])[0]

    def of_example(output: np.ndarray, example: Example) -> jax.Array:
        arrays = {k: v for k, v in example.items() if isinstance(v, np.ndarray)}
        if task.units:  # judged targets have the units of the files
            arrays["target"] = example["scale"](example["target"])
        return of_batch(output, arrays)

    return of_example


def _preparing(
    config: ConfigDict,
    splits: Splits,
    task: Task,
    preprocessing: dict[str, Any],
    memory: examples.MemoryBudget,
) -> Callable[..., Examples]:
    """`(source, evaluation) -> Examples`, which share a memory budget."""
    weigh = binding.field(weights, config, "weight_map")
    chances = binding.field(sampling, config, "sampling")
    prepare = functools.partial(
        examples.prepare_examples,
        measure=_measure(config, splits.train.channels),
        weigh=_weighing(weigh, weights.pixel_counter(splits.train)),
        add_truth=task.prepare,
        needs=task.needs,
        value_scale=value_scale(task, preprocessing["target_scale"]),
        memory=memory,
        spacing=tuple(config.spacing),
    )

    def prepared(source: Source, *, evaluation: bool = False) -> Examples:
        if evaluation:
            return prepare(source, evaluation=True)
        return prepare(source, chances=chances)

    return prepared


def _measure(config: ConfigDict, channels: int) -> Callable:
    measure = normalize.in_memory(binding.field(normalize, config, "normalize"))
    with naming("config.normalize"):
        measure(np.zeros((1, 1, channels), np.float32))
    return measure


def _unlabelled(
    config: ConfigDict, splits: Splits, first: Example, memory: examples.MemoryBudget
) -> Examples:
    return examples.prepare_unlabelled(
        splits.unlabelled,
        first,
        measure=_measure(config, splits.unlabelled.channels),
        memory=memory,
        spacing=tuple(config.spacing),
    )


def _weighing(weigh: Callable, count: weights.CountPixels) -> Callable:
    """A weight map that can count the training set; its errors name its field."""

    def weighed(label: np.ndarray, instances: np.ndarray | None) -> np.ndarray:
        with naming("config.weight_map"):
            return weigh(label, instances, count)

    return weighed


def _preprocessing(
    config: ConfigDict, splits: Splits, learning: Learning
) -> dict[str, Any]:
    source, account = splits.train, splits.report
    own = learning.task.units == "own"
    generates = learning.method.sample is not None
    return {
        "classes": list(source.classes),
        "colours": [list(colour) for colour in source.colours],
        "channels": source.channels,
        "target_channels": source.target_channels,
        "spatial_axes": len(config.crop),
        "normalize": checks.plain(config.normalize),
        "convert": source.convert,
        "label_map": [list(pair) for pair in account.label_map] if account else [],
        "spacing": list(config.spacing),
        "file_spacing": list(source.spacing),
        "target_scale": _target_scale(source) if own else [],
        "samples": _sample_scale(config, source) if generates else {},
    }


def _target_scale(source: Source) -> list[list[float]]:
    """Mean and deviation of all training targets, per channel."""
    targets = (source.load(i)["target"] for i in range(source.length))
    first = next(targets)
    scale = normalize.standard(lambda: itertools.chain([first], targets))
    return [scale.offset.tolist(), scale.width.tolist()]


def _sample_scale(config: ConfigDict, source: Source) -> dict[str, Any]:
    """The mean scale and the type of training images, which generated ones get."""
    measure = _measure(config, source.channels)
    images = [source.load(i)["image"] for i in range(min(source.length, MEASURED))]
    scales = [measure(image) for image in images]
    return {
        "offset": np.mean([scale.offset for scale in scales], axis=0).tolist(),
        "width": np.mean([scale.width for scale in scales], axis=0).tolist(),
        "dtype": str(images[0].dtype),
    }
