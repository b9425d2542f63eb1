"""What is around the sections of a page, and what they share."""

import base64
import struct
from collections.abc import Iterable, Sequence

from unet_jax.report.contents import Colour
from unet_jax.report.markup import Markup, join, tag
from unet_jax.report.style import STYLE

# The browser is told to load nothing, whatever the text of a user may ask for.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
SMALL = 256  # pixels; a picture that is narrower is enlarged with sharp edges


def document(
    title: str, sections: Iterable[Markup | None], *, style: str = STYLE
) -> str:
    """One HTML file of the sections that there are, without scripts and references."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("link", rel="icon", href="data:,"),
        tag("title", title),
        tag("style", Markup(style)),
    )
    body = tag("body", tag("main", *(section for section in sections if section)))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def section(name: str, *parts: Markup) -> Markup:
    """A part of the page under its heading."""
    return tag("section", tag("h2", name), join(parts))


def facts(pairs: Iterable[tuple[str, str]]) -> Markup:
    """Names and values, side by side."""
    each = [tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs]
    return tag("dl", *each)


def listed(lines: Iterable[str], *, kind: str = "") -> Markup:
    """Lines under each other."""
    return tag(
        "ul", *(tag("li", line) for line in lines), class_=f"lines {kind}".strip()
    )


def legend(entries: Sequence[tuple[str, Colour]]) -> Markup:
    """Names, each beside its colour."""
    swatches = [tag("li", swatch(colour), name) for name, colour in entries]
    return tag("ul", *swatches, class_="legend")


def swatch(colour: Colour) -> Markup:
    """A little square of a colour."""
    red, green, blue = map(int, colour)
    return tag("i", style=f"background: rgb({red} {green} {blue})")


def picture(png: bytes, *caption: str, alt: str) -> Markup:
    """A PNG file as a part of the page, over its caption."""
    width, height = struct.unpack(">II", png[16:24])  # of the header, IHDR
    data = base64.b64encode(png).decode()
    image = tag(
        "img",
        src=f"data:image/png;base64,{data}",
        alt=alt,
        width=width,
        height=height,
        class_="small" if width < SMALL else "large",
    )
    return tag("figure", image, tag("figcaption", *caption))
