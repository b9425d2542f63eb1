"""Builds what a run learns with: task, loss, network, optimizer and method."""

from typing import NamedTuple

import flax.linen as nn
import jax
import optax
from ml_collections import ConfigDict

from unet_jax import augment, methods, optimizers
from unet_jax.build import binding, checks
from unet_jax.data.source import Source
from unet_jax.errors import prefix_errors
from unet_jax.losses import Loss
from unet_jax.methods import Ingredients, Method
from unet_jax.methods.method import keep_statistics
from unet_jax.metrics.metric import Metric
from unet_jax.specs import Proportion
from unet_jax.tasks import Task, TaskData


class Learning(NamedTuple):
    """The parts of a run that are built from its config and its task alone.

    Attributes:
      task: the meaning of the output of the network.
      method: the method of training.
      model: the network.
      schedule: the learning rate, step -> rate.
      loss: the sum of the weighted terms.
      metrics: the metrics with their names.
      operations: the operations of augmentation, for `checks.check_terms`.
      terms: the terms of the loss, for `checks.check_terms`.
    """

    task: Task
    method: Method
    model: nn.Module
    schedule: optax.Schedule
    loss: Loss
    metrics: tuple[tuple[str, Metric], ...]
    operations: checks.Terms
    terms: checks.Terms


def make_task(config: ConfigDict, source: Source) -> Task:
    """Returns the task of a run for the data set of its training images."""
    data = TaskData(
        classes=source.classes,
        axes=len(config.crop),
        channels=source.channels,
        target_channels=source.target_channels,
        background=source.background,
    )
    return binding.build_task(config, data)


def build_learning(config: ConfigDict, task: Task, axis_name: str | None) -> Learning:
    """Builds what a run learns with.

    Args:
      config: the config of the run.
      task: the task; without a data set, from `binding.ANY_DATA`.
      axis_name: as in `binding.build_model`.

    Raises:
      UserError: a field of the config is wrong.
    """
    total, terms = binding.build_loss(config, task)
    operations = binding.bind_terms(
        augment, config, "augment", "probability", Proportion
    )
    schedule, tx = binding.build_optimizer(config)
    model = binding.build_model(config, axis_name).clone(outputs=task.channels)
    if config.freeze:
        shapes = binding.read_variable_shapes(config, model, 1)["params"]
        with prefix_errors("config.freeze"):
            tx = optimizers.freeze(tx, config.freeze, shapes)
    multipliers = tuple(config.optimizer.get("multipliers", ()))
    if multipliers:
        shapes = binding.read_variable_shapes(config, model, 1)["params"]
        with prefix_errors("config.optimizer.multipliers"):
            optimizers.check_patterns([pattern for pattern, _ in multipliers], shapes)
    parts = Ingredients(
        model=model,
        task=task,
        loss=total,
        augment=augment.compose(operations),
        tx=tx,
        ema=config.ema,
        coarsest=config.supervise_coarsest,
    )
    method = binding.build_part(methods, config, "method", Method, parts)
    if any(factor == 0 for _, factor in multipliers):
        method = method._replace(
            update=keep_statistics(
                method.update,
                lambda path: optimizers.find_multiplier(path, multipliers) == 0,
            )
        )
    if method.sample:
        method = method._replace(
            sample=jax.jit(method.sample, static_argnums=2),
            val_loss=jax.jit(method.val_loss),
        )
    metrics = binding.build_metrics(config, task)
    checks.check_metrics(config, method, metrics)
    return Learning(
        task=task,
        method=method,
        model=model,
        schedule=schedule,
        loss=total,
        metrics=metrics,
        operations=operations,
        terms=terms,
    )
