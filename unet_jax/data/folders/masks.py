"""The label map of a folder: from the config, or inferred from all masks."""

from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple

from unet_jax.arrays import IGNORE
from unet_jax.colours import Colour
from unet_jax.data.dataset_report import Issue
from unet_jax.data.label_map import (
    MAX_CLASSES,
    canonical_value,
    check_colours,
    class_colours,
    class_names,
    parse_label_map,
    parse_value,
)
from unet_jax.errors import UserError
from unet_jax.text import listing

WHITE = ("255", "65535")  # the foreground in masks from drawing programs
MAX_INFERRED = 32  # classes; higher values are not taken for class ids
SHOWN = 8  # values in a message
MAX_SUGGESTED = 64  # values; for more no label map is suggested
FEW = 16  # if all masks have the same few values, they are not anti-aliased
NEAR = 2  # the largest error of a value that lossy saving may cause
VOID = "255"  # in many data sets, pixels that are not annotated

ValueCounts = Mapping[str, int]  # pixels of each value in one mask file


class ClassOptions(NamedTuple):
    """Options for classes, as the config gives them.

    Attributes:
      classes: names, by id; () if they have no names.
      colours: red, green and blue of each class; () for default colours.
      label_map: pairs of a value, or a colour, and a class id or name.
      ignore_value: the value of pixels that are not annotated; '' if there is none.
    """

    classes: tuple[str, ...] = ()
    colours: tuple[Colour, ...] = ()
    label_map: tuple[tuple[Any, Any], ...] = ()
    ignore_value: str = ""


class LabelMap(NamedTuple):
    """The label map of a folder.

    Attributes:
      ids: the class id of each mask value; -1 is ignored.
      classes: names, by id.
      decisions: what was inferred, in words; empty if nothing was.
      issues: problems of files whose values have no class.
    """

    ids: Mapping[str, int]
    classes: tuple[str, ...]
    decisions: tuple[str, ...] = ()
    issues: tuple[Issue, ...] = ()


def find_label_map(
    files: Sequence[tuple[str, ValueCounts]], options: ClassOptions
) -> LabelMap:
    """Finds the class of every value of all masks.

    It is `label_map`, if that is given. Otherwise it is the meaning that fits most
    files: 0 and 255 (or 65535) are two classes; 0, 1, 2, ... are class ids; colours are
    those of `colours`. The other files become issues. If different meanings fit equally
    well, the label map is empty, with an issue.

    Args:
      files: mask files, by the names that messages use, and their values.
      options: from the config.

    Raises:
      UserError: the options contradict each other.
    """
    check_colours(options.colours)
    if len(options.classes) == 1:
        (name,) = options.classes
        both = (name, "object") if name.startswith(("bg", "back")) else ("bg", name)
        raise UserError(
            f"classes={options.classes} needs a name for each class, the background "
            f'first: --config.data.classes="{both}"'
        )
    if options.classes:
        class_colours(options.colours, len(options.classes))
    given = parse_label_map(options.label_map, options.classes, options.ignore_value)
    ids = given or _infer_ids(files, options)
    if not given and (issue := _too_many(files, ids, options)):
        return LabelMap({}, options.classes, issues=(issue,))
    if not ids:
        return LabelMap({}, options.classes, issues=(_unclear(files, options),))
    seen = {value for _, found in files for value in found}
    if options.ignore_value:
        ids = ids | {options.ignore_value: IGNORE}
    if str(IGNORE) in seen:
        ids = ids | {str(IGNORE): IGNORE}
    classes = class_names(options.classes, max(ids.values()) + 1)
    misfits = [(name, found) for name, found in files if not found.keys() <= ids.keys()]
    decisions = ()
    if not given:
        names = dict(enumerate(classes)) | {IGNORE: "ignored"}
        each = [f"{value} is {names[k]}" for value, k in ids.items() if value in seen]
        decisions = (f"mask values: {', '.join(each)}",)
    most = len(options.classes) or MAX_CLASSES
    issues = tuple(_misfit(name, found, ids, most) for name, found in misfits)
    if given and len(misfits) == len(files) > 1:
        issues = (_unknown(files, ids, most),)
    return LabelMap(ids, classes, decisions, issues)


def _infer_ids(
    files: Sequence[tuple[str, ValueCounts]], options: ClassOptions
) -> dict[str, int]:
    """Returns the label map that fits most files; {} if several fit best, or none."""
    most = len(options.classes) or len(options.colours) or MAX_INFERRED
    readings = [{"0": 0, white: 1} for white in WHITE if most >= 2]
    readings.append({str(k): k for k in range(most)})
    if options.colours:
        colours = map(canonical_value, options.colours)
        readings.append({value: k for k, value in enumerate(colours)})
    not_empty = [v for v in _value_sets(files, options.ignore_value) if v - {"0"}]
    if not not_empty:
        return {"0": 0, "1": 1}
    votes = [sum(v <= reading.keys() for v in not_empty) for reading in readings]
    best = [r for r, count in zip(readings, votes, strict=True) if count == max(votes)]
    if not max(votes) or any(reading != best[0] for reading in best):
        return {}
    ids = best[0]
    if options.classes or options.colours or max(ids.values()) == 1:
        return ids
    present = {int(v) for values in not_empty if values <= ids.keys() for v in values}
    count = max(present) + 1
    complete = present | {0} == set(range(count)) and (0 in present or count == 2)
    if complete and not _look_like_object_ids(files):
        return {str(k): k for k in range(count)}
    return {}


def _look_like_object_ids(files: Sequence[tuple[str, ValueCounts]]) -> bool:
    """Returns True if every mask has values 1 to n, for three or more different n."""
    each = [v - {"0"} for v in _value_sets(files, "") if v - {"0"}]
    if not all(values == {str(k + 1) for k in range(len(values))} for values in each):
        return False
    return len({len(values) for values in each}) > 2 and max(map(len, each)) > 3


def _value_sets(
    files: Sequence[tuple[str, ValueCounts]], ignore_value: str
) -> list[set[str]]:
    return [set(found) - {ignore_value, str(IGNORE)} for _, found in files]


def _too_many(
    files: Sequence[tuple[str, ValueCounts]],
    ids: Mapping[str, int],
    options: ClassOptions,
) -> Issue | None:
    """Returns the issue of more values than named classes, in half of the files."""
    names = options.classes
    sets = _value_sets(files, options.ignore_value)
    values = set().union(*sets)
    misfits = sum(not each <= ids.keys() for each in sets)
    if not names or len(values) <= len(names) or 2 * misfits < len(sets):
        return None
    if any(_anti_aliased(name, found) for name, found in files):
        return None
    text = f"masks have {len(values)} different values, and classes names "
    text += f"{len(names)} ({', '.join(names)}): masks have {_values(values)}; "
    if len(values) <= MAX_SUGGESTED:
        more = (f"class {k}" for k in range(len(names), len(values)))
        text += f'name every class: --config.data.classes="{(*names, *more)}", or '
    text += "give each value one of the named classes: "
    first = sorted(values, key=parse_value)[:3]
    pairs = ",".join(f"({v},{min(k, len(names) - 1)})" for k, v in enumerate(first))
    text += f'--config.data.label_map="({pairs},...)"'
    return Issue("error", "mask values", text)


def _misfit(name: str, found: ValueCounts, ids: Mapping[str, int], most: int) -> Issue:
    """Returns the issue of one file whose values differ from those of the others.

    `most` is the number of classes that there may be.
    """
    if issue := _anti_aliased(name, found):
        return issue
    strange = {value: n for value, n in found.items() if value not in ids}
    text = f"{name}: {_values(strange)} in {sum(strange.values())} pixels, where masks "
    text += f"have {', '.join(v for v in ids if v != str(IGNORE))}; correct the file, "
    flag = _suggestion(found, ids, most)
    what = "ignore the value" if f",{IGNORE})" in flag else "give the value a class"
    return _issue(f"{text}or {what}: {flag}")


def _unknown(
    files: Sequence[tuple[str, ValueCounts]], ids: Mapping[str, int], most: int
) -> Issue:
    """Returns the one issue of masks whose values are all missing in the label map."""
    every = {v: n for _, found in files for v, n in found.items()}
    known = {value: k for value, k in ids.items() if value in every}
    text = f"{listing(name for name, _ in files)}: masks have {_values(every)}, and "
    text += f"the label map has {_values(ids)}; give the values classes: "
    return _issue(text + _suggestion(every, known, most))


def _unclear(files: Sequence[tuple[str, ValueCounts]], options: ClassOptions) -> Issue:
    """Returns the one issue of masks whose classes cannot be inferred."""
    smoothed = [name for name, found in files if _anti_aliased(name, found)]
    alike = len({frozenset(found) for _, found in files}) == 1
    if smoothed and not (alike and len(files[0][1]) <= FEW):
        issue = _anti_aliased(listing(smoothed), dict(files)[smoothed[0]])
        assert issue is not None
        return issue
    every = {v: n for _, found in files for v, n in found.items()}
    every.pop(options.ignore_value, None)
    text = f"{listing(name for name, _ in files)}: masks have {_values(every)}, whose "
    text += "classes are not known; "
    if _look_like_object_ids(files) or len(every) > MAX_SUGGESTED:
        text += "if these are object ids, put the files into instances/; if class ids, "
        text += "name the classes: --config.data.classes=\"('background','a','b')\""
        return _issue(text)
    both = any({"1", VOID} <= found.keys() for _, found in files)
    mixed = every.keys() == {"0", "1", VOID} and not both
    known = {"0": 0, "1": 1} if mixed else {}
    flag = _suggestion(every, known, len(options.classes) or MAX_CLASSES)
    return _issue(f"{text}give the values classes: {flag}")


def _anti_aliased(name: str, found: ValueCounts) -> Issue | None:
    """Returns an issue if a mask has two frequent values and many values between."""
    grey = sorted(int(v) for v in found if "," not in v)
    frequent = sorted(found, key=lambda v: -found[v])[:2]
    ends = {str(grey[0]), str(grey[-1])} if grey else set()
    if len(grey) < 5 or len(grey) != len(found) or set(frequent) != ends:
        return None
    if 2 * (grey[-2] - grey[1]) < grey[-1] - grey[0]:  # ids, and one value far away
        return None
    text = f"{name}: {len(grey)} values between {grey[0]} and {grey[-1]}, so the mask "
    text += "is anti-aliased: it was saved as JPEG, or resized with smoothing; export "
    text += "it again from the annotation program, and resize by nearest neighbour"
    return Issue("error", "anti-aliased", text)


def _suggestion(
    found: ValueCounts, ids: Mapping[str, int], most: int = MAX_CLASSES
) -> str:
    """Returns a flag that would accept the values, with at most so many classes."""
    known = {v: k for v, k in ids.items() if k > IGNORE}
    others = (found.keys() | known.keys()) - {VOID}
    consecutive = others == {str(k) for k in range(len(others))}
    several = "1" in found or len(others) > 2
    if VOID in found.keys() - known.keys() and consecutive and several:
        return f"--config.data.ignore_label={VOID}, if it marks unannotated pixels"
    pairs = dict(known)
    for value in sorted(found.keys() - known.keys(), key=parse_value):
        likely = _likely_class(value, pairs, known)
        pairs[value] = likely if likely < most else IGNORE
    ordered = sorted(pairs.items(), key=lambda pair: (pair[1], parse_value(pair[0])))
    each = [f"({f'({v})' if ',' in v else v},{k})" for v, k in ordered]
    return f'--config.data.label_map="({",".join(each)},)"'


def _likely_class(
    value: str, pairs: Mapping[str, int], known: Mapping[str, int]
) -> int:
    """Returns the class of a near value, -1, or a new class."""
    number = parse_value(value)
    if number < 0:
        return IGNORE
    near = [k for v, k in known.items() if abs(parse_value(v) - number) <= NEAR]
    if near and number > MAX_INFERRED:
        return near[0]
    if {value, *known} in ({"0", "1", VOID}, {"0", "1", "65535"}) and len(known) == 2:
        return 1  # masks of two classes that were saved in two ways
    return max(pairs.values(), default=-1) + 1


def _values(found: Set[str] | ValueCounts) -> str:
    values = sorted(found, key=lambda v: (len(v), v))
    noun = "values" if len(values) > 1 else "value"
    return f"the {noun} {listing(values, SHOWN, separator='; ')}"


def _issue(text: str) -> Issue:
    return Issue("error", "mask values", text)
