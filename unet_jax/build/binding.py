"""The fields of a config that are specs, as the functions that they name."""

from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from unet_jax import losses, methods, metrics, models, optimizers, schedules, tasks
from unet_jax.build import checks
from unet_jax.data.source import Splits
from unet_jax.errors import UserError, naming
from unet_jax.methods import Ingredients, Method
from unet_jax.metrics.case import Metric
from unet_jax.specs import NonNegative, bind, check
from unet_jax.tasks import Data, Task

# A task of any data set: to check names and kinds before the data are read.
ANY_DATA = Data(("background", "foreground"), axes=2, channels=1, target_channels=1)


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
        value = spec.get(number, 1)
        check(value, hint, f"{name}.{number}")
        terms.append((float(value), function))
    return terms


def task(config: ConfigDict, data: Data) -> Task:
    """Returns the task of a data set.

    Raises:
      UserError: the spec is wrong, or the data set does not have what the task needs.
    """
    make = field(tasks, config, "task")
    with naming("config.task"):
        return make(data)


def loss(config: ConfigDict, task: Task) -> tuple[losses.Loss, checks.Terms]:
    """Returns the weighted sum of the loss terms, and the terms.

    Raises:
      UserError: a spec is wrong, or a term reads a kind of target that the task lacks.
    """
    bound = terms(losses, config, "loss", "scale", NonNegative)
    covered = {losses.kind(term) for scale, term in bound if scale}
    for spec in task.fallback:
        term = bind(losses, spec, f"the task {config.task.name!r}")
        if losses.kind(term) not in covered:
            bound.append((1.0, term))
    for i, (scale, term) in enumerate(bound[: len(config.loss)]):
        with naming(f"config.loss[{i}]"):
            kind = losses.kind(term)
            if scale and kind not in task.losses:
                known = (getattr(losses, name) for name in losses.__all__)
                serving = [f.__name__ for f in known if losses.kind(f) in task.losses]
                raise UserError(
                    f"{config.loss[i].name!r} reads a {kind}, and the task "
                    f"{config.task.name!r} has none; use {_listed(serving)}"
                )
    with naming("config.loss"):
        return losses.weighted_sum(bound), bound


def scores(config: ConfigDict, task: Task) -> tuple[tuple[str, Metric], ...]:
    """Returns names and metrics; the first one chooses the best checkpoint.

    Raises:
      UserError: a spec is wrong, a metric reads a kind of result that the task lacks,
        or the first one is not better when it is higher.
    """
    made = []
    for i, spec in enumerate(checks.plain(config.metrics)):
        make = bind(metrics, spec, f"config.metrics[{i}]")
        with naming(f"config.metrics[{i}]"):
            metric = make()
            if metric.kind not in task.metrics:
                raise UserError(
                    f"{spec['name']!r} reads {KINDS[metric.kind]}, and the task "
                    f"{config.task.name!r} gives none; use {_listed(_serving(task))}"
                )
        made.append(metric)
    named = tuple(zip(checks.metric_names(config), made, strict=True))
    if named and named[0][1].lower:
        raise UserError(
            "config.metrics must begin with a score that is better when it is higher, "
            "such as dice or psnr: the first one chooses the best checkpoint"
        )
    return named


KINDS = {"label": "labels", "objects": "objects", "value": "values"}


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
    schedule = field(schedules, config, "schedule")(rate, config.steps)
    return schedule, make(schedule)


def model(config: ConfigDict, axis_name: str | None) -> nn.Module:
    """Returns the network, with as many outputs as its default has."""
    given = ("outputs", "dtype", "axis_name")
    make = field(models, config, "model", given=given)
    network = make(dtype=jnp.dtype(config.precision), axis_name=axis_name)
    if fault := network.fault():
        raise UserError(f"config.model.{fault}")
    return network


def method(config: ConfigDict, parts: Ingredients) -> Method:
    """Returns the way to learn."""
    make = field(methods, config, "method")
    with naming("config.method"):
        return make(parts)


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
