"""The only reader of JSON files: every value has the declared type.

The files may come from strangers, so nothing in them is trusted.
"""

from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from unet_jax.errors import UserError
from unet_jax.text import one_line

T = TypeVar("T")
PositiveNumber = Annotated[float, Meta(gt=0, le=1e308)]
FiniteNumber = Annotated[float, Meta(ge=-1e308, le=1e308)]

MOST_BYTES = 2**30  # that are read of a file
INVALID = (msgspec.MsgspecError, RecursionError, UnicodeError, ValueError)


def read_json(path: Path, kind: type[T], remedy: str) -> T:
    """Reads a JSON file and validates it.

    Args:
      path: the file.
      kind: the type of its content, with the constraints of `msgspec.Meta`.
      remedy: what the user can do, for the error: 'delete it and run again'.

    Raises:
      UserError: the file cannot be read, is not JSON, or has a value of another type.
    """
    try:
        if not path.is_file():
            raise UserError(f"{path} is not a file; {remedy}")
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path} is larger than {MOST_BYTES:,} bytes; {remedy}")
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({one_line(error)}); {remedy}"
        ) from error
    return decode_json(content, kind, str(path), remedy)


def decode_json(content: bytes | str, kind: type[T], place: str, remedy: str) -> T:
    """Returns the value of JSON text; `place` names its source in errors.

    Raises:
      UserError: the text is not JSON, or a value has another type.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except INVALID as error:
        raise _report_invalid(error, place, remedy) from error


def convert(value: Any, kind: type[T], place: str, remedy: str) -> T:
    """Returns JSON data as a value of a type; see `decode_json`."""
    try:
        return msgspec.convert(value, kind)
    except INVALID as error:
        raise _report_invalid(error, place, remedy) from error


def _report_invalid(error: Exception, place: str, remedy: str) -> UserError:
    reason = one_line(error).replace("`", "'").replace("$", "content")
    return UserError(f"{place} is not valid ({reason}); {remedy}")
