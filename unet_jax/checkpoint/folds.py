"""The runs that a folder holds: its own, or those of a sweep or a cross-validation.

`crossval.json` names the run folders of the folds, in order. They lie in the folder
itself, so that it can be moved.
"""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from unet_jax.errors import UserError
from unet_jax.json_file import read_json

FOLDS_FILE = "crossval.json"
JOURNAL = "journal.log"  # of a sweep; a cross-validation is one, too
MOST_FOLDS = 10_000

_Names = Annotated[list[str], Meta(min_length=1, max_length=MOST_FOLDS)]


class FoldsFile(msgspec.Struct):
    """The content of crossval.json: the names of the run folders, fold 0 first."""

    folds: _Names


def holds_folds(folder: Path) -> bool:
    """Returns True if a folder holds the runs of a cross-validation."""
    return (folder / FOLDS_FILE).is_file()


def holds_sweep(folder: Path) -> bool:
    """Returns True if a folder holds the runs of a sweep or a cross-validation."""
    return (folder / JOURNAL).exists()


def find_runs(folder: Path) -> list[Path]:
    """Returns the run folders that a folder holds.

    Those of a cross-validation are the runs of its folds, in order. Every other folder
    is taken for a run folder itself; nothing is checked.

    Raises:
      UserError: crossval.json is not valid, or names a folder outside of this one.
    """
    if not holds_folds(folder):
        return [folder]
    file = folder / FOLDS_FILE
    names = read_json(file, FoldsFile, "start the cross-validation again").folds
    root = folder.resolve()
    for name in names:
        inside = Path(name).name == name and (folder / name).resolve().parent == root
        if not inside:
            raise UserError(
                f"{file} names {name!r}, which does not lie in the folder; name the "
                "folders of runs in it"
            )
        if names.count(name) > 1:
            raise UserError(f"{file} names {name!r} twice; name each run once")
    return [folder / name for name in names]
