"""Names of image files: known extensions, files to read, stems for files to write."""

import glob
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from unet_jax.data.files.zarr import is_zarr
from unet_jax.errors import UserError

IMAGES = (".png", ".jpg", ".jpeg", ".bmp")
TIFFS = (".ome.tiff", ".ome.tif", ".tiff", ".tif")
VOLUMES = (".nii.gz", ".nii")
FOLDERS = (".ome.zarr", ".zarr")
ENDINGS = (*IMAGES, *TIFFS, *VOLUMES, *FOLDERS)  # if two fit, the longer comes first


def find_images(pattern: str) -> list[Path]:
    """Returns one file, the images in a folder, or those that match a glob, sorted.

    An OME-Zarr folder counts as one image. Subfolders of a folder are not searched. A
    single file may have any extension.

    Raises:
      UserError: there is no such file.
    """
    path = Path(pattern)
    if path.is_file() or (path.is_dir() and is_image(path)):
        return [path]
    if path.is_dir():
        found = [p for p in path.iterdir() if is_image(p)]
    else:
        matches = map(Path, glob.glob(pattern, recursive=True))
        found = [p for p in matches if is_image(p)]
        found = [p for p in found if not any(map(is_zarr, p.parents))]
    if not found:
        what = "no such file"
        if path.is_dir():
            what = f"no images in this folder ('{path}/**/*' includes its subfolders)"
        known = ", ".join(ENDINGS)
        raise UserError(f"{pattern}: {what}; known extensions are {known}")
    return sorted(found)


def other_files(pattern: str, images: Sequence[Path]) -> list[Path]:
    """Returns the files of a folder that `find_images` left out, sorted."""
    path = Path(pattern)
    if not path.is_dir() or path in images:
        return []
    every = {p for p in path.iterdir() if p.is_file() and not p.name.startswith(".")}
    return sorted(every - set(images))


def ending(path: Path) -> str:
    """Returns the known extension of a file, in lower case, or '' if it has none.

    A folder with the files of a zarr ends in .zarr, whatever its name.
    """
    name = path.name.lower()
    known = next((e for e in ENDINGS if name.endswith(e) and name != e), "")
    if path.is_dir():
        return known if known in FOLDERS else ".zarr" if is_zarr(path) else ""
    return "" if known in FOLDERS else known


def stem(path: Path) -> str:
    """Returns the name without its known ending: 'a.nii.gz' -> 'a'."""
    end = ending(path)
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
    times = Counter(name.lower() for name in names)
    while len(times) < len(names):
        pairs = zip(names, added, strict=True)
        names = [n + more if times[n.lower()] > 1 else n for n, more in pairs]
        times = Counter(name.lower() for name in names)
        added = [f"_{i}" for i in range(1, len(names) + 1)]
    return names


def is_image(path: Path) -> bool:
    """Returns True for an image of a known ending, and for an OME-Zarr folder."""
    return ending(path) != "" and not path.name.startswith(".")
