"""OME-Zarr folders, versions 0.4 (zarr 2) and 0.5 (zarr 3), through TensorStore.

The first level of a pyramid is read, which has the full size.
"""

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NotRequired, TypedDict

import numpy as np
from msgspec import Meta

from unet_jax.data.files.image_file import Box, ImageFile, box_shape, not_a_volume
from unet_jax.data.files.limits import (
    RATIO,
    check_regular,
    check_segment,
    check_size,
    stored_bytes,
)
from unet_jax.errors import UserError
from unet_jax.json_file import read_json

CACHE_BYTES = 2**26  # of decoded chunks
METADATA = ("zarr.json", ".zattrs", ".zgroup", ".zarray")


class _Axis(TypedDict):
    name: str
    unit: NotRequired[Any]


class _Level(TypedDict):
    path: str
    coordinateTransformations: NotRequired[list[dict[str, Any]] | None]


class _Multiscale(TypedDict):
    """An image of several levels; the keys of OME-Zarr that are read."""

    axes: list[_Axis | str]
    datasets: Annotated[list[_Level], Meta(min_length=1)]
    coordinateTransformations: NotRequired[list[dict[str, Any]] | None]


class _Ome(TypedDict, total=False):
    multiscales: list[_Multiscale]


class _Attributes(TypedDict, total=False):
    ome: _Ome


class _Group(TypedDict, total=False):
    """The metadata of a group: version 0.4 has `multiscales` at the top."""

    multiscales: list[_Multiscale]
    attributes: _Attributes


class ZarrHeader(NamedTuple):
    """The metadata of an OME-Zarr that its results keep.

    Attributes:
      driver: TensorStore's: 'zarr' is version 2, 'zarr3' is version 3.
      axes: by their names, in the order of the file: name, type and unit.
      level_transformations: of the first level: a scale, and perhaps a translation.
      image_transformations: of all levels.
    """

    driver: str
    axes: dict[str, dict[str, str]]
    level_transformations: list[dict[str, Any]]
    image_transformations: list[dict[str, Any]]


def is_zarr(folder: Path) -> bool:
    """Returns True if a folder has the metadata of a zarr group or array."""
    return any(os.path.isfile(folder / name) for name in METADATA)


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
    for name in METADATA:
        if (array / name).exists():
            check_regular(array / name)
    store: Any = tensorstore.open(
        {"driver": driver, "kvstore": {"driver": "file", "path": str(array)}},
        context=tensorstore.Context({"cache_pool": {"total_bytes_limit": CACHE_BYTES}}),
        open=True,
        read=True,
    ).result()
    dtype = np.dtype(store.dtype.numpy_dtype)
    chunk = math.prod(store.chunk_layout.read_chunk.shape) * dtype.itemsize
    check_segment(chunk, "chunk")
    names = [axis["name"] if isinstance(axis, dict) else axis for axis in image["axes"]]
    images, depth, channel = _axes_by_role(names, store.shape, axes)
    order = [*images, *depth, names.index("y"), names.index("x"), *channel]
    spatial = order[len(images) : len(images) + axes]
    counts = [store.shape[i] for i in images]
    channels = math.prod(store.shape[i] for i in channel)
    size = math.prod(store.shape) * dtype.itemsize
    image_shape = [store.shape[i] for i in order[len(images) :]]
    stored = stored_bytes(array, size // RATIO)
    check_size(image_shape, dtype, stored, count=math.prod(counts))
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
        stack=tuple((names[i].upper(), store.shape[k]) for k, i in enumerate(images)),
        header=ZarrHeader(
            driver,
            dict(zip(names, map(_clean_axis, image["axes"]), strict=True)),
            _clean_transformations(level, len(names)),
            _clean_transformations(image, len(names)),
        ),
    )


def _first_multiscale(path: Path) -> tuple[_Multiscale, str]:
    """Returns the metadata of the first image, and TensorStore's driver for it."""
    for name, driver in (("zarr.json", "zarr3"), (".zattrs", "zarr")):
        if (path / name).is_file():
            group = read_json(path / name, _Group, "check the file, or save it again")
            ome: _Ome = group
            if driver == "zarr3":
                ome = group.get("attributes", {}).get("ome", {})
            if images := ome.get("multiscales"):
                return images[0], driver
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


def _spacing(level: _Level, spatial: list[int]) -> tuple[float, ...] | None:
    for transform in level.get("coordinateTransformations") or ():
        if transform["type"] == "scale":
            return tuple(float(transform["scale"][i]) for i in spatial)
    return None


def _clean_axis(axis: _Axis | str) -> dict[str, str]:
    """Returns the name, type and unit of an axis; old versions have only names."""
    axis = {"name": axis} if isinstance(axis, str) else axis
    kind = {"t": "time", "c": "channel"}.get(axis["name"], "space")
    unit = axis.get("unit")
    known = {"unit": unit} if isinstance(unit, str) and unit.isprintable() else {}
    return {"name": axis["name"], "type": kind} | known


def _clean_transformations(
    found: _Level | _Multiscale, axes: int
) -> list[dict[str, Any]]:
    """Returns the scales and translations that have a number for each axis."""
    valid = []
    for transformation in found.get("coordinateTransformations") or ():
        kind = transformation.get("type")
        if kind not in ("scale", "translation"):
            continue
        numbers = transformation.get(kind)
        if not isinstance(numbers, list):
            continue
        if len(numbers) == axes and all(isinstance(n, int | float) for n in numbers):
            valid.append({"type": kind, kind: list(map(float, numbers))})
    return valid
