"""The exception for mistakes of the user, and helpers for its text."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator


class UserError(Exception):
    """A mistake that the user can correct.

    Its text is one line: what is wrong, in which file or field, and what to do. The
    command line prints it without a traceback and exits with code 1.
    """


def suggest(wrong: str, known: Iterable[str]) -> str:
    """Returns a list of the known names, after the one most like the wrong name.

    `suggest('dyce', ['dice', 'iou'])` is `"did you mean 'dice'? available: dice, iou"`.
    """
    known = sorted(known)
    return f"{suggest_nearest(wrong, known)}available: {', '.join(known) or 'none'}"


def suggest_nearest(wrong: str, known: Iterable[str]) -> str:
    """Returns `"did you mean 'dice'? "`, or `""` if no known name is similar."""
    near = difflib.get_close_matches(wrong, known, n=1)
    return f"did you mean {near[0]!r}? " if near else ""


@contextlib.contextmanager
def prefix_errors(place: str) -> Iterator[None]:
    """Puts a field or a file before the text of a `UserError` of the context."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{place}: {error}") from error
