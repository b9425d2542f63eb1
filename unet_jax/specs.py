"""Specs: plain data that names a function and its keyword arguments.

`{'name': 'focal', 'gamma': 2.0}` names one public function of the module that its field
belongs to: the module is the registry. To add a loss, write a function in `losses.py`
and add its name to `__all__`; nothing else changes.

`{'name': 'package.module:focal'}` is an external name: a function, or a Flax module
class, of any package that can be imported. Its keywords are checked in the same way.

The annotation of a keyword states its type and range: `gamma: NonNegative = 2.0`.
"""

import functools
import importlib
import inspect
import math
import traceback
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, NamedTuple

from unet_jax.errors import UserError, suggest, suggest_nearest

Spec = Mapping[str, Any]


class Within(NamedTuple):
    """The range of a number, in words and as a test."""

    words: str
    holds: Callable[[Any], bool]


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
      module: the module whose functions a spec may name, those in its `__all__`. An
        external name is imported instead.
      spec: `{'name': ..., **kwargs}`.
      field: what the user calls the spec (`config.loss[0]`), for the messages.
      given: keyword arguments that the caller supplies later; a spec may not.

    Raises:
      UserError: the name or a keyword is unknown, an external name cannot be imported,
        or a value does not fit its annotation.
    """
    check(spec, Spec, field)
    kwargs = dict(spec)
    name = kwargs.pop("name")
    if not is_external(name):
        function = _public(module, name, f"{field}.name")
        check_keywords(function, kwargs, field, name=name, given=given)
    else:
        function = _imported(name, f"{field}.name")
        try:
            check_keywords(function, kwargs, field, name=name, given=given)
        except UserError as error:
            raise UserError(f"{error} (defined in {source_of(name)})") from error
    return functools.partial(function, **kwargs)


def is_external(name: str) -> bool:
    """Returns True for `package.module:function`."""
    return ":" in name


def externals(value: Any, field: str) -> Iterator[tuple[str, str]]:
    """Yields the field and the external name of every spec in a value, at any depth.

    Nothing is imported.

    Args:
      value: of a config: a spec, a tuple or list of specs, or anything else.
      field: what the user calls it.
    """
    if hasattr(value, "items"):  # a dict or a ConfigDict
        for key, inner in value.items():
            if key == "name" and isinstance(inner, str) and is_external(inner):
                yield f"{field}.{key}", inner
            yield from externals(inner, f"{field}.{key}")
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            yield from externals(inner, f"{field}[{i}]")


def source_of(name: str) -> Path:
    """Returns the file that defines what an external name stands for.

    Raises:
      UserError: the name cannot be imported.
    """
    function = inspect.unwrap(_imported(name, "name"))
    try:
        return Path(inspect.getfile(function))
    except (TypeError, OSError):  # an object, such as a functools.partial
        return _file(importlib.import_module(name.partition(":")[0]))


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
            there = inspect.signature(function).parameters
            where = " after the * of its signature" if key in there else ""
            raise UserError(
                f"{field}{named} has no {key!r}{where}; {suggest(key, fields)}"
            )
        check(value, fields[key], f"{field}.{key}")
    missing = [key for key in _required(function, given) if key not in kwargs]
    if missing:
        raise UserError(f"{field}{named} also needs {', '.join(missing)}")


def check(value: Any, hint: Any, field: str) -> None:
    """Raises UserError, naming the field, unless a value fits a type annotation."""
    if _fits(value, hint):
        return
    near = ""
    if typing.get_origin(hint) is typing.Literal and isinstance(value, str):
        near = suggest_nearest(value, typing.get_args(hint))
    raise UserError(f"{field} must be {_say(hint)}, not {value!r}; {near}".rstrip("; "))


def _public(module: ModuleType, name: str, field: str) -> Callable:
    """The function of this name in a module's `__all__`."""
    if name in module.__all__:
        return getattr(module, name)
    package, _, function = name.rpartition(".")
    near = f"did you mean '{package}:{function}'? " if package else ""
    raise UserError(f"{field}: no {name!r}; {near}{suggest(name, module.__all__)}")


def _imported(name: str, field: str) -> Callable:
    """The function of an external name."""
    path, _, attribute = name.partition(":")
    if not all(map(str.isidentifier, [*path.split("."), attribute])):
        raise UserError(f"{field}: write {name!r} as 'package.module:function'")
    try:
        module = importlib.import_module(path)
        there = hasattr(module, attribute)  # a module can import what is asked for
    except (Exception, SystemExit) as error:
        raise UserError(f"{field}: cannot import {path!r}: {_fault(error)}") from error
    if not there:
        own = [key for key, value in vars(module).items() if _is_own(value, key, path)]
        raise UserError(
            f"{field}: no {attribute!r} in {_file(module)}; {suggest(attribute, own)}"
        )
    function = getattr(module, attribute)
    if not callable(function):
        kind = type(function).__name__
        raise UserError(f"{field}: {name!r} is no function, but of type {kind}")
    try:
        inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{field}: {name!r} has no signature to check keywords with; name a Python "
            "function that calls it"
        ) from error
    return function


def _fault(error: BaseException) -> str:
    """File, line, type and message of an error in an import."""
    text = " ".join(str(error).split())
    words = f"{type(error).__name__}: {text}".removesuffix(": ")
    if isinstance(error, SyntaxError) and error.filename:
        kind = type(error).__name__
        return f"{error.filename}, line {error.lineno}: {kind}: {error.msg}"
    machinery = (__file__, importlib.__file__, "<frozen importlib")
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(machinery)
    ]
    if frames:
        return f"{frames[-1].filename}, line {frames[-1].lineno}: {words}"
    return f"{words}; install it, or add the folder that holds it to PYTHONPATH"


def _is_own(value: Any, key: str, path: str) -> bool:
    """Returns True for a public function or class that a module defines itself."""
    own = getattr(value, "__module__", None) == path
    return own and callable(value) and not key.startswith("_")


def _file(module: ModuleType) -> Path:
    """The file of a module; of a package without one, its name."""
    return Path(getattr(module, "__file__", None) or module.__name__)


def _keywords(function: Callable, given: tuple[str, ...]) -> dict[str, Any]:
    """The parameters that a spec may set: keyword-only, or any of a class."""
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
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception:  # of an external function: its annotations cannot be evaluated
        hints = {}
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
    if hint is Mapping:
        return "a dict"
    words = {
        float: "a number",
        int: "a whole number",
        bool: "True or False",
        str: "text",
    }
    return words.get(hint) or getattr(hint, "__name__", str(hint))


def _fits(value: Any, hint: Any) -> bool:
    """Returns True if a value fits an annotation, or the annotation is not simple."""
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
    if hint is Mapping:
        return isinstance(value, Mapping)
    if isinstance(value, bool):
        return hint not in (int, float, str, type(None))
    if hint is float:
        return isinstance(value, int | float) and math.isfinite(value)
    if hint in (int, bool, str, type(None)):
        return isinstance(value, hint)
    return True
