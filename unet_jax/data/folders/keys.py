"""Keys by which the files of a pair find each other.

In a folder the key is the stem: images/a.png and masks/a.tif are both 'a'. Of a glob it
is what the wildcards match: 'raw/*_img.png' and 'drawn/*_mask.png' both give 'a' for
raw/a_img.png and drawn/a_mask.png, and a pattern without wildcards gives ''.
"""

import glob
import os
import re
from collections.abc import Iterable
from pathlib import Path

from unet_jax.data import files

WILD = re.compile(r"(\*\*/|\*\*|\*|\?|\[[^]]+\])")
MEANING = {"**/": "(?:(.*)/)?", "**": "(.*)", "*": "([^/]*)", "?": "([^/])"}


def matches(home: Path, pattern: str) -> list[tuple[str, Path]]:
    """Returns keys and paths of the files of known formats, in order.

    Args:
      home: the folder that the pattern starts from.
      pattern: a folder, a file or a glob; '' matches nothing.
    """
    if not pattern:
        return []
    if WILD.search(pattern):
        return _globbed(home, pattern)
    path = place(home, pattern)
    if files.is_known(path):
        return [("", path)] if path.exists() else []
    if not path.is_dir():
        return []
    inside = (path / name for name in sorted(os.listdir(path)))
    return [(files.stem(file), file) for file in inside if files.is_known(file)]


def others(home: Path, pattern: str) -> dict[str, Path]:
    """Returns the files of a folder whose format is unknown, by their stems."""
    folder = place(home, pattern)
    if not pattern or not folder.is_dir() or files.is_known(folder):
        return {}
    inside = [p for p in folder.iterdir() if not p.name.startswith(".")]
    strange = [p for p in inside if not files.is_known(p) and p.is_file()]
    return {path.stem: path for path in sorted(strange)}


def place(home: Path, pattern: str) -> Path:
    """Returns a pattern as a path, with the home folder of the user for `~`."""
    return Path(os.path.join(home, os.path.expanduser(pattern)))


def leading_out(paths: Iterable[Path], root: Path, pattern: Path) -> set[Path]:
    """Returns the paths that are links to somewhere outside the root.

    Args:
      paths: of files or folders that match the pattern.
      root: the folder that links may not lead out of.
      pattern: from `place`. One that names a place outside the root bounds its files.
    """
    fixed = Path(os.path.normpath(WILD.split(str(pattern))[0]))
    bound = root if fixed.is_relative_to(os.path.normpath(root)) else fixed
    bound = (bound if bound.is_dir() else bound.parent).resolve()
    inside: dict[str, bool] = {}  # folders are resolved once, as that is slow
    out = set()
    for path in paths:
        folder = os.path.dirname(path)
        if folder not in inside:
            inside[folder] = Path(folder).resolve().is_relative_to(bound)
        if inside[folder] and path.name != ".." and not path.is_symlink():
            continue
        if not path.resolve().is_relative_to(bound):
            out.add(path)
    return out


def _globbed(home: Path, pattern: str) -> list[tuple[str, Path]]:
    pattern = os.path.expanduser(pattern)
    fixed = "" if os.path.isabs(pattern) else os.path.join(home, "")
    parts = enumerate(WILD.split(pattern))
    meant = "".join(_meant(part) if i % 2 else re.escape(part) for i, part in parts)
    expression = re.compile(re.escape(fixed) + meant, re.DOTALL)
    found = []
    for name in sorted(glob.glob(glob.escape(fixed) + pattern, recursive=True)):
        if match := expression.fullmatch(name):
            key = "/".join(part for part in match.groups() if part)
            ending = files.ending(Path(name))
            if files.is_known(Path(name)):
                found.append((key.removesuffix(name[-len(ending) :]), Path(name)))
    return found


def _meant(wildcard: str) -> str:
    """Returns a wildcard as a group of a regular expression."""
    if wildcard.startswith("[!"):
        return f"([^{wildcard[2:]})"
    return MEANING.get(wildcard, f"({wildcard})")
