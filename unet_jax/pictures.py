"""Segmentations as pictures: input, truth, prediction, and where the two differ.

Colours are red, green, blue in 0 to 255. Volumes show their middle slice.
"""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from unet_jax.arrays import IGNORE

Picture = np.ndarray  # u8[H, W, 3]
Colours = Sequence[Sequence[int]]  # one per class

RIGHT, MISSED, INVENTED, UNKNOWN = (
    (24, 24, 24),
    (230, 75, 60),
    (60, 140, 240),
    (90,) * 3,
)
TITLES = ("input", "truth", "prediction", "error")
TINT = 0.35  # of a class's colour over the image
# Okabe and Ito 2008: told apart by everybody, and from grey.
VIVID = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
GAP, BAND = 4, 16  # pixels between the pictures, and of the line of titles
LEAST = 4 * 64  # pixels that the titles need


def grey(image: np.ndarray, *, like: np.ndarray | None = None) -> Picture:
    """Draws an image `[*S, C]` between the 1st and the 99th percentile of `like`.

    Args:
      image: one channel, or red, green and blue.
      like: an image of the same shape; the image itself if there is none.
    """
    low, high = np.percentile(_plane(image if like is None else like), (1, 99))
    image = _plane(image)
    scaled = np.clip((image - low) / max(high - low, 1e-6), 0, 1) * 255
    return np.broadcast_to(scaled, (*scaled.shape[:2], 3)).astype(np.uint8)


def _plane(image: np.ndarray) -> np.ndarray:
    """The middle slice of an image `[*S, C]`, with one channel or three."""
    image = _slice(np.asarray(image, np.float32), image.ndim - 1)
    return image[..., :3] if image.shape[-1] >= 3 else image[..., :1]


def deviation(target: np.ndarray, value: np.ndarray) -> Picture:
    """Draws where values are below the target in red, and above it in blue.

    Full colour is half of the target's range between its 1st and 99th percentile.
    """
    target, value = _plane(target), _plane(value)
    low, high = np.percentile(target, (1, 99))
    apart = (value - target).mean(-1) / max((high - low) / 2, 1e-6)
    share = np.clip(np.abs(apart), 0, 1)[..., None]
    colour = np.where(apart[..., None] < 0, MISSED, INVENTED)
    return (RIGHT + share * (colour - np.array(RIGHT))).astype(np.uint8)


def paint_objects(objects: np.ndarray) -> Picture:
    """Draws object ids `[*S]`: neighbours in number have different colours."""
    objects = _slice(objects, objects.ndim)
    palette = np.array([(0, 0, 0), *VIVID], np.uint8)
    index = np.where(objects > 0, 1 + (objects - 1) % len(VIVID), 0)
    picture = palette[index]
    picture[objects == IGNORE] = UNKNOWN
    return picture


def paint(label: np.ndarray, colours: Colours, *, axes: int) -> Picture:
    """A label `[*S]`, or `[*S, K]` whose K classes come after the background."""
    label = _slice(label, axes)
    palette = np.asarray(colours, np.uint8)
    if label.ndim == 2:
        picture = palette[np.clip(label, 0, len(palette) - 1)]
    else:
        picture = np.broadcast_to(palette[0], (*label.shape[:2], 3)).copy()
        for k in range(label.shape[-1]):
            picture[label[..., k] > 0] = palette[k + 1]
    picture[_unknown(label)] = UNKNOWN
    return picture


def differ(truth: np.ndarray, prediction: np.ndarray, *, axes: int) -> Picture:
    """Red where the prediction is below the truth, blue where it is above.

    With two classes that is foreground missed and foreground invented; of independent
    classes, one missed and, where none is, one invented.
    """
    truth, prediction = _slice(truth, axes), _slice(prediction, axes)
    unknown, known = _unknown(truth), truth != IGNORE
    missed, invented = known & (prediction < truth), known & (prediction > truth)
    if truth.ndim == 3:
        missed, invented = missed.any(-1), invented.any(-1)
    picture = np.full((*unknown.shape, 3), RIGHT, np.uint8)
    picture[invented] = INVENTED
    picture[missed] = MISSED
    picture[unknown] = UNKNOWN
    return picture


def overlay(
    image: np.ndarray,
    label: np.ndarray,
    colours: Colours,
    objects: np.ndarray | None = None,
) -> Picture:
    """The classes above 0 as a tint on an image `[H, W, C]`, outlined in full colour.

    A colour that is hardly one, and would not show on a grey image, becomes another.
    With objects `[H, W]`, each of them is outlined, also where two touch.
    """
    picture = grey(image).astype(np.float32)
    masks = (
        [label == k for k in range(1, len(colours))]
        if label.ndim == 2
        else np.moveaxis(label > 0, -1, 0)
    )
    for k, mask in enumerate(masks):
        colour = np.asarray(colours[k + 1], np.float32)
        if np.ptp(colour) < 60:
            colour = np.asarray(VIVID[k % len(VIVID)], np.float32)
        picture[mask] += TINT * (colour - picture[mask])
        ids = mask if objects is None else np.where(mask, objects + 1, 0)
        picture[mask & _edges(ids)] = colour
    return picture.astype(np.uint8)


def heat(values: np.ndarray, *, top: float) -> Picture:
    """Values `[*S]` from 0, black, over red and yellow to `top`, white."""
    values = _slice(np.asarray(values, np.float32), values.ndim)
    share = np.clip(values / top, 0, 1)[..., None]
    return (255 * np.clip(3 * share - (0, 1, 2), 0, 1)).astype(np.uint8)


def _edges(ids: np.ndarray) -> np.ndarray:
    """The pixels `bool[H, W]` that have another id beside them."""
    padded = np.pad(ids, 1, mode="edge")
    beside = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return np.any([ids != other for other in beside], axis=0)


def row(parts: Sequence[Picture]) -> Picture:
    """Puts pictures of one size side by side."""
    height = parts[0].shape[0]
    gap = np.full((height, GAP, 3), 255, np.uint8)
    joined = [piece for part in parts for piece in (part, gap)]
    return np.concatenate(joined[:-1], axis=1)


def sheet(rows: Sequence[Picture]) -> Picture:
    """Rows, if any, under one line of titles; narrow rows are filled up with white.

    Where all are too narrow for the titles, every pixel becomes a square of several.
    """
    widest = max((picture.shape[1] for picture in rows), default=LEAST)
    times = -(-LEAST // widest)
    rows = [picture.repeat(times, 0).repeat(times, 1) for picture in rows]
    widths = [picture.shape[1] for picture in rows] or [LEAST]
    width = max(widths)
    canvas = Image.new("RGB", (width, BAND), "white")
    draw = ImageDraw.Draw(canvas)
    column = (widths[0] + times * GAP) / len(TITLES)
    for i, title in enumerate(TITLES):
        draw.text((round(i * column) + 2, 2), title, fill="black")
    padded = [np.asarray(canvas)]
    for picture in rows:
        missing = width - picture.shape[1]
        spread = ((0, GAP), (0, missing), (0, 0))
        padded.append(np.pad(picture, spread, constant_values=255))
    return np.concatenate(padded)


def contact_sheet(images: Sequence[Picture], columns: int) -> Picture:
    """Puts pictures of one size in rows of so many columns, with white between."""
    height, width = images[0].shape[:2]
    rows = -(-len(images) // columns)
    shape = (rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3)
    sheet = np.full(shape, 255, np.uint8)
    for i, picture in enumerate(images):
        top, left = (height + GAP) * (i // columns), (width + GAP) * (i % columns)
        sheet[top : top + height, left : left + width] = picture
    return sheet


def png(picture: Picture) -> bytes:
    """The picture as a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


def _slice(array: np.ndarray, axes: int) -> np.ndarray:
    """The middle slice along every spatial axis but the last two."""
    for _ in range(axes - 2):
        array = array[len(array) // 2]
    return array


def _unknown(label: np.ndarray) -> np.ndarray:
    ignored = label == IGNORE
    return ignored if label.ndim == 2 else ignored.all(-1)
