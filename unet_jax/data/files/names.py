"""Which files there are to read, and what to call what is written."""

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
ENDINGS = (*IMAGES, *TIFFS, *VOLUMES, *FOLDERS)  # of two that fit, the longer first


def find(pattern: str) -> list[Path]:
    """Returns a file, the files of a folder, or those that a glob matches, sorted.

    An OME-Zarr is one file. Files in folders of a folder are not looked for, and of a
    folder or a glob only files of known endings count.

    Raises:
      UserError: there is none.
    """
    path = Path(pattern)
    if path.is_file() or (path.is_dir() and is_known(path)):
        return [path]
    if path.is_dir():
        found = [p for p in path.iterdir() if is_known(p)]
    else:
        found = [
            p for p in map(Path, glob.glob(pattern, recursive=True)) if is_known(p)
        ]
        found = [p for p in found if not any(map(is_zarr, p.parents))]  # one file
    if not found:
        what = "no such file"
        if path.is_dir():
            what = f"holds no images itself ('{path}/**/*' looks into its folders too)"
        raise UserError(f"{pattern}: {what}; known endings are {', '.join(ENDINGS)}")
    return sorted(found)


def left_out(pattern: str, found: Sequence[Path]) -> list[Path]:
    """Returns the files of a folder that `find` did not count as images, sorted."""
    path = Path(pattern)
    if not path.is_dir() or path in found:
        return []
    every = {p for p in path.iterdir() if p.is_file() and not p.name.startswith(".")}
    return sorted(every - set(found))


def ending(path: Path) -> str:
    """The known ending of a file, in lower case, or '' if it has none.

    A folder that is zarr inside ends in .zarr, whatever its name.
    """
    name = path.name.lower()
    found = next((e for e in ENDINGS if name.endswith(e) and name != e), "")
    if path.is_dir():
        return found if found in FOLDERS else ".zarr" if is_zarr(path) else ""
    return "" if found in FOLDERS else found


def stem(path: Path) -> str:
    """The name without its known ending: 'a.nii.gz' is 'a', 'x.ome.zarr' is 'x'."""
    end = ending(path)
    return (
        path.name[: -len(end)] if path.name.lower().endswith(end or "/") else path.name
    )


def stems(paths: Sequence[Path]) -> list[str]:
    """A name for each file, all different.

    Where files share a stem, the ending comes after it: a.png and a.tif are a_png and
    a_tif. Where that is not enough, as for one name in two folders, numbers follow.
    """
    names = [stem(path) for path in paths]
    longer = [f"{name}{_joined(path)}" for name, path in zip(names, paths, strict=True)]
    names = _apart(names, longer)
    while len({name.lower() for name in names}) < len(names):
        names = _apart(names, [f"{name}_{i}" for i, name in enumerate(names, start=1)])
    return names


def is_known(path: Path) -> bool:
    """Whether a file, or the folder of an OME-Zarr, is one to be read."""
    return ending(path) != "" and not path.name.startswith(".")


def _joined(path: Path) -> str:
    return ending(path).replace(".", "_")


def _apart(names: list[str], longer: list[str]) -> list[str]:
    """Takes the longer name wherever the short one is not the only one, in any case."""
    times = Counter(name.lower() for name in names)
    return [
        long if times[name.lower()] > 1 else name
        for name, long in zip(names, longer, strict=True)
    ]
