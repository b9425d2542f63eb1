"""The Jinja2 environment of the pages.

Every value is escaped. `Markup` marks the figures, which are escaped already.
"""

import base64
import struct
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from unet_jax.report import formatting
from unet_jax.report.svg import Drawing, to_svg
from unet_jax.text import dimensions, format_duration, format_score, printable

SMALL = 256  # pixels; a narrower picture is enlarged with sharp edges


def render_template(template: str, **contents: object) -> str:
    """Fills a template of `templates/`."""
    return ENVIRONMENT.get_template(template).render(contents)


def draw_svg(drawing: Drawing, label: str) -> Markup:
    """Writes a drawing as markup; the label is for screen readers."""
    return Markup(printable(to_svg(drawing, label), keep="\n\t"))


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _png_size(png: bytes) -> dict[str, Any]:
    """Returns attributes of `<img>`: the size, from the PNG header, and a class."""
    width, height = struct.unpack(">II", png[16:24])
    kind = "small" if width < SMALL else "large"
    return {"width": width, "height": height, "class": kind}


def _printable(value: Any) -> Any:
    """Escapes control characters in text; markup has none."""
    plain = isinstance(value, str) and not isinstance(value, Markup)
    return printable(value, keep="\n\t") if plain else value


ENVIRONMENT = Environment(
    loader=PackageLoader("unet_jax.report"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
    finalize=_printable,
)
ENVIRONMENT.filters |= {
    "by_kind": formatting.issues_by_kind,
    "bytes": formatting.format_bytes,
    "counted": formatting.format_count,
    "data_uri": _data_uri,
    "duration": format_duration,
    "percent": formatting.format_percent,
    "png_size": _png_size,
    "score": format_score,
    "shape": dimensions,
    "split_rows": formatting.split_rows,
    "thousands": "{:,d}".format,
    "value": formatting.format_value,
}
