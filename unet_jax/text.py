"""Names, sizes and errors as text, for messages."""

import re
from collections.abc import Iterable, Sequence


def listing(names: Iterable[object], most: int = 5, separator: str = ", ") -> str:
    """Joins different names: `'a, b and 3 more'`.

    Args:
      names: the names; one that occurs again is left out.
      most: the number of names to show.
      separator: the text between two names.
    """
    unique = list(dict.fromkeys(map(str, names)))
    more = len(unique) - most
    return separator.join(unique[:most]) + (f" and {more:,} more" if more > 0 else "")


def dimensions(sizes: Sequence[float], separator: str = " x ") -> str:
    """Returns the sizes of the axes: `'512 x 512'`."""
    each = (f"{s:g}" if isinstance(s, float) else str(s) for s in sizes)
    return separator.join(each)


def one_line(error: BaseException, without: str = "") -> str:
    """Returns the message of an exception in one line of at most 200 characters.

    Args:
      error: the exception; its type is returned if it has no message.
      without: a regular expression for parts to leave out.
    """
    message = getattr(error, "strerror", None) or str(error) or type(error).__name__
    message = re.sub(without, "", message) if without else message
    return " ".join(message.split())[:200]
