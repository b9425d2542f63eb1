"""Distributions of the fields of a search; `space()` names them.

`{"name": "log_uniform", "low": 1e-4, "high": 1e-2}`. Each is a function of this module
that returns a `Distribution`. To add one, add its name to `__all__`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from unet_jax.build.overrides import to_text
from unet_jax.errors import UserError
from unet_jax.specs import Count, Positive

__all__ = ["choice", "integer", "log_uniform", "uniform"]


class Suggestions(Protocol):
    """The methods of `optuna.Trial` that distributions call."""

    def suggest_float(self, name: str, low: float, high: float, **options: Any) -> Any:
        """Returns a number from `low` to `high`."""

    def suggest_int(self, name: str, low: int, high: int, **options: Any) -> Any:
        """Returns a whole number from `low` to `high`."""

    def suggest_categorical(self, name: str, choices: list) -> Any:
        """Returns one of the choices."""


class Distribution(NamedTuple):
    """The values that a search may choose for a field.

    Attributes:
      ends: values that are checked before the search: both ends, or every choice.
      suggest: `(trial, field) -> value`.
    """

    ends: tuple[Any, ...]
    suggest: Callable[[Suggestions, str], Any]


def log_uniform(*, low: Positive, high: Positive) -> Distribution:
    """Returns numbers whose logarithm is uniform, such as learning rates.

    Raises:
      UserError: `low` is not below `high`.
    """
    _check_order(low, high)
    return Distribution(
        (float(low), float(high)),
        lambda trial, field: _round(
            trial.suggest_float(field, low, high, log=True), low, high
        ),
    )


def uniform(*, low: float, high: float) -> Distribution:
    """Returns uniform numbers; those of `integer` are whole.

    Raises:
      UserError: `low` is not below `high`.
    """
    _check_order(low, high)
    return Distribution(
        (float(low), float(high)),
        lambda trial, field: _round(trial.suggest_float(field, low, high), low, high),
    )


def integer(*, low: int, high: int, step: Count = 1) -> Distribution:
    """Returns uniform whole numbers: `low`, `low + step` and so on up to `high`.

    Raises:
      UserError: `low` is not below `high`.
    """
    _check_order(low, high)
    last = high - (high - low) % step
    return Distribution(
        (low, last),
        lambda trial, field: trial.suggest_int(field, low, last, step=step),
    )


def choice(*, values: tuple) -> Distribution:
    """Returns one of several values of any type, each with the same probability.

    Raises:
      UserError: there are fewer than two different values.
    """
    texts = [to_text(value) for value in values]
    if len(set(texts)) < 2:
        raise UserError("values must have two different values or more")
    return Distribution(
        tuple(texts), lambda trial, field: trial.suggest_categorical(field, texts)
    )


def _check_order(low: float, high: float) -> None:
    if not low < high:
        raise UserError(f"low={low} must be below high={high}; swap them or change one")


def _round(value: float, low: float, high: float) -> float:
    """Returns four digits, enough to read and to repeat, within the bounds."""
    return min(max(float(f"{value:.4g}"), low), high)
