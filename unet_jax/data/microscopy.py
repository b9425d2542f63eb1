"""The three data sets of the U-Net paper: sections, and videos of cells."""

from typing import Annotated, Literal

from unet_jax.data.prepared import builder_of, prepare, records
from unet_jax.data.source import Source, Splits, subset, withhold_labels
from unet_jax.errors import UserError
from unet_jax.specs import Domain, Whole

_Folds = Annotated[int, Domain("of 3 or more", lambda n: n >= 3)]

COLOURS = ((40, 40, 40), (235, 235, 235))


def isbi2012(
    *,
    fold: Whole = 0,
    folds: _Folds = 5,
    labelled: Whole = 0,
    manual_dir: str = "",
    data_dir: str = "",
) -> Splits:
    """The 30 labelled sections of the ISBI 2012 challenge, cross-validated.

    Fold k tests on the sections i with i % folds == k, chooses by those of fold k + 1
    and learns from the rest: 6, 6 and 18 of them. The folds are interleaved because
    neighbouring sections are alike and sections 0-14 are cleaner than 15-29: blocks
    would test on another kind of image than they learn from. The challenge's own test
    volume, split `test` of the builder, is in none of them.

    Args:
      fold: the fold to test on, 0 to `folds` - 1.
      folds: how many there are, at least 3.
      labelled: how many of the training sections keep their labels, evenly spaced; the
        others are `unlabelled`, for semi-supervised training. 0: all keep them.
      manual_dir: a folder with ISBI-2012-challenge.zip, or with what was in it; ''
        downloads it. Looked into once: afterwards the prepared records are used.
      data_dir: where the prepared records go; '' is TFDS's own folder.

    Raises:
      UserError: an argument is out of range, or the archive cannot be had or used.
    """
    if fold >= folds:
        raise UserError(f"fold must be 0 to {folds - 1}, not {fold}")
    module = builder_of("isbi2012")
    prepared = prepare(module.Builder, manual_dir, data_dir)
    sections = Source(
        name="isbi2012",
        classes=module.CLASSES,
        colours=COLOURS,
        channels=1,
        **records(prepared, "train"),
    )
    if folds > sections.length:
        raise UserError(f"folds must be 3 to {sections.length}, not {folds}")
    part = [(i - fold) % folds for i in range(sections.length)]

    def take(name: str, parts: range) -> Source:
        chosen = [i for i, p in enumerate(part) if p in parts]
        return subset(sections, chosen, f"isbi2012/{name}")

    train, unlabelled = take("train", range(2, folds)), None
    if labelled > train.length:
        raise UserError(f"labelled must be 0 to {train.length}, not {labelled}")
    if 0 < labelled < train.length:
        kept = [(2 * i + 1) * train.length // (2 * labelled) for i in range(labelled)]
        train, unlabelled = withhold_labels(train, kept, "isbi2012/unlabelled")
    return Splits(
        train=train,
        val=take("val", range(1, 2)),
        test=take("test", range(1)),
        unlabelled=unlabelled,
    )


def dic_hela(
    *, sequence: Literal[1, 2] = 2, manual_dir: str = "", data_dir: str = ""
) -> Splits:
    """HeLa cells, DIC-C2DH-HeLa of the Cell Tracking Challenge: one video to test on.

    Of the other video the last fifth of the frames validates and the earlier ones
    train, as neighbouring frames are alike. Only frames with gold truth are records.
    In some of them not every cell was drawn: a cell that is known from silver truth or
    a tracking marker, and not in gold truth, is ignored (-1).

    Args:
      sequence: the video to test on.
      manual_dir: a folder with DIC-C2DH-HeLa.zip, or with what was in it; '' downloads
        it. Looked into once: afterwards the prepared records are used.
      data_dir: where the prepared records go; '' is TFDS's own folder.

    Raises:
      UserError: the archive cannot be had or used.
    """
    return _videos("dic_hela", sequence, manual_dir, data_dir)


def phc_u373(
    *, sequence: Literal[1, 2] = 2, manual_dir: str = "", data_dir: str = ""
) -> Splits:
    """U373 cells, PhC-C2DH-U373 of the Cell Tracking Challenge; all else as `dic_hela`.

    Args:
      sequence: the video to test on.
      manual_dir: a folder with PhC-C2DH-U373.zip, or with what was in it; '' downloads
        it.
      data_dir: where the prepared records go; '' is TFDS's own folder.

    Raises:
      UserError: the archive cannot be had or used.
    """
    return _videos("phc_u373", sequence, manual_dir, data_dir)


def _videos(name: str, sequence: int, manual_dir: str, data_dir: str) -> Splits:
    module = builder_of(name)
    prepared = prepare(module.Builder, manual_dir, data_dir)
    tested, other = (
        Source(
            name=name,
            classes=module.cell_tracking.CLASSES,
            colours=COLOURS,
            channels=1,
            **records(prepared, f"sequence_{number}"),
        )
        for number in (sequence, 3 - sequence)
    )
    if other.length < 2:
        raise UserError(
            f"{name}: sequence {3 - sequence} has {other.length} frame with gold "
            "truth, where one must train and one validate; test on it instead"
        )
    last = other.length - max(1, round(other.length / 5))
    return Splits(
        train=subset(other, range(last), f"{name}/train"),
        val=subset(other, range(last, other.length), f"{name}/val"),
        test=tested._replace(name=f"{name}/test"),
    )
