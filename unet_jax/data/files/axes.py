"""What the axes of a TIFF are: images, depth, rows, columns, channels."""

import math
from typing import NamedTuple

import numpy as np
import tifffile

from unet_jax.data.files.grid import volume_expected
from unet_jax.errors import UserError

CHANNEL = ("C", "S")  # separate channels, samples of a pixel


class Layout(NamedTuple):
    """How the planes of a file, `[Y, X, samples]` each, make up images or volumes.

    Attributes:
      planes: the numbers of the planes, `int[count, depth, C / samples]`; the depth of
        an image is 1.
      shape: of an image or volume, *S.
      channels: C, an alpha channel included.
    """

    planes: np.ndarray
    shape: tuple[int, ...]
    channels: int


def layout(series: tifffile.TiffPageSeries, axes: int) -> Layout:
    """Finds images of 2 axes, or volumes of 3, among the axes of a series.

    With 2, every plane is an image. With 3, Z is the depth, or the only axis that is
    neither Y nor X nor of channels: T, I or Q; where Z is one of several, the others
    count volumes. C, or the samples of a pixel, are the channels. Axes of length 1 do
    not count.

    Raises:
      UserError: an axis is left over, or the depth missing.
    """
    unclear = UserError(
        f"its axes {series.axes} {series.shape} are not those of images of {axes} "
        "axes; save it as pages YX, ZYX, ZCYX or TZCYX"
    )
    names = [
        (name, n)
        for name, n in zip(series.axes, series.shape, strict=True)
        if n != 1 or name in "YX"
    ]
    letters = "".join(name for name, _ in names)
    outer, inner = letters.partition("YX")[::2]
    _, _, height, width, samples = series.keyframe.shaped
    sizes = [n for _, n in names]
    plane = [height, width, samples][: 2 + len(inner)]
    if "YX" not in letters or sizes[len(outer) :] != plane or len(inner) > 1:
        raise unclear
    channel = [i for i, name in enumerate(outer) if name in CHANNEL]
    if len(channel) + len(inner) > 1:
        raise unclear
    others = [i for i in range(len(outer)) if i not in channel]
    depth = []
    if axes == 3:
        depth = [i for i in others if outer[i] == "Z"] or others
        if not depth:
            raise volume_expected(axes)
        if len(depth) > 1:
            raise unclear
    images = [i for i in others if i not in depth]
    count, deep, separate = (
        math.prod(sizes[i] for i in part) for part in (images, depth, channel)
    )
    numbers = np.arange(count * deep * separate).reshape(sizes[: len(outer)])
    numbers = numbers.transpose(*images, *depth, *channel)
    shape = (*(sizes[i] for i in depth), height, width)
    return Layout(numbers.reshape(count, deep, separate), shape, separate * samples)
