"""The fields of a config that are specs, as the functions that they name."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from unet_jax import losses, methods, metrics, models, optimizers, schedules, tasks
from unet_jax.arrays import Example
from unet_jax.build import checks
from unet_jax.data.source import Splits
from unet_jax.errors import UserError, prefix_errors
from unet_jax.geometry import Geometry
from unet_jax.methods import Ingredients, Method
from unet_jax.metrics.case import Metric
from unet_jax.specs import NonNegative, bind, check_type, is_external
from unet_jax.tasks import Data, Task

# A task of any data set: to check names and kinds before the data are read.
ANY_DATA = Data(("background", "foreground"), axes=2, channels=1, target_channels=1)
RESULTS = {"label": "labels", "objects": "objects", "value": "values"}  # by kind


def field(module: ModuleType, config: ConfigDict, name: str, **options: Any) -> Any:
    """Returns the function that the spec of one field names."""
    return bind(module, checks.plain(config[name]), f"config.{name}", **options)


def terms(
    module: ModuleType, config: ConfigDict, field: str, number: str, hint: Any
) -> checks.Terms:
    """Binds a tuple of specs, each with a number that is the term's own (1 if unset).

    The number is not the function's: it scales a term of the loss, or is the
    probability of an augmentation.
    """
    terms = []
    for i, spec in enumerate(checks.plain(config[field])):
        name = f"config.{field}[{i}]"
        function = bind(module, {k: v for k, v in spec.items() if k != number}, name)
        if is_external(spec["name"]):
            function = _guarded(function, field, spec["name"])
        value = spec.get(number, 1)
        check_type(value, hint, f"{name}.{number}")
        terms.append((float(value), function))
    return terms


def task(config: ConfigDict, data: Data) -> Task:
    """Returns the task of a data set.

    Raises:
      UserError: the spec is wrong, or the data set does not have what the task needs.
    """
    make = field(tasks, config, "task")
    with prefix_errors("config.task"):
        return call(make, Task, config.task.name, data)


def loss(config: ConfigDict, task: Task) -> tuple[losses.Loss, checks.Terms]:
    """Returns the weighted sum of the loss terms, and the terms.

    Raises:
      UserError: a spec is wrong, or a term reads a kind of target that the task lacks.
    """
    bound = terms(losses, config, "loss", "scale", NonNegative)
    covered = set()  # by terms of scale 0, too: the user has turned them off
    for i, (scale, term) in enumerate(bound):
        with prefix_errors(f"config.loss[{i}]"):
            kind = losses.kind(term)
            covered.add(kind)
            if scale and kind not in task.losses:
                known = (getattr(losses, name) for name in losses.__all__)
                serving = [f.__name__ for f in known if losses.kind(f) in task.losses]
                raise UserError(
                    f"{config.loss[i].name!r} reads a {kind}, and the task "
                    f"{config.task.name!r} has none; use {_listed(serving)}"
                )
    for spec in task.fallback:
        term = bind(losses, spec, f"the task {config.task.name!r}")
        if losses.kind(term) not in covered:
            bound.append((1.0, term))
            covered.add(losses.kind(term))
    if missing := set(task.losses) - covered:
        raise UserError(
            f"config.loss: no term reads a {_listed(sorted(missing))}, which the task "
            f"{config.task.name!r} learns from, too; add one"
        )
    with prefix_errors("config.loss"):
        return losses.weighted_sum(bound), bound


def scores(config: ConfigDict, task: Task) -> tuple[tuple[str, Metric], ...]:
    """Returns names and metrics.

    Raises:
      UserError: a spec is wrong, or a metric reads a kind that the task lacks.
    """
    made = []
    for i, spec in enumerate(checks.plain(config.metrics)):
        make = bind(metrics, spec, f"config.metrics[{i}]")
        with prefix_errors(f"config.metrics[{i}]"):
            metric = call(make, Metric, spec["name"])
            if metric.kind not in task.metrics:
                raise UserError(
                    f"{spec['name']!r} reads {RESULTS[metric.kind]}, and the task "
                    f"{config.task.name!r} gives none; use {_listed(_serving(task))}"
                )
        made.append(metric)
    return tuple(zip(checks.metric_names(config), made, strict=True))


def _serving(task: Task) -> Iterator[str]:
    """The names of the metrics that a task has results for."""
    for name in metrics.__all__:
        if getattr(metrics, name)().kind in task.metrics:
            yield name


def _listed(names: Sequence[str] | Iterator[str]) -> str:
    names = list(names)
    return ", ".join(names[:-1]) + f" or {names[-1]}" if names[1:] else "".join(names)


def optimizer(
    config: ConfigDict,
) -> tuple[optax.Schedule, optax.GradientTransformation]:
    """Returns the learning rate, step -> rate, and the optimizer that follows it."""
    rate = config.optimizer.get("learning_rate")
    make = field(optimizers, config, "optimizer")
    make_schedule = field(schedules, config, "schedule")
    with prefix_errors("config.schedule"):
        name = config.schedule.name
        schedule = call(make_schedule, Callable, name, rate, config.steps)
    with prefix_errors("config.optimizer"):
        name = config.optimizer.name
        return schedule, call(make, optax.GradientTransformation, name, schedule)


def model(config: ConfigDict, axis_name: str | None) -> nn.Module:
    """Returns the network, with as many outputs as its default has.

    Raises:
      UserError: the spec is wrong, or the network lacks a part that others read.
    """
    given = {"dtype": jnp.dtype(config.precision), "axis_name": axis_name}
    make = field(models, config, "model", given=("outputs", *given))
    with prefix_errors("config.model"):
        name = config.model.name
        network = call(make, nn.Module, name, **given)
        there = {field.name for field in dataclasses.fields(network)}
        there |= set(dir(type(network)))
        parts = ("outputs", "fault", "geometry", "__call__")
        if lacks := [part for part in parts if part not in there]:
            raise UserError(
                f"{name!r} has no {_listed(lacks)}; {EXAMPLES[nn.Module]} has them"
            )
        inputs = {"train": True, "seed": None}
        apply = network.__call__
        _check_takes(apply, f"{name}.__call__", EXAMPLES[nn.Module], "image", **inputs)
    if fault := network.fault():
        raise UserError(f"config.model.{fault}")
    with prefix_errors(
        "config.model"
    ):  # of a network without a fault, which it relies on
        call(network.geometry, Geometry, f"{name}.geometry", len(config.crop))
    return network


def method(config: ConfigDict, parts: Ingredients) -> Method:
    """Returns the way to learn."""
    make = field(methods, config, "method")
    with prefix_errors("config.method"):
        return call(make, Method, config.method.name, parts)


EXAMPLES = {
    Callable: "unet_jax.schedules.constant",
    Geometry: "unet_jax.models.UNet.geometry",
    Method: "unet_jax.methods.supervised",
    Metric: "unet_jax.metrics.dice",
    Splits: "unet_jax.data.cells",
    Task: "unet_jax.tasks.semantic",
    nn.Module: "unet_jax.models.UNet",
    optax.GradientTransformation: "unet_jax.optimizers.sgd",
    dict: "unet_jax.augment.flip",
    jax.Array: "unet_jax.losses.cross_entropy",
}


def call(make: Callable, kind: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    """Calls a function that a spec names, and returns its result.

    Args:
      make: the function, with the keywords of the spec bound.
      kind: the type of the result, one of `EXAMPLES`.
      name: of the function in the spec.
      *args: for the function.
      **kwargs: for the function.

    Raises:
      UserError: the function does not take these arguments, or returns another type.
    """
    _check_takes(make, name, EXAMPLES[kind], *args, **kwargs)
    result = make(*args, **kwargs)
    if not isinstance(result, kind):
        what = "None" if result is None else f"a value of type {type(result).__name__}"
        wanted = "an array of JAX" if kind is jax.Array else f"a {kind.__name__}"
        raise UserError(
            f"{name!r} returned {what}, not {wanted}; return what {EXAMPLES[kind]} does"
        )
    return result


def _check_takes(
    function: Callable, name: str, example: str, *args: Any, **kwargs: Any
) -> None:
    """Raises UserError unless a function takes these arguments, as an example does."""
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        raise UserError(
            f"{name!r} is called with other arguments than it has ({error}); {example} "
            "has the right ones"
        ) from error


def _guarded(function: Callable, field: str, name: str) -> Callable:
    """Returns a term of the loss or an augmentation that checks its result."""

    def loss(*args: Any) -> jax.Array:
        value, weight = call(function, jax.Array, name, *args), args[-1]
        if value.shape != weight.shape[:1]:
            raise UserError(
                f"{name!r} returned an array of shape {value.shape}, not one number "
                f"for each example, {weight.shape[:1]}; leave the first axis"
            )
        return value

    def operation(key: jax.Array, example: Example) -> Example:
        changed = call(function, dict, name, key, example)
        if lost := example.keys() - changed.keys() - {"moves"}:
            raise UserError(
                f"{name!r} returned an example without {_listed(sorted(lost))}; return "
                "every array that it is given"
            )
        return changed

    return functools.wraps(function)(loss if field == "loss" else operation)


def variables(config: ConfigDict, model: nn.Module, channels: int = 1) -> Callable:
    """Returns `() -> variables` of a fresh network, for images of so many channels."""
    image = jnp.zeros((1, *config.crop, channels))
    keys = dict.fromkeys(("params", "dropout"), jax.random.key(0))
    return lambda: {"batch_stats": {}, **model.init(keys, image)}


def init(config: ConfigDict, method: Method, channels: int) -> Callable:
    """Returns `(key, variables=None) -> state`, for images of this many channels."""
    image = jnp.zeros((1, *config.crop, channels))
    return jax.jit(lambda key, variables=None: method.init(key, image, variables))


def data_of(config: ConfigDict, splits: Splits) -> Data:
    """Returns the facts about the data set that a task depends on."""
    source = splits.train
    return Data(
        classes=source.classes,
        axes=len(config.crop),
        channels=source.channels,
        target_channels=source.target_channels,
    )
