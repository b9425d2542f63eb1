"""OME-Zarr folders, versions 0.4 (zarr 2) and 0.5 (zarr 3), through TensorStore.

The first level of a pyramid is read, which has the full size.
"""

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unet_jax.data.files.image_file import Box, ImageFile, box_shape, not_a_volume
from unet_jax.errors import UserError

CACHE_BYTES = 2**26  # of decoded chunks
LIMIT = 2**30  # bytes of one chunk
METADATA = ("zarr.json", ".zattrs", ".zgroup", ".zarray")


def is_zarr(folder: Path) -> bool:
    """Returns True if a folder has the metadata of a zarr group or array."""
    return any((folder / name).is_file() for name in METADATA)


@contextlib.contextmanager
def open_zarr(path: Path, axes: int) -> Iterator[ImageFile]:
    """Opens the images, or the volumes, of the first multiscale image in a folder.

    For 2 spatial axes, t and z count images; for 3, t counts volumes. The axis c holds
    the channels.

    Raises:
      UserError: the folder is not an OME-Zarr image, an axis has no meaning, or a
        chunk is too large.
    """
    import tensorstore  # slow to import, and most images are no OME-Zarr

    image, driver = _first_multiscale(path)
    level = image["datasets"][0]
    array = path / level["path"]
    if not array.resolve().is_relative_to(path.resolve()):
        raise UserError(f"its pixels are at {array}, outside the folder; copy them in")
    store: Any = tensorstore.open(
        {"driver": driver, "kvstore": {"driver": "file", "path": str(array)}},
        context=tensorstore.Context({"cache_pool": {"total_bytes_limit": CACHE_BYTES}}),
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
    images, depth, channel = _axes_by_role(names, store.shape, axes)
    order = [*images, *depth, names.index("y"), names.index("x"), *channel]
    spatial = order[len(images) : len(images) + axes]
    counts = [store.shape[i] for i in images]
    channels = math.prod(store.shape[i] for i in channel)
    store = store.transpose(order)

    def read(image: int, box: Box) -> np.ndarray:
        first = np.unravel_index(image, counts) if counts else ()
        window = store[(*map(int, first), *box)]
        return window.read().result().reshape(*box_shape(box), channels)

    yield ImageFile(
        path,
        "zarr",
        math.prod(counts),
        tuple(store.shape[len(images) : len(images) + axes]),
        channels,
        dtype,
        read,
        spacing=_spacing(level, spatial),
    )


def _first_multiscale(path: Path) -> tuple[dict[str, Any], str]:
    """Returns the metadata of the first image, and TensorStore's driver for it."""
    for name, driver in (("zarr.json", "zarr3"), (".zattrs", "zarr")):
        if (path / name).is_file():
            found = json.loads((path / name).read_text())
            if driver == "zarr3":
                found = found.get("attributes", {}).get("ome", {})
            if found.get("multiscales"):
                return found["multiscales"][0], driver
    raise UserError(
        "is not an OME-Zarr image; give the folder whose metadata has `multiscales`"
    )


def _axes_by_role(
    names: list[str], shape: tuple[int, ...], axes: int
) -> tuple[list[int], list[int], list[int]]:
    """Returns the axes that count images, the depth, and the channels."""
    index = {name: i for i, name in enumerate(names)}
    unknown = set(index) - set("tczyx")
    if unknown or len(names) != len(shape) or not {"y", "x"} <= set(index):
        raise UserError(f"its axes {names} are not those of an image: t, c, z, y, x")
    if axes == 3 and "z" not in index:
        raise not_a_volume(axes)
    depth = [index["z"]] if axes == 3 else []
    images = [index[n] for n in "tz" if n in index and index[n] not in depth]
    return images, depth, [index["c"]] if "c" in index else []


def _spacing(level: dict[str, Any], spatial: list[int]) -> tuple[float, ...] | None:
    for transform in level.get("coordinateTransformations", ()):
        if transform["type"] == "scale":
            return tuple(float(transform["scale"][i]) for i in spatial)
    return None
