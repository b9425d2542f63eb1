"""From a config to objects; below this file nothing knows what a config is."""

import functools
import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from unet_jax import (
    augment,
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
from unet_jax.data.source import Splits
from unet_jax.errors import UserError, choices
from unet_jax.specs import bind

HEADS = ("softmax", "sigmoid")
PRECISIONS = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


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
    _check_numbers(config)
    layout = _bind(parallel, config, "parallel")()
    loss = _loss(config)
    operation = augment.chain(_terms(augment, config, "augment", "probability", 1))
    scores = _metrics(config)
    schedule, tx = _optimizer(config)
    normalizer = _bind(normalize, config, "normalize")
    weigh = _bind(weights, config, "weight_map")
    model = _model(config, layout)  # without the number of classes, to check the crop
    _check_sizes(config, model, layout)

    splits: Splits = _bind(data, config, "data")()
    axes = splits.train.load(0)["image"].ndim - 1
    if axes != len(config.crop):
        raise UserError(
            f"config.crop={_listed(config.crop)} must have {axes} sizes, one for each "
            f"axis of the images of {splits.train.name}"
        )
    independent = config.head == "sigmoid"
    classes = splits.train.classes[1:] if independent else splits.train.classes
    model = model.clone(classes=len(classes))
    prepare = functools.partial(
        pipeline.prepare,
        normalize=normalizer,
        weigh=weigh,
        independent=independent,
    )
    example = jnp.zeros((1, *config.crop, splits.train.channels))
    return Parts(
        model=model,
        tx=tx,
        schedule=schedule,
        layout=layout,
        train_step=layout.compile_train(
            functools.partial(
                step.train_step,
                model=model,
                loss=loss,
                augment=operation,
                tx=tx,
                ema=config.ema,
            )
        ),
        eval_step=layout.compile_eval(
            functools.partial(step.eval_step, model=model, loss=loss)
        ),
        init=jax.jit(
            functools.partial(
                step.init, image=example, model=model, tx=tx, ema=config.ema
            )
        ),
        metrics=scores,
        train=prepare(splits.train),
        val=prepare(splits.val),
        test=prepare(splits.test),
        classes=classes,
        preprocessing={
            "head": config.head,
            "classes": list(splits.train.classes),
            "colours": [list(colour) for colour in splits.train.colours],
            "channels": splits.train.channels,
            "spatial_axes": len(config.crop),
            "normalize": _plain(config.normalize),
        },
    )


def _plain(spec: Any) -> Any:
    return spec.to_dict() if isinstance(spec, ConfigDict) else spec


def _bind(module: ModuleType, config: ConfigDict, field: str, **options: Any) -> Any:
    return bind(module, _plain(config[field]), f"config.{field}", **options)


def _terms(
    module: ModuleType, config: ConfigDict, field: str, number: str, most: float
) -> list[tuple[float, Callable]]:
    """Binds a tuple of specs, each with a number that is the term's own (1 if unset).

    It is not the function's: what a term of the loss is scaled by, and with which
    probability an operation applies.
    """
    specs = config[field]
    if not isinstance(specs, tuple) or not all(
        isinstance(s, ConfigDict | dict) for s in specs
    ):
        raise UserError(
            f"config.{field} must be a tuple of specs, ({{'name': ...}},), not {specs}"
        )
    terms = []
    for i, spec in enumerate(map(_plain, specs)):
        name = f"config.{field}[{i}]"
        rest = {k: v for k, v in spec.items() if k != number}
        value = spec.get(number, 1.0)
        if not isinstance(value, int | float) or not 0 <= value <= most:
            raise UserError(f"{name}.{number} must lie in 0 to {most}, not be {value}")
        terms.append((float(value), bind(module, rest, name)))
    return terms


def _loss(config: ConfigDict) -> losses.Loss:
    terms = _terms(losses, config, "loss", "scale", math.inf)
    if not any(scale for scale, _ in terms):
        raise UserError("config.loss needs a term whose scale is not 0")
    return losses.weighted_sum(terms)


def _metrics(config: ConfigDict) -> tuple[tuple[str, Callable], ...]:
    """Names and scores; the highest of the first one chooses the best checkpoint."""
    terms = _terms(metrics, config, "metrics", "", 1)
    named = tuple((score.func.__name__, score) for _, score in terms)
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
    model = make(dtype=PRECISIONS[config.precision], axis_name=layout.axis_name)
    if fault := model.fault():
        raise UserError(f"config.model.{fault}")
    return model


def _check_numbers(config: ConfigDict) -> None:
    """The plain fields, each in one line."""
    whole = ("steps", "batch_size", "log_every", "eval_every", "checkpoint_every")
    for field in (*whole, "threads"):
        if config[field] < 1:
            raise UserError(f"config.{field} must be at least 1, not {config[field]}")
    if not 0 <= config.seed < 2**31:
        raise UserError(f"config.seed must lie in 0 to 2^31 - 1, not be {config.seed}")
    if not 0 <= config.ema < 1:
        raise UserError(f"config.ema must lie in 0 to 1, not be {config.ema}")
    for field, there in (("head", HEADS), ("precision", PRECISIONS)):
        if config[field] not in there:
            nearest = choices(config[field], there)
            raise UserError(f"config.{field}: no {config[field]!r}; {nearest}")
    crop = config.crop
    if not crop or any(not isinstance(size, int) or size < 1 for size in crop):
        raise UserError(
            f"config.crop must be pixels per axis, such as 188,188, not {crop}"
        )


def _check_sizes(config: ConfigDict, model: nn.Module, layout: parallel.Layout) -> None:
    """Crop and batch, against the network and the devices that share them."""
    if config.batch_size % layout.replicas:
        share = -(-config.batch_size // layout.replicas) * layout.replicas
        raise UserError(
            f"config.batch_size={config.batch_size} cannot be shared by "
            f"{layout.replicas} devices; the next that can is {share}, or let several "
            "devices hold one image with --config.parallel="
            f"\"{{'name':'mesh','space':{jax.local_device_count()}}}\""
        )
    for size in config.crop:
        above = model.valid_size(size)
        if model.strict and above != size:
            below = _size_below(model, size)
            near = f"{below} and {above}" if below else f"{above}"
            raise UserError(
                f"config.crop={_listed(config.crop)}: a network of this kind and of "
                f"depth {model.depth} cannot take {size}; the nearest legal sizes are "
                f"{near}"
            )
    if config.crop[0] % layout.space:
        raise UserError(
            f"config.crop={_listed(config.crop)}: the first size must divide by the "
            f"{layout.space} devices of config.parallel.space"
        )


def _size_below(model: nn.Module, size: int) -> int | None:
    legal = (n for n in range(size, 0, -1) if model.valid_size(n) == n)
    return next(legal, None)


def _listed(sizes: Sequence[int]) -> str:
    return ",".join(map(str, sizes))
