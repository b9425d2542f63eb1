"""Label maps: from mask values to class ids; names and colours of classes.

A mask has one channel of whole numbers, or red, green and blue. In a label map a value
is text, '255' or '255,0,0'; a colour with three equal numbers is the same as that
number. In arrays a value is its code, one i64.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from unet_jax.arrays import IGNORE, cut_chunks
from unet_jax.colours import Colour, choose_colours
from unet_jax.errors import UserError
from unet_jax.text import listing

MICROSCOPY: tuple[Colour, ...] = ((40, 40, 40), (235, 235, 235))  # of two classes

COLOUR_OFFSET = 2**60  # added to the code of a colour, which has 16 bits a channel
MAX_VALUES = 4096  # of one mask; an image has more
MAX_CLASSES = 1024  # that a label map may number without naming them


def parse_label_map(
    label_map: tuple[tuple[Any, Any], ...],
    classes: tuple[str, ...],
    ignore_value: str = "",
) -> dict[str, int]:
    """Returns the class id of each value in a label map.

    Args:
      label_map: pairs of a mask value, or a colour, and a class id or name; the id -1
        ignores pixels of that value.
      classes: the names of the classes, by id; () if they have no names.
      ignore_value: the value of pixels that are not annotated; '' if there is none.

    Raises:
      UserError: the label map is not made of pairs, names an unknown class, or gives a
        value two classes.
    """
    ids: dict[str, int] = {}
    for pair in label_map:
        try:
            value, class_id = pair
            value = canonical_value(value)
        except (TypeError, ValueError) as error:
            raise UserError(
                "label_map must be pairs of a value, or a colour, and a class, "
                f"((0, 0), (255, 1)) or (((255, 0, 0), 1),), not {label_map!r}"
            ) from error
        if isinstance(class_id, str) and class_id in classes:
            class_id = classes.index(class_id)
        most = len(classes) or MAX_CLASSES
        if not isinstance(class_id, int) or not IGNORE <= class_id < most:
            known = ", ".join(classes) or "whole numbers from 0"
            raise UserError(
                f"label_map: there is no class {class_id!r} for the value {value}; "
                f"the classes are {known}, and {IGNORE} ignores pixels"
            )
        ignored = value == ignore_value and class_id != IGNORE
        if ignored or ids.get(value, class_id) != class_id:
            raise UserError(
                f"label_map gives the value {value} two meanings; give each value one "
                "class, and no class to ignore_label"
            )
        ids[value] = class_id
    unused = set(range(max(ids.values(), default=0))) - set(ids.values())
    if unused and not classes:
        raise UserError(
            f"label_map leaves class {min(unused)} out; number the classes from 0 "
            "without a gap"
        )
    return ids


def apply_label_map(mask: np.ndarray, ids: Mapping[str, int]) -> np.ndarray:
    """Converts a mask `[*S, 1]` or `[*S, 3]` to class ids `i32[*S]`.

    Args:
      mask: values or colours.
      ids: the class id of each value.

    Raises:
      UserError: a value has no class; see also `value_codes`.
    """
    known = sorted((parse_value(value), k) for value, k in ids.items())
    codes, class_ids = map(np.array, zip(*known, strict=True))
    label, done = np.empty(mask.shape[:-1], np.int32), 0
    for found in map(value_codes, cut_chunks(mask)):
        place = np.searchsorted(codes, found).clip(max=len(codes) - 1)
        if (codes[place] != found).any():
            unknown = map(value_text, np.unique(found[codes[place] != found]).tolist())
            raise UserError(
                f"the mask values {listing(unknown, separator='; ')} have no class; "
                "give them one in label_map, or -1 to ignore them"
            )
        label[done : done + len(found)] = class_ids[place]
        done += len(found)
    return label


def channels_to_label(mask: np.ndarray, ignore_value: str) -> np.ndarray:
    """Converts masks of independent classes `[*S, K]` to `i32[*S, K]` of 0, 1 and -1.

    Args:
      mask: 0 outside the class and any other value inside.
      ignore_value: the value of pixels that are not annotated; '' if there is none.
    """
    label = (mask != 0).astype(np.int32)
    if ignore_value:
        label[mask == int(ignore_value)] = IGNORE
    return label


def count_values(total: Counter[int], mask: np.ndarray) -> None:
    """Adds the pixels of each value of a mask, or of a part of it, to their counts.

    Args:
      total: the counts of the parts before, by the codes of the values.
      mask: `[*S, 1]` or `[*S, 3]`.

    Raises:
      UserError: there are too many values for a mask; see also `value_codes`.
    """
    for chunk in cut_chunks(mask):
        total.update(_count_codes(value_codes(chunk)))
        if len(total) > MAX_VALUES:
            raise UserError(
                f"a mask of more than {MAX_VALUES} values; this is an image, or "
                "object ids, which belong in instances/"
            )


def value_codes(mask: np.ndarray) -> np.ndarray:
    """Returns the code of every pixel, `[*S, 1]` or `[*S, 3]` -> `i64[*S]`.

    Raises:
      UserError: there is another number of channels, or a value is not a whole number.
    """
    channels = mask.shape[-1]
    if channels not in (1, 3):
        raise UserError(
            f"a mask of {channels} channels; save class ids or colours, or, if each "
            "channel is a class, set --config.data.multilabel=True"
        )
    whole = mask.astype(np.int64)
    if mask.dtype.kind == "f" and not np.array_equal(whole, mask):
        broken = np.unique(mask[whole != mask])[:3]
        raise UserError(
            f"mask values such as {', '.join(f'{v:g}' for v in broken)}; save class "
            "ids, which are whole numbers"
        )
    if channels == 1:
        return whole[..., 0]
    red, green, blue = np.moveaxis(whole, -1, 0)
    grey = (red == green) & (green == blue)
    return np.where(grey, red, COLOUR_OFFSET + (red << 32) + (green << 16) + blue)


def value_text(code: int) -> str:
    """Returns the text of a code: '255' or '255,0,0'."""
    if code < COLOUR_OFFSET // 2:
        return str(code)
    rest = code - COLOUR_OFFSET
    return f"{rest >> 32},{rest >> 16 & 0xFFFF},{rest & 0xFFFF}"


def parse_value(value: str) -> int:
    """Returns the code of a value as text; raises ValueError if there is none."""
    parts = [int(part) for part in value.split(",")]
    if len(parts) == 1 or len(set(parts)) == 1:
        return parts[0]
    red, green, blue = parts
    return COLOUR_OFFSET + (red << 32) + (green << 16) + blue


def canonical_value(value: int | tuple[int, ...] | str) -> str:
    """Returns the text of a value or a colour that is the key in a label map.

    Raises:
      TypeError, ValueError: it is neither a whole number nor a colour.
    """
    if isinstance(value, int):
        return str(value)
    parts = value.split(",") if isinstance(value, str) else value
    return value_text(parse_value(",".join(str(int(part)) for part in parts)))


def list_label_map_classes(
    label_map: tuple[tuple[Any, Any], ...], *, background: bool = True
) -> tuple[str, ...]:
    """Returns the classes that a label map names.

    Args:
      label_map: as in `parse_label_map`.
      background: True if one of them must be the background. It becomes the first.

    Raises:
      UserError: it names classes, and not the background that it must name.
    """
    names = [pair[-1] for pair in label_map if isinstance(pair, tuple)]
    names = list(dict.fromkeys(name for name in names if isinstance(name, str)))
    if names and background and "background" not in names:
        raise UserError(
            f"label_map names {', '.join(names)} and no background; name all classes, "
            "the background first: --config.data.classes=\"('background','cell')\""
        )
    return tuple(sorted(names, key=lambda name: name != "background"))


def class_names(
    classes: tuple[str, ...], count: int, *, background: bool = True
) -> tuple[str, ...]:
    """Returns the names of the classes, or default names of `count` classes.

    Args:
      classes: their names; () for default names.
      count: their number. There are always two or more default names.
      background: True if the first class is a background.
    """
    if classes:
        return classes
    if background and count <= 2:
        return ("background", "foreground")
    names = [f"class {k}" for k in range(max(count, 2))]
    return ("background", *names[1:]) if background else tuple(names)


def class_colours(
    colours: tuple, count: int, *, background: bool = True
) -> tuple[Colour, ...]:
    """Returns the colours of the classes, or default colours of `count` classes.

    Args:
      colours: the colour of each class, or () for default colours.
      count: the number of classes.
      background: True if the first class is a background, which is black by default.

    Raises:
      UserError: there are colours, but not one for each class.
    """
    if not colours:
        return choose_colours(count, background=background)
    check_colours(colours)
    if len(colours) != count:
        raise UserError(
            f"colours must have one for each class; it has {len(colours)} of "
            f"{count} classes"
        )
    return colours


def check_colours(colours: tuple) -> None:
    """Raises UserError unless these can be the colours of several classes."""
    for colour in colours:
        three = isinstance(colour, tuple) and len(colour) == 3
        if not three or not all(value in range(256) for value in colour):
            raise UserError(
                "colours must have red, green and blue, 0 to 255, of each class, "
                f"((0, 0, 0), (255, 0, 0)), not {colours!r}"
            )
    if len(colours) == 1:
        raise UserError("colours must have one for each class, also for class 0")


def _count_codes(codes: np.ndarray) -> dict[int, int]:
    low = int(codes.min())
    if int(codes.max()) - low < 2**16:  # several times faster than to sort
        counts = np.bincount((codes - low).ravel())
        return {low + int(i): int(counts[i]) for i in np.flatnonzero(counts)}
    each, pixels = np.unique(codes, return_counts=True)
    return dict(zip(each.tolist(), pixels.tolist(), strict=True))
