"""Oxford-IIIT Pet in the form of TFDS, prepared from the publisher's two archives.

TFDS's own builder needs TensorFlow. `tfds(dataset="oxford_iiit_pet")` uses this one.
"""

import io
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from unet_jax.data.datasets import prepared
from unet_jax.data.datasets.archives import Archive, read_archive, read_members
from unet_jax.data.files import decode_image
from unet_jax.errors import UserError
from unet_jax.text import listing

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

URL = "https://thor.robots.ox.ac.uk/~vgg/data/pets"
IMAGES = Archive(  # the checksums are those of TFDS
    file="images.tar.gz",
    url=f"{URL}/images.tar.gz",
    contents=("*.jpg",),
    sha256="67195c5e1c01f1ab5f9b6a5d22b8c27a580d896ece458917e61d459337fa318d",
)
ANNOTATIONS = Archive(
    file="annotations.tar.gz",
    url=f"{URL}/annotations.tar.gz",
    contents=("trainval.txt",),
    sha256="52425fb6de5c424942b7626b428656fcbd798db970a937df61750c0f1d358e91",
)
LISTS = {"train": "trainval.txt", "test": "test.txt"}
TRIMAP = (1, 2, 3)  # pet, background, border


def _features() -> "tfds.features.FeaturesDict":
    import tensorflow_datasets as tfds

    return tfds.features.FeaturesDict(
        {
            "file_name": tfds.features.Text(),
            "image": tfds.features.Image(),
            "segmentation_mask": tfds.features.Image(shape=(None, None, 1)),
        }
    )


def _read_splits(find: prepared.FindArchive) -> Mapping[str, prepared.TfdsExamples]:
    trimaps = _read_trimaps(find(ANNOTATIONS))
    path = find(IMAGES)
    return {split: _examples(path, trimaps[split]) for split in LISTS}


def _examples(path: Path, trimaps: Mapping[str, bytes]) -> prepared.TfdsExamples:
    left = dict(trimaps)

    def wanted(name: str) -> bool:
        return PurePosixPath(name).name in left

    for name, content in read_members(IMAGES, path, wanted):
        photograph = PurePosixPath(name).name
        trimap = left.pop(photograph)
        yield (
            photograph,
            {
                "file_name": photograph,
                "image": _image_file(f"{path}: {name}", content, trimap),
                "segmentation_mask": trimap,
            },
        )
    if left:
        raise UserError(
            f"{path} lacks {listing(sorted(left))}; get {IMAGES.file} from {IMAGES.url}"
        )


def _read_trimaps(path: Path) -> dict[str, dict[str, bytes]]:
    """Returns the trimap of each photograph of each split, as a PNG."""
    files = read_archive(
        ANNOTATIONS,
        path,
        _annotation_name,
        lambda found: [name for name in LISTS.values() if name not in found],
    )
    trimaps: dict[str, dict[str, bytes]] = {}
    for split, name in LISTS.items():
        lines = files[name].decode("utf-8", "replace").splitlines()
        stems = [words[0] for words in map(str.split, lines) if words]
        absent = [stem for stem in stems if f"{stem}.png" not in files]
        if absent or not stems:
            raise UserError(
                f"{path}: {name} names {len(stems)} photographs, of which "
                f"{len(absent)} have no trimap: {listing(absent)}; get it again from "
                f"{ANNOTATIONS.url}"
            )
        trimaps[split] = {f"{stem}.jpg": files[f"{stem}.png"] for stem in stems}
    return trimaps


def _annotation_name(member: str) -> str | None:
    """Returns the file name of a list or a trimap; None for other members."""
    path = PurePosixPath(member)
    trimap = path.match("trimaps/*.png")
    return path.name if trimap or path.name in LISTS.values() else None


def _image_file(name: str, content: bytes, trimap: bytes) -> bytes:
    """Checks a photograph and its trimap; returns its file, or a PNG of it.

    Some photographs are not JPEG files in RGB, and become PNG files.
    """
    image = decode_image(content, name)
    mask = decode_image(trimap, f"{name}, its trimap", indices=True)[..., 0]
    if mask.shape != image.shape[:2] or not np.isin(mask, TRIMAP).all():
        raise UserError(
            f"{name}: its trimap must hold 1, 2, 3 in its shape, {image.shape[:2]}; "
            f"it is {mask.shape}, from {mask.min()} to {mask.max()}"
        )
    with Image.open(io.BytesIO(content)) as file:
        if file.format == "JPEG" and file.mode == "RGB":
            return content
    return prepared.png_bytes(np.broadcast_to(image, (*image.shape[:2], 3)))


DATASET = prepared.PublicDataset(
    name="oxford_iiit_pet",
    description="""\
Photographs of cats and dogs of 37 breeds, some 200 each, of various sizes, with a
trimap: 1 = pet, 2 = background, 3 = border, a narrow band that belongs to neither.

`train` is the publisher's `trainval.txt`, `test` its `test.txt`. `image` and
`segmentation_mask` have the names and the meaning of TFDS's own `oxford_iiit_pet`;
breeds and boxes are left out. A photograph is stored as its file if that is a JPEG in
RGB, and otherwise as a PNG.

Licence: CC BY-SA 4.0; the copyright of the photographs remains with their owners. Cite
the paper of the citation.""",
    citation="""
@inproceedings{parkhi2012cats,
  title = {Cats and dogs},
  author = {Parkhi, Omkar M. and Vedaldi, Andrea and Zisserman, Andrew and
    Jawahar, C. V.},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition},
  pages = {3498--3505}, year = {2012}, doi = {10.1109/CVPR.2012.6248092}
}""",
    release_notes="Images and trimaps; the publisher's two splits.",
    features=_features,
    supervised_keys=("image", "segmentation_mask"),
    read_splits=_read_splits,
    shuffle=True,
)
