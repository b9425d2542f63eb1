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
    """Returns the most similar known name and a list of all, as text for an error.

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
    """Adds a field or a file as prefix to a `UserError` that is raised inside."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{place}: {error}") from error
