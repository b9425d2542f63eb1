"""Builds the parts of a run from the specs in its config."""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from unet_jax import losses, metrics, models, optimizers, schedules, tasks
from unet_jax.arrays import Example
from unet_jax.build import checks, field_checks
from unet_jax.data.source import Splits
from unet_jax.errors import UserError, prefix_errors
from unet_jax.geometry import Geometry
from unet_jax.logs import say
from unet_jax.methods import Method
from unet_jax.metrics.metric import Metric
from unet_jax.parallel import Layout
from unet_jax.specs import NonNegative, bind, check_type, is_external
from unet_jax.tasks import Task, TaskData
from unet_jax.text import one_line

# Assumed facts about a data set, to check a config before the data are read.
ANY_DATA = TaskData(("background", "foreground"), axes=2, channels=1, target_channels=1)
# The results that a metric reads, in words, by its kind.
RESULT_NAMES = {"label": "labels", "objects": "objects", "value": "values"}


def bind_field(
    module: ModuleType, config: ConfigDict, name: str, **options: Any
) -> Any:
    """Returns the function that the spec of a field names, with its keywords bound.

    The options are those of `specs.bind`.

    Raises:
      UserError: the spec is wrong.
    """
    return bind(
        module, field_checks.to_plain(config[name]), f"config.{name}", **options
    )


def build_part(
    module: ModuleType, config: ConfigDict, name: str, kind: Any, *args: Any
) -> Any:
    """Calls the function that the spec of a field names, and returns its result.

    Args:
      module: the module that defines the function.
      config: the config of the run.
      name: the name of the field.
      kind: the type of the result, one of `EXAMPLES`.
      *args: positional arguments of the function.

    Raises:
      UserError: the spec is wrong, or the function raises it.
    """
    make = bind_field(module, config, name)
    with prefix_errors(f"config.{name}"):
        return call_checked(make, kind, config[name].name, *args)


def bind_terms(
    module: ModuleType,
    config: ConfigDict,
    field: str,
    number: str,
    hint: Any,
    **options: Any,
) -> checks.Terms:
    """Returns the functions of a tuple of specs, each with a number.

    The number is a key of the spec that is not passed to the function: the scale of a
    term of the loss, or the probability of an augmentation. It is 1 if it is missing,
    and `hint` is its type. The options are those of `specs.bind`.

    Raises:
      UserError: a spec is wrong.
    """
    terms = []
    for i, spec in enumerate(field_checks.to_plain(config[field])):
        name = f"config.{field}[{i}]"
        rest = {k: v for k, v in spec.items() if k != number}
        function = bind(module, rest, name, **options)
        if is_external(spec["name"]):
            function = _check_result(function, field, spec["name"])
        value = spec.get(number, 1)
        check_type(value, hint, f"{name}.{number}")
        terms.append((float(value), function))
    return terms


def build_task(config: ConfigDict, data: TaskData) -> Task:
    """Returns the task of a run; raises UserError if it does not fit the data set."""
    return build_part(tasks, config, "task", Task, data)


def build_loss(config: ConfigDict, task: Task) -> tuple[losses.Loss, checks.Terms]:
    """Returns the weighted sum of the terms of the loss, and the terms.

    The `fallback` of the task gives a term for each kind of target that the config has
    no term for.

    Raises:
      UserError: a spec is wrong, a term reads a kind of target that the task does not
        have, or no term reads one that it has.
    """
    reserved = (losses.AXIS_NAME,)
    bound = bind_terms(losses, config, "loss", "scale", NonNegative, reserved=reserved)
    covered = set()  # kinds of target; a term of scale 0 counts, as a deliberate choice
    for i, (scale, term) in enumerate(bound):
        with prefix_errors(f"config.loss[{i}]"):
            kind = losses.get_kind(term)
            covered.add(kind)
            if scale and kind not in task.losses:
                known = {n: losses.get_kind(getattr(losses, n)) for n in losses.__all__}
                serving = _join_words(n for n in known if known[n] in task.losses)
                raise UserError(
                    f"{config.loss[i].name!r} reads a {kind}, and the task "
                    f"{config.task.name!r} has none; use {serving}"
                )
    for spec in task.fallback:
        term = bind(losses, spec, f"the task {config.task.name!r}")
        if losses.get_kind(term) not in covered:
            bound.append((1.0, term))
            covered.add(losses.get_kind(term))
    if missing := set(task.losses) - covered:
        raise UserError(
            f"config.loss: no term reads a {_join_words(sorted(missing))}, which the "
            f"task {config.task.name!r} learns from; add one"
        )
    with prefix_errors("config.loss"):
        return losses.combine_losses(bound), bound


def build_metrics(config: ConfigDict, task: Task) -> tuple[tuple[str, Metric], ...]:
    """Returns the metrics with their names.

    Raises:
      UserError: a spec is wrong, or a metric reads results that the task does not give.
    """
    built = []
    for i, spec in enumerate(field_checks.to_plain(config.metrics)):
        make = bind(metrics, spec, f"config.metrics[{i}]")
        with prefix_errors(f"config.metrics[{i}]"):
            metric = call_checked(make, Metric, spec["name"])
            if metric.kind not in task.metrics:
                known = {n: getattr(metrics, n)().kind for n in metrics.__all__}
                serving = _join_words(n for n in known if known[n] in task.metrics)
                raise UserError(
                    f"{spec['name']!r} reads {RESULT_NAMES[metric.kind]}, and the task "
                    f"{config.task.name!r} gives none; use {serving}"
                )
        built.append(metric)
    return tuple(zip(checks.get_metric_names(config), built, strict=True))


def _join_words(names: Iterable[str]) -> str:
    """Returns names as `"a, b or c"`."""
    names = list(names)
    return ", ".join(names[:-1]) + f" or {names[-1]}" if names[1:] else "".join(names)


def build_optimizer(
    config: ConfigDict,
) -> tuple[optax.Schedule, optax.GradientTransformation]:
    """Returns the learning rate, step -> rate, and the optimizer that uses it.

    Raises:
      UserError: a spec is wrong.
    """
    bind_field(optimizers, config, "optimizer")  # checks the rate
    rate, kind = config.optimizer.get("learning_rate"), optax.GradientTransformation
    schedule = build_part(schedules, config, "schedule", Callable, rate, config.steps)
    return schedule, build_part(optimizers, config, "optimizer", kind, schedule)


def build_model(config: ConfigDict, axis_name: str | None) -> nn.Module:
    """Returns the network, with its default number of outputs.

    `axis_name` is the axis of devices over which batch norm computes its statistics;
    None if arrays are global.

    Raises:
      UserError: the spec is wrong, or the network lacks a method or an attribute.
    """
    given = {"dtype": _choose_dtype(config), "axis_name": axis_name}
    make = bind_field(models, config, "model", reserved=("outputs", *given))
    with prefix_errors("config.model"):
        name = config.model.name
        network = call_checked(make, nn.Module, name, **given)
        present = {field.name for field in dataclasses.fields(network)}
        present |= set(dir(type(network)))
        needed = ("outputs", "fault", "geometry", "__call__")
        example = EXAMPLES[nn.Module]
        if missing := [part for part in needed if part not in present]:
            raise UserError(
                f"{name!r} has no {_join_words(missing)}; add what {example} has"
            )
        inputs = {"train": True, "seed": None}
        apply = network.__call__
        _check_arguments(apply, f"{name}.__call__", example, "image", **inputs)
    if fault := network.fault():
        raise UserError(f"config.model.{fault}")
    with prefix_errors("config.model"):  # after `fault`: it needs valid fields
        call_checked(network.geometry, Geometry, f"{name}.geometry", len(config.crop))
    return network


def _choose_dtype(config: ConfigDict) -> Any:
    """Returns the type of the computation: that of `config.precision`, or float32.

    CPUs compute bfloat16 as float32 and convert between the two, which takes longer.
    """
    if config.precision != "float32" and jax.default_backend() == "cpu":
        _announce_float32(config.precision)
        return jnp.dtype("float32")
    return jnp.dtype(config.precision)


@functools.cache  # once, whatever the number of networks
def _announce_float32(precision: str) -> None:
    say(f"config.precision={precision!r}: computed in float32, which is faster on CPUs")


# For errors: a function of this package that returns the type.
EXAMPLES = {
    Callable: "unet_jax.schedules.constant",
    Geometry: "unet_jax.models.UNet.geometry",
    Layout: "unet_jax.parallel.pmap",
    Method: "unet_jax.methods.supervised",
    Metric: "unet_jax.metrics.dice",
    Splits: "unet_jax.data.cells",
    Task: "unet_jax.tasks.semantic",
    nn.Module: "unet_jax.models.UNet",
    optax.GradientTransformation: "unet_jax.optimizers.sgd",
    dict: "unet_jax.augment.flip",
    jax.Array: "unet_jax.losses.cross_entropy",
}


def call_checked(
    make: Callable, kind: Any, name: str, *args: Any, **kwargs: Any
) -> Any:
    """Calls a function that a spec names, and checks the type of its result.

    Args:
      make: the function, with the keywords of the spec bound.
      kind: the type of the result, one of `EXAMPLES`.
      name: the name of the function in the spec.
      *args: positional arguments of the function.
      **kwargs: keyword arguments of the function.

    Raises:
      UserError: the function does not take these arguments, or returns another type.
    """
    _check_arguments(make, name, EXAMPLES[kind], *args, **kwargs)
    result = make(*args, **kwargs)
    if not isinstance(result, kind):
        found = "None" if result is None else f"a value of type {type(result).__name__}"
        expected = "a JAX array" if kind is jax.Array else f"a {kind.__name__}"
        raise UserError(
            f"{name!r} returned {found}, not {expected}; return the same type as "
            f"{EXAMPLES[kind]}"
        )
    return result


def _check_arguments(
    function: Callable, name: str, example: str, *args: Any, **kwargs: Any
) -> None:
    """Raises UserError unless a function takes these arguments."""
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        raise UserError(
            f"{name!r} does not take the arguments that it is called with ({error}); "
            f"use the signature of {example}"
        ) from error


def _check_result(function: Callable, field: str, name: str) -> Callable:
    """Returns a term of the loss, or an augmentation, that checks its own result."""

    def loss(*args: Any, **kwargs: Any) -> jax.Array:
        value = call_checked(function, jax.Array, name, *args, **kwargs)
        weight = args[-1]
        if value.shape != weight.shape[:1]:
            raise UserError(
                f"{name!r} returned an array of shape {value.shape}, not one number "
                f"for each example, {weight.shape[:1]}; keep the first axis"
            )
        return value

    def operation(key: jax.Array, example: Example) -> Example:
        changed = call_checked(function, dict, name, key, example)
        if lost := example.keys() - changed.keys() - {"displacements"}:
            raise UserError(
                f"{name!r} returned an example without {_join_words(sorted(lost))}; "
                "return every array of its argument"
            )
        return changed

    guarded: Callable = loss if field == "loss" else operation
    return functools.wraps(function)(guarded)


def read_variable_shapes(config: ConfigDict, model: nn.Module, channels: int) -> Any:
    """Returns the shapes of the variables of a network.

    Raises:
      UserError: they need more memory than the machine has.
    """
    image, key = jnp.zeros((1, *config.crop, channels)), jax.random.key(0)
    keys = {"params": key, "dropout": key}
    try:
        shapes = jax.eval_shape(lambda: {"batch_stats": {}, **model.init(keys, image)})
        leaves = jax.tree.leaves(shapes)
        size = sum(math.prod(x.shape) * x.dtype.itemsize for x in leaves)
    except OverflowError as error:  # a size does not fit into a number of 64 bits
        raise UserError(
            f"config.model is too large ({one_line(error)}); lower its widths, kernels "
            "or time_features"
        ) from error
    checks.check_memory(size, "config.model", "its widths, kernels or time_features")
    return shapes
