"""Pairs images with their masks, object ids and targets, found by their names."""

import functools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from unet_jax.data import files
from unet_jax.data.dataset_report import Issue
from unet_jax.data.folders.pair import FOLDERS, UNLABELLED, Pair, Partners
from unet_jax.data.folders.pairing_issues import (
    find_ignored,
    make_no_images_error,
    refuse_jpeg,
    report_differences,
    report_empty_places,
    report_missing,
    report_only_images,
    report_skipped,
    report_unknown_formats,
)
from unet_jax.data.folders.patterns import (
    FileFinder,
    Patterns,
    make_key,
    match_files,
    pattern_path,
    suggest_globs,
    unknown_files,
)
from unet_jax.errors import UserError


class FoundPairs(NamedTuple):
    """The pairs of a folder.

    Attributes:
      root: the folder.
      patterns: the places of the files, as the config names them.
      pairs: images with the files that belong to them, by id.
      issues: files that could not be paired, or must not be read.
      classes: the folders in `masks`, if each class has one; else ().
      unlabelled: images without labels, as pairs of an image alone.
      refused: pairs with an issue, whose files exist.
      ignored: folders that hold images and are not read, relative to the root.
    """

    root: Path
    patterns: Patterns
    pairs: tuple[Pair, ...]
    issues: tuple[Issue, ...]
    classes: tuple[str, ...]
    unlabelled: tuple[Pair, ...] = ()
    refused: tuple[Pair, ...] = ()
    ignored: tuple[str, ...] = ()


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
    files.check_folder(root)
    finder = FileFinder(root, links, functools.cache(match_files), [], set())
    homes = {root: ""}
    if not finder.match_files(root, patterns.images):
        homes = {
            root / name: split
            for name, split in FOLDERS.items()
            if finder.match_files(root / name, patterns.images)
        }
    if not homes:
        raise make_no_images_error(root, patterns.images)
    for name in FOLDERS if root not in homes else ():
        if root / name not in homes:
            finder.report_faults(root / name, [patterns.images])
    pairs: list[Pair] = []
    refused: list[Pair] = []
    nouns: dict[str, set[str]] = {}
    class_folders: dict[str, tuple[str, ...]] = {}
    for home, split in homes.items():
        if finder.refuses(home, patterns[:-1]):
            continue
        images = finder.by_key(home, patterns.images)
        masks, folders = _find_masks(finder, home, patterns.masks, classes)
        partners = [Partners("mask", "masks", of_class) for of_class in masks]
        for noun, field in (("mask", "instances"), ("target", "targets")):
            if found := finder.by_key(home, getattr(patterns, field)):
                partners.append(Partners(noun, field, found))
        if masks:
            class_folders[finder.name(home / patterns.masks)] = folders
        reported = report_unknown_formats(finder, home, patterns)
        if partners or not patterns.masks:
            nouns[finder.name(home)] = {each.noun for each in partners}
            prefix = f"{home.name}/" if split else ""
            for pair in _pair(finder, home, images, partners, reported):
                pair = pair._replace(id=prefix + pair.id, split=split)
                (refused if refuse_jpeg(finder, pair) else pairs).append(pair)
        else:
            report_only_images(finder, home, split, patterns)
    report_differences(finder, nouns, class_folders)
    places = [root, *(home for home, split in homes.items() if split == "train")]
    places = dict.fromkeys(places)
    unlabelled = tuple(_find_unlabelled(finder, places, patterns.unlabelled))
    report_empty_places(finder, [*homes, root], patterns)
    names = next(iter(class_folders.values()), ())
    used = (path for pair in (*pairs, *refused, *unlabelled) for path in pair.paths)
    return FoundPairs(
        root,
        patterns,
        tuple(pairs),
        tuple(finder.issues),
        names,
        unlabelled,
        tuple(refused),
        tuple(find_ignored(finder, list(homes), set(used))) if pairs else (),
    )


def _find_masks(
    finder: FileFinder, home: Path, pattern: str, classes: tuple[str, ...]
) -> tuple[list[dict[str, Path]], tuple[str, ...]]:
    """Returns masks by key, for each class if each has a folder; and these folders."""
    folders = _class_folders(pattern_path(home, pattern)) if pattern else {}
    if not folders:
        found = finder.by_key(home, pattern)
        return [found] if found else [], ()
    names = tuple(map(make_key, classes[1:])) or tuple(folders)
    if sorted(names) != sorted(folders):
        raise UserError(
            f"{finder.name(home / pattern)} has folders {', '.join(folders)}; classes "
            f"must be a background and these, not {', '.join(classes)}"
        )
    found = [finder.by_key(home, f"{pattern}/{folders[name]}") for name in names]
    for name, of_class in zip(names, found, strict=True):
        if not of_class:
            text = f"{finder.name(home / pattern / name)}: no masks in it; put the "
            finder.report(text + "masks of the class there, or remove it")
    return [of_class for of_class in found if of_class], names


def _class_folders(path: Path) -> dict[str, str]:
    """Returns the subfolders of a folder that holds no images itself, by their keys."""
    if not os.path.isdir(path) or files.is_image(path):
        return {}
    inside = [p for p in path.iterdir() if not files.is_system_file(p.name)]
    found = any(map(files.is_image, inside))
    names = sorted(p.name for p in inside if os.path.isdir(p))
    return {} if found else {make_key(name): name for name in names}


def _pair(
    finder: FileFinder,
    home: Path,
    images: Mapping[str, Path],
    partners: Sequence[Partners],
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
        if key not in images:
            noun, name = present[0].noun, finder.name(present[0].files[key])
            finder.report(
                f"{name}: a {noun} without an image; add the image or remove the {noun}"
            )
        elif len(present) < len(partners):
            for each in partners:
                if key not in each.files:
                    report_missing(finder, key, images, each)
        else:
            of = {each.field: each.files[key] for each in present}
            masks = tuple(e.files[key] for e in present if e.field == "masks")
            name, image = key or make_key(files.stem(images[key])), images[key]
            yield Pair(name, "", image, masks, of.get("instances"), of.get("targets"))


def _find_unlabelled(
    finder: FileFinder, homes: Iterable[Path], pattern: str
) -> Iterator[Pair]:
    """Yields the images without labels that are beside `images`."""
    seen: set[Path] = set()  # an absolute pattern is the same for every home
    for home in homes:
        if finder.refuses(home, [pattern]):
            continue
        report_skipped(finder, home, pattern, unknown_files(home, pattern).values())
        prefix = UNLABELLED if home == finder.root else f"{home.name}/{UNLABELLED}"
        for key, path in finder.by_key(home, pattern).items():
            if path not in seen:
                seen.add(path)
                name = key or make_key(files.stem(path))
                yield Pair(f"{prefix}/{name}", UNLABELLED, path)
