"""Fields as texts of the command line: their order, and how runs differ in them."""

from collections.abc import Mapping, Sequence
from typing import Any

from unet_jax.build.fields import contains
from unet_jax.build.overrides import to_text
from unet_jax.errors import UserError


def to_texts(fields: Mapping[str, Any], place: str) -> dict[str, str]:
    """Returns values by field as the texts of the command line.

    Args:
      fields: Python values, or texts, by field: `{'model.widths': (16, 32)}`.
      place: who sets them, for errors.

    Raises:
      UserError: as in `check_order`, or a field is set twice.
    """
    names = [name.removeprefix("config.") for name in fields]
    check_order(names, place)
    return dict(zip(names, map(to_text, fields.values()), strict=True))


def check_order(fields: Sequence[str], place: str) -> None:
    """Raises UserError if a field comes after a part of it, which it would replace."""
    for i, field in enumerate(fields):
        if field in fields[:i]:
            raise UserError(f"{place}: {field} is set twice; remove one of them")
        if lost := next((f for f in fields[:i] if contains(field, f)), None):
            raise UserError(
                f"{place}: {field} comes after its part {lost}, and replaces it; put "
                f"{field} first"
            )


def merge(*several: Mapping[str, str]) -> dict[str, str]:
    """Returns fields where later ones replace earlier ones, and their parts."""
    merged: dict[str, str] = {}
    for fields in several:
        for field, text in fields.items():
            for name in [name for name in merged if contains(field, name)]:
                del merged[name]
            merged[field] = text
    return merged


def find_varied(runs: Sequence[Mapping[str, str]]) -> list[str]:
    """Returns the fields that differ between runs.

    Args:
      runs: the fields of each run, as texts.
    """
    fields = dict.fromkeys(field for run in runs for field in run)
    return [f for f in fields if len({run.get(f) for run in runs}) > 1]
