"""What to say of mask values that nobody has given a meaning, and what would help."""

from collections.abc import Mapping, Sequence, Set

from unet_jax.arrays import IGNORE
from unet_jax.data.account import Fault, listed
from unet_jax.data.folders import values

SHOWN = 8  # values that a sentence names
MAPPED = 64  # values that a label map is offered for
FEW = 16  # values that all masks may have, and be no anti-aliased ones
NEAR = 2  # from a known value: the same, but for how it was saved
OWN = 32  # below which numbers that are near are ids of their own
VOID = "255"  # what often marks that nobody annotated

Values = Mapping[str, int]  # pixels of each value, of one file


def misfit(name: str, found: Values, ids: Mapping[str, int]) -> Fault:
    """The fault of one file whose values are not those of the others."""
    if fault := _smoothed(name, found):
        return fault
    strange = {value: n for value, n in found.items() if value not in ids}
    said = f"{name}: {_listed(strange)} in {sum(strange.values())} pixels, where masks "
    said += f"have {', '.join(v for v in ids if v != str(IGNORE))}; mend the file, or "
    return Fault(
        "error", "mask values", f"{said}say what they are: {_flag(found, ids)}"
    )


def unknown(files: Sequence[tuple[str, Values]], ids: Mapping[str, int]) -> Fault:
    """The one fault of masks none of which a label map knows."""
    every = {v: n for _, found in files for v, n in found.items()}
    known = {value: k for value, k in ids.items() if value in every}
    said = f"{listed([name for name, _ in files])}: masks have {_listed(every)}, and "
    said += f"the label map has {_listed(ids)}; say what they are: "
    return Fault("error", "mask values", said + _flag(every, known))


def unclear(
    files: Sequence[tuple[str, Values]], ignore: str, *, objects: bool
) -> Fault:
    """The one fault of masks that could mean anything.

    Args:
      files: names and values.
      ignore: the value that is known to be ignored; '' if none is.
      objects: whether they look like object ids.
    """
    smoothed = [name for name, found in files if _smoothed(name, found)]
    alike = len({frozenset(found) for _, found in files}) == 1
    if smoothed and not (alike and len(files[0][1]) <= FEW):
        return _smoothed(listed(smoothed), dict(files)[smoothed[0]])
    every = {v: n for _, found in files for v, n in found.items() if v != ignore}
    said = f"{listed([name for name, _ in files])}: masks have {_listed(every)}, "
    said += "which could mean anything; "
    if objects or len(every) > MAPPED:
        said += "if these are object ids, put the files into instances/; if class ids, "
        said += "name the classes: --config.data.classes=\"('background','a','b')\""
        return Fault("error", "mask values", said)
    both = any({"1", VOID} <= found.keys() for _, found in files)
    mixed = every.keys() == {"0", "1", VOID} and not both
    known = {"0": 0, "1": 1} if mixed else {}
    return Fault(
        "error", "mask values", f"{said}say what they are: {_flag(every, known)}"
    )


def _smoothed(name: str, found: Values) -> Fault | None:
    """A mask of two values, and of many between them where the two meet."""
    grey = sorted(int(v) for v in found if "," not in v)
    often = sorted(found, key=lambda v: -found[v])[:2]
    ends = {str(grey[0]), str(grey[-1])} if grey else set()
    if len(grey) < 5 or len(grey) != len(found) or set(often) != ends:
        return None
    if 2 * (grey[-2] - grey[1]) < grey[-1] - grey[0]:  # ids, and one far from them
        return None
    said = f"{name}: {len(grey)} values between {grey[0]} and {grey[-1]}, so it is "
    said += "anti-aliased: it was a JPEG, or made smaller or larger with smoothing; "
    said += "save it again from where it was drawn, and resize by nearest neighbour"
    return Fault("error", "anti-aliased", said)


def _flag(found: Values, ids: Mapping[str, int]) -> str:
    """The flag that would accept what was found."""
    known = {v: k for v, k in ids.items() if k > IGNORE}
    others = (found.keys() | known.keys()) - {VOID}
    small = others == {str(k) for k in range(len(others))}
    several = "1" in found or len(others) > 2
    if VOID in found.keys() - known.keys() and small and several:
        return f"--config.data.ignore_label={VOID}, if nobody annotated those"
    pairs = dict(known)
    for value in sorted(found.keys() - known.keys(), key=values.code):
        pairs[value] = _class_of(value, pairs, known)
    ordered = sorted(pairs.items(), key=lambda pair: (pair[1], values.code(pair[0])))
    each = [f"({f'({v})' if ',' in v else v},{k})" for v, k in ordered]
    return f'--config.data.label_map="({",".join(each)},)"'


def _class_of(value: str, pairs: Mapping[str, int], known: Mapping[str, int]) -> int:
    """What a value is likely to be: what is near it, nothing, or a class of its own."""
    number = values.code(value)
    if number < 0:
        return IGNORE
    near = [k for v, k in known.items() if abs(values.code(v) - number) <= NEAR]
    if near and number > OWN:
        return near[0]
    if {value, *known} in ({"0", "1", VOID}, {"0", "1", "65535"}) and len(known) == 2:
        return 1  # both ways to save a mask of two classes
    return max(pairs.values(), default=-1) + 1


def _listed(found: Set[str] | Values) -> str:
    shown = sorted(found, key=lambda v: (len(v), v))
    more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    values = "values" if len(shown) > 1 else "value"
    return f"the {values} {'; '.join(shown[:SHOWN])}{more}"
