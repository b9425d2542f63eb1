"""Issues of files that are not paired or not read, with a remedy for each."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path

from unet_jax.data import files
from unet_jax.data.folders.pair import FOLDERS, Pair, Partners
from unet_jax.data.folders.patterns import (
    FileFinder,
    Patterns,
    find_place,
    pattern_path,
    unknown_files,
)
from unet_jax.data.splitting import SPLITS
from unet_jax.errors import UserError
from unet_jax.text import listing, printable

JPEG = (".jpg", ".jpeg")
MASK_WORDS = ("mask", "label", "annot", "seg", "truth")  # in the names of folders


def report_missing(
    finder: FileFinder, key: str, images: Mapping[str, Path], partners: Partners
) -> None:
    """Reports an image without a partner, and the file that may be it."""
    noun, others = partners.noun, partners.files
    folder = finder.name(next(iter(others.values())).parent)
    text = f"{finder.name(images[key])}: an image without a {noun} in {folder}; add the"
    text += f" {noun} or remove the image"
    if longer := [k for k in others if key and key in k and k not in images]:
        path = others[min(longer, key=len)]
        text += f" (is it {path.name}? then rename it to {key}{files.ending(path)})"
    finder.report(text)


def report_unknown_formats(
    finder: FileFinder, home: Path, patterns: Patterns
) -> set[str]:
    """Reports files of unknown formats; returns the keys of pairs that lack only these.

    A file that would complete a pair is an error; the others are a warning.
    """
    kinds = patterns[:-1]
    unknown = [unknown_files(home, pattern) for pattern in kinds]
    known = [dict(finder.match_files(home, pattern)).keys() for pattern in kinds]
    pairs = zip(unknown, known, strict=True)
    times = Counter(key for one, other in pairs for key in {*one, *other})
    reported = set()
    for i, of_kind in enumerate(unknown):
        lacking = {key for key in of_kind.keys() - known[i] if times[key] > 1}
        for key in sorted(lacking):
            text = f"an unknown format; save it as one of {', '.join(files.ENDINGS)}"
            text = files.find_fault(of_kind[key]) or text
            finder.report(f"{finder.name(of_kind[key])}: {text}", "unknown format")
        others = [path for key, path in of_kind.items() if key not in lacking]
        report_skipped(finder, home, kinds[i], others)
        reported |= lacking
    return reported


def report_skipped(
    finder: FileFinder, home: Path, pattern: str, paths: Iterable[Path]
) -> None:
    """Reports files that match a pattern and are not images, if there are any."""
    if names := [path.name for path in paths]:
        text = f"{finder.name(home / pattern)}: skipped files that are not images: "
        finder.warn(text + listing(names), "left out")


def report_only_images(
    finder: FileFinder, home: Path, split: str, patterns: Patterns
) -> None:
    """Reports a folder that has no masks and no targets."""
    if split in ("val", "test"):
        text = f"{finder.name(home)}: there are no masks or targets; its images are "
        finder.warn(text + "left out", "no masks")
        return
    targets = finder.name(home / (patterns.targets or Patterns().targets))
    folders = sorted(path.name for path in home.iterdir() if os.path.isdir(path))
    others = [name for name in folders if name not in {*patterns, *FOLDERS}]
    finder.report(
        f"{finder.name(home / patterns.masks)}: there are no masks; put masks there "
        f"with the names of their images, or images to predict into {targets}, or name "
        f"the folder of the masks: --config.data.masks={[*others, 'labels'][0]}"
    )


def report_differences(
    finder: FileFinder,
    nouns: Mapping[str, set[str]],
    class_folders: Mapping[str, tuple[str, ...]],
) -> None:
    """Reports splits that differ in the kinds of their files, or in their classes."""
    for noun in ("mask", "target"):
        having = [home for home, of_home in nouns.items() if noun in of_home]
        for home in nouns:
            if having and home not in having:
                text = (
                    f"{home}: there are no {noun}s, but {having[0]} has some; add some "
                )
                finder.report(text + f"to {home}, or remove those of {having[0]}")
    found = {
        home: f"a folder for each of {', '.join(names)}" if names else "no folders"
        for home, names in class_folders.items()
    }
    first = next(iter(found), "")
    for home, own in found.items():
        if own != found[first]:
            text = f"{home}: has {own}, but {first} has {found[first]}; make them equal"
            finder.report(text)


def report_empty_places(
    finder: FileFinder, homes: Sequence[Path], patterns: Patterns
) -> None:
    """Reports places that the config names and that hold no images."""
    default = Patterns()
    for field in ("instances", "targets", "unlabelled"):
        pattern = getattr(patterns, field)
        named = pattern not in ("", getattr(default, field))
        if named and not any(finder.match_files(home, pattern) for home in homes):
            text = f"{pattern}: there are no {field}; correct --config.data.{field}, or"
            finder.report(f"{text} remove it")


def make_no_images_error(root: Path, images: str) -> UserError:
    """Returns the error of a root without images."""
    for home in (root, *(root / name for name in FOLDERS)):
        place = find_place(pattern_path(home, images))
        if fault := files.find_fault(place):
            return UserError(f"{printable(place)}: {fault}")
    names = (path.name for path in root.iterdir())
    inside = sorted(name for name in names if not files.is_system_file(name))
    return UserError(
        f"{root} has no images in {images}, nor in {'|'.join(SPLITS)}/{images}; it "
        f"holds {listing(inside, 8) or 'nothing'}. Name the files: "
        "--config.data.images='raw/*.tif' --config.data.masks='drawn/*.tif'"
    )


def refuse_jpeg(finder: FileFinder, pair: Pair) -> bool:
    """Returns True, and reports it, if a mask is a JPEG."""
    for path in pair.label_files:
        if path.suffix.lower() in JPEG:
            text = f"{finder.name(path)}: a JPEG does not keep the values of a mask;"
            finder.report(f"{text} export it again as PNG or TIFF", "JPEG mask")
            return True
    return False


def find_ignored(
    finder: FileFinder, homes: Sequence[Path], used: Set[Path]
) -> Iterator[str]:
    """Yields folders beside those that are read, if they hold images."""
    folders = {parent for path in used for parent in path.parents} | set(homes)
    for home in dict.fromkeys([finder.root, *homes]):
        for path in sorted(home.iterdir()):
            own = path in folders or path in used or files.is_system_file(path.name)
            if own or not os.path.isdir(path):
                continue
            inside = (*path.glob("*"), *path.glob("*/*"))
            if any(map(files.is_image, inside)):
                yield finder.name(path)


def describe_ignored(folders: Sequence[str], patterns: Patterns) -> Iterator[str]:
    """Yields a line about folders that hold images and are not read, if there are."""
    if folders:
        drawn = [f for f in folders if any(word in f.lower() for word in MASK_WORDS)]
        folder = (drawn or folders)[0]
        field = "masks" if drawn else "images"
        yield (
            f"folders that are not read: {listing(folders)}; to read one instead of "
            f"{getattr(patterns, field)}: --config.data.{field}='{folder}'"
        )
