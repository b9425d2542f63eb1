"""Matplotlib figures as inline SVG, which follows the theme of its page.

Figures use the light colours of style.css. In SVG they become its variables.
"""

import contextlib
import io
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure

from unet_jax.text import printable

COLOURS = {
    "#1d1d1b": "var(--ink)",
    "#63625d": "var(--soft)",
    "#dedcd4": "var(--rule)",
    "#0072b2": "var(--first)",
    "#c2560a": "var(--second)",
    "#00805f": "var(--third)",
    "#b0508f": "var(--fourth)",
    "#8a7400": "var(--fifth)",
}
INK, SOFT, RULE, FIRST, SECOND, THIRD, FOURTH, FIFTH = COLOURS
SETTINGS: Any = {
    "axes.edgecolor": SOFT,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "figure.frameon": False,
    "font.size": 11,
    "grid.color": RULE,
    "lines.markersize": 4,
    "svg.fonttype": "none",  # text stays text
    "text.parse_math": False,  # a name may have dollar signs
    "xtick.color": SOFT,
    "ytick.major.pad": 6,
    "ytick.major.size": 0,
}
SVG = "{http://www.w3.org/2000/svg}"
LOCK = threading.Lock()  # matplotlib's settings are global


class Drawing(NamedTuple):
    """A figure, and for artists with a gid the tooltips of their shapes, in order."""

    figure: Figure
    tooltips: Mapping[str, Sequence[str]]


@contextlib.contextmanager
def apply_settings(**more: str) -> Iterator[None]:
    """Applies our settings in place of the user's, and restores these."""
    with LOCK, matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS | more)
        yield


def to_svg(drawing: Drawing, label: str) -> str:
    """Writes a drawing as an SVG element, with the colours and fonts of its page.

    Args:
      drawing: the result of a function above.
      label: a description for screen readers, unique in the page.
    """
    stream = io.StringIO()
    with apply_settings(**{"svg.hashsalt": label}):  # the ids depend on it
        drawing.figure.savefig(stream, format="svg")
    source = ElementTree.fromstring(stream.getvalue())
    titles = {}
    for group in source.iter(f"{SVG}g"):
        if texts := drawing.tooltips.get(group.get("id", "")):
            shapes = [shape for shape in _shapes(group) if "id" not in shape.attrib]
            titles |= dict(zip(shapes, texts, strict=True))
    box = source.get("viewBox", "")
    svg = ElementTree.Element("svg", {"viewBox": box, "role": "img"})
    svg.set("aria-label", label)
    defs = ElementTree.SubElement(svg, "defs")
    for shape in _shapes(source):
        parent, tag = defs if "id" in shape.attrib else svg, shape.tag.removeprefix(SVG)
        copy = ElementTree.SubElement(parent, tag, _attributes(shape))
        copy.text = None if shape.text is None else printable(shape.text)
        if shape in titles:
            ElementTree.SubElement(copy, "title").text = printable(titles[shape])
    return ElementTree.tostring(svg, encoding="unicode")


def _shapes(element: ElementTree.Element) -> list[ElementTree.Element]:
    """Returns the drawn elements; those with an id are drawn by reference."""
    tags = (f"{SVG}path", f"{SVG}use", f"{SVG}text")
    return [each for each in element.iter() if each.tag in tags]


def _attributes(shape: ElementTree.Element) -> dict[str, str]:
    """Shortens numbers, replaces colours by CSS variables, and drops the font."""
    attributes = {}
    for name, value in shape.items():
        value = re.sub(r"#[0-9a-f]{6}", lambda m: COLOURS.get(m[0], m[0]), value)
        value = re.sub(r"\d+\.\d{3,}", lambda m: f"{float(m[0]):.5g}", value)
        attributes[name.rpartition("}")[2]] = " ".join(value.split())
    attributes.pop("clip-path", None)  # all data lies inside the axes
    if shape.tag == f"{SVG}text":
        anchor = re.search(r"text-anchor: (\w+)", attributes.pop("style", ""))
        attributes["text-anchor"] = anchor[1] if anchor else "start"
        attributes.pop("transform", None)  # a rotation by 0
    return attributes
