"""Files: images are read from disk in windows, segmentations written in pieces.

with files.opened(path, axes=2) as grid, files.canvas(folder, name, grid, "u1") as out:
    for image in range(grid.count):
        block = grid.read(image, [slice(0, 512), slice(0, grid.shape[1])])
        ...
        out.put(labels)
"""

from unet_jax.data.files.grid import Grid, conversion, to_channels
from unet_jax.data.files.names import (
    ENDINGS,
    ending,
    find,
    is_known,
    left_out,
    stem,
    stems,
)
from unet_jax.data.files.read import opened
from unet_jax.data.files.write import Canvas, canvas

__all__ = [
    "ENDINGS",
    "Canvas",
    "Grid",
    "canvas",
    "conversion",
    "ending",
    "find",
    "is_known",
    "left_out",
    "opened",
    "stem",
    "stems",
    "to_channels",
]
