"""Pairs: images with their masks, object ids and targets, found by their names."""

import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from unet_jax.data import files
from unet_jax.data.dataset_report import Issue
from unet_jax.data.folders.patterns import (
    FileFinder,
    match_files,
    suggest_globs,
    unknown_files,
)
from unet_jax.data.splitting import SPLITS
from unet_jax.errors import UserError
from unet_jax.text import listing

UNLABELLED = "unlabelled"  # the split of images without labels
FOLDERS = {name: name for name in SPLITS} | {"valid": "val", "validation": "val"}
JPEG = (".jpg", ".jpeg")


class Pair(NamedTuple):
    """An image file and the files that belong to it.

    Attributes:
      id: the key of the files, with the folder of the split if it has one: 'train/a'.
      split: 'train', 'val' or 'test', or '' if it is not given; 'unlabelled' for an
        image without labels.
      image: the image file.
      masks: the mask; or one for each class, if each class has a folder.
      instances: the object ids; None if there are none.
      target: the image to restore or to predict; None if there is none.
    """

    id: str
    split: str
    image: Path
    masks: tuple[Path, ...] = ()
    instances: Path | None = None
    target: Path | None = None

    @property
    def labelled(self) -> bool:
        """True if there is a mask, or object ids."""
        return bool(self.masks or self.instances)


class Patterns(NamedTuple):
    """The places of the files: folders or globs, relative to a root."""

    images: str = "images"
    masks: str = "masks"
    instances: str = "instances"
    targets: str = "targets"
    unlabelled: str = UNLABELLED


class FoundPairs(NamedTuple):
    """The pairs of a folder.

    Attributes:
      pairs: images with the files that belong to them, by id.
      issues: files that could not be paired, or must not be read.
      classes: the folders in `masks`, if each class has one; else ().
      unlabelled: images without labels, as pairs of an image alone.
    """

    pairs: tuple[Pair, ...]
    issues: tuple[Issue, ...]
    classes: tuple[str, ...]
    unlabelled: tuple[Pair, ...] = ()


class _Partners(NamedTuple):
    """The files of one kind that images are paired with.

    Attributes:
      noun: 'mask' or 'target', for messages.
      field: the argument that names their place.
      files: by key.
    """

    noun: str
    field: str
    files: Mapping[str, Path]


def find_pairs(
    root: Path,
    patterns: Patterns,
    *,
    classes: tuple[str, ...] = (),
    links: bool = False,
) -> FoundPairs:
    """Pairs the files of a folder by their stems, or by the keys of globs.

    The root holds images with masks, instances or targets, or it holds `train`, `val`
    and `test` with these. `val` and `test` are left out if they have only images. If
    `masks` is '' and there are no other partners, images are returned alone.
    `classes` is the order of the folders of masks, if each class has one; `links` is
    True to allow links that leave the root.

    Raises:
      UserError: there is no such folder, or no image in it.
    """
    if not root.is_dir():
        raise UserError(f"there is no folder {root}; name the folder of your images")
    finder = FileFinder(root, links, functools.cache(match_files), [], set())
    homes = {root: ""}
    if not finder.match_files(root, patterns.images):
        homes = {
            root / name: split
            for name, split in FOLDERS.items()
            if finder.match_files(root / name, patterns.images)
        }
    if not homes:
        raise _no_images(root, patterns.images)
    pairs: list[Pair] = []
    nouns: dict[str, set[str]] = {}
    class_folders: dict[str, tuple[str, ...]] = {}
    for home, split in homes.items():
        if finder.leaves_root(home, patterns[:-1]):
            continue
        images = finder.by_key(home, patterns.images)
        masks, folders = _find_masks(finder, home, patterns.masks, classes)
        partners = [_Partners("mask", "masks", of_class) for of_class in masks]
        for noun, field in (("mask", "instances"), ("target", "targets")):
            if found := finder.by_key(home, getattr(patterns, field)):
                partners.append(_Partners(noun, field, found))
        if masks:
            class_folders[finder.name(home / patterns.masks)] = folders
        reported = _report_unknown_formats(finder, home, patterns)
        if partners or not patterns.masks:
            nouns[finder.name(home)] = {each.noun for each in partners}
            prefix = f"{home.name}/" if split else ""
            for pair in _pair(finder, home, images, partners, reported):
                pairs.append(pair._replace(id=prefix + pair.id, split=split))
        else:
            _report_only_images(finder, home, split, patterns)
    _report_differences(finder, nouns, class_folders)
    places = [root, *(home for home, split in homes.items() if split == "train")]
    places = dict.fromkeys(places)
    unlabelled = tuple(_find_unlabelled(finder, places, patterns.unlabelled))
    _report_empty_places(finder, [*homes, root], patterns)
    names = next(iter(class_folders.values()), ())
    return FoundPairs(tuple(pairs), tuple(finder.issues), names, unlabelled)


def _find_masks(
    finder: FileFinder, home: Path, pattern: str, classes: tuple[str, ...]
) -> tuple[list[dict[str, Path]], tuple[str, ...]]:
    """Returns masks by key, for each class if each has a folder; and these folders."""
    folders = _class_folders(home / pattern) if pattern else ()
    if not folders:
        found = finder.by_key(home, pattern)
        return [found] if found else [], ()
    names = classes[1:] or folders
    if sorted(names) != sorted(folders):
        raise UserError(
            f"{finder.name(home / pattern)} has folders {', '.join(folders)}; classes "
            f"must be a background and these, not {', '.join(classes)}"
        )
    found = [finder.by_key(home, f"{pattern}/{name}") for name in names]
    for name, of_class in zip(names, found, strict=True):
        if not of_class:
            text = f"{finder.name(home / pattern / name)}: no masks in it; put the "
            finder.report(text + "masks of the class there, or remove it")
    return [of_class for of_class in found if of_class], names


def _class_folders(path: Path) -> tuple[str, ...]:
    """Returns the subfolders of a folder that holds no images itself."""
    if not path.is_dir() or files.is_image(path):
        return ()
    inside = [p for p in path.iterdir() if not p.name.startswith(".")]
    found = any(map(files.is_image, inside))
    return () if found else tuple(sorted(p.name for p in inside if p.is_dir()))


def _pair(
    finder: FileFinder,
    home: Path,
    images: Mapping[str, Path],
    partners: Sequence[_Partners],
    reported: set[str],
) -> Iterator[Pair]:
    """Yields every image with its partners, and reports files that lack one.

    Keys in `reported` have an issue already.
    """
    unrelated = [each for each in partners if not images.keys() & each.files.keys()]
    if unrelated and len(images) > 1:
        for noun, field, others in unrelated:
            image, other = images[min(images)], others[min(others)]
            finder.report(
                f"none of {len(images)} images has a {noun} of its name, such as "
                f"{finder.name(image)} and {finder.name(other)}; describe their names "
                f"by globs: {suggest_globs(home, image, other, field)}"
            )
        return
    every = {key for each in partners for key in each.files}
    for key in sorted({*images, *every} - reported - finder.refused):
        present = [each for each in partners if key in each.files]
        drawn = [each.files[key] for each in present if each.noun == "mask"]
        if key not in images:
            noun, name = present[0].noun, finder.name(present[0].files[key])
            finder.report(
                f"{name}: a {noun} without an image; add the image or remove the {noun}"
            )
        elif len(present) < len(partners):
            for each in partners:
                if key not in each.files:
                    _report_missing(finder, key, images, each)
        elif jpeg := [path for path in drawn if path.suffix.lower() in JPEG]:
            text = f"{finder.name(jpeg[0])}: a JPEG does not keep the values of a mask;"
            finder.report(f"{text} export it again as PNG or TIFF", "JPEG mask")
        else:
            of = {each.field: each.files[key] for each in present}
            masks = tuple(e.files[key] for e in present if e.field == "masks")
            name, image = key or files.stem(images[key]), images[key]
            yield Pair(name, "", image, masks, of.get("instances"), of.get("targets"))


def _find_unlabelled(
    finder: FileFinder, homes: Iterable[Path], pattern: str
) -> Iterator[Pair]:
    """Yields the images without labels that are beside `images`."""
    seen: set[Path] = set()  # an absolute pattern is the same for every home
    for home in homes:
        if finder.leaves_root(home, [pattern]):
            continue
        _report_skipped(finder, home, pattern, unknown_files(home, pattern).values())
        prefix = UNLABELLED if home == finder.root else f"{home.name}/{UNLABELLED}"
        for key, path in finder.by_key(home, pattern).items():
            if path not in seen:
                seen.add(path)
                name = key or files.stem(path)
                yield Pair(f"{prefix}/{name}", UNLABELLED, path)


def _report_missing(
    finder: FileFinder, key: str, images: Mapping[str, Path], partners: _Partners
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


def _report_unknown_formats(
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
            text = f"{finder.name(of_kind[key])}: an unknown format; save it as one of "
            finder.report(text + ", ".join(files.ENDINGS), "unknown format")
        others = [path for key, path in of_kind.items() if key not in lacking]
        _report_skipped(finder, home, kinds[i], others)
        reported |= lacking
    return reported


def _report_skipped(
    finder: FileFinder, home: Path, pattern: str, paths: Iterable[Path]
) -> None:
    if names := [path.name for path in paths]:
        text = f"{finder.name(home / pattern)}: skipped files that are not images: "
        finder.warn(text + listing(names), "left out")


def _report_only_images(
    finder: FileFinder, home: Path, split: str, patterns: Patterns
) -> None:
    """Reports a folder that has no masks and no targets."""
    if split in ("val", "test"):
        text = f"{finder.name(home)}: there are no masks or targets; its images are "
        finder.warn(text + "left out", "no masks")
        return
    targets = finder.name(home / (patterns.targets or Patterns().targets))
    folders = sorted(path.name for path in home.iterdir() if path.is_dir())
    others = [name for name in folders if name not in {*patterns, *FOLDERS}]
    finder.report(
        f"{finder.name(home / patterns.masks)}: there are no masks; put masks there "
        f"with the names of their images, or images to predict into {targets}, or name "
        f"the folder of the masks: --config.data.masks={[*others, 'labels'][0]}"
    )


def _report_differences(
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


def _report_empty_places(
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


def _no_images(root: Path, images: str) -> UserError:
    inside = sorted(p.name for p in root.iterdir() if not p.name.startswith("."))
    return UserError(
        f"{root} has no images in {images}, nor in {'|'.join(SPLITS)}/{images}; it "
        f"holds {listing(inside, 8) or 'nothing'}. Name the files: "
        "--config.data.images='raw/*.tif' --config.data.masks='drawn/*.tif'"
    )
