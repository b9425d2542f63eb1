"""Names, sizes, scores, durations and errors as text, for messages and pages."""

import io
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeGuard

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # controls, formats, surrogates, line ends
UNDEFINED = "–"  # a number that is not defined
JOINERS = "\u200c\u200d"  # parts of words in some scripts, and of emoji


def printable(text: object, keep: str = "") -> str:
    r"""Returns text that is safe to show: `'a\x1b[2J.png'` with a visible backslash.

    Control characters could command a terminal, and direction marks reorder a line.
    Bytes of a file name that are not UTF-8 become `\xff`. Everything else stays.

    Args:
      text: a file name, a path or a message.
      keep: control characters that are not escaped, such as a line feed.
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(_escaped(c) if c not in keep else c for c in text)


def listing(names: Iterable[object], most: int = 5, separator: str = ", ") -> str:
    """Joins different names: `'a, b and 3 more'`.

    Args:
      names: the names; one that occurs again is left out.
      most: the number of names to show.
      separator: the text between two names.
    """
    unique = list(dict.fromkeys(map(printable, names)))
    more = len(unique) - most
    return separator.join(unique[:most]) + (f" and {more:,} more" if more > 0 else "")


def join_different(texts: Iterable[str]) -> str:
    """Joins different texts: `'a and b'` for 'a', 'b', 'a'."""
    return " and ".join(dict.fromkeys(texts))


def dimensions(sizes: Sequence[float], separator: str = " x ") -> str:
    """Returns the sizes of the axes: `'512 x 512'`."""
    each = (f"{s:g}" if isinstance(s, float) else str(s) for s in sizes)
    return separator.join(each)


def is_defined(value: float | None) -> TypeGuard[float]:
    """Returns True if a number is neither None nor NaN nor infinite."""
    return value is not None and math.isfinite(value)


def format_score(value: float | None) -> str:
    """Formats a score or a distance: '0.9157', '0.000530', '12.35', '1,235'.

    A number below 0.001 has three digits; `UNDEFINED` stands for one that is not
    finite.
    """
    if not is_defined(value):
        return UNDEFINED
    size = abs(value)
    if 0 < size < 0.001:
        return with_minus(f"{value:#.3g}")
    return with_minus(f"{value:,.{4 if size < 10 else 2 if size < 1000 else 0}f}")


def format_duration(seconds: float) -> str:
    """Returns a duration as text: '0.4 s', '12 s', '3 min 5 s', '2 h 7 min'."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min"


def with_minus(text: str) -> str:
    """Replaces hyphens by minus signs."""
    return text.replace("-", "−")


def finite_or_none(value: float | None) -> float | None:
    """Returns None for a number that is not finite, which JSON has no text for."""
    return value if is_defined(value) else None


def one_line(error: BaseException, without: str = "") -> str:
    """Returns the message of an exception in one line of at most 200 characters.

    Args:
      error: the exception; its type is returned if it has no message.
      without: a regular expression for parts to leave out.
    """
    message = getattr(error, "strerror", None) or str(error) or type(error).__name__
    message = re.sub(without, "", message) if without else message
    return printable(" ".join(message.split()))[:200]


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in HIDDEN or character in JOINERS:
        return character
    if "\udc80" <= character <= "\udcff":  # how Python decodes a byte of a name
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def tabulate(
    rows: Sequence[Sequence[str]], width: int, *, keep_names: bool = False
) -> Iterator[str]:
    """Yields the lines of a table, and an empty line after each of its blocks.

    A table that is too wide is cut into blocks of columns, each of which begins with
    the first column. The first column has at least a third of the width, or what the
    others leave; in the middle of a longer text, characters are left out.

    Args:
      rows: the cells of each row, as many in every row. The first column is aligned to
        the left, the others to the right.
      width: the columns of the terminal.
      keep_names: True to shorten the first column only as far as the widest of the
        others needs.
    """
    if not rows:
        return
    names, *columns = zip(*rows, strict=True)
    sizes = [max(map(cell_len, column)) + 2 for column in columns]
    others = max(sizes, default=0) if keep_names else sum(sizes)
    names = [shorten(name, max(width // 3, width - others)) for name in names]
    first = max(map(cell_len, names))
    columns = [[shorten(c, width - first - 2) for c in column] for column in columns]
    while columns:
        block, taken = [], first
        while columns:
            size = max(map(cell_len, columns[0])) + 2
            taken += size
            if block and taken > width:
                break
            block.append([_align_right(cell, size) for cell in columns.pop(0)])
        for name, *cells in zip(names, *block, strict=True):
            yield (set_cell_size(name, first) + "".join(cells)).rstrip()
        yield ""


def fold(parts: Iterable[str], width: int, separator: str = " ") -> Iterator[str]:
    """Yields lines of at most `width` columns, cut only between the parts.

    Later lines are indented by two columns more than the first one. A part that is
    wider than a line, such as a path, is not cut.

    Args:
      parts: the words of a line, or other texts to keep whole. Empty parts at the start
        are its indentation.
      width: the columns of a line.
      separator: the text between two parts; its spaces at the end of a line are left
        out.
    """
    line, indent, empty = "", 0, True
    for part in parts:
        if empty and not part:
            indent += len(separator)
        elif empty:
            line, empty = " " * indent + part, False
        elif not part or cell_len(line + separator + part.rstrip()) <= width:
            line += separator + part
        else:
            yield (line + separator).rstrip()
            line = " " * (indent + 2) + part
    yield line.rstrip()


def align_columns(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Returns the lines of a table of words, of at most `width` columns.

    Columns are aligned to the left. In a table that is too wide, the longest cells
    have several lines.

    Args:
      rows: the cells of each row, as many in every row.
      width: the columns of the terminal.
    """
    table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    for _ in rows[0]:
        table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(
        file=io.StringIO(), width=width, color_system=None, force_jupyter=False
    )
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines()]


def _align_right(text: str, size: int) -> str:
    return " " * (size - cell_len(text)) + text


def shorten(text: str, most: int) -> str:
    """Replaces the middle of a text by "..." if it is wider than `most` columns."""
    if cell_len(text) <= most:
        return text
    tail = (most - 3) // 2
    start = set_cell_size(text, most - 3 - tail)
    return f"{start}...{set_cell_size(text[::-1], tail)[::-1]}"
