"""Names of image files: known extensions, files to read, stems for files to write.

Systems and programs leave files of their own beside images; `is_system_file` decides
which, for every place where files are looked for. Names are compared in the Unicode
form NFC, because a Mac stores 'ä' as two characters (NFD).
"""

import glob
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from unet_jax.data.files.limits import check_regular
from unet_jax.data.files.zarr import is_zarr
from unet_jax.errors import UserError, prefix_errors
from unet_jax.text import printable

IMAGES = (".png", ".jpg", ".jpeg", ".bmp")
TIFFS = (".ome.tiff", ".ome.tif", ".tiff", ".tif")
VOLUMES = (".nii.gz", ".nii")
FOLDERS = (".ome.zarr", ".zarr")
ENDINGS = (*IMAGES, *TIFFS, *VOLUMES, *FOLDERS)  # if two fit, the longer comes first
SYSTEM_FILES = {  # names in lower case; see also `is_system_file`
    *("__macosx", "icon\r", "network trash folder", "temporary items"),  # macOS
    *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini"),  # Windows
    *("$recycle.bin", "recycler", "system volume information"),
    *("@eadir", "@tmp", "#recycle", "#snapshot", "lost+found"),  # disks in a network
}
SYSTEM_ENDINGS = ("~", ".tmp", ".part", ".crdownload", "@synoeastream", "@synoresource")
WILDCARD = re.compile(r"(\*\*/|\*\*|\*|\?|\[[^]]+\])")


def find_images(pattern: str) -> list[Path]:
    """Returns one file, the images in a folder, or those that match a glob, sorted.

    An OME-Zarr folder counts as one image. Subfolders of a folder are not searched. A
    single file may have any extension.

    Raises:
      UserError: there is no such file.
    """
    path = Path(pattern)
    if os.path.exists(path):
        with prefix_errors(pattern):
            check_regular(path)
    if os.path.isfile(path) or (os.path.isdir(path) and is_image(path)):
        return [path]
    if os.path.isdir(path):
        found = [p for p in path.iterdir() if is_image(p)]
    else:
        matches = map(Path, expand_glob(pattern)[1])
        found = [p for p in matches if is_image(p)]
        found = [p for p in found if not any(map(is_zarr, p.parents))]
    if not found:
        if fault := find_fault(path):
            raise UserError(f"{pattern}: {fault}")
        what = "no such file"
        if os.path.isdir(path):
            what = f"no images in this folder ('{path}/**/*' includes its subfolders)"
        known = ", ".join(ENDINGS)
        raise UserError(f"{pattern}: {what}; known extensions are {known}")
    return sorted(found)


def check_folder(root: Path) -> None:
    """Raises UserError if the folder of a data set does not exist."""
    if not os.path.isdir(root):
        if fault := "" if os.path.exists(root) else find_fault(root):
            raise UserError(f"{printable(root)}: {fault}")
        raise UserError(f"there is no folder {root}; name the folder of your images")


def other_files(pattern: str, images: Sequence[Path]) -> list[Path]:
    """Returns the files of a folder that `find_images` left out, sorted.

    A folder is one of them if it is named like an image.
    """
    path = Path(pattern)
    if not os.path.isdir(path) or path in images:
        return []
    every = {p for p in path.iterdir() if not is_system_file(p.name)}
    others = every - set(images)
    return sorted(p for p in others if not os.path.isdir(p) or _known_ending(p))


def ending(path: Path) -> str:
    """Returns the known extension of a file, in lower case, or '' if it has none.

    A folder with the files of a zarr ends in .zarr, whatever its name.
    """
    known = _known_ending(path)
    if os.path.isdir(path):  # `Path.is_dir` raises for a link that cannot be reached
        return known if known in FOLDERS else ".zarr" if is_zarr(path) else ""
    return "" if known in FOLDERS else known


def stem(path: Path) -> str:
    """Returns the name without its known ending: 'a.nii.gz' -> 'a'."""
    end = ending(path) or _known_ending(path)
    if end and path.name.lower().endswith(end):
        return path.name[: -len(end)]
    return path.name


def unique_stems(paths: Sequence[Path]) -> list[str]:
    """Returns a different name for each file.

    If files share a stem, the ending is added: a.png and a.tif become a_png and a_tif.
    If that is not enough, as for equal names in two folders, numbers are added.
    """
    names = [stem(path) for path in paths]
    added = [ending(path).replace(".", "_") for path in paths]
    times = Counter(map(_same_file, names))
    while len(times) < len(names):
        pairs = zip(names, added, strict=True)
        names = [n + more if times[_same_file(n)] > 1 else n for n, more in pairs]
        times = Counter(map(_same_file, names))
        added = [f"_{i}" for i in range(1, len(names) + 1)]
    return names


def is_image(path: Path) -> bool:
    """Returns True for an image of a known ending, and for an OME-Zarr folder."""
    return ending(path) != "" and not is_system_file(path.name)


def is_image_candidate(path: Path) -> bool:
    """Returns True for an image, and for what `find_image_fault` reports in its place.

    That is a pipe, a socket or a device, and a folder that is named like an image.
    """
    if is_image(path) or is_system_file(path.name):
        return is_image(path)
    if os.path.isdir(path):
        return _known_ending(path) != ""
    return os.path.exists(path) and not os.path.isfile(path)


def find_fault(path: Path) -> str:
    """Returns why a file or folder must not be read, and a remedy; '' if it may be.

    Only its kind is examined; it is not opened.
    """
    try:
        check_regular(path)
    except UserError as error:
        return str(error)
    except (FileNotFoundError, NotADirectoryError):
        return ""  # the function that opens it reports the error
    except OSError as error:
        return f"cannot be read ({error.strerror}); check its permissions"
    return ""


def find_image_fault(path: Path) -> str:
    """Returns why a path from `is_image_candidate` must not be read, or ''."""
    if fault := find_fault(path):
        return fault
    if os.path.isdir(path) and not is_image(path):
        return "is a folder that is named like an image; rename it, or remove it"
    return ""


def is_system_file(name: str) -> bool:
    """Returns True for a file or folder that is ignored wherever files are looked for.

    Those are hidden files, and what operating systems, disks and programs leave behind:
    `.DS_Store`, `._a.png`, `Thumbs.db`, `desktop.ini`, `__MACOSX`, `@eaDir`, `a.png~`.
    """
    lower = name.lower()
    hidden = name.startswith((".", "~$")) and name not in (".", "..")
    return hidden or lower in SYSTEM_FILES or lower.endswith(SYSTEM_ENDINGS)


def expand_glob(pattern: str) -> tuple[tuple[str, str], list[str]]:
    """Finds the files and folders that match a glob, in any Unicode form.

    The longest beginning of folders that exist is literal, whatever characters their
    names have: in 'images [1]/*.png' only the star is a wildcard. Brackets that match
    nothing as a wildcard are literal, too.

    Returns:
      The glob as its literal beginning, with a final '/' unless it is empty or the
      whole glob, and the rest with wildcards; and the matches, sorted.
    """
    fixed, rest = split_glob(pattern)
    if not rest:
        return (fixed, ""), [fixed] if os.path.lexists(fixed) else []
    for part in (rest, rest.replace("[", "[[]")):
        forms = {unicodedata.normalize(form, part) for form in ("NFC", "NFD")} | {part}
        found = {
            name
            for form in forms
            for name in glob.glob(glob.escape(fixed) + form, recursive=True)
            if not any(map(is_system_file, name[len(fixed) :].split("/")))
        }
        if found:
            return (fixed, part), sorted(found)
    return (fixed, rest), []


def find_path(folder: str, name: str) -> str:
    """Returns the path of a name in a folder, in the Unicode form that exists there."""
    forms = (name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD")))
    paths = [os.path.join(folder, form) for form in forms]
    return next(filter(os.path.lexists, paths), paths[0])


def split_glob(pattern: str) -> tuple[str, str]:
    """Splits a glob into its literal beginning and the rest; see `expand_glob`."""
    fixed, parts = "", pattern.split("/")
    for i, part in enumerate(parts):
        path = find_path(fixed, part) if part else f"{fixed}"
        if WILDCARD.search(part) and not os.path.lexists(path):
            return fixed, "/".join(parts[i:])
        fixed = path if i == len(parts) - 1 else f"{path}/"
    return fixed, ""


def _known_ending(path: Path) -> str:
    """Returns the known extension of a name, in lower case, or '' if it has none."""
    name = path.name.lower()
    return next((e for e in ENDINGS if name.endswith(e) and name != e), "")


def _same_file(name: str) -> str:
    """Returns the form of a name that is equal for one file on any file system."""
    return unicodedata.normalize("NFC", name).lower()
