"""Pairs of files: an image with its mask, object ids and target."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from unet_jax.data import files
from unet_jax.data.account import Fault, listed
from unet_jax.data.folders import hints, keys
from unet_jax.errors import UserError

SPLITS = ("train", "val", "test")
UNLABELLED = "unlabelled"  # the split of images without labels
FOLDERS = {name: name for name in SPLITS} | {"valid": "val", "validation": "val"}
JPEG = (".jpg", ".jpeg")

ByKey = Mapping[str, Path]


class Pair(NamedTuple):
    """An image file and the files that belong to it.

    Attributes:
      id: the split, if it is given, and the key: 'train/a'.
      split: 'train', 'val' or 'test', or '' where it is not given; 'unlabelled' of an
        image without labels.
      image: the file.
      masks: the mask; or, where each class has a folder of its own, one for each.
      instances: the object ids; None if there are none.
      target: the image to be restored or predicted; None if there is none.
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
    """Places of the files of each kind: folders or globs, relative to a root."""

    images: str = "images"
    masks: str = "masks"
    instances: str = "instances"
    targets: str = "targets"
    unlabelled: str = UNLABELLED


class Found(NamedTuple):
    """The pairs of a folder.

    Attributes:
      pairs: by id.
      faults: files that could not be paired, or must not be read.
      classes: the folders of `masks`, where each class has one; else ().
      unlabelled: images without labels, as pairs of an image alone.
    """

    pairs: tuple[Pair, ...]
    faults: tuple[Fault, ...]
    classes: tuple[str, ...]
    unlabelled: tuple[Pair, ...] = ()


class _Partners(NamedTuple):
    """The files of one kind that images are paired with.

    Attributes:
      noun: 'mask' or 'target', for messages.
      field: the argument that says where they are.
      files: by key.
    """

    noun: str
    field: str
    files: ByKey


def find(
    root: Path,
    patterns: Patterns,
    *,
    classes: tuple[str, ...] = (),
    links: bool = False,
) -> Found:
    """Pairs the files of a folder by their stems, or by what globs match.

    The folder holds images with masks, instances or targets; or else `train`, `val` and
    `test` that do, of which `val` and `test` are left out if they have images alone.
    Images stand alone where `masks` is '' and there is nothing else to pair them with.

    Args:
      root: the folder.
      patterns: where in it the files are.
      classes: the order of the folders of masks, if each class has one.
      links: whether a link may lead out of the root.

    Raises:
      UserError: there is no such folder, or no image in it.
    """
    if not root.is_dir():
        raise UserError(f"there is no folder {root}; name the one with your images")
    look = _Look(root, links, functools.cache(keys.matches), [], set())
    given = not look.matches(root, patterns.images)
    homes = {root / name: of for name, of in FOLDERS.items()} if given else {root: ""}
    homes = {h: of for h, of in homes.items() if look.matches(h, patterns.images)}
    if not homes:
        raise hints.nothing(root, patterns.images, SPLITS)
    pairs: list[Pair] = []
    kinds: dict[Path, set[str]] = {}
    named: dict[Path, tuple[str, ...]] = {}
    for home, split in homes.items():
        if look.outside(home, patterns[:-1]):
            continue
        images = look.files(home, patterns.images)
        partners, names = look.partners(home, patterns, classes)
        if any(each.field == "masks" for each in partners):
            named[home / patterns.masks] = names
        known = look.unknown(home, patterns)
        if partners or not patterns.masks:
            kinds[home] = {each.noun for each in partners}
            mine = look.pairs(home, images, partners, known)
            prefix = f"{home.name}/" if split else ""
            pairs += [p._replace(id=prefix + p.id, split=split) for p in mine]
        else:
            look.without_partners(home, split, patterns)
    look.same_kinds(kinds)
    look.same_classes(named)
    places = [root, *(home for home, split in homes.items() if split == "train")]
    others = tuple(look.unlabelled(list(dict.fromkeys(places)), patterns.unlabelled))
    look.absent([*homes, root], patterns)
    folders = next(iter(named.values()), ())
    return Found(tuple(pairs), tuple(look.faults), folders, others)


class _Look(NamedTuple):
    """State that all searches of a root share.

    Attributes:
      root: where they begin.
      links: whether a link may lead out of it.
      matches: `keys.matches`, which looks at each place once.
      faults: what was found to be wrong.
      refused: keys of files that are not to be read; each has a fault already.
    """

    root: Path
    links: bool
    matches: Callable[[Path, str], list[tuple[str, Path]]]
    faults: list[Fault]
    refused: set[str]

    def name(self, path: Path) -> str:
        """Returns a path as the user knows it: from the root on."""
        inside = path.is_relative_to(self.root) and path != self.root
        return str(path.relative_to(self.root) if inside else path)

    def error(self, kind: str, text: str) -> None:
        self.faults.append(Fault("error", kind, text))

    def files(self, home: Path, pattern: str) -> dict[str, Path]:
        """Returns the files that a folder holds or a glob matches, by their keys."""
        found: dict[str, Path] = {}
        there = self.matches(home, pattern)
        out: set[Path] = set()
        if there and not self.links:
            place = keys.place(home, pattern)
            out = keys.leading_out((path for _, path in there), self.root, place)
        for key, path in there:
            if path in out:
                text = f"{self.name(path)}: a link that leads out of {self.root}; put "
                text += "the file there, or allow links: --config.data.links=True"
                self.error("link", text)
                self.refused.add(key)
            elif key in found:
                text = f"{self.name(path)}, {self.name(found[key])}: two files of one "
                self.error("duplicate stem", text + "stem; rename or remove one")
            else:
                found[key] = path
        return found

    def outside(self, home: Path, patterns: Sequence[str]) -> bool:
        """Returns True, with faults, if whole folders are links that lead out."""
        folders = [keys.place(home, pattern) for pattern in patterns if pattern]
        out = [f for f in folders if keys.leading_out([f], self.root, f)]
        if self.links or not out:
            return False
        for folder in out:
            text = (
                f"{self.name(folder)}: a link that leads out of {self.root}; put the "
            )
            self.error("link", text + "files there, or set --config.data.links=True")
        return True

    def partners(
        self, home: Path, patterns: Patterns, classes: tuple[str, ...]
    ) -> tuple[list[_Partners], tuple[str, ...]]:
        """Returns the files to pair images with, and the folders of classes."""
        masks, names = self.masks(home, patterns.masks, classes)
        partners = [_Partners("mask", "masks", of_class) for of_class in masks]
        for noun, field in (("mask", "instances"), ("target", "targets")):
            if found := self.files(home, getattr(patterns, field)):
                partners.append(_Partners(noun, field, found))
        return partners, names

    def masks(
        self, home: Path, pattern: str, classes: tuple[str, ...]
    ) -> tuple[list[dict[str, Path]], tuple[str, ...]]:
        """Returns the masks by key: of each class, if each has a folder, with names."""
        there = _folders(home / pattern) if pattern else ()
        if not there:
            found = self.files(home, pattern)
            return [found] if found else [], ()
        names = classes[1:] or there
        if sorted(names) != sorted(there):
            raise UserError(
                f"{self.name(home / pattern)} has folders {', '.join(there)}; classes "
                f"must be a background and these, not {', '.join(classes)}"
            )
        found = [self.files(home, f"{pattern}/{name}") for name in names]
        for name, of_class in zip(names, found, strict=True):
            if not of_class:
                text = f"{self.name(home / pattern / name)}: no masks in it; put those "
                self.error("missing pair", text + "of the class there, or remove it")
        return [of_class for of_class in found if of_class], names

    def unknown(self, home: Path, patterns: Patterns) -> set[str]:
        """Returns keys that lack a file only because its format is unknown.

        These files are errors; others of an unknown format are left out.
        """
        paired = patterns[:-1]
        strange = [keys.others(home, pattern) for pattern in paired]
        if not any(strange):
            return set()
        there = [dict(self.matches(home, pattern)).keys() for pattern in paired]
        every = [{*one, *other} for one, other in zip(strange, there, strict=True)]
        wanted = set()
        for i, of_kind in enumerate(strange):
            rest = {key for j, found in enumerate(every) if j != i for key in found}
            lacking = of_kind.keys() & rest - there[i]
            for key in sorted(lacking):
                text = f"{self.name(of_kind[key])}: an unknown format; save it as one "
                self.error("unknown format", f"{text}of {', '.join(files.ENDINGS)}")
            aside = [path for key, path in of_kind.items() if key not in lacking]
            self.left_out(home, paired[i], aside)
            wanted |= lacking
        return wanted

    def left_out(self, home: Path, pattern: str, paths: Sequence[Path]) -> None:
        """Warns of files that are no images."""
        if paths:
            text = f"{self.name(home / pattern)}: left out, as no images: "
            text += listed([path.name for path in paths])
            self.faults.append(Fault("warning", "left out", text))

    def pairs(
        self,
        home: Path,
        images: ByKey,
        partners: Sequence[_Partners],
        known: set[str],
    ) -> Iterator[Pair]:
        """Yields every image with its partners.

        Where one is missing there is a fault instead, if the key is not `known`.
        """
        strangers = [each for each in partners if self._strangers(home, images, each)]
        if strangers:
            return
        every = {key for each in partners for key in each.files}
        for key in sorted({*images, *every} - known - self.refused):
            there = [each for each in partners if key in each.files]
            masks = [each.files[key] for each in there if each.noun == "mask"]
            if key not in images:
                first = there[0]
                text = f"{self.name(first.files[key])}: a {first.noun} without an "
                text += f"image; add the image or take the {first.noun} away"
                self.error("missing pair", text)
            elif len(there) < len(partners):
                for each in partners:
                    if key not in each.files:
                        self._missing(key, images, each)
            elif jpeg := [path for path in masks if path.suffix.lower() in JPEG]:
                text = f"{self.name(jpeg[0])}: a JPEG does not keep the values of a "
                text += "mask; save it as PNG or TIFF from where it was drawn"
                self.error("JPEG mask", text)
            else:
                of = {field: [] for field in Patterns._fields}
                for each in there:
                    of[each.field].append(each.files[key])
                yield Pair(
                    key or files.stem(images[key]),
                    "",
                    images[key],
                    tuple(of["masks"]),
                    next(iter(of["instances"]), None),
                    next(iter(of["targets"]), None),
                )

    def unlabelled(self, homes: Sequence[Path], pattern: str) -> Iterator[Pair]:
        """Yields the images without labels that are beside `images`."""
        seen: set[Path] = set()  # an absolute pattern is the same from every home
        for home in homes:
            if self.outside(home, [pattern]):
                continue
            self.left_out(home, pattern, list(keys.others(home, pattern).values()))
            prefix = UNLABELLED if home == self.root else f"{home.name}/{UNLABELLED}"
            for key, path in self.files(home, pattern).items():
                if path not in seen:
                    seen.add(path)
                    name = key or files.stem(path)
                    yield Pair(f"{prefix}/{name}", UNLABELLED, path)

    def without_partners(self, home: Path, split: str, patterns: Patterns) -> None:
        """Adds a fault where there are images alone."""
        if split in ("val", "test"):
            text = f"{self.name(home)}: there are no masks or targets, so its images "
            self.faults.append(Fault("warning", "no masks", text + "are left out"))
            return
        other = hints.another(home, {*patterns, *FOLDERS})
        text = (
            f"{self.name(home / patterns.masks)}: there are no masks; put them there "
        )
        text += "with the names of their images, or images to be predicted into "
        text += f"{self.name(home / (patterns.targets or Patterns().targets))}, or say "
        self.error(
            "missing pair", f"{text}where the masks are: --config.data.masks={other}"
        )

    def same_classes(self, named: Mapping[Path, tuple[str, ...]]) -> None:
        """Adds an error where two splits have other folders of classes."""
        (folder, names), *others = [*named.items()] or [(self.root, ())]
        for other, of_other in others:
            if of_other != names:
                text = f"{self.name(other)}: has {hints.folders(of_other)}, and "
                text += f"{self.name(folder)} has {hints.folders(names)}; they must be "
                self.error("missing pair", text + "the same")

    def same_kinds(self, kinds: Mapping[Path, set[str]]) -> None:
        """Adds an error where one split has masks or targets and another has none."""
        for noun in ("mask", "target"):
            having = [home for home, nouns in kinds.items() if noun in nouns]
            for home in kinds:
                if having and home not in having:
                    text = f"{self.name(home)}: there are no {noun}s, and "
                    text += f"{self.name(having[0])} has some; add them, or take "
                    self.error("missing pair", text + "those away")

    def absent(self, homes: Sequence[Path], patterns: Patterns) -> None:
        """Adds an error for a place that the user names and that holds nothing."""
        usual = Patterns()
        for field in ("instances", "targets", "unlabelled"):
            pattern = getattr(patterns, field)
            if pattern in ("", getattr(usual, field)):
                continue
            if not any(self.matches(home, pattern) for home in homes):
                text = f"{pattern}: there are no {field}; mend --config.data.{field}, "
                self.error("missing pair", text + "or leave it out")

    def _strangers(self, home: Path, images: ByKey, partners: _Partners) -> bool:
        """Returns True, with a fault, if none of several images has a partner."""
        if len(images) < 2 or partners.files.keys() & images.keys():
            return False
        image, other = images[min(images)], partners.files[min(partners.files)]
        text = f"none of {len(images)} images has a {partners.noun} of its name, such "
        text += f"as {self.name(image)} and {self.name(other)}; say by globs what "
        text += "their names share: "
        text += hints.globs(home, image, other, partners.field)
        self.error("missing pair", text)
        return True

    def _missing(self, key: str, images: ByKey, partners: _Partners) -> None:
        """Adds the error of an image without a partner."""
        noun = partners.noun
        where = self.name(next(iter(partners.files.values())).parent)
        text = f"{self.name(images[key])}: an image without a {noun} in {where}; add "
        text += f"the {noun} or take the image away"
        text += hints.near(key, partners.files, images)
        self.error("missing pair", text)


def _folders(path: Path) -> tuple[str, ...]:
    """Returns the folders in a folder that holds no images itself."""
    if not path.is_dir() or files.is_known(path):
        return ()
    if any(files.is_known(inside) for inside in path.iterdir()):
        return ()
    inside = [p for p in path.iterdir() if not p.name.startswith(".")]
    return tuple(sorted(p.name for p in inside if p.is_dir()))
