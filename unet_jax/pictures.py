"""Pictures of images, labels and their errors.

Colours are red, green and blue from 0 to 255. The picture of a volume shows its middle
slice.
"""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from unet_jax.arrays import IGNORE

Picture = np.ndarray  # u8[H, W, 3]
Colours = Sequence[Sequence[int]]  # one for each class

# Colours of a pixel whose predicted class id is correct, too low (a false negative) or
# too high (a false positive), and of a pixel without annotation.
CORRECT, TOO_LOW, TOO_HIGH, IGNORED = (
    (24, 24, 24),
    (230, 75, 60),
    (60, 140, 240),
    (90,) * 3,
)
TITLES = ("input", "truth", "prediction", "error")
TINT = 0.35  # opacity of the colour of a class over the image
# Okabe and Ito 2008: colours that differ for people with colour blindness, too.
VIVID = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
GAP = 4  # pixels between two pictures
TITLE_HEIGHT = 16  # pixels
MIN_WIDTH = 4 * 64  # pixels that the titles need


def draw_image(image: np.ndarray, *, like: np.ndarray | None = None) -> Picture:
    """Draws an image, from black at the 1st percentile to white at the 99th.

    Args:
      image: `[*S, C]`. With three channels or more, the first three are red, green and
        blue. Otherwise the first one is drawn in grey.
      like: an image of the same shape that gives the percentiles; by default the image
        itself.
    """
    reference = _take_plane(image if like is None else like)
    low, high = np.percentile(reference, (1, 99))
    image = _take_plane(image)
    scaled = np.clip((image - low) / max(high - low, 1e-6), 0, 1) * 255
    return np.broadcast_to(scaled, (*scaled.shape[:2], 3)).astype(np.uint8)


def _take_plane(image: np.ndarray) -> np.ndarray:
    """Returns the middle slice of an image `[*S, C]`, with one channel or three."""
    image = take_slice(np.asarray(image, np.float32), image.ndim - 1)
    return image[..., :3] if image.shape[-1] >= 3 else image[..., :1]


def draw_deviation(target: np.ndarray, value: np.ndarray) -> Picture:
    """Draws values below the target in red, and values above it in blue.

    The colour is strongest at a difference of half the range of the target, taken from
    its 1st to its 99th percentile.

    Both arrays are `[*S, C]`.
    """
    target, value = _take_plane(target), _take_plane(value)
    low, high = np.percentile(target, (1, 99))
    difference = (value - target).mean(-1) / max((high - low) / 2, 1e-6)
    strength = np.clip(np.abs(difference), 0, 1)[..., None]
    colour = np.where(difference[..., None] < 0, TOO_LOW, TOO_HIGH)
    return (CORRECT + strength * (colour - np.array(CORRECT))).astype(np.uint8)


def draw_objects(objects: np.ndarray) -> Picture:
    """Draws object ids `[*S]`; consecutive ids have different colours."""
    objects = take_slice(objects, objects.ndim)
    palette = np.array([(0, 0, 0), *VIVID], np.uint8)
    index = np.where(objects > 0, 1 + (objects - 1) % len(VIVID), 0)
    picture = palette[index]
    picture[objects == IGNORE] = IGNORED
    return picture


def draw_label(label: np.ndarray, colours: Colours, *, axes: int) -> Picture:
    """Draws the classes of a label in their colours.

    Args:
      label: class ids `[*S]`, or `[*S, K]` of 0 and 1 for K independent classes.
      colours: of each class, the background first.
      axes: the number of spatial axes.
    """
    label = take_slice(label, axes)
    palette = np.asarray(colours, np.uint8)
    if label.ndim == 2:
        picture = palette[np.clip(label, 0, len(palette) - 1)]
    else:
        picture = np.broadcast_to(palette[0], (*label.shape[:2], 3)).copy()
        for k in range(label.shape[-1]):
            picture[label[..., k] > 0] = palette[k + 1]
    picture[_find_ignored(label)] = IGNORED
    return picture


def draw_errors(truth: np.ndarray, prediction: np.ndarray, *, axes: int) -> Picture:
    """Draws a class id below the truth in red, and one above it in blue.

    With two classes, red is a false negative, and blue is a false positive. With
    independent classes, red pixels miss a class; blue pixels miss none and have a wrong
    one.

    Args:
      truth: class ids `[*S]`, or `[*S, K]` of 0 and 1.
      prediction: of the same shape.
      axes: the number of spatial axes.
    """
    truth, prediction = take_slice(truth, axes), take_slice(prediction, axes)
    ignored, known = _find_ignored(truth), truth != IGNORE
    too_low, too_high = known & (prediction < truth), known & (prediction > truth)
    if truth.ndim == 3:
        too_low, too_high = too_low.any(-1), too_high.any(-1)
    picture = np.full((*ignored.shape, 3), CORRECT, np.uint8)
    picture[too_high] = TOO_HIGH
    picture[too_low] = TOO_LOW
    picture[ignored] = IGNORED
    return picture


def draw_overlay(
    image: np.ndarray,
    label: np.ndarray,
    colours: Colours,
    objects: np.ndarray | None = None,
) -> Picture:
    """Draws the foreground as a tint over an image, with outlines in full colour.

    Args:
      image: `[H, W, C]`.
      label: class ids `[H, W]`, or `[H, W, K]` of 0 and 1.
      colours: of each class, the background first. A colour that is nearly grey is
        replaced by one of `VIVID`, which is visible on a grey image.
      objects: ids `[H, W]`. Each object has its own outline, also where two touch;
        without them, each class has one.
    """
    picture = draw_image(image).astype(np.float32)
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
        picture[mask & _find_edges(ids)] = colour
    return picture.astype(np.uint8)


def draw_heat_map(values: np.ndarray, *, top: float) -> Picture:
    """Draws values `[*S]` in black at 0, then red and yellow, and white at `top`."""
    values = take_slice(np.asarray(values, np.float32), values.ndim)
    share = np.clip(values / top, 0, 1)[..., None]
    return (255 * np.clip(3 * share - (0, 1, 2), 0, 1)).astype(np.uint8)


def _find_edges(ids: np.ndarray) -> np.ndarray:
    """Returns `bool[H, W]`: True for a pixel with a neighbour of another id."""
    padded = np.pad(ids, 1, mode="edge")
    rows = (padded[:-2, 1:-1], padded[2:, 1:-1])
    columns = (padded[1:-1, :-2], padded[1:-1, 2:])
    return np.any([ids != neighbour for neighbour in (*rows, *columns)], axis=0)


def join_rows(rows: Sequence[Picture]) -> Picture:
    """Joins rows of pictures below a line of titles.

    Narrow rows are padded with white. If all rows are too narrow for the titles, they
    are enlarged by a whole number.

    Args:
      rows: an input, a truth, a prediction and an error side by side; may be empty.
    """
    widest = max((picture.shape[1] for picture in rows), default=MIN_WIDTH)
    factor = -(-MIN_WIDTH // widest)
    rows = [picture.repeat(factor, 0).repeat(factor, 1) for picture in rows]
    widths = [picture.shape[1] for picture in rows] or [MIN_WIDTH]
    width = max(widths)
    canvas = Image.new("RGB", (width, TITLE_HEIGHT), "white")
    draw = ImageDraw.Draw(canvas)
    column = (widths[0] + factor * GAP) / len(TITLES)
    for i, title in enumerate(TITLES):
        draw.text((round(i * column) + 2, 2), title, fill="black")
    padded = [np.asarray(canvas)]
    for picture in rows:
        missing = width - picture.shape[1]
        padding = ((0, GAP), (0, missing), (0, 0))
        padded.append(np.pad(picture, padding, constant_values=255))
    return np.concatenate(padded)


def make_contact_sheet(pictures: Sequence[Picture], columns: int) -> Picture:
    """Arranges pictures of one size in rows of some columns, with white gaps."""
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    shape = (rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3)
    sheet = np.full(shape, 255, np.uint8)
    for i, picture in enumerate(pictures):
        top, left = (height + GAP) * (i // columns), (width + GAP) * (i % columns)
        sheet[top : top + height, left : left + width] = picture
    return sheet


def thin_out(picture: np.ndarray, size: int) -> np.ndarray:
    """Returns every n-th pixel of `[H, W, ...]`: at most `size` along an axis."""
    step = -(-max(picture.shape[:2]) // size)
    return picture[::step, ::step]


def encode_png(picture: Picture) -> bytes:
    """Returns a picture as the bytes of a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


def take_slice(array: np.ndarray, axes: int) -> np.ndarray:
    """Returns the middle slice along every spatial axis but the last two."""
    for _ in range(axes - 2):
        array = array[len(array) // 2]
    return array


def _find_ignored(label: np.ndarray) -> np.ndarray:
    """Returns `bool[H, W]`: True for a pixel without any annotation."""
    ignored = label == IGNORE
    return ignored if label.ndim == 2 else ignored.all(-1)
