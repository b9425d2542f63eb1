"""The one exception that is meant for the user's eyes."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator


class UserError(Exception):
    """A mistake that the user can mend.

    Its text is one line that names the file or the field and the remedy; `main.py`
    prints it without a traceback and exits with code 1.
    """


def choices(wrong: str, there: Iterable[str]) -> str:
    """Names the nearest of the possible words, then all of them."""
    there = sorted(there)
    return f"{nearest(wrong, there)}there are: {', '.join(there) or 'none'}"


def nearest(wrong: str, there: Iterable[str]) -> str:
    """`"did you mean 'dice'? "`, or nothing where no word is near."""
    near = difflib.get_close_matches(wrong, there, n=1)
    return f"did you mean {near[0]!r}? " if near else ""


@contextlib.contextmanager
def naming(field: str) -> Iterator[None]:
    """Puts the name of a field before what a function says about its arguments."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{field}: {error}") from error
