"""The fields that differ between the configs of runs, and their values as text."""

from collections.abc import Mapping, Sequence
from typing import Any

ABSENT: Any = object()  # a field that the config of a run does not have


def list_changes(configs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Returns each field that is not the same in all configs, with its values.

    The names are those of the command line: 'steps', 'model.widths', 'loss[1].smooth'.
    Specs of the same name are compared field by field, and other ones as a whole, since
    their fields mean different things: 'adamw(learning_rate=0.003)'.

    Args:
      configs: the configs, as plain data.
    """
    return _compare_parts({key: _pick(configs, key) for key in _list_keys(configs)})


def _compare_parts(parts: Mapping[str, Sequence[Any]]) -> list[tuple[str, list[str]]]:
    return [change for name in parts for change in _compare(name, parts[name])]


def _compare(name: str, values: Sequence[Any]) -> list[tuple[str, list[str]]]:
    if all(value == values[0] for value in values):
        return []
    if all(isinstance(value, Mapping) for value in values) and _share_name(values):
        keys = _list_keys(values)
        return _compare_parts({f"{name}.{key}": _pick(values, key) for key in keys})
    if all(map(_is_specs, values)) and _share_names(values):
        columns = enumerate(zip(*values, strict=True))
        return _compare_parts({f"{name}[{i}]": column for i, column in columns})
    return [(name, [describe(value) for value in values])]


def describe(value: Any) -> str:
    """Returns plain data in the words of a config: 'dice(smooth=1.0)', '(16, 32)'."""
    if value is ABSENT:
        return "not set"
    if isinstance(value, Mapping):
        fields = [f"{k}={describe(v)}" for k, v in value.items() if k != "name"]
        inner = ", ".join(fields)
        word = str(value.get("name", ""))
        return f"{word}({inner})" if inner or not word else word
    if isinstance(value, list | tuple):
        text = ", ".join(map(describe, value))
        if value and _is_specs(value):
            return text
        return f"({text},)" if len(value) == 1 else f"({text})"
    return value if isinstance(value, str) and value else repr(value)


def _list_keys(mappings: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({key for mapping in mappings for key in mapping})


def _pick(values: Sequence[Mapping[str, Any]], key: str) -> list[Any]:
    return [value.get(key, ABSENT) for value in values]


def _share_name(specs: Sequence[Mapping[str, Any]]) -> bool:
    return all(spec.get("name") == specs[0].get("name") for spec in specs)


def _share_names(tuples: Sequence[Sequence[Mapping[str, Any]]]) -> bool:
    names = [[spec["name"] for spec in specs] for specs in tuples]
    return all(each == names[0] for each in names)


def _is_specs(value: Any) -> bool:
    """Returns True for a tuple of specs, which JSON holds as a list."""
    return isinstance(value, list | tuple) and all(
        isinstance(each, Mapping) and "name" in each for each in value
    )
