"""A whole run, built: network, step, data."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from unet_jax import augment, losses, metrics, parallel, step
from unet_jax.build import binding, checks
from unet_jax.build.predicting import Predicting, options, outputs, predicting
from unet_jax.build.surveying import resampled, sound
from unet_jax.data import examples, normalize, sampling, weights
from unet_jax.data.source import Splits
from unet_jax.errors import UserError, naming
from unet_jax.metrics.case import Metric
from unet_jax.specs import NonNegative, Proportion, bind


class Parts(NamedTuple):
    """A run, built.

    Attributes:
      model: the network.
      schedule: the learning rate, step -> rate.
      layout: where arrays live.
      train_step: `(state, batch, key) -> (state, scalars)`, compiled for the layout.
      init: `key -> state`, not yet on the devices.
      loss: of one whole image, `(logits, label, weight) -> f32[]`.
      metrics: names and metrics.
      predicting: how images are segmented.
      train, val, test: prepared examples.
      notes: JSON data for the run folder, by file name.
    """

    model: nn.Module
    schedule: optax.Schedule
    layout: parallel.Layout
    train_step: Callable
    init: Callable
    loss: Callable
    metrics: tuple[tuple[str, Metric], ...]
    predicting: Predicting
    train: examples.Examples
    val: examples.Examples
    test: examples.Examples
    notes: Mapping[str, Any]


def build(
    config: ConfigDict, *, split: Path | None = None, splits: Splits | None = None
) -> Parts:
    """Builds everything that a run needs; compiles and computes nothing yet.

    Args:
      config: of the run.
      split: the file with the split of the data, of a run that goes on, if it has one.
      splits: the data, where they have been read already.

    Raises:
      UserError: a field of the config is wrong; cheap checks come before the data.
    """
    checks.fields(config)
    make_layout = binding.field(parallel, config, "parallel")
    with naming("config.parallel"):
        layout = make_layout()
    loss = binding.terms(losses, config, "loss", "scale", NonNegative)
    with naming("config.loss"):
        total = losses.weighted_sum(loss)
    operations = binding.terms(augment, config, "augment", "probability", Proportion)
    scores = _metrics(config)
    options(config)
    schedule, tx = binding.optimizer(config)
    model = binding.model(config, layout.axis_name)  # of two outputs, to check the crop
    checks.sizes(config, model, layout)

    splits = splits or sound(config, split)
    source = splits.train
    shape, (train, val, test) = _prepared(config, splits)
    shapes = resampled(config, splits.account) or [shape]
    preprocessing = _preprocessing(config, splits)
    model = model.clone(outputs=len(outputs(preprocessing)))
    checks.crop(config, source, shapes, model.geometry(len(config.crop)).margin)
    checks.cache(config, source, shapes)
    checks.rehearse(
        config, operations, loss, channels=source.channels, classes=model.outputs
    )

    update = functools.partial(
        step.train_step,
        model=model,
        loss=total,
        augment=augment.chain(operations),
        tx=tx,
        ema=config.ema,
    )
    return Parts(
        model=model,
        schedule=schedule,
        layout=layout,
        train_step=layout.compile_train(update),
        init=binding.init(config, model, tx, source.channels),
        loss=jax.jit(functools.partial(step.image_loss, loss=total)),
        metrics=scores,
        predicting=predicting(config, preprocessing),
        train=train,
        val=val,
        test=test,
        notes=splits.notes,
    )


def _prepared(
    config: ConfigDict, splits: Splits
) -> tuple[tuple[int, ...], list[examples.Examples]]:
    """The shape of the first image, and the splits."""
    normalizer = normalize.in_memory(binding.field(normalize, config, "normalize"))
    weigh = binding.field(weights, config, "weight_map")
    sample = binding.field(sampling, config, "sampling")
    prepare = functools.partial(
        examples.prepare,
        normalize=normalizer,
        weigh=_weighing(weigh, weights.counter(splits.train)),
        independent=config.head == "sigmoid",
        room=examples.Room(config.cache * 2**30),
        spacing=tuple(config.spacing),
    )
    with naming("config.data"):
        prepared = [
            prepare(splits.train, sample=sample),
            prepare(splits.val, judged=True),
            prepare(splits.test, judged=True),
        ]
    with naming("config.normalize"):
        normalizer(np.zeros((1, 1, splits.train.channels), np.float32))
    return prepared[0].shape(0), prepared  # the first one is checked, and kept


def _weighing(weigh: Callable, count: weights.Count) -> Callable:
    """A weight map that can count the training set; what is wrong names its field."""

    def weighed(label: np.ndarray, instances: np.ndarray | None) -> np.ndarray:
        with naming("config.weight_map"):
            return weigh(label, instances, count)

    return weighed


def _preprocessing(config: ConfigDict, splits: Splits) -> dict[str, Any]:
    source, account = splits.train, splits.account
    return {
        "head": config.head,
        "classes": list(source.classes),
        "colours": [list(colour) for colour in source.colours],
        "channels": source.channels,
        "spatial_axes": len(config.crop),
        "normalize": checks.plain(config.normalize),
        "convert": source.convert,
        "label_map": [list(pair) for pair in account.mapping] if account else [],
        "spacing": list(config.spacing),
        "file_spacing": list(source.spacing),
    }


def _metrics(config: ConfigDict) -> tuple[tuple[str, Metric], ...]:
    """Names and metrics; the highest of the first one chooses the best checkpoint."""
    made = []
    for i, spec in enumerate(checks.plain(config.metrics)):
        make = bind(metrics, spec, f"config.metrics[{i}]")
        with naming(f"config.metrics[{i}]"):
            made.append(make())
    named = tuple(zip(checks.metric_names(config), made, strict=True))
    if not named or named[0][1].lower:
        raise UserError(
            "config.metrics must begin with a score that is better when it is higher, "
            "such as dice: the first one chooses the best checkpoint"
        )
    return named
