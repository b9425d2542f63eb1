"""Which class a mask value means: as the user says, or where it is obvious."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from unet_jax.arrays import IGNORE
from unet_jax.data.account import Fault
from unet_jax.data.folders import values
from unet_jax.errors import UserError

WHITE = ("255", "65535")  # what drawing programs make of the one class there is
OBVIOUS = 32  # class ids above this are not taken for such without being told
SHOWN = 8  # values that a message names

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

Values = Mapping[str, int]  # pixels of each value, of one file
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
    if not ids:
        ids = _obvious(files, wish)
        if not ids:
            return Meaning({}, wish.classes, faults=(_unclear(files, wish),))
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
    faults = tuple(_misfit(name, found, ids) for name, found in misfits)
    return Meaning(ids, classes, said, faults)


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
      UserError: there are some, but not one for each, or one is no colour.
    """
    if not wish.colours:
        return tuple(COLOURS[k % len(COLOURS)] for k in range(count))
    fits = all(
        isinstance(c, tuple) and len(c) == 3 and all(v in range(256) for v in c)
        for c in wish.colours
    )
    if len(wish.colours) != count or not fits:
        raise UserError(
            f"colours must have red, green and blue, 0 to 255, of each of the {count} "
            f"classes, not {wish.colours!r}"
        )
    return wish.colours


def _obvious(files: Sequence[tuple[str, Values]], wish: Wish) -> dict[str, int]:
    """The reading that most files allow; empty if there is none."""
    most = len(wish.classes) or OBVIOUS
    readings = [{"0": 0, white: 1} for white in WHITE if most >= 2]
    readings.append({str(k): k for k in range(most)})
    if wish.colours:
        colours = map(values.written, wish.colours)
        readings.insert(0, {value: k for k, value in enumerate(colours)})
    telling = [
        set(found) - {wish.ignore, str(IGNORE)}
        for _, found in files
        if set(found) - {wish.ignore, str(IGNORE), "0"}
    ]
    votes = [sum(seen <= r.keys() for seen in telling) for r in readings]
    if not telling:
        return {"0": 0, "1": 1}
    if not max(votes):
        return {}
    ids = readings[votes.index(max(votes))]
    if wish.classes or wish.colours or ids is not readings[-1]:
        return ids
    seen = {int(v) for found in telling if found <= ids.keys() for v in found}
    count = max(seen, default=1) + 1
    whole = seen | {0} == set(range(count)) and (0 in seen or count == 2)
    return {str(k): k for k in range(count)} if whole else {}


def _misfit(name: str, found: Values, ids: Mapping[str, int]) -> Fault:
    strange = {value: n for value, n in found.items() if value not in ids}
    if fault := _smoothed(name, found):
        return fault
    pixels = sum(strange.values())
    said = f"{name}: {_listed(strange)} in {pixels} pixels, where masks have "
    said += f"{', '.join(v for v in ids if v != str(IGNORE))}; mend the file, or say "
    return Fault("error", "mask values", said + "what they are: " + _map(found, ids))


def _unclear(files: Sequence[tuple[str, Values]], wish: Wish) -> Fault:
    """The one fault of masks of which none fits."""
    for name, found in files:
        if fault := _smoothed(name, found):
            return fault
    every = {v: n for _, found in files for v, n in found.items() if v != wish.ignore}
    name = files[0][0] + (f" and {len(files) - 1} more" if len(files) > 1 else "")
    said = f"{name}: masks have {_listed(every)}, which could mean anything; "
    if len(every) > OBVIOUS:
        said += "if these are object ids, put the files into instances/; else "
    return Fault("error", "mask values", f"{said}say what they are: {_map(every, {})}")


def _smoothed(name: str, found: Values) -> Fault | None:
    """A mask of two values, and of many between them where the two meet."""
    grey = sorted(int(v) for v in found if "," not in v)
    often = sorted(found, key=lambda v: -found[v])[:2]
    ends = {str(grey[0]), str(grey[-1])} if grey else set()
    if len(grey) < 5 or len(grey) != len(found) or set(often) != ends:
        return None
    said = f"{name}: {len(grey)} values between {grey[0]} and {grey[-1]}, so it is "
    said += "anti-aliased: it was a JPEG, or made smaller or larger with smoothing; "
    said += "save it again from where it was drawn, and resize by nearest neighbour"
    return Fault("error", "anti-aliased", said)


def _listed(found: Values) -> str:
    shown = sorted(found, key=lambda v: (len(v), v))
    more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    values = "values" if len(shown) > 1 else "value"
    return f"the {values} {'; '.join(shown[:SHOWN])}{more}"


def _map(found: Values, ids: Mapping[str, int]) -> str:
    """The flag that would accept what was found."""
    pairs = {v: k for v, k in ids.items() if v in found or k > IGNORE}
    pairs.pop(str(IGNORE), None)
    for value in sorted(found.keys() - pairs.keys(), key=values.code)[:SHOWN]:
        pairs[value] = max(pairs.values(), default=-1) + 1
    each = [f"({f'({v})' if ',' in v else v},{k})" for v, k in pairs.items()]
    return f'--config.data.label_map="({",".join(each)},)"'
