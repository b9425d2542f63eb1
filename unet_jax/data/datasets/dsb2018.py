"""2018 Data Science Bowl, stage 1: nuclei under several microscopes, BBBC038."""

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from unet_jax.data.datasets import prepared
from unet_jax.data.datasets.archives import Archive, read_archive
from unet_jax.data.files import channel_converter, decode_image
from unet_jax.data.record import Record
from unet_jax.data.source import Source, Splits
from unet_jax.data.splitting import SPLITS, Share, split_kinds, split_random
from unet_jax.errors import UserError
from unet_jax.specs import Whole

CLASSES = ("background", "nucleus")
ARCHIVE = Archive(
    file="stage1_train.zip",
    url="https://data.broadinstitute.org/bbbc/BBBC038/stage1_train.zip",
    contents=("*/masks/*.png",),
)

_NAME = re.compile(r"(?:^|/)(?P<id>[^/]+)/(?P<kind>images|masks)/[^/.][^/]*\.png$")


# The content of the files of one image, by folder ('images' or 'masks') and file name.
# There should be one image, and one mask for each nucleus.
ImageFiles = dict[str, dict[str, bytes]]


def dsb2018(
    *,
    grouped: bool = True,
    val: Share = 0.1,
    test: Share = 0.2,
    seed: Whole = 0,
    channels: Literal[1, 3] = 3,
    manual_dir: str = "",
    data_dir: str = "",
) -> Splits:
    """Makes the data set of 670 images of nuclei, split by kinds of images.

    Many images are crops of the same fields of view, and the files do not say which.
    Crops of one field have the same size, and all are grey or all are colour. So all
    images of one size and mode, a kind, go to one split, and the test uses kinds that
    training never shows. Dividing every kind instead gives higher scores, partly
    because fields are then in two splits.

    Args:
      grouped: True keeps each kind together; False takes the shares of every kind.
      val: the share of the images to validate with; with `grouped`, as nearly as whole
        kinds allow. The largest kind always trains.
      test: the share of the images to test on, likewise.
      seed: another seed gives another split.
      channels: 3 repeats grey in all channels; 1 converts colour to its luma.
      manual_dir: a folder with stage1_train.zip, or with its content; '' downloads it.
      data_dir: the folder for prepared records; '' is TFDS's own folder.

    Raises:
      UserError: a split would be empty, or the archive is missing or damaged.
    """
    if val + test >= 1:
        raise UserError(f"val + test must be below 1, not {val + test}")
    builder = prepared.prepare(DATASET, manual_dir, data_dir)
    kinds = {kind: prepared.read_source(builder, kind) for kind in builder.info.splits}
    sizes = {kind: source.length for kind, source in kinds.items()}
    places: dict[str, list[tuple[str, int]]] = {name: [] for name in SPLITS}
    if grouped:
        split_of = split_kinds(sizes, val=val, test=test, seed=seed)
        for kind, name in split_of.items():
            places[name] += [(kind, i) for i in range(sizes[kind])]
    else:
        rng = np.random.default_rng(seed)
        for kind, size in sizes.items():
            tested = round(test * size)
            parts = {"test": tested, "val": round((test + val) * size) - tested}
            for name, part in split_random(size, parts, rng).items():
                places[name] += [(kind, i) for i in part]
    if empty := [name for name, chosen in places.items() if not chosen]:
        raise UserError(
            f"these shares of {sum(sizes.values())} images leave none for "
            f"{' and '.join(empty)}; raise val or test, or lower the other"
        )
    convert = channel_converter(3, channels, convert=True)

    def load(name: str, index: int) -> Record:
        kind, i = places[name][index]
        record = kinds[kind].load(i)
        return record | {"image": convert(record["image"])}

    def source(name: str) -> Source:
        return next(iter(kinds.values()))._replace(
            name=f"dsb2018/{name}",
            channels=channels,
            length=len(places[name]),
            load=functools.partial(load, name),
            convert=True,
        )

    return Splits(train=source("train"), val=source("val"), test=source("test"))


def _read_splits(find: prepared.FindArchive) -> Mapping[str, prepared.TfdsExamples]:
    """Returns the examples of each kind of image."""
    path = find(ARCHIVE)
    files = _read_files(path)
    kinds: dict[str, dict[str, ImageFiles]] = {}
    for name in sorted(files):
        image = _decode_image(path, name, files[name])
        mode = "grey" if (image == image[..., :1]).all() else "colour"
        kind = f"{mode}_{image.shape[0]}x{image.shape[1]}"
        kinds.setdefault(kind, {})[name] = files[name]
    return {kind: _examples(path, kinds[kind]) for kind in sorted(kinds)}


def _examples(path: Path, files: Mapping[str, ImageFiles]) -> prepared.TfdsExamples:
    for i, (name, parts) in enumerate(files.items()):
        image = _decode_image(path, name, parts)
        instances = _decode_instances(path, name, parts, image.shape[:2])
        yield i, prepared.make_example(name, image, instances > 0, instances)


def _read_files(path: Path) -> dict[str, ImageFiles]:
    found = read_archive(
        ARCHIVE,
        path,
        _NAME.search,
        lambda found: () if found else ("ID/images/ID.png",),
    )
    files: dict[str, ImageFiles] = {}
    for match, content in found.items():
        parts = files.setdefault(match["id"], {"images": {}, "masks": {}})
        parts[match["kind"]][match.string] = content
    for name, parts in files.items():
        images, masks = len(parts["images"]), len(parts["masks"])
        if images != 1 or not masks:
            raise UserError(
                f"{path}, {name} has {images} images and {masks} masks, but must have "
                "one image and a mask; get the archive again"
            )
    return files


def _decode_image(path: Path, name: str, parts: ImageFiles) -> np.ndarray:
    """Returns `u8[H, W, 3]`."""
    (content,) = parts["images"].values()
    image = decode_image(content, f"{path}, {name}")
    if image.dtype != np.uint8:
        raise UserError(f"{path}, {name}: its image has {image.dtype}, not 8 bits")
    return np.broadcast_to(image, (*image.shape[:2], 3))


def _decode_instances(
    path: Path, name: str, parts: ImageFiles, shape: tuple[int, ...]
) -> np.ndarray:
    """Numbers the nuclei from 1 in the order of file names; the first one wins."""
    instances = np.zeros(shape, np.int32)
    for number, file in enumerate(sorted(parts["masks"]), start=1):
        mask = decode_image(parts["masks"][file], f"{path}, {file}")[..., 0]
        if mask.shape != shape or not np.isin(mask, (0, 255)).all():
            raise UserError(
                f"{path}, {file} must hold 0 and 255 only and have the shape of its "
                f"image, {shape}; it is {mask.shape}, from {mask.min()} to {mask.max()}"
            )
        instances[(mask > 0) & (instances == 0)] = number
    return instances


DATASET = prepared.PublicDataset(
    name="dsb2018",
    description="""\
Nuclei under several microscopes: `stage1_train` of the 2018 Data Science Bowl, image
set BBBC038v1 of the Broad Bioimage Benchmark Collection, 670 images of various sizes,
most of them fluorescence, some stained tissue.

Each kind of images, by size and by grey or colour, is a split of its own, such as
`grey_256x256`, in the order of the ids. `image` is red, green and blue, all equal in
grey images. `label` is 0 = background and 1 = nucleus; `instances` number the nuclei in
the order of their files, and an overlapping pixel belongs to the first.

Many images are crops of the same fields of view: a random split leaks.

Licence: CC0. Cite the paper of the citation.""",
    citation="""
@article{caicedo2019nucleus,
  title = {Nucleus segmentation across imaging experiments: the 2018 {Data Science
    Bowl}},
  author = {Caicedo, Juan C. and Goodman, Allen and Karhohs, Kyle W. and others},
  journal = {Nature Methods}, volume = {16}, pages = {1247--1253},
  year = {2019}, doi = {10.1038/s41592-019-0612-7}
}""",
    release_notes="A split for each size and mode, in the order of ids.",
    features=lambda: prepared.make_features(CLASSES, channels=3, instances=True),
    read_splits=_read_splits,
)
