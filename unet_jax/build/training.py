"""A whole run, built: network, step, data."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from unet_jax import augment, data, losses, metrics, parallel, step
from unet_jax.build import binding, checks
from unet_jax.build.predicting import Predicting, options, outputs, predicting
from unet_jax.data import normalize, pipeline, weights
from unet_jax.data.source import Source, Splits
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
    """

    model: nn.Module
    schedule: optax.Schedule
    layout: parallel.Layout
    train_step: Callable
    init: Callable
    loss: Callable
    metrics: tuple[tuple[str, Metric], ...]
    predicting: Predicting
    train: pipeline.Examples
    val: pipeline.Examples
    test: pipeline.Examples


def build(config: ConfigDict) -> Parts:
    """Builds everything that a run needs; compiles and computes nothing yet.

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
    model = binding.model(config, layout.axis_name)  # of two classes, to check the crop
    checks.sizes(config, model, layout)

    source, first, (train, val, test) = _data(config)
    preprocessing = _preprocessing(config, source)
    model = model.clone(classes=len(outputs(preprocessing)))
    checks.crop(config, source, first.shape[:-1], model.margin)
    checks.rehearse(
        config, operations, loss, channels=source.channels, classes=model.classes
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
    )


def _data(
    config: ConfigDict,
) -> tuple[Source, np.ndarray, list[pipeline.Examples]]:
    """What is known of the data, its first raw image, and the splits, prepared."""
    make_splits = binding.field(data, config, "data")
    normalizer = normalize.in_memory(binding.field(normalize, config, "normalize"))
    prepare = functools.partial(
        pipeline.prepare,
        normalize=normalizer,
        weigh=binding.field(weights, config, "weight_map"),
        independent=config.head == "sigmoid",
        room=pipeline.Room(config.cache * 2**30),
    )
    with naming("config.data"):
        splits: Splits = make_splits()
        examples = [prepare(source) for source in splits]
        first = splits.train.load(0)["image"]
    with naming("config.normalize"):
        normalizer(first)
    return splits.train, first, examples


def _preprocessing(config: ConfigDict, source: Source) -> dict[str, Any]:
    return {
        "head": config.head,
        "classes": list(source.classes),
        "colours": [list(colour) for colour in source.colours],
        "channels": source.channels,
        "spatial_axes": len(config.crop),
        "normalize": checks.plain(config.normalize),
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
