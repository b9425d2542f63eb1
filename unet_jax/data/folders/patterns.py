"""Patterns (folders or globs), and the keys of the files that match them.

Files with the same key belong together. In a folder the key is the stem: images/a.png
and masks/a.tif both have the key 'a'. For a glob it is the text that the wildcards
match: 'raw/*_img.png' and 'drawn/*_mask.png' give the key 'a' for raw/a_img.png and
drawn/a_mask.png. A pattern of one file gives the key ''. Keys are in the Unicode form
NFC, and bytes that are not UTF-8 are escaped.
"""

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from unet_jax.data import files
from unet_jax.data.dataset_report import Issue
from unet_jax.text import printable

EXPRESSIONS = {  # of wildcards; '[[]' is a literal bracket
    **{"**/": "(?:(.*)/)?", "**": "(.*)", "*": "([^/]*)", "?": "([^/])"},
    "[[]": r"\[",
}


class Patterns(NamedTuple):
    """The places of the files: folders or globs, relative to a root."""

    images: str = "images"
    masks: str = "masks"
    instances: str = "instances"
    targets: str = "targets"
    unlabelled: str = "unlabelled"


class FileFinder(NamedTuple):
    """Finds files below a root and collects issues.

    Attributes:
      root: the folder.
      links: True allows links that leave the root.
      match_files: the function of this name, with or without a cache.
      issues: found so far.
      refused: keys of files that are not read; each has an issue.
    """

    root: Path
    links: bool
    match_files: Callable[[Path, str], list[tuple[str, Path]]]
    issues: list[Issue]
    refused: set[str]

    def by_key(self, base: Path, pattern: str) -> dict[str, Path]:
        """Returns the images that a pattern matches, by their keys.

        What cannot be an image, and links that leave the root, are reported instead.
        """
        found: dict[str, Path] = {}
        matched, readable = self.match_files(base, pattern), []
        for key, path in matched:
            if self._report_fault(path, files.find_image_fault(path)):
                self.refused.add(key)
            else:
                readable.append((key, path))
        outside: set[Path] = set()
        if readable and not self.links:
            place = pattern_path(base, pattern)
            outside = links_to_outside((path for _, path in readable), self.root, place)
        for key, path in readable:
            if path in outside:
                self._refuse_link(path, "the file")
                self.refused.add(key)
            elif key in found:
                names = f"{self.name(path)}, {self.name(found[key])}"
                text = "two files of one stem"
                if files.stem(path) != files.stem(found[key]):
                    text += ", in different Unicode forms (NFC and NFD)"
                self.report(f"{names}: {text}; rename or remove one", "duplicate stem")
            else:
                found[key] = path
        return found

    def report_faults(self, base: Path, patterns: Sequence[str]) -> bool:
        """Returns True, and reports it, if folders of patterns cannot be read.

        They are broken links, pipes or devices, or there is no permission.
        """
        folders = [pattern_path(base, pattern) for pattern in patterns if pattern]
        places = dict.fromkeys(map(find_place, folders))
        faulty = [p for p in places if self._report_fault(p, files.find_fault(p))]
        return bool(faulty)

    def refuses(self, base: Path, patterns: Sequence[str]) -> bool:
        """Returns True, and reports it, if folders of patterns must not be read.

        They have a fault, or they are links that leave the root.
        """
        if self.report_faults(base, patterns):
            return True
        folders = [pattern_path(base, p) for p in patterns if p and not self.links]
        outside = [f for f in folders if links_to_outside([f], self.root, f)]
        for folder in outside:
            self._refuse_link(folder, "the files")
        return bool(outside)

    def name(self, path: Path) -> str:
        """Returns a path relative to the root, as messages show it."""
        inside = path.is_relative_to(self.root) and path != self.root
        return printable(path.relative_to(self.root) if inside else path)

    def report(self, text: str, kind: str = "missing pair") -> None:
        """Adds an error."""
        self.issues.append(Issue("error", kind, text))

    def warn(self, text: str, kind: str) -> None:
        """Adds a warning."""
        self.issues.append(Issue("warning", kind, text))

    def _report_fault(self, path: Path, fault: str) -> bool:
        if fault:
            self.report(f"{self.name(path)}: {fault}", "unreadable")
        return fault != ""

    def _refuse_link(self, path: Path, noun: str) -> None:
        text = f"{self.name(path)}: a link that leaves {self.root}; copy {noun} there, "
        self.report(text + "or allow links: --config.data.links=True", "link")


def match_files(base: Path, pattern: str) -> list[tuple[str, Path]]:
    """Returns keys and paths of the images that a pattern matches, sorted by path.

    They include other candidates, such as pipes; see `files.is_image_candidate`. A
    relative pattern starts from `base`; '' matches nothing.
    """
    if not pattern:
        return []
    path = pattern_path(base, pattern)
    if files.split_glob(str(path))[1]:
        return _match_glob(str(path))
    if not os.path.isdir(path) or files.is_image(path):
        exists = os.path.lexists(path) and files.is_image_candidate(path)
        return [("", path)] if exists else []
    inside = (path / name for name in sorted(os.listdir(path)))
    return [(make_key(files.stem(f)), f) for f in inside if files.is_image_candidate(f)]


def unknown_files(base: Path, pattern: str) -> dict[str, Path]:
    """Returns the files of a folder that have no known ending, by their stems."""
    folder = pattern_path(base, pattern)
    if not pattern or not os.path.isdir(folder) or files.is_image(folder):
        return {}
    inside = [p for p in folder.iterdir() if not files.is_system_file(p.name)]
    unknown = [
        p for p in inside if not (os.path.isdir(p) or files.is_image_candidate(p))
    ]
    return {make_key(path.stem): path for path in sorted(unknown)}


def pattern_path(base: Path, pattern: str) -> Path:
    """Returns a pattern as a path, `~` expanded, in the Unicode form of the disk."""
    path = os.path.join(base, os.path.expanduser(pattern))
    return Path("".join(files.split_glob(path)))


def find_place(pattern: Path) -> Path:
    """Returns the folder that a pattern starts from, or the nearest one that exists.

    The pattern is a path from `pattern_path`.
    """
    place = Path(files.split_glob(str(pattern))[0])
    return next((p for p in (place, *place.parents) if os.path.lexists(p)), place)


def links_to_outside(paths: Iterable[Path], root: Path, pattern: Path) -> set[Path]:
    """Returns the paths that are links to a place outside of the root.

    The paths match a pattern, from `pattern_path`. If that itself starts outside of the
    root, links may not leave the folder that it starts from.
    """
    fixed = Path(os.path.normpath(files.split_glob(str(pattern))[0]))
    bound = root if fixed.is_relative_to(os.path.normpath(root)) else fixed
    bound = (bound if os.path.isdir(bound) else bound.parent).resolve()
    inside: dict[str, bool] = {}  # folders are resolved once, because that is slow
    outside = set()
    for path in paths:
        folder = os.path.dirname(path)
        if folder not in inside:
            inside[folder] = Path(folder).resolve().is_relative_to(bound)
        if inside[folder] and path.name != ".." and not path.is_symlink():
            continue
        if not path.resolve().is_relative_to(bound):
            outside.add(path)
    return outside


def suggest_globs(base: Path, image: Path, partner: Path, field: str) -> str:
    """Returns flags that pair files if one name is part of the other.

    Both files are below `base`; `field` is the argument for the partners: 'masks'.
    """
    first, second = files.stem(image), files.stem(partner)
    shared = first if first in second else second if second in first else ""
    both = ["raw/*_image.png", f"drawn/*_{field.removesuffix('s')}.png"]
    if shared:
        paths = [Path(os.path.relpath(path, base)) for path in (image, partner)]
        both = [str(p.with_name(p.name.replace(shared, "*", 1))) for p in paths]
    return f"--config.data.images='{both[0]}' --config.data.{field}='{both[1]}'"


def _match_glob(pattern: str) -> list[tuple[str, Path]]:
    (fixed, rest), names = files.expand_glob(pattern)
    parts = enumerate(files.WILDCARD.split(unicodedata.normalize("NFC", rest)))
    text = "".join(_group(part) if i % 2 else re.escape(part) for i, part in parts)
    expression = re.compile(text, re.DOTALL)
    found = []
    for name in names:
        path = Path(name)
        match = expression.fullmatch(unicodedata.normalize("NFC", name[len(fixed) :]))
        if match and files.is_image_candidate(path):
            key = "/".join(part for part in match.groups() if part)
            end = path.name.removeprefix(files.stem(path))
            found.append((make_key(key.removesuffix(end)), path))
    # a folder of tiles may be named like the image that they were cut from
    parents = {parent for _, path in found for parent in path.parents}
    return [each for each in found if each[1] not in parents or files.is_image(each[1])]


def _group(wildcard: str) -> str:
    """Returns a wildcard as a group of a regular expression."""
    if wildcard.startswith("[!"):
        return f"([^{wildcard[2:]})"
    return EXPRESSIONS.get(wildcard, f"({wildcard})")


def make_key(text: str) -> str:
    """Returns text of a file name as a key: in the Unicode form NFC, and printable."""
    return printable(unicodedata.normalize("NFC", text))
