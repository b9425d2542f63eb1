"""The order of the axes of a TIFF that does not state them, or states others.

tifffile stores an array without axes as pages, and guesses: 3 x H x W becomes the
planes of one RGB image, and H x W x 5 becomes H pages of W x 5. An order is the name of
each axis that is longer than 1, as in tifffile: 'CYX', 'ZYX', 'YXC'.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import tifffile

from unet_jax.data.files.names import TIFFS, ending
from unet_jax.data.files.read import open_images
from unet_jax.errors import UserError
from unet_jax.text import dimensions

ORDERS: Mapping[str, str] = MappingProxyType(  # by how probable they are
    {
        "CYX": "its first axis is channels",
        "ZYX": "its first axis is pages",
        "YXC": "its last axis is channels",
        "TCYX": "its axes are images and channels",
        "TYXC": "its first axis is images and its last one channels",
        "ZCYX": "its axes are slices and channels",
        "CZYX": "its axes are channels and slices",
        "ZYXC": "its first axis is slices and its last one channels",
    }
)
MAX_CHANNELS = 64  # of an order that is suggested


def is_order(text: str) -> bool:
    """Returns True for '', or an order of axes with Y before X, and each at most once.

    C is channels, Z slices, and T images of any other kind.
    """
    known = re.fullmatch("[TZC]*YXC?", text) is not None
    return text == "" or (known and len(set(text)) == len(text))


def check_order(text: str) -> None:
    """Raises UserError unless a text is an order of axes; see `is_order`."""
    if not is_order(text):
        raise UserError(
            f"tiff_axes={text!r} must name each axis once, Y before X, such as CYX, "
            "ZYX, TZYX or YXC"
        )


def describe_stored(path: Path) -> str:
    """Returns how a TIFF is stored; '' if it cannot be read.

    Such as 'axes SYX 3 x 64 x 64, photometric RGB, planarconfig SEPARATE'.
    """
    try:
        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            page = series.keyframe
            colours = getattr(page.photometric, "name", page.photometric)
            planes = ", planarconfig SEPARATE" if page.planarconfig == 2 else ""
            sizes = dimensions(series.shape)
            return f"axes {series.axes} {sizes}, photometric {colours}{planes}"
    except Exception:  # only used to explain another error
        return ""


def suggest_order(image: Path, other: Path, axes: int, *, single: bool = False) -> str:
    """Returns a remedy for files that differ in size or pages: a flag, or ''.

    It starts with 'or, ' if the file states its axes.

    The files are read with each order. The first one is suggested with which they agree
    and the other file has one channel, or else the first one with which they agree.

    Args:
      image: the image file.
      other: its mask, object ids or target.
      axes: 2 for images, 3 for volumes.
      single: True if the other file must have one channel.
    """
    tiffs = {"its image": image, "it": other}
    tiffs = {noun: path for noun, path in tiffs.items() if ending(path) in TIFFS}
    if not tiffs:
        return ""
    channels = {order: _count_channels(image, other, axes, order) for order in ORDERS}
    fitting = [order for order, count in channels.items() if count == 1]
    if not single:
        fitting += [order for order, count in channels.items() if count > 1]
    if not fitting:
        return ""
    noun, path = next(iter(tiffs.items()))
    stored = describe_stored(path)
    stated = "or, " if re.match("axes [YXTZC]+ ", stored) else ""
    return (
        f"{stated}{noun} is stored as {stored}; if {ORDERS[fitting[0]]}, set "
        f"--config.data.tiff_axes={fitting[0]}"
    )


def suggest_channels(path: Path, axes: int, channels: int) -> str:
    """Returns the flag with which a TIFF has this number of channels, or ''."""
    for order, words in ORDERS.items() if ending(path) in TIFFS else ():
        if _count_channels(path, path, axes, order) == channels:
            return (
                f"it is stored as {describe_stored(path)}; if {words}, set "
                f"--config.data.tiff_axes={order}"
            )
    return ""


def _count_channels(image: Path, other: Path, axes: int, order: str) -> int:
    """Returns the number of channels of the other file; 0 if the files do not agree."""
    try:
        with (
            open_images(image, axes=axes, tiff_axes=order) as one,
            open_images(other, axes=axes, indices=True, tiff_axes=order) as two,
        ):
            same = (one.shape, one.count) == (two.shape, two.count)
            few = max(one.channels, two.channels) <= MAX_CHANNELS
            return two.channels if same and few and min(one.shape) > 1 else 0
    except UserError:
        return 0
