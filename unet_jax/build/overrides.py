"""Overrides: the fields of a config that a command line sets, and their errors.

`--config.steps=20 --config.crop=64,64`. ml_collections parses them; the errors are
reworded here. Nothing here imports JAX.
"""

import ast
import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags import tuple_parser

from unet_jax.build.field_checks import to_plain
from unet_jax.build.fields import find_flag
from unet_jax.errors import UserError
from unet_jax.text import one_line

REWORDINGS = {
    "as a ConfigDict": "{0}={1}: this is a spec; write {0}.name={1}, or all of it, "
    "{0}=\"{{'name':'{1}'}}\"",
    "Non-boolean": "{0} must be True or False, not {1!r}",
    "positive integer": "{0} must be a whole number of 1 or more, not {1!r}",
    "for int()": "{0} must be a whole number, not {1!r}",
    "to float": "{0} must be a number, not {1!r}",
    "as tuple": "{0}={1}: not a Python tuple; check quotes and brackets",
}


def to_text(value: Any) -> str:
    """Returns the value of a field as the text of a command line.

    Text is that text already: `to_text((8, 16))` is `to_text("(8, 16)")`.
    """
    return value if isinstance(value, str) else repr(to_python(to_plain(value)))


def to_flags(fields: Mapping[str, Any]) -> list[str]:
    """Returns the flags that set fields: `['--config.steps=20']`."""
    return [f"--config.{name}={to_text(value)}" for name, value in fields.items()]


def to_python(value: Any) -> Any:
    """Returns plain data as configs have them.

    Lists become tuples, and the numbers and arrays of NumPy those of Python.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {key: to_python(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return tuple(map(to_python, value))
    return value


def apply_fields(config: ConfigDict, fields: Mapping[str, Any]) -> ConfigDict:
    """Returns a copy of a config with fields set, as the command line sets them.

    Raises:
      UserError: a value cannot be parsed, or a field cannot be set.
    """
    arguments = to_flags(fields)
    try:
        return _apply(config, arguments)
    except UserError:
        for i in range(1, len(arguments)):  # the wrong one is the last that is set
            _apply(config, arguments[:i])
        raise


def _apply(config: ConfigDict, arguments: Sequence[str]) -> ConfigDict:
    """Sets fields by flags; an error names the last one."""
    prepare_parser()
    values, argv = flags.FlagValues(), ["", *arguments]
    try:
        config_flags.DEFINE_config_dict(
            "config",
            copy.deepcopy(config),
            flag_values=values,
            lock_config=False,
            accept_new_attributes=True,
            sys_argv=argv,
        )
        values(argv)
        changed = values["config"].value
        check_tuples(argv, changed)
    except UserError:
        raise
    except Exception as error:
        known = explain(error, ["", *argv[-1:]])
        raise UserError(known or one_line(error)) from error
    return changed


def prepare_parser() -> None:
    """Makes ml_collections parse tuples of words: `bg,fg`."""
    config_flags.register_flag_parser_for_type(tuple, _TupleParser())


class _TupleParser(tuple_parser.TupleParser):
    """The parser of tuples of ml_collections, which also takes words: `bg,fg`."""

    def parse(self, argument: Any) -> tuple:
        words = _split_words(argument) if isinstance(argument, str) else None
        return super().parse(argument) if words is None else words


def _split_words(text: str) -> tuple[str, ...] | None:
    """Splits `bg,fg` or `(bg,fg)`.

    Returns None if the text is a Python literal, or has quotes or brackets.
    """
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError):
        bare = re.sub(r"^\((.*)\)$|^\[(.*,.*)\]$", r"\1\2", text.strip())
        words = [word.strip() for word in bare.removesuffix(",").split(",")]
        if bare == "" or (all(words) and not re.search("[\"'(){}]", bare)):
            return tuple(words) if bare else ()
    return None


def check_tuples(argv: Sequence[str], config: ConfigDict | None) -> None:
    """Raises UserError if a field that is a tuple is set to a dict.

    ml_collections would take the keys of the dict for the elements.
    """
    for argument in argv:
        flag, _, text = argument.partition("=")
        field = re.fullmatch(r"--?config\.(\w+)(?:\.(\w+))?", flag)
        if not field or not re.match(r"[\s(]*{", text) or not config:
            continue
        value = config.get(field[1])
        value = value.get(field[2]) if field[2] and hasattr(value, "get") else value
        if isinstance(value, tuple) and not re.search(r",\s*\)\s*$|}\s*,", text):
            bare = text.strip().removeprefix("(").removesuffix(")")
            raise UserError(f'{flag} needs a tuple: {flag}="({bare},)"')


def explain(error: Exception, argv: list[str]) -> str | None:
    """Rewords an exception of absl or ml_collections; None if it is not known."""
    text = " ".join(str(error.args[0] if error.args else error).split())
    paths = [a.split("=")[0] for a in argv if re.match(r"--?config[.\[]", a)]
    if "get_config() takes 0" in text:
        file, _, argument = argv[1].rpartition(":")
        return f"{file}: get_config() takes no argument; leave out ':{argument}'"
    if wrong := re.search(r"get_config\(\) (missing|takes) .*", text):
        return (
            f"{argv[1]}: {wrong[0]}; an argument is written after a colon, "
            "--config=FILE.py:ARGUMENT"
        )
    if "'get_config'" in text:
        return (
            f"{argv[1]} has no function get_config(); define one that returns a "
            "ConfigDict"
        )
    if whole := next((p for p in paths if p.endswith("]")), None):
        return (
            f"{whole}: an element cannot be set by itself; give the whole tuple, or a "
            "field of a spec, as in --config.loss[0].name=dice"
        )
    if isinstance(error, flags.Error):
        return _reword(text)
    if "tuple indices" in text:
        dotted = ", ".join(path for path in paths if "[" not in path)
        return f"{dotted}: is a tuple; name one element, as in --config.loss[0].name"
    if isinstance(error, IndexError):
        indexed = ", ".join(path for path in paths if "[" in path)
        return f"{indexed}: there is no such element; the first one is [0]"
    if not isinstance(error, AttributeError | KeyError | TypeError) or not paths:
        return None
    word = next(iter(re.findall(r"\w+", text)), "")
    path = next((p for p in paths if word in re.split(r"\W+", p)), None)
    if path is None:
        return f"{', '.join(paths)}: {text}"
    near = find_flag(re.sub(r"^--?config\.", "", path))
    hint = f"; did you mean {near}?" if near and near != path else ""
    return f"{path}: the config has no field {word!r}{hint}"


def _reword(text: str) -> str:
    """Rewords the message of absl for a value that it cannot parse."""
    flag = re.match(r"flag (--?(?:config[.\[][^=]*|\w+))=(.*?): ", text)
    meant = next((m for words, m in REWORDINGS.items() if words in text), None)
    if not flag or not meant:
        return text
    if "ConfigDict" in text and flag[2].startswith("{"):
        return f"{flag[1]}={flag[2]}: not a Python dict; check quotes and braces"
    return meant.format(*flag.groups())
