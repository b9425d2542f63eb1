"""The values of mask files, as numbers and as people write them.

A mask has one channel of whole numbers, or three of red, green and blue. A value is
written '255' or '255,0,0'; a grey colour is the same as its number. In arrays a value
is one `i64`, its code.
"""

from collections import Counter
from collections.abc import Mapping

import numpy as np

from unet_jax.arrays import IGNORE
from unet_jax.data.account import pieces
from unet_jax.errors import UserError

COLOUR = 2**60  # in the code of a value that is no shade of grey; 16 bits a channel
MOST = 4096  # values of one mask that are told apart


def codes(mask: np.ndarray) -> np.ndarray:
    """The code of every pixel, `[*S, 1]` or `[*S, 3]` -> `i64[*S]`.

    Raises:
      UserError: there is another number of channels, or a value is no whole number.
    """
    channels = mask.shape[-1]
    if channels not in (1, 3):
        raise UserError(
            f"a mask of {channels} channels; save class ids or colours, or, if each "
            "channel is a class, set --config.data.multilabel=True"
        )
    whole = mask.astype(np.int64)
    if mask.dtype.kind == "f" and not np.array_equal(whole, mask):
        strange = np.unique(mask[whole != mask])[:3]
        raise UserError(
            f"mask values such as {', '.join(f'{v:g}' for v in strange)}; save class "
            "ids, which are whole numbers"
        )
    if channels == 1:
        return whole[..., 0]
    red, green, blue = np.moveaxis(whole, -1, 0)
    grey = (red == green) & (green == blue)
    return np.where(grey, red, COLOUR + (red << 32) + (green << 16) + blue)


def histogram(mask: np.ndarray) -> dict[str, int]:
    """How many pixels each value has.

    Raises:
      UserError: as `codes` does; or there are too many values for a mask.
    """
    total: Counter[int] = Counter()
    for piece in pieces(mask):
        total.update(_counted(codes(piece)))
        if len(total) > MOST:
            raise UserError(
                f"a mask of more than {MOST} values; this is an image, or object ids, "
                "which belong into instances/"
            )
    return {text(code): pixels for code, pixels in sorted(total.items())}


def classes(mask: np.ndarray, meaning: Mapping[str, int]) -> np.ndarray:
    """The class of every pixel, `[*S, C]` -> `i32[*S]`.

    Raises:
      UserError: as `codes` does; or a value has no meaning.
    """
    known = sorted((code(value), k) for value, k in meaning.items())
    keys, ids = map(np.array, zip(*known, strict=True))
    label, done = np.empty(mask.shape[:-1], np.int32), 0
    for piece in pieces(mask):
        found = codes(piece)
        place = np.searchsorted(keys, found).clip(max=len(keys) - 1)
        if (keys[place] != found).any():
            strange = np.unique(found[keys[place] != found])[:5]
            raise UserError(
                f"has the mask values {'; '.join(text(int(c)) for c in strange)}, "
                "which were not there when the folder was read through; begin again"
            )
        label[done : done + len(piece)] = ids[place]
        done += len(piece)
    return label


def _counted(found: np.ndarray) -> dict[int, int]:
    """How often each code is there."""
    low = int(found.min())
    if int(found.max()) - low < 2**16:  # several times faster than to sort
        counts = np.bincount((found - low).ravel())
        return {low + int(i): int(counts[i]) for i in np.flatnonzero(counts)}
    each, pixels = np.unique(found, return_counts=True)
    return dict(zip(each.tolist(), pixels.tolist(), strict=True))


def channels(mask: np.ndarray, ignore: str) -> np.ndarray:
    """Independent classes: `[*S, K]` of 0 and any other -> `i32[*S, K]` of 0 and 1."""
    marked = (mask != 0).astype(np.int32)
    return np.where(mask == int(ignore), IGNORE, marked) if ignore else marked


def text(number: int) -> str:
    """A code as people write it."""
    if number < COLOUR // 2:
        return str(number)
    rest = number - COLOUR
    return f"{rest >> 32},{rest >> 16 & 0xFFFF},{rest & 0xFFFF}"


def code(value: str) -> int:
    """What people write, as a code."""
    parts = [int(part) for part in value.split(",")]
    if len(parts) == 1 or len(set(parts)) == 1:
        return parts[0]
    red, green, blue = parts
    return COLOUR + (red << 32) + (green << 16) + blue


def written(value: int | tuple[int, ...] | str) -> str:
    """A value of a label map, in the one form that it is looked up in."""
    if isinstance(value, int):
        return str(value)
    parts = value.split(",") if isinstance(value, str) else value
    return text(code(",".join(str(int(part)) for part in parts)))
