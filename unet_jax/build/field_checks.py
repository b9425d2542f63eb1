"""Checks of the names and the types of the fields of a config.

They need no network and no data, so nothing here imports JAX.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from unet_jax.build.fields import FIELDS, REPLACED, find_flag, list_keys
from unet_jax.errors import UserError, suggest
from unet_jax.specs import check_type


def to_plain(value: Any) -> Any:
    """Converts ConfigDicts to plain dicts, recursively."""
    if isinstance(value, tuple):
        return tuple(map(to_plain, value))
    if isinstance(value, ConfigDict):
        return {key: to_plain(field) for key, field in value.items()}
    return value


def check_fields(config: ConfigDict) -> None:
    """Checks the names and types of the fields of a config.

    Raises:
      UserError: a field is unknown or missing, or its value is not of its type.
    """
    known = {field.name: field for field in FIELDS if "." not in field.name}
    for name in config:
        check_name(name, config)
    for name, field in known.items():
        if name not in config:
            raise UserError(
                f"config.{name} is missing; start with configs/base.py, whose "
                "get_config() sets every field"
            )
        if field.type is Mapping:
            read_section(config, name)
        else:
            check_type(to_plain(config[name]), field.type, f"config.{name}")
    _check_axes(config)


# Fields with a size for each axis of the crop, and the smaller numbers of sizes that
# they may have.
PER_AXIS = {"spacing": (0,), "predict.tile": (1, 0)}


def _check_axes(config: ConfigDict) -> None:
    """Raises UserError if a field has a wrong number of sizes."""
    check_rank(config.crop, "config.crop")
    place = f"config.crop={join_sizes(config.crop)}"
    for name, fewer in PER_AXIS.items():
        section, _, key = name.rpartition(".")
        sizes = read_section(config, section)[key] if section else config[key]
        check_axes(sizes, f"config.{name}", len(config.crop), place, fewer)


def check_rank(sizes: Sequence[int], field: str) -> None:
    """Raises UserError unless sizes are those of an image or a volume."""
    if len(sizes) not in (2, 3):
        raise UserError(
            f"{field}={join_sizes(sizes)} must have 2 or 3 sizes: height and width, or "
            "depth, height and width"
        )


def check_axes(
    sizes: Sequence[float],
    field: str,
    axes: int,
    place: str,
    fewer: Sequence[int] = (),
) -> None:
    """Raises UserError unless a field has a size for each axis.

    Args:
      sizes: the value of the field.
      field: its name.
      axes: the number of axes.
      place: what has them, in words.
      fewer: the smaller numbers of sizes that the field may have.
    """
    if len(sizes) in (axes, *fewer):
        return
    counts = " or ".join(str(count or "none") for count in fewer)
    others = f", or {counts}" if counts else ""
    raise UserError(
        f"{field}={join_sizes(sizes)} must have {axes} sizes, one for each axis of "
        f"{place}{others}"
    )


def check_name(name: str, config: ConfigDict, *, dashes: str = "--") -> None:
    """Raises UserError, with the nearest field in its text, unless a field exists.

    Args:
      name: of the field.
      config: a config, whose specs may have keys that are not in the table.
      dashes: the text before the nearest field; nothing, if the user writes Python.
    """
    known = [field.name for field in FIELDS if "." not in field.name]
    if name in REPLACED:
        raise UserError(f"config.{name} is no longer a field; {REPLACED[name]}")
    if name not in known:
        near = find_flag(name, config).removeprefix("--")
        hint = f"did you mean {dashes}{near}?" if near else suggest(name, known)
        raise UserError(f"config has no field {name!r}; {hint}")


def read_section(config: ConfigDict, name: str) -> dict[str, Any]:
    """Returns the keys of a field that is a dict, with defaults for missing keys.

    Raises:
      UserError: a key is unknown, or its value is not of its type.
    """
    known, given = list_keys(name), to_plain(config[name])
    check_type(given, Mapping, f"config.{name}")
    for key, value in given.items():
        if key not in known:
            raise UserError(
                f"config.{name} has no key {key!r}; "
                f"{suggest(key, known, field=f'config.{name}')}"
            )
        check_type(value, known[key].type, f"config.{name}.{key}")
    return {key: field.default for key, field in known.items()} | given


def join_sizes(sizes: Sequence[float]) -> str:
    """Returns sizes as they are written on the command line: `"188,188"`, or `"()"`."""
    return ",".join(map(str, sizes)) or "()"
