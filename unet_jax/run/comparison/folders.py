"""The run folders that `--runs` names."""

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from unet_jax.checkpoint import CHECKPOINTS, holds_folds
from unet_jax.errors import UserError
from unet_jax.logs import say
from unet_jax.run.run_config import CONFIG
from unet_jax.text import listing


def find_folders(runs: Sequence[str]) -> list[Path]:
    """Returns the run folders that paths and globs name, in this order.

    The folders of a glob are sorted by their names, numbers by their size. What it
    names besides runs is left out; folders among it are printed.

    Args:
      runs: paths of run folders, and globs.

    Raises:
      UserError: a path is not a run folder, a glob names none, a run is named twice, or
        there are fewer than two.
    """
    folders: list[Path] = []
    for text in runs:
        path = Path(text).expanduser()
        found = _match_glob(path) if _is_glob(path) else [_check_run(path)]
        for folder in found:
            if folder.resolve() in [other.resolve() for other in folders]:
                raise UserError(f"--runs names {folder} twice; name each run once")
            folders.append(folder)
    if len(folders) < 2:
        raise UserError(
            f"--runs names {len(folders)} run; name two or more, such as "
            "--runs='runs/a,runs/b' or --runs='runs/isbi-*'"
        )
    return folders


def name_folders(folders: Sequence[Path]) -> list[str]:
    """Returns the shortest ends of paths that differ: 'a', or 'first/a'."""
    parts = [folder.absolute().parts[1:] or ("/",) for folder in folders]
    for size in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-size:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def _is_glob(path: Path) -> bool:
    return glob.has_magic(str(path)) and not path.exists()


def _holds_run(path: Path) -> bool:
    return (
        (path / CONFIG).is_file() or (path / CHECKPOINTS).is_dir() or holds_folds(path)
    )


def _match_glob(pattern: Path) -> list[Path]:
    """Returns the run folders that a glob names, sorted."""
    paths = sorted(map(Path, glob.glob(str(pattern))), key=_natural_key)
    folders = [path for path in paths if path.is_dir()]
    runs = [folder for folder in folders if _holds_run(folder)]
    if not runs:
        lacks = "names no run folder" if paths else "fits no path"
        raise UserError(f"--runs: {pattern} {lacks}; check the pattern")
    if others := [folder for folder in folders if folder not in runs]:
        say(f"left out, not runs: {listing(others)}")
    return runs


def _natural_key(path: Path) -> list[tuple[int, str]]:
    """Sorts 'fold-2' before 'fold-10'."""
    parts = re.findall(r"(\d+)|(\D+)", str(path))
    return [(int(digits[:18] or 0), digits + rest) for digits, rest in parts]


def _check_run(path: Path) -> Path:
    """Returns the path of a run folder; raises UserError for another path."""
    if _holds_run(path):
        return path
    if not path.is_dir():
        lacks = "is a file, not a run folder" if path.exists() else "does not exist"
        raise UserError(f"--runs: {path} {lacks}; name the folders of runs")
    inside = any(_holds_run(each) for each in path.iterdir())
    hint = f"name those in it: '{path}/*'" if inside else "name the folder of a run"
    raise UserError(f"--runs: {path} holds no run; {hint}")
