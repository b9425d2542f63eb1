"""The fields of a config that are specs, as the functions that they name."""

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from unet_jax import models, optimizers, schedules, step
from unet_jax.build import checks
from unet_jax.errors import UserError
from unet_jax.specs import bind, check


def field(module: ModuleType, config: ConfigDict, name: str, **options: Any) -> Any:
    """The function that the spec of one field names."""
    return bind(module, checks.plain(config[name]), f"config.{name}", **options)


def terms(
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


def optimizer(
    config: ConfigDict,
) -> tuple[optax.Schedule, optax.GradientTransformation]:
    """The learning rate, step -> rate, and what follows it."""
    rate = config.optimizer.get("learning_rate")
    make = field(optimizers, config, "optimizer")
    schedule = field(schedules, config, "schedule")(rate, config.steps)
    return schedule, make(schedule)


def model(config: ConfigDict, axis_name: str | None) -> nn.Module:
    """The network, with as many outputs as its default has."""
    given = ("outputs", "dtype", "axis_name")
    make = field(models, config, "model", given=given)
    network = make(dtype=jnp.dtype(config.precision), axis_name=axis_name)
    if fault := network.fault():
        raise UserError(f"config.model.{fault}")
    return network


def init(
    config: ConfigDict,
    model: nn.Module,
    tx: optax.GradientTransformation,
    channels: int,
) -> Callable:
    """`key -> state`, for images of this many channels."""
    image = jnp.zeros((1, *config.crop, channels))
    return jax.jit(
        functools.partial(step.init, image=image, model=model, tx=tx, ema=config.ema)
    )
