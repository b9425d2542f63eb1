"""Python source of a file that returns a given config."""

import textwrap
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from unet_jax.text import printable

WIDTH = 88  # columns


def format_config(
    config: ConfigDict, title: str, notes: Mapping[str, str], reasons: Mapping[str, str]
) -> str:
    """Returns the source of a file whose `get_config` sets every field of the config.

    The file starts from `configs/base.py`, so fields that are added to this package
    later have their defaults.

    Args:
      config: the config.
      title: the first line of the docstring.
      notes: further paragraphs of the docstring, by their first word.
      reasons: a comment for each of some fields; these come first.
    """
    others = [f for f in config if f not in reasons and f != "name"]
    fields = [
        _format_field("name", config.name),
        *(_format_field(f, config[f], reason) for f, reason in reasons.items()),
        "    # kept from the inspected config",
        *(_format_field(f, config[f]) for f in others),
    ]
    return "\n".join(
        [
            *_format_docstring(title, notes),
            "",
            "from ml_collections import ConfigDict",
            "",
            "from unet_jax.configs import base",
            "",
            "",
            "def get_config() -> ConfigDict:",
            f'    """{_to_docstring_line(config.name)}."""',
            "    config = base.get_config()",
            *fields,
            "    return config",
            "",
        ]
    )


def format_literal(value: Any, indent: int = 0, taken: int = 0) -> str:
    """Returns a value as Python source, on several lines if one line is too short.

    Args:
      value: a value of a config: a number, a string, a tuple or a ConfigDict.
      indent: number of columns before every line.
      taken: number of columns before and after the value on its first line.
    """
    line = _format_inline(value)
    if len(line) + taken <= WIDTH or not isinstance(value, tuple | ConfigDict):
        return line
    inner, pad = indent + 4, " " * (indent + 4)
    if isinstance(value, tuple):
        items = [f"{pad}{format_literal(v, inner, inner + 1)}," for v in value]
        return "\n".join(["(", *items, " " * indent + ")"])
    pad += "    "
    items = []
    for key, field in _sorted_items(value):
        begin = f"{pad}{_quote(key)}: "
        items.append(f"{begin}{format_literal(field, inner + 4, len(begin) + 1)},")
    ends = [" " * inner + "}", " " * indent + ")"]
    return "\n".join(["ConfigDict(", " " * inner + "{", *items, *ends])


def _format_field(field: str, value: Any, reason: str = "") -> str:
    begin = f"    config.{field} = "
    comment = textwrap.wrap(
        reason, WIDTH, initial_indent="    # ", subsequent_indent="    # "
    )
    return "\n".join([*comment, f"{begin}{format_literal(value, 4, len(begin))}"])


def _format_inline(value: Any) -> str:
    if isinstance(value, ConfigDict):
        inside = ", ".join(
            f"{_quote(k)}: {_format_inline(v)}" for k, v in _sorted_items(value)
        )
        return f"ConfigDict({{{inside}}})"
    if isinstance(value, tuple):
        inside = ", ".join(map(_format_inline, value))
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    return _quote(value) if isinstance(value, str) else repr(value)


def _sorted_items(spec: ConfigDict) -> list[tuple[str, Any]]:
    """Returns the fields of a spec, its name first."""
    return sorted(spec.items(), key=lambda item: (item[0] != "name", item[0]))


def _quote(text: str) -> str:
    """Returns a string literal, in double quotes unless the text has quotes."""
    quoted = repr(text)
    plain = quoted[0] == "'" and '"' not in quoted
    return f'"{quoted[1:-1]}"' if plain else quoted


def _format_docstring(title: str, notes: Mapping[str, str]) -> list[str]:
    width = max(map(len, notes)) + 2
    lines = [f'"""{_to_docstring_line(title)}', ""]
    for word, note in notes.items():
        lines += textwrap.wrap(
            _to_docstring_line(note),
            WIDTH,
            initial_indent=word.ljust(width),
            subsequent_indent=" " * width,
        )
    return [*lines, '"""']


def _to_docstring_line(text: str) -> str:
    """Returns a text as one line that cannot end a docstring."""
    line = printable(" ".join(text.split()))
    return line.replace("\\", "/").replace('"', "'")
