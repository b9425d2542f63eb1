"""The one exception that is meant for the user's eyes."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can mend.

    Its text is one line that names the file or the field and the remedy; `main.py`
    prints it without a traceback and exits with code 1.
    """


def choices(wrong: str, there: Iterable[str]) -> str:
    """Names the nearest of the possible words, then all of them."""
    there = sorted(there)
    near = difflib.get_close_matches(wrong, there, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}there are: {', '.join(there) or 'none'}"
