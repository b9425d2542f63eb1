"""What the files of a folder, or those that a glob matches, are called in pairs.

In a folder it is the stem: images/a.png and masks/a.tif are both 'a'. Of a glob it is
what the wildcards stand for: 'raw/*_img.png' and 'drawn/*_mask.png' both give 'a' for
raw/a_img.png and drawn/a_mask.png, and a pattern without wildcards gives ''.
"""

import glob
import os
import re
from pathlib import Path

from unet_jax.data import files

WILD = re.compile(r"(\*\*/|\*\*|\*|\?|\[[^]]+\])")
MEANING = {"**/": "(?:(.*)/)?", "**": "(.*)", "*": "([^/]*)", "?": "([^/])"}


def matches(home: Path, pattern: str) -> list[tuple[str, Path]]:
    """Keys and paths of the files of known endings, in order.

    Args:
      home: the folder that the pattern starts from.
      pattern: a folder, a file or a glob; '' is nothing.
    """
    return [(key, path) for key, path in _all(home, pattern) if files.is_known(path)]


def others(home: Path, pattern: str) -> dict[str, Path]:
    """The files of a folder whose endings are not known, by what is before them."""
    folder = _whole(home, pattern)
    if not pattern or not folder.is_dir() or files.is_known(folder):
        return {}
    inside = sorted(p for p in folder.iterdir() if p.is_file())
    strange = [p for p in inside if not files.is_known(p) and p.name[0] != "."]
    return {path.stem: path for path in strange}


def leads_out(path: Path, root: Path, home: Path, pattern: str) -> bool:
    """Whether a file is a link to somewhere out of the root.

    Where the pattern itself names a place out of the root, it is that place instead.
    """
    fixed = Path(os.path.normpath(WILD.split(str(_whole(home, pattern)))[0]))
    bound = root if fixed.is_relative_to(os.path.normpath(root)) else fixed
    bound = bound if bound.is_dir() else bound.parent
    return not path.resolve().is_relative_to(bound.resolve())


def _all(home: Path, pattern: str) -> list[tuple[str, Path]]:
    if not pattern:
        return []
    if WILD.search(pattern):
        return _globbed(home, pattern)
    path = _whole(home, pattern)
    if path.is_dir() and not files.is_known(path):
        return [(files.stem(inside), inside) for inside in sorted(path.iterdir())]
    return [("", path)] if path.exists() else []


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
            found.append((key.removesuffix(name[-len(ending) :]), Path(name)))
    return found


def _meant(wildcard: str) -> str:
    """A wildcard as a group of a regular expression."""
    if wildcard.startswith("[!"):
        return f"([^{wildcard[2:]})"
    return MEANING.get(wildcard, f"({wildcard})")


def _whole(home: Path, pattern: str) -> Path:
    return Path(os.path.join(home, os.path.expanduser(pattern)))
