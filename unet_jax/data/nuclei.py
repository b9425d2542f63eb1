"""Nuclei of the 2018 Data Science Bowl, divided so that a score can be believed."""

from typing import Annotated, Literal

import numpy as np

from unet_jax.data.account import Record
from unet_jax.data.files.grid import conversion
from unet_jax.data.prepared import builder_of, prepare, records
from unet_jax.data.source import Source, Splits
from unet_jax.errors import UserError
from unet_jax.specs import Domain, Whole

NAMES = ("train", "val", "test")
TRIES = 1000
COLOURS = ((40, 40, 40), (235, 235, 235))

_Share = Annotated[float, Domain("above 0 and below 1", lambda x: 0 < x < 1)]
Places = dict[str, list[tuple[str, int]]]  # of each split: kinds, and places in them


def dsb2018(
    *,
    grouped: bool = True,
    val: _Share = 0.1,
    test: _Share = 0.2,
    seed: Whole = 0,
    channels: Literal[1, 3] = 3,
    manual_dir: str = "",
    data_dir: str = "",
) -> Splits:
    """Nuclei of the 2018 Data Science Bowl, stage 1: BBBC038, 670 images of many kinds.

    Many images are crops of the same fields, and which is not recorded. A field has one
    size and is grey or colour throughout: so each such kind of image goes to one split
    as a whole, and the test asks for kinds that were never seen. Dividing every kind
    instead scores higher, in part for having seen the same field.

    Args:
      grouped: keep each kind together; otherwise the fractions are of every kind.
      val: the fraction of the images to choose by; where kinds stay together, as nearly
        as whole kinds allow. The largest kind always trains.
      test: likewise, to test on.
      seed: of which kinds, or images, go where.
      channels: 3, where grey images have the same in all; 1, the luma of colour.
      manual_dir: a folder with stage1_train.zip, or with what was in it; '' downloads
        it. Looked into once: afterwards the prepared records are used.
      data_dir: where the prepared records go; '' is TFDS's own folder.

    Raises:
      UserError: the fractions leave a split empty, or the archive cannot be had or
        used.
    """
    if val + test >= 1:
        raise UserError(f"val + test must be below 1, not {val + test}")
    module = builder_of("dsb2018")
    prepared = prepare(module.Builder, manual_dir, data_dir)
    sizes = {kind: info.num_examples for kind, info in prepared.info.splits.items()}
    divide = divide_kinds if grouped else divide_images
    chosen = divide(sizes, val, test, seed)
    parts = {kind: records(prepared, kind)["load"] for kind in sizes}
    change = conversion(3, channels, convert=True)

    def take(name: str) -> Source:
        places = chosen[name]

        def load(index: int) -> Record:
            kind, place = places[index]
            record = parts[kind](place)
            return record | {"image": change(record["image"])}

        return Source(
            name=f"dsb2018/{name}",
            classes=module.CLASSES,
            colours=COLOURS,
            channels=channels,
            length=len(places),
            load=load,
            convert=True,
        )

    return Splits(train=take("train"), val=take("val"), test=take("test"))


def divide_kinds(sizes: dict[str, int], val: float, test: float, seed: int) -> Places:
    """Gives every kind, whole, to one split; none is empty, and the largest trains.

    Of `TRIES` random ways to do so it is the one that comes nearest to the fractions.

    Raises:
      UserError: there are fewer than three kinds.
    """
    if len(sizes) < 3:
        raise UserError(
            f"there are {len(sizes)} kinds of images, which do not make three splits; "
            "grouped=False divides each kind"
        )
    kinds = sorted(sizes, key=lambda kind: (-sizes[kind], kind))
    counts = np.array([sizes[kind] for kind in kinds])
    drawn = np.random.default_rng(seed).integers(len(NAMES), size=(TRIES, len(kinds)))
    drawn[:, 0] = NAMES.index("train")
    given = drawn[..., None] == np.arange(len(NAMES))  # [try, kind, split]
    totals = (given * counts[:, None]).sum(1)
    wanted = np.array([1 - val - test, val, test]) * counts.sum()
    distance = np.abs(totals - wanted).max(-1)
    best = np.where((totals > 0).all(-1), distance, np.inf).argmin()
    return {
        name: [
            (kind, i)
            for kind, part in zip(kinds, drawn[best], strict=True)
            if NAMES[part] == name
            for i in range(sizes[kind])
        ]
        for name in NAMES
    }


def divide_images(sizes: dict[str, int], val: float, test: float, seed: int) -> Places:
    """Divides the images of each kind by the fractions, in an order of the seed's.

    Raises:
      UserError: there are too few images for one in every split.
    """
    places: Places = {"train": [], "val": [], "test": []}
    rng = np.random.default_rng(seed)
    for kind, size in sizes.items():
        order = rng.permutation(size).tolist()
        first, second = round(test * size), round((test + val) * size)
        parts = {"test": order[:first], "val": order[first:second]}
        parts["train"] = order[second:]
        for name, part in parts.items():
            places[name] += [(kind, i) for i in sorted(part)]
    empty = [name for name, chosen in places.items() if not chosen]
    if empty:
        raise UserError(
            f"of {sum(sizes.values())} images these fractions leave none for "
            f"{' and '.join(empty)}; raise val or test, or lower the other"
        )
    return places
