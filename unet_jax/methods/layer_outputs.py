"""The search for the first layer whose output is not finite."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from unet_jax.methods.method import Scalars, State


def watch_layers(update: Callable, record: Callable[[int, str], object]) -> Callable:
    """Returns an update that reports the layers whose output is not finite.

    Args:
      update: `Method.update`.
      record: is called with the number of a layer, in the order of the calls, and its
        path, such as 'encoder_0/block/conv_1'.
    """

    def watched(state: State, *arguments: Any, **options: Any) -> tuple[State, Scalars]:
        numbers = itertools.count()

        def watch(call: Callable, args: Any, kwargs: Any, context: Any) -> Any:
            output = call(*args, **kwargs)
            if context.method_name == "__call__" and context.module.path:
                number, path = next(numbers), "/".join(context.module.path)
                every = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(output)]
                report = functools.partial(_report, record, number, path)
                jax.debug.callback(report, jnp.stack(every).all())
            return output

        with nn.intercept_methods(watch):
            return update(state, *arguments, **options)

    return watched


def _report(record: Callable, number: int, path: str, finite: Any) -> None:
    if not finite:
        record(number, path)
