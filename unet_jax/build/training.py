"""From a config to objects; below this file nothing knows what a config is."""

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from unet_jax import (
    augment,
    checks,
    data,
    losses,
    metrics,
    models,
    optimizers,
    parallel,
    schedules,
    step,
)
from unet_jax.data import normalize, pipeline, weights
from unet_jax.data.source import Source, Splits
from unet_jax.errors import UserError, naming
from unet_jax.specs import NonNegative, Proportion, bind, check


class Parts(NamedTuple):
    """A run, built.

    Attributes:
      model: the network.
      tx: the optimizer.
      schedule: its learning rate, step -> rate.
      layout: where arrays live.
      train_step: `(state, batch, key) -> (state, scalars)`, compiled for the layout.
      eval_step: `(state, batch) -> dict of [B, ...]`, likewise.
      init: `key -> state`, not yet on the devices.
      metrics: names and score functions of a confusion matrix.
      train, val, test: prepared examples.
      classes: names of the model's outputs.
      preprocessing: JSON data that a prediction needs, saved with every checkpoint.
    """

    model: nn.Module
    tx: optax.GradientTransformation
    schedule: optax.Schedule
    layout: parallel.Layout
    train_step: Callable
    eval_step: Callable
    init: Callable
    metrics: tuple[tuple[str, Callable], ...]
    train: pipeline.Examples
    val: pipeline.Examples
    test: pipeline.Examples
    classes: tuple[str, ...]
    preprocessing: dict[str, Any]


def build(config: ConfigDict) -> Parts:
    """Builds everything that a run needs; compiles and computes nothing yet.

    Raises:
      UserError: a field of the config is wrong; cheap checks come before the data.
    """
    checks.fields(config)
    make_layout = _bind(parallel, config, "parallel")
    with naming("config.parallel"):
        layout = make_layout()
    loss = _terms(losses, config, "loss", "scale", NonNegative)
    with naming("config.loss"):
        total = losses.weighted_sum(loss)
    operations = _terms(augment, config, "augment", "probability", Proportion)
    scores = _metrics(config)
    schedule, tx = _optimizer(config)
    model = _model(config, layout)  # without the number of classes, to check the crop
    checks.sizes(config, model, layout)

    source, first, (train, val, test) = _data(config)
    classes = source.classes[1:] if config.head == "sigmoid" else source.classes
    model = model.clone(classes=len(classes))
    checks.crop(config, source, first.shape[:-1], model.margin)
    checks.rehearse(
        config, operations, loss, channels=source.channels, classes=len(classes)
    )

    moves = augment.chain(operations)
    image = jnp.zeros((1, *config.crop, source.channels))
    shared = {"model": model, "tx": tx, "ema": config.ema}
    init = functools.partial(step.init, image=image, **shared)
    update = functools.partial(step.train_step, loss=total, augment=moves, **shared)
    judge = functools.partial(step.eval_step, model=model, loss=total)
    return Parts(
        model=model,
        tx=tx,
        schedule=schedule,
        layout=layout,
        train_step=layout.compile_train(update),
        eval_step=layout.compile_eval(judge),
        init=jax.jit(init),
        metrics=scores,
        train=train,
        val=val,
        test=test,
        classes=classes,
        preprocessing=_preprocessing(config, source),
    )


def _data(
    config: ConfigDict,
) -> tuple[Source, np.ndarray, list[pipeline.Examples]]:
    """What is known of the data, its first raw image, and the splits, prepared."""
    make_splits = _bind(data, config, "data")
    normalizer = _bind(normalize, config, "normalize")
    prepare = functools.partial(
        pipeline.prepare,
        normalize=normalizer,
        weigh=_bind(weights, config, "weight_map"),
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


def _bind(module: ModuleType, config: ConfigDict, field: str, **options: Any) -> Any:
    return bind(module, checks.plain(config[field]), f"config.{field}", **options)


def _terms(
    module: ModuleType, config: ConfigDict, field: str, number: str, hint: Any
) -> checks.Terms:
    """Binds a tuple of specs, each with a number that is the term's own (1 if unset).

    It is not the function's: what a term of the loss is scaled by, and with which
    probability an operation applies.
    """
    terms = []
    for i, spec in enumerate(checks.plain(config[field])):
        name = f"config.{field}[{i}]"
        function = bind(module, {k: v for k, v in spec.items() if k != number}, name)
        value = spec.get(number, 1)
        check(value, hint, f"{name}.{number}")
        terms.append((float(value), function))
    return terms


def _metrics(config: ConfigDict) -> tuple[tuple[str, Callable], ...]:
    """Names and scores; the highest of the first one chooses the best checkpoint."""
    specs = checks.plain(config.metrics)
    named = tuple(
        (spec["name"], bind(metrics, spec, f"config.metrics[{i}]"))
        for i, spec in enumerate(specs)
    )
    if not named or named[0][0] in metrics.LOWER_IS_BETTER:
        raise UserError(
            "config.metrics must begin with a score that is better when it is higher, "
            "such as dice: the first one chooses the best checkpoint"
        )
    return named


def _optimizer(
    config: ConfigDict,
) -> tuple[optax.Schedule, optax.GradientTransformation]:
    rate = config.optimizer.get("learning_rate")
    make = _bind(optimizers, config, "optimizer")
    schedule = _bind(schedules, config, "schedule")(rate, config.steps)
    return schedule, make(schedule)


def _model(config: ConfigDict, layout: parallel.Layout) -> nn.Module:
    given = ("classes", "dtype", "axis_name")
    make = _bind(models, config, "model", given=given)
    model = make(dtype=jnp.dtype(config.precision), axis_name=layout.axis_name)
    if fault := model.fault():
        raise UserError(f"config.model.{fault}")
    return model
