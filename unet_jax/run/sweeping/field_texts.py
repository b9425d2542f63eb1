"""Fields as texts of the command line, and which of them replaces which."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

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
        if lost := next((f for f in fields[:i] if _contains(field, f)), None):
            raise UserError(
                f"{place}: {field} comes after its part {lost}, and replaces it; put "
                f"{field} first"
            )


def merge(*several: Mapping[str, str]) -> dict[str, str]:
    """Returns fields where later ones replace earlier ones, and their parts."""
    merged: dict[str, str] = {}
    for fields in several:
        for field, text in fields.items():
            for name in [name for name in merged if _contains(field, name)]:
                del merged[name]
            merged[field] = text
    return merged


def find_overlap(field: str, others: Iterable[str]) -> str | None:
    """Returns the first of other fields that is the field, a part of it or its whole.

    None if there is none.
    """
    either = (f for f in others if _contains(f, field) or _contains(field, f))
    return next(either, None)


def _contains(field: str, other: str) -> bool:
    """Returns True if another field is the field itself, or a part of it."""
    return other == field or other.startswith((f"{field}.", f"{field}["))
