"""A pair: an image file and the files that belong to it."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from unet_jax.data.splitting import SPLITS

UNLABELLED = "unlabelled"  # the split of images without labels
FOLDERS = {name: name for name in SPLITS} | {"valid": "val", "validation": "val"}


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
    def label_files(self) -> tuple[Path, ...]:
        """The masks, and the object ids."""
        return (*self.masks, *([self.instances] if self.instances else []))

    @property
    def labelled(self) -> bool:
        """True if there is a mask, or object ids."""
        return bool(self.label_files)

    @property
    def paths(self) -> list[Path]:
        """All files of the pair."""
        return [self.image, *self.label_files, *([self.target] if self.target else [])]


class Partners(NamedTuple):
    """The files of one kind that images are paired with.

    Attributes:
      noun: 'mask' or 'target', for messages.
      field: the argument that names their place.
      files: by key.
    """

    noun: str
    field: str
    files: Mapping[str, Path]
