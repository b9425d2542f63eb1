"""Issues of mask values that have no class, each with a flag that gives them one."""

from collections.abc import Iterable, Mapping, Sequence, Set

from unet_jax.arrays import IGNORE
from unet_jax.data.dataset_report import Issue
from unet_jax.data.label_map import MAX_CLASSES, parse_value
from unet_jax.text import listing

WHITE = ("255", "65535")  # the foreground in masks from drawing programs
FOREGROUND = ("1", *WHITE)  # in masks of two classes
MAX_INFERRED = 32  # classes; higher values are not taken for class ids
SHOWN = 8  # values in a message
MAX_SUGGESTED = 64  # values; for more no label map is suggested
FEW = 16  # if all masks have the same few values, they are not anti-aliased
NEAR = 2  # the largest error of a value that lossy saving may cause
VOID = "255"  # in many data sets, pixels that are not annotated

ValueCounts = Mapping[str, int]  # pixels of each value in one mask file
MaskFiles = Sequence[tuple[str, ValueCounts]]  # names for messages, and values


def look_like_object_ids(files: MaskFiles) -> bool:
    """Returns True if every mask has values 1 to n, for three or more different n."""
    each = [v - {"0"} for v in value_sets(files, "") if v - {"0"}]
    if not all(values == {str(k + 1) for k in range(len(values))} for values in each):
        return False
    return len({len(values) for values in each}) > 2 and max(map(len, each)) > 3


def value_sets(files: MaskFiles, ignore_value: str) -> list[set[str]]:
    """Returns the values of each file, without those that are ignored."""
    return [set(found) - {ignore_value, str(IGNORE)} for _, found in files]


def mixed_foreground(files: MaskFiles, ignore_value: str) -> Issue | None:
    """Returns the issue of masks of one foreground that were saved in several ways."""
    groups: dict[str, list[str]] = {}
    sets = value_sets(files, ignore_value)
    for (name, _), values in zip(files, sets, strict=True):
        if values - {"0"}:
            groups.setdefault(listing(sort_values(values - {"0"})), []).append(name)
    if len(groups) < 2 or not groups.keys() <= set(FOREGROUND):
        return None
    each = [
        f"{len(names)} {'mask' if len(names) == 1 else 'masks'} "
        f"({listing(names, 1)}) {'has' if len(names) == 1 else 'have'} 0; {value}"
        for value, names in groups.items()
    ]
    text = f"{', '.join(each[:-1])} and {each[-1]}; if "
    text += "both mean foreground: " if len(each) == 2 else "all mean foreground: "
    text += _label_map_flag({"0": 0} | dict.fromkeys(sort_values(groups), 1))
    if VOID in groups:
        text += f"; if {VOID} marks unannotated pixels: "
        text += f"--config.data.ignore_label={VOID}"
    return _issue(text)


def too_many(
    files: MaskFiles, ids: Mapping[str, int], names: Sequence[str], ignore_value: str
) -> Issue | None:
    """Returns the issue of more values than named classes, in half of the files."""
    sets = value_sets(files, ignore_value)
    values = set().union(*sets)
    misfits = sum(not each <= ids.keys() for each in sets)
    if not names or len(values) <= len(names) or 2 * misfits < len(sets):
        return None
    if any(_anti_aliased(name, found) for name, found in files):
        return None
    if values - {VOID} == {str(k) for k in range(len(names))}:
        return None  # 255 may mark pixels that are not annotated
    ordered = sort_values(values)
    text = f"masks have {len(values)} values ({listing(ordered, SHOWN, '; ')}), and "
    text += f"classes names {len(names)} ({', '.join(names)}); "
    if len(values) <= MAX_SUGGESTED:
        more = (f"class {k}" for k in range(len(names), len(values)))
        text += f'name every class: --config.data.classes="{(*names, *more)}", or '
    text += "give each value one of the named classes: "
    pairs = {value: min(k, len(names) - 1) for k, value in enumerate(ordered)}
    return _issue(text + _label_map_flag(pairs))


def misfit(name: str, found: ValueCounts, ids: Mapping[str, int], most: int) -> Issue:
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


def unknown(files: MaskFiles, ids: Mapping[str, int], most: int) -> Issue:
    """Returns the one issue of masks whose values are all missing in the label map."""
    every = {v: n for _, found in files for v, n in found.items()}
    known = {value: k for value, k in ids.items() if value in every}
    text = f"{listing(name for name, _ in files)}: masks have {_values(every)}, and "
    text += f"the label map has {_values(ids)}; give the values classes: "
    return _issue(text + _suggestion(every, known, most))


def unclear(files: MaskFiles, names: Sequence[str], ignore_value: str) -> Issue:
    """Returns the one issue of masks whose classes cannot be inferred."""
    smoothed = [name for name, found in files if _anti_aliased(name, found)]
    alike = len({frozenset(found) for _, found in files}) == 1
    if smoothed and not (alike and len(files[0][1]) <= FEW):
        issue = _anti_aliased(listing(smoothed), dict(files)[smoothed[0]])
        assert issue is not None
        return issue
    every = {v: n for _, found in files for v, n in found.items()}
    every.pop(ignore_value, None)
    text = f"{listing(name for name, _ in files)}: masks have {_values(every)}, whose "
    text += "classes are not known; "
    if look_like_object_ids(files) or len(every) > MAX_SUGGESTED:
        text += "if these are object ids, put the files into instances/; if class ids, "
        text += "name the classes: --config.data.classes=\"('background','a','b')\""
        return _issue(text)
    flag = _suggestion(every, {}, len(names) or MAX_CLASSES)
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
    for value in sort_values(found.keys() - known.keys()):
        likely = _likely_class(value, pairs, known)
        pairs[value] = likely if likely < most else IGNORE
    ordered = sorted(pairs.items(), key=lambda pair: (pair[1], parse_value(pair[0])))
    return _label_map_flag(dict(ordered))


def _label_map_flag(ids: Mapping[str, int]) -> str:
    """Returns the flag of a label map; "..." stands for pairs that are left out."""
    each = [f"({f'({v})' if ',' in v else v},{k})" for v, k in ids.items()]
    if len(each) > MAX_SUGGESTED:
        each[SHOWN:] = ["..."]
        return f'--config.data.label_map="({",".join(each)})"'
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
    if {value, *known} <= {"0", *FOREGROUND} and len(known) == 2:
        return 1  # masks of two classes that were saved in two ways
    return max(pairs.values(), default=-1) + 1


def sort_values(values: Iterable[str]) -> list[str]:
    """Sorts values as numbers; colours follow."""
    return sorted(values, key=parse_value)


def _values(found: Set[str] | ValueCounts) -> str:
    values = sort_values(found)
    noun = "values" if len(values) > 1 else "value"
    return f"the {noun} {listing(values, SHOWN, separator='; ')}"


def _issue(text: str) -> Issue:
    return Issue("error", "mask values", text)
