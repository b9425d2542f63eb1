"""From a spec to a function: the module is the registry.

A spec is plain data, `{'name': 'focal', 'gamma': 2.0}`. It names one public function
of one module, with its keyword arguments. To add a loss, write a function in
`losses.py` and its name in `__all__`; nothing else changes. What a keyword may be is
said once, by its annotation: `gamma: NonNegative = 2.0`.
"""

import functools
import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Annotated, Any, NamedTuple

from unet_jax.errors import UserError, choices, nearest

Spec = Mapping[str, Any]


class Within(NamedTuple):
    """Where a number must lie, in words and as a test."""

    words: str
    holds: Callable[[float], bool]


NonNegative = Annotated[float, Within("of 0 or more", lambda x: x >= 0)]
Positive = Annotated[float, Within("above 0", lambda x: x > 0)]
Proportion = Annotated[float, Within("from 0 to 1", lambda x: 0 <= x <= 1)]
BelowOne = Annotated[float, Within("from 0 to below 1", lambda x: 0 <= x < 1)]
Whole = Annotated[int, Within("of 0 or more", lambda x: x >= 0)]
Count = Annotated[int, Within("of 1 or more", lambda x: x >= 1)]


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
      UserError: the name or a keyword is unknown, or a value is not what its
        annotation says.
    """
    check(spec, Spec, field)
    kwargs = dict(spec)
    name = kwargs.pop("name")
    if name not in module.__all__:
        raise UserError(f"{field}.name: no {name!r}; {choices(name, module.__all__)}")
    function = getattr(module, name)
    check_keywords(function, kwargs, field, name=name, given=given)
    return functools.partial(function, **kwargs)


def check_keywords(
    function: Callable,
    kwargs: Mapping[str, Any],
    field: str,
    *,
    name: str = "",
    given: tuple[str, ...] = (),
) -> None:
    """Raises UserError unless a function can be called with these, as annotated."""
    fields, named = _fields(function, given), f": {name!r}" if name else ""
    for key, value in kwargs.items():
        if key not in fields:
            raise UserError(f"{field}{named} has no {key!r}; {choices(key, fields)}")
        check(value, fields[key], f"{field}.{key}")
    missing = [key for key in _required(function, given) if key not in kwargs]
    if missing:
        raise UserError(f"{field}{named} also needs {', '.join(missing)}")


def check(value: Any, hint: Any, field: str) -> None:
    """Raises UserError, naming the field, unless the value is what the hint says."""
    if _fits(value, hint):
        return
    near = ""
    if typing.get_origin(hint) is typing.Literal and isinstance(value, str):
        near = nearest(value, typing.get_args(hint))
    raise UserError(f"{field} must be {_say(hint)}, not {value!r}; {near}".rstrip("; "))


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
    hints = typing.get_type_hints(function, include_extras=True)
    return {key: hints.get(key, Any) for key in _keywords(function, given)}


def _required(function: Callable, given: tuple[str, ...]) -> list[str]:
    keywords = _keywords(function, given)
    return [k for k, p in keywords.items() if p.default is inspect.Parameter.empty]


def _say(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return f"{_say(arguments[0])} {arguments[1].words}"
    if origin is typing.Literal:
        return " or ".join(map(repr, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_say, arguments))
    if origin is tuple:
        if typing.get_origin(arguments[0]) is Mapping:
            return "a tuple of specs, ({'name': ...},) with its comma"
        return f"a tuple, (x,) or (x, ...), each x {_say(arguments[0])}"
    if origin is Mapping:
        return "a spec, {'name': ...}"
    words = {
        float: "a number",
        int: "a whole number",
        bool: "True or False",
        str: "text",
    }
    return words.get(hint) or getattr(hint, "__name__", str(hint))


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value fits a simple annotation; what is not simple is let through."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _fits(value, arguments[0]) and arguments[1].holds(value)
    if origin is typing.Literal:
        return value in arguments
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(v, arguments[0]) for v in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and isinstance(value.get("name"), str)
    if isinstance(value, bool):
        return hint not in (int, float, str, type(None))
    if hint is float:
        return isinstance(value, int | float) and math.isfinite(value)
    if hint in (int, bool, str, type(None)):
        return isinstance(value, hint)
    return True
