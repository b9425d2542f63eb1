"""Which file holds the mask of which image."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from unet_jax.data import files
from unet_jax.data.account import Fault, listed
from unet_jax.data.folders import hints, keys
from unet_jax.errors import UserError

SPLITS = ("train", "val", "test")
FOLDERS = {name: name for name in SPLITS} | {"valid": "val", "validation": "val"}
JPEG = (".jpg", ".jpeg")

ByKey = Mapping[str, Path]


class Pair(NamedTuple):
    """An image file and what people drew on it.

    Attributes:
      id: the split, if it is given, and the key: 'train/a'.
      split: 'train', 'val', 'test', or '' where it is not given.
      image: the file.
      masks: the mask; or, where each class has a folder of its own, one for each.
      instances: the object ids; None if there are none.
    """

    id: str
    split: str
    image: Path
    masks: tuple[Path, ...]
    instances: Path | None


class Patterns(NamedTuple):
    """Where the files of one kind are: folders or globs, relative to a root."""

    images: str
    masks: str
    instances: str


class Found(NamedTuple):
    """What a folder holds.

    Attributes:
      pairs: by id.
      faults: what could not be paired, or must not be read.
      classes: the folders of `masks`, where each class has one; else ().
    """

    pairs: tuple[Pair, ...]
    faults: tuple[Fault, ...]
    classes: tuple[str, ...]


def find(
    root: Path,
    patterns: Patterns,
    *,
    classes: tuple[str, ...] = (),
    links: bool = False,
) -> Found:
    """Pairs the files of a folder by their stems, or by what globs match.

    The folder holds images and masks or instances, or else `train`, `val` and `test`
    that do; of these `val` and `test` may lack masks and are then left out.

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
    given = not keys.matches(root, patterns.images)
    homes = {root / name: of for name, of in FOLDERS.items()} if given else {root: ""}
    homes = {h: of for h, of in homes.items() if keys.matches(h, patterns.images)}
    if not homes:
        raise hints.nothing(root, patterns.images, SPLITS)
    look = _Look(root, links, [], set())
    pairs: list[Pair] = []
    named: dict[Path, tuple[str, ...]] = {}
    for home, split in homes.items():
        if look.outside(home, patterns.images):
            continue
        images = look.files(home, patterns.images)
        instances = look.files(home, patterns.instances)
        masks, names = look.masks(home, patterns.masks, classes)
        if masks:
            named[home / patterns.masks] = names
        known = look.unknown(home, patterns)
        if any((*masks, instances)):
            mine = look.pairs(home, images, masks, instances, known)
            prefix = f"{home.name}/" if split else ""
            pairs += [p._replace(id=prefix + p.id, split=split) for p in mine]
        elif split in ("val", "test"):
            said = f"{look.name(home)}: there are no masks, so its images are left out"
            look.faults.append(Fault("warning", "no masks", said))
        else:
            said = f"{look.name(home / patterns.masks)}: there are no masks; put them "
            said += "there with the names of their images, or say where they are: "
            said += f"--config.data.masks={hints.another(home, {*patterns, *FOLDERS})}"
            look.faults.append(Fault("error", "missing pair", said))
    folder, *others = named or {root: ()}
    for other in others:
        if named[other] != named[folder]:
            said = f"{look.name(other)}: has {hints.folders(named[other])}, and "
            said += f"{look.name(folder)} has {hints.folders(named[folder])}; they "
            look.error("missing pair", said + "must be the same")
    return Found(tuple(pairs), tuple(look.faults), named.get(folder, ()))


class _Look(NamedTuple):
    """What all searches of a root have in common.

    Attributes:
      root: where they begin.
      links: whether a link may lead out of it.
      faults: what was found to be wrong.
      refused: keys of files that are not to be read; nothing more is said of these.
    """

    root: Path
    links: bool
    faults: list[Fault]
    refused: set[str]

    def name(self, path: Path) -> str:
        """A path as the user knows it: from the root on."""
        inside = path.is_relative_to(self.root) and path != self.root
        return str(path.relative_to(self.root) if inside else path)

    def error(self, kind: str, text: str) -> None:
        self.faults.append(Fault("error", kind, text))

    def files(self, home: Path, pattern: str) -> dict[str, Path]:
        """The files that a folder holds or a glob matches, by their keys."""
        found: dict[str, Path] = {}
        for key, path in keys.matches(home, pattern):
            if not self.links and keys.leads_out(path, self.root, home, pattern):
                said = f"{self.name(path)}: a link that leads out of {self.root}; put "
                said += "the file there, or allow links: --config.data.links=True"
                self.error("link", said)
                self.refused.add(key)
            elif key in found:
                said = f"{self.name(path)}, {self.name(found[key])}: two files of one "
                self.error("duplicate stem", said + "stem; rename or remove one")
            else:
                found[key] = path
        return found

    def outside(self, home: Path, pattern: str) -> bool:
        """Whether a whole folder is a link that leads out."""
        folder = home / pattern
        if self.links or not keys.leads_out(folder, self.root, home, pattern):
            return False
        said = f"{self.name(folder)}: a link that leads out of {self.root}; put the "
        self.error("link", said + "files there, or set --config.data.links=True")
        return True

    def masks(
        self, home: Path, pattern: str, classes: tuple[str, ...]
    ) -> tuple[list[dict[str, Path]], tuple[str, ...]]:
        """The masks by key; of each class, where each has a folder, and their names."""
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
                said = f"{self.name(home / pattern / name)}: no masks in it; put those "
                self.error("missing pair", said + "of the class there, or remove it")
        return [of_class for of_class in found if of_class], names

    def unknown(self, home: Path, patterns: Patterns) -> set[str]:
        """Keys of files that would be of a pair, if their endings were known."""
        strange = [keys.others(home, pattern) for pattern in patterns]
        there = [dict(keys.matches(home, pattern)).keys() for pattern in patterns]
        every = [{*one, *other} for one, other in zip(strange, there, strict=True)]
        wanted = set()
        for i, of_kind in enumerate(strange):
            rest = {key for j, found in enumerate(every) if j != i for key in found}
            lacking = of_kind.keys() & rest - there[i]
            for key in sorted(lacking):
                said = f"{self.name(of_kind[key])}: an unknown format; save it as one "
                self.error("unknown format", f"{said}of {', '.join(files.ENDINGS)}")
            if aside := [path.name for k, path in of_kind.items() if k not in lacking]:
                said = f"{self.name(home / patterns[i])}: left out, as no images: "
                self.faults.append(Fault("warning", "left out", said + listed(aside)))
            wanted |= lacking
        return wanted

    def pairs(
        self,
        home: Path,
        images: ByKey,
        masks: Sequence[ByKey],
        instances: ByKey,
        known: set[str],
    ) -> Iterator[Pair]:
        """Every image with all that was drawn on it.

        Where something lacks there is a fault instead, if it is not yet `known`.
        """
        drawn = [found for found in (*masks, instances) if found]
        masked = {key: path for found in drawn for key, path in found.items()}
        if len(images) > 1 and not masked.keys() & images.keys():
            image, mask = images[min(images)], masked[min(masked)]
            said = f"none of {len(images)} images has a mask of its name, such as "
            said += f"{self.name(image)} and {self.name(mask)}; say by globs what "
            said += f"their names share: {hints.globs(home, image, mask)}"
            self.error("missing pair", said)
            return
        for key in sorted({*images, *masked} - known - self.refused):
            paths = [found[key] for found in drawn if key in found]
            if key not in images:
                said = f"{self.name(paths[0])}: a mask without an image; add the image"
                self.error("missing pair", f"{said} or take the mask away")
            elif len(paths) < len(drawn):
                lacking = next(found for found in drawn if key not in found)
                where = self.name(next(iter(lacking.values())).parent)
                said = f"{self.name(images[key])}: an image without a mask in {where}; "
                said += "add the mask or take the image away"
                self.error("missing pair", said + hints.near(key, lacking, images))
            elif jpeg := [path for path in paths if path.suffix.lower() in JPEG]:
                said = f"{self.name(jpeg[0])}: a JPEG does not keep the values of a "
                said += "mask; save it as PNG or TIFF from where it was drawn"
                self.error("JPEG mask", said)
            else:
                name = key or files.stem(images[key])
                own = tuple(found[key] for found in masks)
                yield Pair(name, "", images[key], own, instances.get(key))


def _folders(path: Path) -> tuple[str, ...]:
    """The folders in a folder that holds no images itself."""
    if not path.is_dir() or files.is_known(path):
        return ()
    inside = [p for p in path.iterdir() if not p.name.startswith(".")]
    if any(map(files.is_known, inside)):
        return ()
    return tuple(sorted(p.name for p in inside if p.is_dir()))
