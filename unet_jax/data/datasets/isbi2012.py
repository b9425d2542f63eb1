"""ISBI 2012: membranes in electron micrographs, the data of the U-Net paper."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated

import numpy as np

from unet_jax.data.datasets import prepared
from unet_jax.data.datasets.archives import Archive, read_archive
from unet_jax.data.source import Source, Splits, subset, withhold_labels
from unet_jax.data.splitting import check_fold, split_folds
from unet_jax.errors import UserError
from unet_jax.specs import Domain, Whole
from unet_jax.text import listing

CLASSES = ("membrane", "cell")
REQUIRED = ("train-volume.tif", "train-labels.tif", "test-volume.tif")
STACKS = (*REQUIRED, "test-labels.tif")  # not every archive has the last
ARCHIVE = Archive(
    file="ISBI-2012-challenge.zip",
    url="https://downloads.imagej.net/ISBI-2012-challenge.zip",
    contents=REQUIRED,
)

_Folds = Annotated[int, Domain("of 3 or more", lambda n: n >= 3)]


def isbi2012(
    *,
    fold: Whole = 0,
    folds: _Folds = 5,
    labelled: Whole = 0,
    background: bool = False,
    manual_dir: str = "",
    data_dir: str = "",
) -> Splits:
    """Makes the cross-validated data set of the 30 labelled sections of ISBI 2012.

    Fold k tests on the sections i with i % folds == k, validates on those of fold k + 1
    and trains on the others: 6, 6 and 18 sections. Folds are interleaved because
    neighbouring sections are alike and sections 0-14 are less noisy than 15-29: folds
    of consecutive sections would test on images unlike the training images. The
    challenge's own test volume has no public labels and is not used.

    Args:
      fold: the fold to test on, 0 to `folds` - 1.
      folds: the number of folds, at least 3.
      labelled: the number of training sections that keep their labels, evenly spaced;
        the others are `unlabelled`, for semi-supervised training. 0: all keep them.
      background: False if membranes count like cells in the mean of a score, because
        they are what the challenge looks for. True: class 0 is only the background.
      manual_dir: a folder with ISBI-2012-challenge.zip, or with its content; ''
        downloads it. It is read once; afterwards the prepared records are used.
      data_dir: the folder for prepared records; '' is TFDS's own folder.

    Raises:
      UserError: an argument is out of range, or the archive is missing or damaged.
    """
    check_fold(fold, folds)
    builder = prepared.prepare(DATASET, manual_dir, data_dir)
    sections = prepared.read_source(builder, "train")
    sections = sections._replace(background=background)
    names = split_folds(sections.length, folds, fold)

    def part(name: str) -> Source:
        chosen = [i for i, of_section in enumerate(names) if of_section == name]
        return subset(sections, chosen, f"isbi2012/{name}")

    train, unlabelled = part("train"), None
    count = train.length
    if labelled > count:
        raise UserError(f"labelled must be 0 to {count}, not {labelled}")
    if 0 < labelled < count:
        spaced = [(2 * i + 1) * count // (2 * labelled) for i in range(labelled)]
        train, unlabelled = withhold_labels(train, spaced, "isbi2012/unlabelled")
    return Splits(
        train=train, val=part("val"), test=part("test"), unlabelled=unlabelled
    )


def _read_splits(find: prepared.FindArchive) -> Mapping[str, prepared.TfdsExamples]:
    path = find(ARCHIVE)
    stacks = _read_stacks(path)  # all of them, to find a damaged archive at once
    return {
        split: _examples(split, *_images_and_labels(path, stacks, split))
        for split in ("train", "test")
    }


def _examples(
    split: str, volume: np.ndarray, labels: np.ndarray
) -> prepared.TfdsExamples:
    for i, (image, label) in enumerate(zip(volume, labels, strict=True)):
        yield i, prepared.make_example(f"{split}-{i:02d}", image, label)


def _read_stacks(path: Path) -> dict[str, np.ndarray]:
    """Returns the stacks by file name, from any folder of the archive."""
    files = read_archive(
        ARCHIVE,
        path,
        lambda member: next(filter(PurePosixPath(member).match, STACKS), None),
        lambda found: [name for name in REQUIRED if name not in found],
    )
    stacks = {}
    for name, content in files.items():
        stacks[name] = stack = prepared.decode_grey_tiff(content, f"{path}: {name}")
        if stack.dtype != np.uint8:
            raise UserError(
                f"{path}: {name} must be a stack of 8-bit sections, not {stack.dtype}"
            )
    return stacks


def _images_and_labels(
    path: Path, stacks: dict[str, np.ndarray], split: str
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the volume of a split and its class ids, `u8[N, H, W]` both."""
    volume, labels = stacks[f"{split}-volume.tif"], stacks.get(f"{split}-labels.tif")
    if labels is None:
        return volume, np.full_like(volume, prepared.STORED_IGNORE)
    if labels.shape != volume.shape:
        raise UserError(
            f"{path}: {split}-labels.tif is {labels.shape} but {split}-volume.tif is "
            f"{volume.shape}; they must have one shape"
        )
    unknown = np.setdiff1d(labels, (0, 255))
    if unknown.size:
        raise UserError(
            f"{path}: {split}-labels.tif holds {listing(unknown)}; a label is 0 "
            "(membrane) or 255 (cell)"
        )
    return volume, labels // 255


DATASET = prepared.PublicDataset(
    name="isbi2012",
    description="""\
Serial section transmission electron microscopy of the ventral nerve cord of a
first-instar *Drosophila* larva: the ISBI 2012 challenge, the data of the U-Net paper.
Two volumes of 30 sections, 512 x 512 pixels of 4 x 4 nm, 50 nm apart, 8 bits.

The labels of `train` are 0 = membrane (22.0 % of the pixels) and 1 = cell interior,
mitochondria included. Pixels without annotation are stored as 255: all of `test`,
unless the archive has `test-labels.tif`.

Sections 0-14 of `train` are less noisy than 15-29, and neighbours are alike.

Terms, as quoted by its users: "You are free to use this data set for the purpose of
generating or testing non-commercial image segmentation software. If any scientific
publications derive from the usage of this data set, you must cite TrakEM2" and the
papers of the citation.""",
    citation=r"""
@article{cardona2010integrated,
  title = {An Integrated Micro- and Macroarchitectural Analysis of the {Drosophila}
    Brain by Computer-Assisted Serial Section Electron Microscopy},
  author = {Cardona, Albert and Saalfeld, Stephan and Preibisch, Stephan and
    Schmid, Benjamin and Cheng, Anchi and Pulokas, Jim and Tomancak, Pavel and
    Hartenstein, Volker},
  journal = {PLoS Biology}, volume = {8}, number = {10}, pages = {e1000502},
  year = {2010}, doi = {10.1371/journal.pbio.1000502}
}

@article{arganda2015crowdsourcing,
  title = {Crowdsourcing the creation of image segmentation algorithms for
    connectomics},
  author = {Arganda-Carreras, Ignacio and Turaga, Srinivas C. and
    Berger, Daniel R. and Cire{\c{s}}an, Dan and Giusti, Alessandro and others},
  journal = {Frontiers in Neuroanatomy}, volume = {9}, pages = {142},
  year = {2015}, doi = {10.3389/fnana.2015.00142}
}""",
    release_notes="The sections in the order of the stack.",
    features=lambda: prepared.make_features(CLASSES, channels=1, instances=False),
    read_splits=_read_splits,
)
