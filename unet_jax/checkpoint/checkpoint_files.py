"""The files of one checkpoint: writes, reads and verifies them.

The metadata hold a checksum of each part and of the metadata themselves.
"""

import errno
import functools
import json
import os
import shutil
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import jax
import msgspec
import numpy as np

from unet_jax.checkpoint.damage import (
    DamagedCheckpointError,
    load_or_report,
    save_or_report,
)
from unet_jax.errors import UserError
from unet_jax.json_file import convert, read_json

VARIABLES, TRAINING = "variables", "training"
METADATA = "_CHECKPOINT_METADATA"  # the name that Orbax gives to the file
CHECKSUMS, SCORES = "checksums", "scores"
SPARE_BYTES = 2**20  # that the disk must hold besides the arrays of a checkpoint


class _Checksums(TypedDict):
    variables: int
    training: int
    metadata: int


class _Metadata(TypedDict):
    """The values that the package reads; a run may save more.

    Attributes:
      config: the config of the run.
      preprocessing: see `build.preprocessing.Preprocessing`.
      scores: of the validation split, by name.
      checksums: CRC-32 of the parts and of the metadata.
      waiting: the scalars of the steps since the last line of the log.
      skipped_before: the number of skipped steps in a row before these.
      skipped_in_all: the number of all skipped steps before these.
      absent_classes: the classes that the validation split lacks.
      chosen_by: the name of the score that selects the best checkpoint.
    """

    config: dict[str, Any]
    preprocessing: dict[str, Any]
    scores: dict[str, float | None]
    checksums: _Checksums
    waiting: NotRequired[list[dict[str, float | None]]]
    skipped_before: NotRequired[int]
    skipped_in_all: NotRequired[int]
    chosen_by: NotRequired[str]
    absent_classes: NotRequired[list[str]]


class _MetadataFile(msgspec.Struct):
    custom_metadata: dict[str, Any]


def start_saving(
    checkpoint: Path, trees: Mapping[str, Any], metadata: Mapping[str, Any]
) -> tuple[dict[str, Any], Callable[[], None]]:
    """Starts to save the parts of a checkpoint in the background.

    Args:
      checkpoint: the new folder; the folder above it is made, but not those above that.
      trees: the trees of arrays, by part. They may be donated when this returns.
      metadata: JSON data.

    Returns:
      The metadata as they are saved, with checksums, and a function that waits until
      the checkpoint is complete.

    Raises:
      UserError: the checkpoint cannot be written; the function raises it, too.
    """
    about = json.loads(json.dumps(metadata))
    about[CHECKSUMS] = {name: _checksum(tree) for name, tree in trees.items()}
    about[CHECKSUMS]["metadata"] = _checksum_metadata(about)

    def save() -> Any:
        # fails if the run folder has been removed, instead of making a new one
        checkpoint.parent.mkdir(exist_ok=True)
        _check_space(checkpoint.parent, trees)
        return _import_orbax().save_checkpointables_async(
            checkpoint, dict(trees), custom_metadata=about
        )

    response = save_or_report(checkpoint.parent, save)
    return about, lambda: save_or_report(checkpoint.parent, response.result)


def load_metadata(checkpoint: Path) -> dict[str, Any]:
    """Returns the JSON data that was saved with a checkpoint.

    Raises:
      DamagedCheckpointError: the file cannot be read, its content has changed, or
        another program wrote it.
    """
    # The file is read without Orbax, which would initialise the devices: too early for
    # runs of several processes.
    file = checkpoint / METADATA
    try:
        metadata = read_json(file, _MetadataFile, "").custom_metadata
        convert(metadata, _Metadata, str(file), "")
    except UserError as error:
        raise DamagedCheckpointError(str(error).removesuffix("; ")) from error
    if _checksum_metadata(metadata) != metadata[CHECKSUMS]["metadata"]:
        raise DamagedCheckpointError(f"{file} is damaged")
    return metadata


def load_parts(
    checkpoint: Path, abstract: dict[str, Any], metadata: dict[str, Any]
) -> dict[str, Any]:
    """Loads parts of a checkpoint and verifies them.

    Args:
      checkpoint: the folder.
      abstract: the shapes and shardings of each part to load. That of the variables may
        be a function that adds shardings to the tree of the shapes and dtypes that the
        checkpoint states.
      metadata: from `load_metadata`.

    Returns:
      The trees, by part.

    Raises:
      DamagedCheckpointError: a file cannot be read, or its content has changed.
    """
    _check_entries(checkpoint)
    trees = {}
    for name, like in abstract.items():
        load = functools.partial(_load_part, checkpoint, name, like)
        trees[name], checksum = load_or_report(checkpoint / name, load)
        if checksum != metadata[CHECKSUMS][name]:
            raise DamagedCheckpointError(
                f"{checkpoint / name} is damaged: its arrays differ from those saved"
            )
    return trees


def _import_orbax() -> Any:
    """Imports Orbax late: it is large, and a missing run folder is reported without."""
    from orbax.checkpoint import v1

    return v1


def _check_entries(checkpoint: Path) -> None:
    """Raises an error for a link, a named pipe or a device: reading may never end."""
    for folder, names, files in os.walk(checkpoint):
        wrong = [name for name in names if (Path(folder) / name).is_symlink()]
        wrong += [name for name in files if not (Path(folder) / name).is_file()]
        if wrong:
            raise DamagedCheckpointError(
                f"checkpoint {checkpoint} is damaged ({Path(folder) / wrong[0]} is not "
                "a file)"
            )


def _load_part(checkpoint: Path, name: str, like: Any) -> tuple[Any, int]:
    """Returns the arrays of a part and their checksum."""
    if callable(like):
        like = like(_load_shapes(checkpoint))
    tree = _import_orbax().load_checkpointables(checkpoint, {name: like})[name]
    return tree, _checksum(tree)


def _load_shapes(checkpoint: Path) -> Any:
    """Loads the tree of the variables with shapes and dtypes only."""
    tree: Any = _import_orbax().checkpointables_metadata(checkpoint).metadata[VARIABLES]
    if tree is None:  # Orbax logs that it cannot read the file; no exception
        raise ValueError(f"no metadata of its {VARIABLES}")
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(shapes))
    if size > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
        raise DamagedCheckpointError(
            f"{checkpoint}: its {VARIABLES} need {size:,} bytes, more than the memory"
        )
    return shapes


def _checksum(tree: Any) -> int:
    """Computes the CRC-32 of the bytes of all arrays of a tree."""
    checksum = 0
    for leaf in jax.tree.leaves(tree):
        # each process has a copy of an array that spans several processes
        local = leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf
        checksum = zlib.crc32(np.ravel(local).view(np.uint8).data, checksum)
    return checksum


def _checksum_metadata(metadata: Mapping[str, Any]) -> int:
    """Computes the CRC-32 of JSON data and of the checksums of the parts in them."""
    sums = {k: v for k, v in metadata[CHECKSUMS].items() if k in (VARIABLES, TRAINING)}
    content = json.dumps({**metadata, CHECKSUMS: sums}, sort_keys=True)
    return zlib.crc32(content.encode())


def _check_space(folder: Path, trees: Any) -> None:
    """Raises OSError if the disk cannot hold another checkpoint."""
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(trees))
    if shutil.disk_usage(folder).free < size + SPARE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
