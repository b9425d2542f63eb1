"""Specs: plain data that names a function and its keyword arguments.

`{'name': 'focal', 'gamma': 2.0}` names a public function of one module. Each config
field belongs to one module: `config.loss` to `losses`. The module is the registry:
to add a loss, write a function in `losses/` and add its name to `__all__`.

`{'name': 'package.module:focal'}` has an external name: that of a function, or of a
Flax module class, in any package that can be imported. Its keywords are checked in the
same way.

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
MAX_INT = 2**63 - 1  # that arrays can hold
MAX_FLOAT = 3.4e38  # of float32; the square of a larger number overflows in Python


class Domain(NamedTuple):
    """The allowed values of a type.

    Attributes:
      words: the values in words, for errors: 'from 0 to 1'.
      holds: returns True for an allowed value.
    """

    words: str
    holds: Callable[[Any], bool]


NonNegative = Annotated[float, Domain("of 0 or more", lambda x: x >= 0)]
Positive = Annotated[float, Domain("above 0", lambda x: x > 0)]
Proportion = Annotated[float, Domain("from 0 to 1", lambda x: 0 <= x <= 1)]
BelowOne = Annotated[float, Domain("from 0 to below 1", lambda x: 0 <= x < 1)]
Whole = Annotated[int, Domain("of 0 or more", lambda x: x >= 0)]
Count = Annotated[int, Domain("of 1 or more", lambda x: x >= 1)]
Iterations = Annotated[int, Domain("from 1 to 100000", lambda x: 1 <= x <= 10**5)]


def bind(
    module: ModuleType, spec: Spec, field: str, *, reserved: tuple[str, ...] = ()
) -> Callable[..., Any]:
    """Returns the function that a spec names, with its keyword arguments bound.

    Args:
      module: the module with the functions that a spec may name: those in its
        `__all__`. A function with an external name is imported instead.
      spec: `{'name': ..., **kwargs}`.
      field: the config field of the spec, for errors: `config.loss[0]`.
      reserved: keyword arguments that the caller passes later; a spec may not set them.

    Raises:
      UserError: the name or a keyword is unknown, an external name cannot be imported,
        or a value does not fit its annotation.
    """
    check_type(spec, Spec, field)
    kwargs = dict(spec)
    name = kwargs.pop("name")
    external = is_external(name)
    if external:
        function = _import_function(name, f"{field}.name")
    else:
        function = _get_public(module, name, f"{field}.name")
    try:
        _check_keywords(function, kwargs, field, name, reserved)
    except UserError as error:
        place = f" (defined in {find_source_file(name)})" if external else ""
        raise UserError(f"{error}{place}") from error
    return functools.partial(function, **kwargs)


def is_external(name: str) -> bool:
    """Returns True for a name of the form `package.module:function`."""
    return ":" in name


def find_externals(value: Any, field: str) -> Iterator[tuple[str, str]]:
    """Yields the field and the external name of every spec in a value, at any depth.

    It imports nothing.

    Args:
      value: the value of a config field: a spec, a tuple of specs, or anything else.
      field: the name of the field.
    """
    if hasattr(value, "items"):  # a dict or a ConfigDict
        for key, inner in value.items():
            if key == "name" and isinstance(inner, str) and is_external(inner):
                yield f"{field}.{key}", inner
            yield from find_externals(inner, f"{field}.{key}")
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            yield from find_externals(inner, f"{field}[{i}]")


def find_source_file(name: str) -> Path:
    """Returns the file that defines the function of an external name.

    Raises:
      UserError: the name cannot be imported.
    """
    function = inspect.unwrap(_import_function(name, "name"))
    try:
        return Path(inspect.getfile(function))
    except (TypeError, OSError):  # an object, such as a functools.partial
        return _get_file(importlib.import_module(name.partition(":")[0]))


def _check_keywords(
    function: Callable,
    kwargs: Mapping[str, Any],
    field: str,
    name: str,
    reserved: tuple[str, ...],
) -> None:
    """Raises UserError if a keyword is unknown, missing, or of another type."""
    subject = f"{field}: {name!r}"
    keywords = _read_keywords(function, reserved)
    for key, value in kwargs.items():
        if key not in keywords:
            given = inspect.signature(function).parameters
            positional = key in given and key not in reserved
            hint = " (it must follow the * of the signature)" if positional else ""
            raise UserError(
                f"{subject} has no keyword {key!r}{hint}; "
                f"{suggest(key, keywords, field=field)}"
            )
        check_type(value, keywords[key].type, f"{field}.{key}")
    required = [key for key, keyword in keywords.items() if keyword.required]
    if missing := [key for key in required if key not in kwargs]:
        raise UserError(f"{subject} also needs {', '.join(missing)}")


def check_type(value: Any, hint: Any, field: str) -> None:
    """Raises UserError, with the field in its text, unless a value fits a type."""
    if _fits(value, hint):
        return
    if isinstance(value, int) and not -MAX_INT <= value <= MAX_INT:
        raise UserError(f"{field}={value} has more than 64 bits; lower it")
    if isinstance(value, float) and MAX_FLOAT < abs(value) < math.inf:
        raise UserError(f"{field}={value} is beyond {MAX_FLOAT}; lower it")
    near = ""
    if typing.get_origin(hint) is typing.Literal and isinstance(value, str):
        near = suggest_nearest(value, typing.get_args(hint))
    if meant := _find_tuple(value, hint):
        raise UserError(f"{field} needs a tuple: {meant!r}, not {value!r}")
    text = f"{field} must be {_describe_type(hint)}, not {value!r}; {near}"
    raise UserError(text.rstrip("; "))


def _find_tuple(value: Any, hint: Any) -> tuple | None:
    """Returns the tuple that a value was meant to be: text, one element, or a list."""
    if hint is not tuple and typing.get_origin(hint) is not tuple:
        return None
    several = tuple(value) if isinstance(value, list | tuple) else (value,)
    if isinstance(value, str):
        several = tuple(word.strip() for word in value.split(","))
    return next((t for t in (several, (value,)) if _fits(t, hint)), None)


def _get_public(module: ModuleType, name: str, field: str) -> Callable:
    """Returns the function of this name in a module's `__all__`."""
    if name in module.__all__:
        return getattr(module, name)
    package, _, function = name.rpartition(".")
    near = f"did you mean '{package}:{function}'? " if package else ""
    hint = f"{near}{suggest(name, module.__all__)}"
    raise UserError(f"{field}: unknown name {name!r}; {hint}")


def _import_function(name: str, field: str) -> Callable:
    """Returns the function of an external name."""
    path, _, attribute = name.partition(":")
    if not all(map(str.isidentifier, [*path.split("."), attribute])):
        raise UserError(f"{field}: write {name!r} as 'package.module:function'")
    try:
        module = importlib.import_module(path)
        exists = hasattr(module, attribute)  # a module's __getattr__ can run code, too
    except (Exception, SystemExit) as error:
        text = _describe_import_error(error)
        raise UserError(f"{field}: cannot import {path!r}: {text}") from error
    if not exists:
        own = [key for key, value in vars(module).items() if _is_own(value, key, path)]
        raise UserError(
            f"{field}: no function {attribute!r} in {_get_file(module)}; "
            f"{suggest(attribute, own)}"
        )
    function = getattr(module, attribute)
    if not callable(function):
        kind = type(function).__name__
        raise UserError(
            f"{field}: {name!r} is not a function but a value of type {kind}; name a "
            "function or a class"
        )
    try:
        inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{field}: {name!r} has no signature, so its keywords cannot be checked; "
            "write a Python function that calls it, and name that one"
        ) from error
    return function


def _describe_import_error(error: BaseException) -> str:
    """Returns the file, line, type and message of an error in an import."""
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


def _get_file(module: ModuleType) -> Path:
    """Returns the file of a module; the name of a namespace package, which has none."""
    return Path(getattr(module, "__file__", None) or module.__name__)


class _Keyword(NamedTuple):
    type: Any
    required: bool


def _read_keywords(
    function: Callable, reserved: tuple[str, ...]
) -> dict[str, _Keyword]:
    """Returns the keywords that a spec may set.

    Those are the keyword-only parameters of a function, or all fields of a Flax module.
    """
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception:  # annotations of an external function may be any text
        hints = {}
    hidden = {"parent", "name", *reserved}  # Flax adds the first two to every module
    return {
        name: _Keyword(hints.get(name, Any), p.default is p.empty)
        for name, p in inspect.signature(function).parameters.items()
        if name not in hidden
        and (inspect.isclass(function) or p.kind == p.KEYWORD_ONLY)
    }


def _describe_type(hint: Any) -> str:
    """Returns a type annotation in words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return f"{_describe_type(arguments[0])} {arguments[1].words}"
    if origin is typing.Literal:
        return " or ".join(map(repr, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_describe_type, arguments))
    if origin is tuple:
        if typing.get_origin(arguments[0]) is Mapping:
            return "a tuple of specs, ({'name': ...},) with its comma"
        return (
            f"a tuple, (x,) or (x, ...), where each x is {_describe_type(arguments[0])}"
        )
    if origin is Mapping:
        return "a spec, {'name': ...}"
    words = {
        Mapping: "a dict",
        tuple: "a tuple",
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
    if hint in (Mapping, tuple):
        return isinstance(value, hint)
    if isinstance(value, bool):
        return hint not in (int, float, str, type(None))
    if isinstance(value, int) and not -MAX_INT <= value <= MAX_INT:
        return False
    if hint is float:
        return isinstance(value, int | float) and abs(value) <= MAX_FLOAT
    if hint is str:
        return isinstance(value, str) and "\0" not in value
    if hint in (int, bool, type(None)):
        return isinstance(value, hint)
    return True
