"""The physical size of pixels: read from TIFF and NIfTI, written to TIFF.

ImageJ keeps it in the description, OME-TIFF in XML, other programs as a resolution.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import tifffile

X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296  # tags
PRINT_UNITS = {2: "inch", 3: "cm"}  # of RESOLUTION_UNIT
MICROMETRE = "µm"
OME_UNITS = {  # of OME-XML, by names of other programs
    "um": MICROMETRE,
    "μm": MICROMETRE,  # with a Greek letter
    "micron": MICROMETRE,
    "microns": MICROMETRE,
    "micrometer": MICROMETRE,
    "millimeter": "mm",
    "meter": "m",
    "nanometer": "nm",
    "inch": "in",
    "sec": "s",
    "second": "s",
    "msec": "ms",
}
OME_LENGTHS = (MICROMETRE, "nm", "pm", "mm", "cm", "m", "in", "pixel", "Å")
OME_TIMES = ("s", "ms", "µs", "ns", "min", "h", "d")
TIMES = "T"  # the axis whose size is the interval of frames


class Calibration(NamedTuple):
    """The size of a pixel along each axis, and the interval of frames.

    Attributes:
      sizes: by the name of the axis: T, Z, Y or X.
      units: of the sizes, by the name of the axis; none if it is unknown.
    """

    sizes: Mapping[str, float]
    units: Mapping[str, str]

    @property
    def printed(self) -> bool:
        """True if it is only a resolution for printers, in inches or centimetres."""
        return set(self.units.values()) <= {*PRINT_UNITS.values()}


def read_tiff_calibration(
    file: tifffile.TiffFile, page: tifffile.TiffPage
) -> Calibration | None:
    """Returns the calibration of a TIFF; None if it has none, or it is damaged."""
    try:
        if file.is_ome:
            return _from_ome(file.ome_metadata or "")
        return _from_tags(page, file.imagej_metadata if file.is_imagej else None)
    except Exception:  # it is only passed on, and does not harm the pixels
        return None


def make_calibration(sizes: Mapping[str, Any], units: Mapping[str, Any]) -> Calibration:
    """Returns a calibration without sizes and units that are not valid."""
    valid = {k: abs(float(v)) for k, v in sizes.items() if _is_number(v)}
    named = {k: str(u) for k, u in units.items() if k in valid and _is_unit(u)}
    return Calibration(valid, named)


def swap_calibration(calibration: Calibration | None) -> Calibration | None:
    """Returns the calibration of an image whose rows and columns are swapped."""
    if calibration is None:
        return None
    swap = {"X": "Y", "Y": "X"}
    sizes, units = calibration
    return Calibration(
        {swap.get(axis, axis): size for axis, size in sizes.items()},
        {swap.get(axis, axis): unit for axis, unit in units.items()},
    )


def imagej_options(calibration: Calibration | None, axes: str) -> dict[str, Any]:
    """Returns arguments of `tifffile.imwrite` for an ImageJ file of these axes.

    The size of an axis is kept if the file has only one plane along it.
    """
    sizes, units = calibration or Calibration({}, {})
    metadata: dict[str, Any] = {"axes": axes}
    names = {"X": "unit", "Y": "yunit", "Z": "zunit", TIMES: "tunit"}
    for axis, name in names.items():
        same = axis in "YZ" and units.get(axis) == units.get("X")
        if axis in units and not same:
            metadata[name] = _to_ascii(units[axis])
    for axis, name in {"Z": "spacing", TIMES: "finterval"}.items():
        if axis in sizes:
            metadata[name] = sizes[axis]
    return {"metadata": metadata} | _resolution(sizes)


def tifffile_options(calibration: Calibration | None, axes: str) -> dict[str, Any]:
    """Returns arguments of `tifffile.imwrite` for a file with axes of any name.

    tifffile writes the metadata of ImageJ as JSON.
    """
    options = imagej_options(calibration, axes)
    numbers = {unit: number for number, unit in PRINT_UNITS.items()}
    unit = calibration.units.get("X", "") if calibration else ""
    if "resolution" in options and unit in numbers:
        options["resolutionunit"] = numbers[unit]
    return options


def ome_options(calibration: Calibration | None, axes: str) -> dict[str, Any]:
    """Returns arguments of `tifffile.imwrite` for an OME-TIFF of these axes."""
    sizes, units = calibration or Calibration({}, {})
    metadata: dict[str, Any] = {"axes": axes}
    for axis, size in sizes.items():
        name = "TimeIncrement" if axis == TIMES else f"PhysicalSize{axis}"
        unit = OME_UNITS.get(units.get(axis, ""), units.get(axis, ""))
        known = OME_TIMES if axis == TIMES else OME_LENGTHS
        if unit in known:  # a size without a unit would mean micrometres
            metadata |= {name: size, f"{name}Unit": unit}
    return {"metadata": metadata}


def dots_per_inch(calibration: Calibration | None) -> dict[str, Any]:
    """Returns arguments of `PIL.Image.save` for the resolution of a printer."""
    if calibration is None or not calibration.printed:
        return {}
    sizes, units = calibration
    if not {"X", "Y"} <= units.keys():
        return {}
    inches = {"inch": 1.0, "cm": 2.54}
    return {"dpi": tuple(inches[units[axis]] / sizes[axis] for axis in "XY")}


def _from_ome(xml: str) -> Calibration | None:
    image = tifffile.xml2dict(xml)["OME"]["Image"]
    pixels = (image[0] if isinstance(image, list) else image)["Pixels"]
    names = {axis: f"PhysicalSize{axis}" for axis in "XYZ"} | {TIMES: "TimeIncrement"}
    default = dict.fromkeys("XYZ", MICROMETRE) | {TIMES: "s"}
    sizes = {axis: pixels.get(name) for axis, name in names.items()}
    units = {k: pixels.get(f"{name}Unit", default[k]) for k, name in names.items()}
    found = make_calibration(sizes, units)
    return found if found.sizes else None


def _from_tags(
    page: tifffile.TiffPage, imagej: dict[str, Any] | None
) -> Calibration | None:
    unit = PRINT_UNITS.get(int(page.tags.valueof(RESOLUTION_UNIT, default=1)))
    sizes: dict[str, Any] = {}
    for axis, tag in (("X", X_RESOLUTION), ("Y", Y_RESOLUTION)):
        pixels, units = page.tags.valueof(tag, default=(0, 1))
        sizes[axis] = units / pixels if pixels else None
    if imagej is None:
        found = make_calibration(sizes, {"X": unit, "Y": unit} if unit else {})
        return found if found.units else None
    unit = _from_ascii(imagej.get("unit")) or unit
    if unit is None:
        sizes = {}
    sizes["Z"] = imagej.get("spacing")
    rate: Any = imagej.get("fps")
    sizes[TIMES] = imagej.get("finterval", 1 / rate if _is_number(rate) else None)
    units = {
        "X": unit,
        "Y": _from_ascii(imagej.get("yunit")) or unit,
        "Z": _from_ascii(imagej.get("zunit")) or unit,
        TIMES: _from_ascii(imagej.get("tunit")) or "sec",
    }
    found = make_calibration(sizes, units)
    return found if found.sizes else None


def _resolution(sizes: Mapping[str, float]) -> dict[str, Any]:
    if not {"X", "Y"} <= sizes.keys():
        return {}
    return {"resolution": (1 / sizes["X"], 1 / sizes["Y"])}


def _to_ascii(text: str) -> str:
    r"""Returns text as ImageJ stores it: a micro sign is `\u00B5`."""
    return "".join(c if c.isascii() else f"\\u{ord(c):04X}" for c in text)


def _from_ascii(text: Any) -> str | None:
    if not isinstance(text, str) or not text:
        return None
    return re.sub(r"\\u([0-9A-Fa-f]{4})", lambda match: chr(int(match[1], 16)), text)


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and 1e-30 < abs(value) < 1e30


def _is_unit(unit: Any) -> bool:
    short = isinstance(unit, str) and 0 < len(unit) <= 32
    return short and unit.isprintable() and "=" not in unit
