"""A config as the Python source of a file that returns it."""

import textwrap
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

WIDTH = 88  # columns


def source(
    config: ConfigDict,
    title: str,
    notes: Mapping[str, str],
    reasons: Mapping[str, str],
) -> str:
    """A file whose `get_config` states every field that the config has.

    It begins with `configs/base.py`, which may have got more of them since.

    Args:
      config: what it returns.
      title: the first line of its docstring.
      notes: the others, by the word that each begins with.
      reasons: for the values of some fields, which come first.
    """
    others = [f for f in config if f not in reasons and f != "name"]
    fields = [
        _assignment("name", config.name),
        *(_assignment(f, config[f], why) for f, why in reasons.items()),
        "    # as in the config that was inspected",
        *(_assignment(f, config[f]) for f in others),
    ]
    return "\n".join(
        [
            *_docstring(title, notes),
            "",
            "from ml_collections import ConfigDict",
            "",
            "from configs import base",
            "",
            "",
            "def get_config() -> ConfigDict:",
            f'    """{_safe(config.name)}."""',
            "    config = base.get_config()",
            *fields,
            "    return config",
            "",
        ]
    )


def literal(value: Any, indent: int = 0, taken: int = 0) -> str:
    """A value as it is written in Python, over several lines where one is too short.

    Args:
      value: of a config: a number, a text, a tuple or a ConfigDict.
      indent: columns before a line.
      taken: columns before and after the value on its first line.
    """
    line = _on_one_line(value)
    if len(line) + taken <= WIDTH or not isinstance(value, tuple | ConfigDict):
        return line
    inner, pad = indent + 4, " " * (indent + 4)
    if isinstance(value, tuple):
        items = [f"{pad}{literal(v, inner, inner + 1)}," for v in value]
        return "\n".join(["(", *items, " " * indent + ")"])
    pad += "    "
    items = []
    for key, field in _items(value):
        begin = f"{pad}{_text(key)}: "
        items.append(f"{begin}{literal(field, inner + 4, len(begin) + 1)},")
    ends = [" " * inner + "}", " " * indent + ")"]
    return "\n".join(["ConfigDict(", " " * inner + "{", *items, *ends])


def _assignment(field: str, value: Any, why: str = "") -> str:
    begin = f"    config.{field} = "
    comment = textwrap.wrap(
        why, WIDTH, initial_indent="    # ", subsequent_indent="    # "
    )
    return "\n".join([*comment, f"{begin}{literal(value, 4, len(begin))}"])


def _on_one_line(value: Any) -> str:
    if isinstance(value, ConfigDict):
        inside = ", ".join(f"{_text(k)}: {_on_one_line(v)}" for k, v in _items(value))
        return f"ConfigDict({{{inside}}})"
    if isinstance(value, tuple):
        inside = ", ".join(map(_on_one_line, value))
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    return _text(value) if isinstance(value, str) else repr(value)


def _items(spec: ConfigDict) -> list[tuple[str, Any]]:
    """The fields, the name first."""
    return sorted(spec.items(), key=lambda item: (item[0] != "name", item[0]))


def _text(text: str) -> str:
    """In double quotes, unless there is a quote in it."""
    quoted = repr(text)
    plain = quoted[0] == "'" and '"' not in quoted
    return f'"{quoted[1:-1]}"' if plain else quoted


def _docstring(title: str, notes: Mapping[str, str]) -> list[str]:
    width = max(map(len, notes)) + 2
    lines = [f'"""{_safe(title)}', ""]
    for word, note in notes.items():
        lines += textwrap.wrap(
            _safe(note),
            WIDTH,
            initial_indent=word.ljust(width),
            subsequent_indent=" " * width,
        )
    return [*lines, '"""']


def _safe(text: str) -> str:
    """What a docstring can hold of a text: no quote ends it, and it is one line."""
    return " ".join(text.split()).replace("\\", "/").replace('"', "'")
