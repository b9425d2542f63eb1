"""Pictures of images, labels and their errors.

Colours are red, green and blue from 0 to 255. The picture of a volume shows its middle
slice.
"""

import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from unet_jax.arrays import IGNORE
from unet_jax.colours import BLACK, choose_object_colours, replace_greys

Picture = np.ndarray  # u8[H, W, 3]
Colours = Sequence[Sequence[int]]  # one for each class
Legend = Sequence[tuple[str, Sequence[int]]]  # names and colours

# Colours of pixels in a map of errors.
CORRECT, FALSE_NEGATIVE, FALSE_POSITIVE, WRONG_CLASS, IGNORED = (
    (24, 24, 24),
    (230, 75, 60),
    (60, 140, 240),
    (245, 205, 60),
    (90, 90, 90),
)
TOO_LOW, TOO_HIGH = FALSE_NEGATIVE, FALSE_POSITIVE  # of a predicted value
TITLES = ("input", "truth", "prediction", "error")
TINT = 0.35  # opacity of the colour of a class over the image
GAP = 4  # pixels between two pictures
TITLE_HEIGHT = 16  # pixels
SWATCH = 10  # pixels, the square of a colour in a legend
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
    """Draws object ids `[*S]`, each in a colour that differs from its neighbours'."""
    objects = take_slice(objects, objects.ndim)
    picture = _paint_objects(objects)
    picture[objects == IGNORE] = IGNORED
    return picture


def _paint_objects(objects: np.ndarray) -> Picture:
    """Returns the colour of the object at each pixel of `[H, W]`; black without one."""
    ids, index = np.unique(np.maximum(objects, 0), return_inverse=True)
    index = index.reshape(objects.shape) + (ids[0] > 0)  # 0 is no object
    return np.array((BLACK, *choose_object_colours(index)), np.uint8)[index]


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


def draw_errors(
    truth: np.ndarray, prediction: np.ndarray, *, axes: int, background: bool = True
) -> Picture:
    """Draws the wrong pixels in the colours that `make_error_legend` explains.

    The order of the classes has no meaning. Foreground that is predicted as background
    is a false negative, the reverse is a false positive, and any other confusion is a
    wrong class. With independent classes, a pixel that misses a class is a false
    negative; one that misses none and has a wrong one is a false positive.

    Args:
      truth: class ids `[*S]`, or `[*S, K]` of 0 and 1.
      prediction: of the same shape.
      axes: the number of spatial axes.
      background: True if class id 0 is the background.
    """
    truth, prediction = take_slice(truth, axes), take_slice(prediction, axes)
    ignored, known = _find_ignored(truth), truth != IGNORE
    if truth.ndim == 3:
        wrong = np.zeros(ignored.shape, bool)
        missed = (known & (prediction < truth)).any(-1)
        false = (known & (prediction > truth)).any(-1) & ~missed
    else:
        wrong = known & (prediction != truth)
        missed = wrong & background & (prediction == 0)
        false = wrong & background & (truth == 0)
    picture = np.full((*ignored.shape, 3), CORRECT, np.uint8)
    picture[wrong] = WRONG_CLASS
    picture[missed] = FALSE_NEGATIVE
    picture[false] = FALSE_POSITIVE
    picture[ignored] = IGNORED
    return picture


def make_error_legend(
    classes: int, *, background: bool = True, independent: bool = False
) -> Legend:
    """Returns the names and colours of the pixels that `draw_errors` draws.

    Args:
      classes: the number of classes, the background included.
      background: True if class id 0 is the background.
      independent: True if a pixel can have several classes.
    """
    errors: list[tuple[str, Sequence[int]]] = []
    if background or independent:
        errors = [
            ("false negative", FALSE_NEGATIVE),
            ("false positive", FALSE_POSITIVE),
        ]
    if not independent and classes > 2 or not errors:
        errors.append(("wrong class", WRONG_CLASS))
    return [("correct", CORRECT), *errors, ("not annotated", IGNORED)]


def draw_overlay(
    image: np.ndarray,
    label: np.ndarray,
    colours: Colours,
    objects: np.ndarray | None = None,
    *,
    background: bool = True,
) -> Picture:
    """Draws the classes as a tint over an image, with outlines in full colour.

    Args:
      image: `[H, W, C]`.
      label: class ids `[H, W]`, or `[H, W, K]` of 0 and 1.
      colours: of each class, the background first. A colour that is nearly grey is
        replaced, because it would be hard to see on a grey image.
      objects: ids `[H, W]`. Each object has a colour of its own and an outline, also
        where two touch. If there are several classes, the outline has the colour of the
        class. Without objects, each class is tinted and outlined.
      background: True if class id 0 is the background, which is not drawn.
    """
    picture = draw_image(image).astype(np.float32)
    foreground = replace_greys(colours[background:])
    masks = (
        [label == k for k in range(int(background), len(colours))]
        if label.ndim == 2
        else list(np.moveaxis(label > 0, -1, 0))
    )
    painted = None if objects is None else _paint_objects(objects)
    for colour, mask in zip(foreground, masks, strict=True):
        tint = np.broadcast_to(np.asarray(colour, np.float32), picture.shape)
        ids = mask
        if objects is not None and painted is not None:
            ids = np.where(mask, objects + 1, 0)
            tint = np.where((objects > 0)[..., None], painted, tint)
        edges = mask & _find_edges(ids)
        picture[mask] += TINT * (tint[mask] - picture[mask])
        picture[edges] = tint[edges] if len(foreground) == 1 else colour
    return picture.astype(np.uint8)


def make_overlay_legend(
    classes: Sequence[str], colours: Colours, *, background: bool = True
) -> Legend:
    """Returns the names and colours of the classes that `draw_overlay` draws."""
    foreground = replace_greys(colours[background:])
    return list(zip(classes[background:], foreground, strict=True))


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


def join_rows(rows: Sequence[Picture], legend: Legend = ()) -> Picture:
    """Joins rows of pictures between a line of titles and a legend.

    Narrow rows are padded with white. If all rows are too narrow for the titles, they
    are enlarged by a whole number.

    Args:
      rows: an input, a truth, a prediction and an error side by side; may be empty.
      legend: names and colours, written below the rows.
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
    if legend:
        padded.append(draw_legend(legend, width))
    return np.concatenate(padded)


def draw_legend(legend: Legend, width: int) -> Picture:
    """Draws squares of colours with their names, in lines of at most `width` pixels."""
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    placed, left, line = [], 2, 0
    for name, colour in legend:
        # Pillow's own font may lack other characters.
        text = " ".join(name.encode("latin-1", "replace").decode("latin-1").split())
        size = SWATCH + GAP + math.ceil(measure.textlength(text))
        if left > 2 and left + size > width:
            left, line = 2, line + 1
        placed.append((left, line * TITLE_HEIGHT + 3, text, tuple(map(int, colour))))
        left += size + 3 * GAP
    canvas = Image.new("RGB", (width, (line + 1) * TITLE_HEIGHT), "white")
    draw = ImageDraw.Draw(canvas)
    for x, y, text, colour in placed:
        draw.rectangle((x, y, x + SWATCH - 1, y + SWATCH - 1), fill=colour)
        draw.text((x + SWATCH + GAP, y - 1), text, fill="black")
    return np.asarray(canvas)


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
