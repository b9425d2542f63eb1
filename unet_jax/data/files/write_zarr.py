"""Writes OME-Zarr folders with the version, axes and transformations of the source."""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unet_jax.data.files.image_file import ImageFile, report_write_errors
from unet_jax.data.files.zarr import ZarrHeader
from unet_jax.text import one_line

ORDER = "tczyx"  # of the axes, as the specification demands
CHANNEL_AXIS = {"name": "c", "type": "channel"}
NEUTRAL = {"scale": 1.0, "translation": 0.0}
CHUNK = {"t": 1, "c": 1, "z": 16, "y": 256, "x": 256}


@contextlib.contextmanager
def create_zarr(
    part: Path, like: ImageFile, dtype: np.dtype, channels: int
) -> Iterator[Callable[[int, np.ndarray], None]]:
    """Writes rows or slices of one image after another; classes become the axis c."""
    header: ZarrHeader = like.header
    stack = {name.lower(): size for name, size in like.stack}
    spatial = dict(zip("zyx"[-len(like.shape) :], like.shape, strict=True))
    sizes = stack | spatial | ({"c": channels} if channels else {})
    axes = [name for name in ORDER if name in sizes]
    with _report_errors(part.parent):
        shutil.rmtree(part, ignore_errors=True)
        store = _create_array(part, header, [sizes[a] for a in axes], axes, dtype)
        _write_group(part, header, axes)
    view = store.transpose([axes.index(name) for name in sizes])  # channels last
    counts, length = list(stack.values()), like.shape[0]

    def write(start: int, block: np.ndarray) -> None:
        rows = np.asarray(block, dtype)
        while len(rows):
            image, row = divmod(start, length)
            piece, rows = np.split(rows, [length - row])
            first = np.unravel_index(image, counts) if counts else ()
            with _report_errors(part.parent):
                target = view[(*map(int, first), slice(row, row + len(piece)))]
                target.write(np.ascontiguousarray(piece)).result()
            start += len(piece)

    yield write


def _create_array(
    part: Path, header: ZarrHeader, shape: list[int], axes: list[str], dtype: np.dtype
) -> Any:
    import tensorstore

    chunks = [min(CHUNK[name], size) for name, size in zip(axes, shape, strict=True)]
    metadata: dict[str, Any] = {"shape": shape}
    if header.driver == "zarr":
        metadata |= {
            "chunks": chunks,
            "dtype": dtype.str,
            "compressor": {"id": "zlib", "level": 1},
            "dimension_separator": "/",
        }
    else:
        grid = {"name": "regular", "configuration": {"chunk_shape": chunks}}
        codecs = [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "gzip", "configuration": {"level": 1}},
        ]
        metadata |= {
            "chunk_grid": grid,
            "data_type": dtype.name,
            "codecs": codecs,
            "dimension_names": axes,
        }
    spec = {
        "driver": header.driver,
        "kvstore": {"driver": "file", "path": str(part / "0")},
        "metadata": metadata,
    }
    return tensorstore.open(spec, create=True).result()


def _write_group(part: Path, header: ZarrHeader, axes: list[str]) -> None:
    """Writes the metadata of the image: those of the source, for the axes that stay."""
    level = _select(header, header.level_transformations, axes)
    scale = {"type": "scale", "scale": [1.0] * len(axes)}  # which there must be
    image: dict[str, Any] = {
        "name": part.name.split(".")[0],
        "axes": [header.axes.get(name, CHANNEL_AXIS) for name in axes],
        "datasets": [{"path": "0", "coordinateTransformations": level or [scale]}],
    }
    if whole := _select(header, header.image_transformations, axes):
        image["coordinateTransformations"] = whole
    if header.driver == "zarr":
        (part / ".zgroup").write_text(json.dumps({"zarr_format": 2}))
        content = {"multiscales": [image | {"version": "0.4"}]}
        (part / ".zattrs").write_text(json.dumps(content))
        return
    ome = {"version": "0.5", "multiscales": [image]}
    group = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}}
    (part / "zarr.json").write_text(json.dumps(group))


def _select(
    header: ZarrHeader, transformations: Sequence[Mapping[str, Any]], axes: list[str]
) -> list[dict[str, Any]]:
    """Returns transformations of the axes that stay; a new axis is not transformed."""
    selected = []
    for transformation in transformations:
        kind = transformation["type"]
        numbers = dict(zip(header.axes, transformation[kind], strict=True))
        new = NEUTRAL[kind]
        selected.append({"type": kind, kind: [numbers.get(a, new) for a in axes]})
    return selected


@contextlib.contextmanager
def _report_errors(folder: Path) -> Iterator[None]:
    """Turns the errors of TensorStore, which are of many types, into one line."""
    with report_write_errors(folder):
        try:
            yield
        except (ValueError, RuntimeError, NotImplementedError) as error:
            raise OSError(one_line(error)) from error
