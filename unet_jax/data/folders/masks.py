"""The label map of a folder: from the config, or inferred from all masks."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from unet_jax.arrays import IGNORE
from unet_jax.colours import Colour
from unet_jax.data.dataset_report import Issue
from unet_jax.data.folders import mask_issues
from unet_jax.data.folders.mask_issues import (
    MAX_INFERRED,
    WHITE,
    MaskFiles,
    value_sets,
)
from unet_jax.data.label_map import (
    MAX_CLASSES,
    canonical_value,
    check_colours,
    class_colours,
    class_names,
    parse_label_map,
)
from unet_jax.errors import UserError

MAX_STRAY_VALUES = 2  # of a mask file; a file with more has other objects or classes
MAX_STRAY_SHARE = 0.1  # of the mask files, with a stray value
MAX_STRAY_FILES = 5  # each has a message of its own
MAX_USUAL_VALUES = 16  # of the others; masks with more values may hold object ids


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
    files: MaskFiles,
    options: ClassOptions,
    *,
    background: bool = True,
) -> LabelMap:
    """Finds the class of every value of all masks.

    It is `label_map`, if that is given. Otherwise it is the meaning that fits most
    files: 0 and 255 (or 65535) are two classes; 0, 1, 2, ... are class ids; colours are
    those of `colours`. The other files become issues. If different meanings fit equally
    well, the label map is empty, with an issue. If no meaning fits because a few files
    have a stray value, these files are left out, and become issues.

    Args:
      files: mask files, by the names that messages use, and their values.
      options: from the config.
      background: True if class 0 is the background.

    Raises:
      UserError: the options contradict each other.
    """
    check_colours(options.colours)
    if len(options.classes) == 1:
        (name,) = options.classes
        if not background:
            raise UserError(
                f"classes={options.classes} names one class; name two or more, or "
                "leave classes out"
            )
        both = (name, "object") if name.startswith(("bg", "back")) else ("bg", name)
        raise UserError(
            f"classes={options.classes} needs a name for each class, the background "
            f'first: --config.data.classes="{both}"'
        )
    if options.classes:
        class_colours(options.colours, len(options.classes))
    given = parse_label_map(options.label_map, options.classes, options.ignore_value)
    ids = given or _infer_ids(files, options)
    if not ids:
        usual = _without_strays(files, options.ignore_value)
        ids = _infer_ids(usual, options)
    if not ids:
        issues = _describe_unclear(files, usual, options)
        return LabelMap({}, options.classes, issues=issues)
    names, ignored = options.classes, options.ignore_value
    if not given and (issue := mask_issues.too_many(files, ids, names, ignored)):
        return LabelMap({}, options.classes, issues=(issue,))
    seen = {value for _, found in files for value in found}
    if options.ignore_value:
        ids = ids | {options.ignore_value: IGNORE}
    if str(IGNORE) in seen:
        ids = ids | {str(IGNORE): IGNORE}
    classes = class_names(options.classes, max(ids.values()) + 1, background=background)
    misfits = [(name, found) for name, found in files if not found.keys() <= ids.keys()]
    decisions = ()
    if not given:
        meanings = dict(enumerate(classes)) | {IGNORE: "ignored"}
        each = [
            f"{value} is {meanings[k]}" for value, k in ids.items() if value in seen
        ]
        decisions = (f"mask values: {', '.join(each)}",)
    most = len(options.classes) or MAX_CLASSES
    issues = tuple(
        mask_issues.misfit(name, found, ids, most) for name, found in misfits
    )
    if given and len(misfits) == len(files) > 1:
        issues = (mask_issues.unknown(files, ids, most),)
    return LabelMap(ids, classes, decisions, issues)


def _infer_ids(files: MaskFiles, options: ClassOptions) -> dict[str, int]:
    """Returns the label map that fits most files; {} if several fit best, or none."""
    most = len(options.classes) or len(options.colours) or MAX_INFERRED
    readings = [{"0": 0, white: 1} for white in WHITE if most >= 2]
    readings.append({str(k): k for k in range(most)})
    if options.colours:
        colours = map(canonical_value, options.colours)
        readings.append({value: k for k, value in enumerate(colours)})
    not_empty = [v for v in value_sets(files, options.ignore_value) if v - {"0"}]
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
    if complete and not mask_issues.look_like_object_ids(files):
        return {str(k): k for k in range(count)}
    return {}


def _without_strays(files: MaskFiles, ignore_value: str) -> MaskFiles:
    """Returns the files without the few that have a value that the others lack.

    All files are returned if there are none, or if the masks may hold object ids.
    """
    sets = value_sets(files, ignore_value)
    counts = Counter(value for values in sets for value in values)
    most = max(1, min(int(MAX_STRAY_SHARE * len(files)), MAX_STRAY_FILES))
    rare = {value for value, count in counts.items() if count <= most} - {"0"}
    usual = [file for file, v in zip(files, sets, strict=True) if not v & rare]
    strays = [v & rare for v in sets if v & rare]
    if (
        len(strays) > most
        or any(len(values) > MAX_STRAY_VALUES for values in strays)
        or len(counts.keys() - rare) > MAX_USUAL_VALUES
        or not any(values - {"0"} for values in value_sets(usual, ignore_value))
        or mask_issues.look_like_object_ids(files)
    ):
        return files
    return usual


def _describe_unclear(
    files: MaskFiles, usual: MaskFiles, options: ClassOptions
) -> tuple[Issue, ...]:
    """Returns the issues of masks whose classes cannot be inferred.

    They are one of the usual files, and one of each file that has stray values.
    """
    names, ignored = options.classes, options.ignore_value
    issue = (
        mask_issues.mixed_foreground(usual, ignored)
        or mask_issues.too_many(usual, {}, names, ignored)
        or mask_issues.unclear(usual, names, ignored)
    )
    values = set().union(*value_sets(usual, ignored))
    ids = {value: k for k, value in enumerate(mask_issues.sort_values(values))}
    most = len(names) or MAX_CLASSES
    known = {name for name, _ in usual}
    strays = [file for file in files if file[0] not in known]
    return (issue, *(mask_issues.misfit(*file, ids, most) for file in strays))
