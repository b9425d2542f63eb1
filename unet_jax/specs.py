"""From a spec to a function: the module is the registry.

A spec is plain data, `{'name': 'focal', 'gamma': 2.0}`. It names one public function
of one module, with its keyword arguments. To add a loss, write a function in
`losses.py` and its name in `__all__`; nothing else changes.
"""

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from unet_jax.errors import UserError, choices

Spec = Mapping[str, Any]


def bind(
    module: ModuleType, spec: Spec, field: str, *, given: tuple[str, ...] = ()
) -> Callable[..., Any]:
    """Returns the function that a spec names, with its keyword arguments bound.

    Args:
      module: where the function lives; only names in its `__all__` count.
      spec: `{'name': ..., **kwargs}`.
      field: what the user calls the spec (`config.loss[0]`), for the messages.
      given: keyword arguments that the caller supplies later; a spec may not.

    Raises:
      UserError: the name or a keyword is unknown, or a value has the wrong type.
    """
    if not isinstance(spec, Mapping) or not isinstance(spec.get("name"), str):
        raise UserError(f"{field} must be {{'name': ..., ...}}, not {spec!r}")
    kwargs = dict(spec)
    name = kwargs.pop("name")
    if name not in module.__all__:
        raise UserError(f"{field}.name: no {name!r}; {choices(name, module.__all__)}")
    function = getattr(module, name)
    fields = _fields(function, given)
    for key, value in kwargs.items():
        if key not in fields:
            raise UserError(f"{field}: {name!r} has no {key!r}; {choices(key, fields)}")
        if not _fits(value, fields[key]):
            raise UserError(f"{field}.{key} must be {_say(fields[key])}, not {value!r}")
    missing = [key for key in _required(function, given) if key not in kwargs]
    if missing:
        raise UserError(f"{field}: {name!r} also needs {', '.join(missing)}")
    return functools.partial(function, **kwargs)


def _keywords(function: Callable, given: tuple[str, ...]) -> dict[str, Any]:
    """The parameters that a spec may set: keyword-only ones, or a module's fields."""
    parameters = inspect.signature(function).parameters
    if not inspect.isclass(function):
        parameters = {
            k: p
            for k, p in parameters.items()
            if p.kind == inspect.Parameter.KEYWORD_ONLY
        }
    hidden = {"parent", "name", *given}  # the first two are Flax's own
    return {k: p for k, p in parameters.items() if k not in hidden}


def _fields(function: Callable, given: tuple[str, ...]) -> dict[str, Any]:
    hints = typing.get_type_hints(function)
    return {key: hints.get(key, Any) for key in _keywords(function, given)}


def _required(function: Callable, given: tuple[str, ...]) -> list[str]:
    keywords = _keywords(function, given)
    return [k for k, p in keywords.items() if p.default is inspect.Parameter.empty]


def _say(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(map(repr, typing.get_args(hint)))
    return hint.__name__ if isinstance(hint, type) else str(hint)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value fits a simple annotation; what is not simple is let through."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return value in arguments
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if origin is tuple:
        element = arguments[0]
        return isinstance(value, tuple) and all(_fits(v, element) for v in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (bool, str, type(None)):
        return isinstance(value, hint)
    return True
