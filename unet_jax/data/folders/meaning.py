"""Which class a mask value means: as the user says, or where it is obvious."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from unet_jax.arrays import IGNORE
from unet_jax.data.account import Fault
from unet_jax.data.folders import remedies, values
from unet_jax.data.folders.remedies import Values
from unet_jax.errors import UserError

WHITE = ("255", "65535")  # what drawing programs make of the one class there is
OBVIOUS = 32  # class ids above this are not taken for such without being told

COLOURS = (  # for pictures: a background, then what is easy to tell apart
    (0, 0, 0),
    (64, 200, 120),
    (240, 100, 80),
    (90, 140, 255),
    (250, 200, 60),
    (190, 100, 240),
    (80, 220, 230),
    (255, 140, 190),
)

Colour = tuple[int, int, int]


class Wish(NamedTuple):
    """What the config says of classes.

    Attributes:
      classes: their names, by id; () if they are not named.
      colours: red, green and blue of each; () for those of the house.
      label_map: pairs of a value, or a colour, and a class id or name.
      ignore: the value that means that nobody annotated; '' if none does.
    """

    classes: tuple[str, ...] = ()
    colours: tuple[Colour, ...] = ()
    label_map: tuple[tuple[Any, Any], ...] = ()
    ignore: str = ""


class Meaning(NamedTuple):
    """What the masks of a folder mean.

    Attributes:
      ids: the class id of each value; -1 is ignored.
      classes: names, by id.
      said: what was decided, if anything was.
      faults: files whose values do not fit.
    """

    ids: dict[str, int]
    classes: tuple[str, ...]
    said: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()


def find(files: Sequence[tuple[str, Values]], wish: Wish) -> Meaning:
    """Finds what the values of all masks mean.

    Said outright, it is `label_map`; or `colours`, if the masks are coloured. Else
    masks of 0 and 255 (or 65535) have two classes, and masks of 0, 1, 2, ... hold class
    ids. What most files agree on holds, and the others are faults. Nothing else is
    taken for granted.

    Args:
      files: names, as the user knows them, and values of the mask files.
      wish: what the config says.

    Raises:
      UserError: the wish contradicts itself.
    """
    ids, said = given(wish), ()
    _check_colours(wish)
    if not ids:
        ids = _obvious(files, wish)
        if not ids:
            fault = remedies.unclear(files, wish.ignore, objects=_numbered(files))
            return Meaning({}, wish.classes, faults=(fault,))
    ignored = {wish.ignore: IGNORE} if wish.ignore else {}
    seen = {value for _, found in files for value in found}
    negative = {str(IGNORE): IGNORE} if str(IGNORE) in seen else {}
    ids = ids | ignored | negative
    classes = names(wish.classes, max(ids.values()) + 1)
    if not wish.label_map:
        read = [
            f"{value} is {classes[k] if k >= 0 else 'ignored'}"
            for value, k in ids.items()
            if value in seen
        ]
        said = (f"mask values: {', '.join(read)}",)
    misfits = [(name, found) for name, found in files if not found.keys() <= ids.keys()]
    if wish.label_map and len(misfits) == len(files) > 1:
        return Meaning(ids, classes, said, (remedies.unknown(files, ids),))
    faults = tuple(remedies.misfit(name, found, ids) for name, found in misfits)
    return Meaning(ids, classes, said, faults)


def named(label_map: tuple[tuple[Any, Any], ...]) -> tuple[str, ...]:
    """The classes that a label map names, the background first; () if it names none.

    Raises:
      UserError: it names some, but no background.
    """
    names = [pair[-1] for pair in label_map if isinstance(pair, tuple)]
    names = list(dict.fromkeys(name for name in names if isinstance(name, str)))
    if names and "background" not in names:
        raise UserError(
            f"label_map names {', '.join(names)} and no background; name all classes, "
            "the background first: --config.data.classes=\"('background','cell')\""
        )
    return tuple(sorted(names, key=lambda name: name != "background"))


def given(wish: Wish) -> dict[str, int]:
    """The class ids that a label map says; empty if there is none.

    Raises:
      UserError: it is not made of pairs, or names a class that there is not.
    """
    ids: dict[str, int] = {}
    for pair in wish.label_map:
        try:
            value, meant = pair
            value = values.written(value)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"label_map must be pairs of a value, or a colour, and a class, "
                f"((0, 0), (255, 1)) or (((255, 0, 0), 1),), not {wish.label_map!r}"
            ) from error
        if isinstance(meant, str) and meant in wish.classes:
            meant = wish.classes.index(meant)
        most = len(wish.classes) or OBVIOUS**2
        if not isinstance(meant, int) or not IGNORE <= meant < most:
            there = ", ".join(wish.classes) or "whole numbers from 0"
            raise UserError(
                f"label_map: {value} is to be class {meant!r}; there are {there}, and "
                f"{IGNORE} for what is to be ignored"
            )
        ids[value] = meant
    unused = set(range(max(ids.values(), default=0))) - set(ids.values())
    if ids and unused and not wish.classes:
        raise UserError(
            f"label_map leaves class {min(unused)} out; number the classes from 0 "
            "without a gap"
        )
    return ids


def names(classes: tuple[str, ...], count: int) -> tuple[str, ...]:
    """The names of the classes, or such as a program can think of."""
    if classes:
        return classes
    if count <= 2:
        return ("background", "foreground")
    return ("background", *(f"class {k}" for k in range(1, count)))


def colours(wish: Wish, count: int) -> tuple[Colour, ...]:
    """A colour for each class in pictures.

    Raises:
      UserError: there are some, but not one for each.
    """
    if not wish.colours:
        return tuple(COLOURS[k % len(COLOURS)] for k in range(count))
    if len(wish.colours) != count:
        raise UserError(
            f"colours has {len(wish.colours)} of them, and there are {count} classes"
        )
    return wish.colours


def _check_colours(wish: Wish) -> None:
    for colour in wish.colours:
        three = isinstance(colour, tuple) and len(colour) == 3
        if not three or not all(value in range(256) for value in colour):
            raise UserError(
                "colours must have red, green and blue, 0 to 255, of each class, "
                f"((0, 0, 0), (255, 0, 0)), not {wish.colours!r}"
            )
    if len(wish.colours) == 1:
        raise UserError("colours must have one of each class, the background, too")
    if wish.classes and wish.colours:
        colours(wish, len(wish.classes))


def _obvious(files: Sequence[tuple[str, Values]], wish: Wish) -> dict[str, int]:
    """The one reading that most files allow; empty if there is none."""
    most = len(wish.classes) or len(wish.colours) or OBVIOUS
    readings = [{"0": 0, white: 1} for white in WHITE if most >= 2]
    readings.append({str(k): k for k in range(most)})
    if wish.colours:
        colours = map(values.written, wish.colours)
        readings.append({value: k for k, value in enumerate(colours)})
    telling = [seen for seen in _seen(files, wish.ignore) if seen - {"0"}]
    if not telling:
        return {"0": 0, "1": 1}
    votes = [sum(seen <= r.keys() for seen in telling) for r in readings]
    best = [r for r, count in zip(readings, votes, strict=True) if count == max(votes)]
    if not max(votes) or any(reading != best[0] for reading in best):
        return {}
    ids = best[0]
    if wish.classes or wish.colours or max(ids.values()) == 1:
        return ids
    there = {int(v) for seen in telling if seen <= ids.keys() for v in seen}
    count = max(there) + 1
    whole = there | {0} == set(range(count)) and (0 in there or count == 2)
    return {str(k): k for k in range(count)} if whole and not _numbered(files) else {}


def _numbered(files: Sequence[tuple[str, Values]]) -> bool:
    """Whether masks look like object ids: 1 to n in each, with an n of its own."""
    each = [seen - {"0"} for seen in _seen(files, "") if seen - {"0"}]
    if not all(seen == {str(k + 1) for k in range(len(seen))} for seen in each):
        return False
    return len({len(seen) for seen in each}) > 2 and max(map(len, each)) > 3


def _seen(files: Sequence[tuple[str, Values]], ignore: str) -> list[set[str]]:
    return [set(found) - {ignore, str(IGNORE)} for _, found in files]
