"""OME-Zarr folders, versions 0.4 (zarr 2) and 0.5 (zarr 3), through TensorStore.

Of a pyramid the first level is read, which is the one of full size.
"""

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unet_jax.data.files.grid import Box, Grid, size, volume_expected
from unet_jax.errors import UserError

CACHE = 2**26  # bytes of decoded chunks that are kept
LIMIT = 2**30  # bytes of one chunk
MARKS = ("zarr.json", ".zattrs", ".zgroup", ".zarray")


def is_zarr(folder: Path) -> bool:
    """Whether a folder is a zarr group or array, by the files in it."""
    return any((folder / mark).is_file() for mark in MARKS)


@contextlib.contextmanager
def opened(path: Path, axes: int) -> Iterator[Grid]:
    """Opens the images, or the volumes, of the first multiscale image in a folder.

    With 2 spatial axes, t and z count images; with 3, t counts volumes. The axis c
    holds the channels.

    Raises:
      UserError: the folder is no OME-Zarr image, an axis is of no use, or a chunk
        takes more memory than is sensible.
    """
    import tensorstore  # takes a while, and most images are no OME-Zarr

    image, driver = _multiscale(path)
    level = image["datasets"][0]
    place = path / level["path"]
    if not place.resolve().is_relative_to(path.resolve()):
        raise UserError(f"its pixels are at {place}, outside of it; copy them into it")
    store = tensorstore.open(
        {
            "driver": driver,
            "kvstore": {"driver": "file", "path": str(place)},
        },
        context=tensorstore.Context({"cache_pool": {"total_bytes_limit": CACHE}}),
        open=True,
        read=True,
    ).result()
    dtype = np.dtype(store.dtype.numpy_dtype)
    chunk = math.prod(store.chunk_layout.read_chunk.shape) * dtype.itemsize
    if chunk > LIMIT:
        raise UserError(
            f"a chunk of it takes {chunk} bytes of at most {LIMIT}; save it in smaller "
            "chunks"
        )
    names = [axis["name"] if isinstance(axis, dict) else axis for axis in image["axes"]]
    images, depth, channel = _roles(names, store.shape, axes)
    order = [*images, *depth, names.index("y"), names.index("x"), *channel]
    spatial = order[len(images) : len(images) + axes]
    counts = [store.shape[i] for i in images]
    channels = math.prod(store.shape[i] for i in channel)
    store = store.transpose(order)

    def read(image: int, box: Box) -> np.ndarray:
        first = np.unravel_index(image, counts) if counts else ()
        window = store[(*map(int, first), *box)]
        return window.read().result().reshape(*size(box), channels)

    yield Grid(
        path,
        "zarr",
        math.prod(counts),
        tuple(store.shape[len(images) : len(images) + axes]),
        channels,
        dtype,
        read,
        spacing=_spacing(level, spatial),
    )


def _multiscale(path: Path) -> tuple[dict[str, Any], str]:
    """The first image's metadata, and TensorStore's driver for its version."""
    for name, driver in (("zarr.json", "zarr3"), (".zattrs", "zarr")):
        if (path / name).is_file():
            found = json.loads((path / name).read_text())
            if driver == "zarr3":
                found = found.get("attributes", {}).get("ome", {})
            if found.get("multiscales"):
                return found["multiscales"][0], driver
    raise UserError("is no OME-Zarr image; give the folder that names its multiscales")


def _roles(
    names: list[str], shape: tuple[int, ...], axes: int
) -> tuple[list[int], list[int], list[int]]:
    """Which axes count images, are the depth, and are the channels."""
    where = {name: i for i, name in enumerate(names)}
    strange = set(where) - set("tczyx")
    if strange or len(names) != len(shape) or not {"y", "x"} <= set(where):
        raise UserError(f"its axes {names} are not those of an image: t, c, z, y, x")
    if axes == 3 and "z" not in where:
        raise volume_expected(axes)
    depth = [where["z"]] if axes == 3 else []
    images = [where[n] for n in "tz" if n in where and where[n] not in depth]
    return images, depth, [where["c"]] if "c" in where else []


def _spacing(level: dict[str, Any], spatial: list[int]) -> tuple[float, ...] | None:
    for transform in level.get("coordinateTransformations", ()):
        if transform["type"] == "scale":
            return tuple(float(transform["scale"][i]) for i in spatial)
    return None
