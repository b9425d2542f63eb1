"""Hints for error messages about files that do not make pairs."""

import os
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from unet_jax.data import files
from unet_jax.errors import UserError


def folders(names: Sequence[str]) -> str:
    """Returns the folders of classes, in words."""
    return f"a folder for each of {', '.join(names)}" if names else "no folders"


def another(home: Path, known: Set[str]) -> str:
    """Returns a folder that may hold the masks, as its name is not known."""
    inside = sorted(path for path in home.iterdir() if path.is_dir())
    names = [p.name for p in inside if p.name not in known]
    return names[0] if names else "labels"


def near(key: str, others: Mapping[str, Path], images: Mapping[str, Path]) -> str:
    """Returns a hint at a file whose name extends that of its image, if any does."""
    longer = [k for k in others if key and key in k and k not in images]
    if not longer:
        return ""
    path = others[min(longer, key=len)]
    return f" (is it {path.name}? then name it {key}{files.ending(path)})"


def globs(home: Path, image: Path, partner: Path, field: str) -> str:
    """Returns flags that pair files where the name of one is part of the other's.

    Args:
      home: the folder that both are in.
      image: one of the images.
      partner: one of the files to pair with the images.
      field: the argument that names these: 'masks'.
    """
    first, second = files.stem(image), files.stem(partner)
    shared = first if first in second else second if second in first else ""
    both = ["raw/*_image.png", f"drawn/*_{field.removesuffix('s')}.png"]
    if shared:
        paths = [Path(os.path.relpath(path, home)) for path in (image, partner)]
        both = [str(p.with_name(p.name.replace(shared, "*", 1))) for p in paths]
    return f"--config.data.images='{both[0]}' --config.data.{field}='{both[1]}'"


def nothing(root: Path, images: str, splits: Sequence[str]) -> UserError:
    """Returns the error for a folder without images."""
    inside = sorted(p.name for p in root.iterdir() if not p.name.startswith("."))
    return UserError(
        f"{root} has no images in {images}, nor in {'|'.join(splits)}/"
        f"{images}; it holds {', '.join(inside[:8]) or 'nothing'}. Name the "
        "files: --config.data.images='raw/*.tif' --config.data.masks='drawn/*.tif'"
    )
