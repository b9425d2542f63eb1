"""HTML by construction: plain text is escaped, what a tag returns is not."""

import html
from collections.abc import Iterable

VOID = {"img", "link", "meta"}  # elements without an end tag


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, /, *children: str, **attributes: str | float | bool) -> Markup:
    """`tag('td', 'a < b', class_='id')` is `<td class="id">a &lt; b</td>`.

    A `_` in the name of an attribute is a hyphen, and one at its end is dropped. True
    gives an attribute without a value, False none. Numbers keep two decimals.
    """
    opening = f"<{name}{''.join(_attribute(*item) for item in attributes.items())}>"
    return Markup(opening if name in VOID else f"{opening}{join(children)}</{name}>")


def join(parts: Iterable[str]) -> Markup:
    """One after the other; what is not markup is escaped."""
    return Markup(
        "".join(p if isinstance(p, Markup) else html.escape(p) for p in parts)
    )


def _attribute(name: str, value: str | float | bool) -> str:
    name = name.rstrip("_").replace("_", "-")
    if isinstance(value, bool):
        return f" {name}" if value else ""
    if isinstance(value, float):
        value = f"{value:.2f}".rstrip("0").rstrip(".")
    return f' {name}="{html.escape(str(value))}"'
