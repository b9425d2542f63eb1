"""Colours that differ as much as possible, for classes and objects in pictures.

A colour is red, green and blue from 0 to 255. The difference of two colours is
CIEDE2000 (Sharma, Wu and Dalal 2005): about 1 is the smallest that is visible side by
side.
"""

import functools
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

Colour = tuple[int, int, int]

BLACK: Colour = (0, 0, 0)
# Okabe and Ito 2008: colours that differ for people with colour blindness, too.
OKABE_ITO: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
RESERVED: tuple[Colour, ...] = (BLACK, (24, 24, 24), (90, 90, 90))  # of pictures
LEVELS = range(0, 256, 17)  # of red, green and blue, among which colours are chosen
LIGHTNESS, MIN_CHROMA = (30, 95), 20  # in CIELAB; visible on black, grey and white
SRGB_TO_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
OBJECT_COLOURS = 24
MAX_SIZE = 1024  # pixels along an axis; larger planes are subsampled
WHITE = (0.95047, 1.0, 1.08883)  # D65


def choose_colours(count: int, *, background: bool = True) -> tuple[Colour, ...]:
    """Returns colours of classes: black for a background, then different colours.

    The first seven colours after black are those of Okabe and Ito. A shorter result is
    the beginning of a longer one.

    Args:
      count: the number of classes.
      background: True if the first class is a background. Without one, no class is
        black.
    """
    foreground = add_colours(OKABE_ITO, max(count - len(OKABE_ITO) - background, 0))
    return ((BLACK,) * background + foreground)[:count]


def add_colours(colours: Sequence[Sequence[int]], count: int) -> tuple[Colour, ...]:
    """Appends `count` colours that differ from those before them and from dark greys.

    Each is the farthest from all before it (Glasbey et al. 2007). After some thousands
    of colours, they repeat.
    """
    given = tuple(_to_colour(colour) for colour in colours)
    return given + _choose_farthest(given, count)


def replace_greys(colours: Sequence[Sequence[int]]) -> tuple[Colour, ...]:
    """Replaces colours that are nearly grey, which are hard to see on a grey image."""
    lab = convert_to_lab(np.array(colours).reshape(-1, 3))
    grey = np.hypot(lab[:, 1], lab[:, 2]) < MIN_CHROMA
    own = [colour for colour, g in zip(colours, grey, strict=True) if not g]
    new = iter(add_colours(own, int(grey.sum()))[len(own) :])
    return tuple(
        next(new) if g else _to_colour(colour)
        for colour, g in zip(colours, grey, strict=True)
    )


def choose_object_colours(objects: np.ndarray) -> list[Colour]:
    """Returns the colour of each of the objects 1, 2, ..., N in a plane of ids.

    Up to 24 objects have different colours. More objects share them, all colours
    equally often, but neighbours do not. Two objects are neighbours if no third one
    lies nearer to some point between them.

    Args:
      objects: `int[H, W]` of 0, the background, to N.
    """
    neighbours = _find_neighbours(objects)
    colours = choose_colours(OBJECT_COLOURS, background=False)
    chosen, uses = [-1] * len(neighbours), [0] * OBJECT_COLOURS
    # Those with the most neighbours choose first.
    order = sorted(range(1, len(neighbours)), key=lambda i: (-len(neighbours[i]), i))
    for i in order:
        taken = {chosen[j] for j in neighbours[i]}
        best = min(range(OBJECT_COLOURS), key=lambda k: (k in taken, uses[k], k))
        chosen[i] = best
        uses[best] += 1
    return [colours[k] for k in chosen[1:]]


def _find_neighbours(objects: np.ndarray) -> list[set[int]]:
    """Returns the neighbours of each id; those of 0 are empty."""
    neighbours: list[set[int]] = [set() for _ in range(objects.max(initial=0) + 1)]
    step = -(-max(objects.shape) // MAX_SIZE)
    small = objects[::step, ::step]
    if not small.any():
        return neighbours
    place = ndimage.distance_transform_edt(
        small == 0, return_distances=False, return_indices=True
    )
    near = small[tuple(place)]  # the nearest object of every pixel
    for one, other in ((near[1:], near[:-1]), (near[:, 1:], near[:, :-1])):
        pairs = np.stack([one[one != other], other[one != other]], axis=-1)
        for i, j in np.unique(pairs, axis=0).tolist():
            neighbours[i].add(j)
            neighbours[j].add(i)
    return neighbours


@functools.lru_cache(maxsize=16)
def _choose_farthest(given: tuple[Colour, ...], count: int) -> tuple[Colour, ...]:
    if not count:
        return ()
    levels = np.stack(np.meshgrid(LEVELS, LEVELS, LEVELS, indexing="ij"), axis=-1)
    candidates = levels.reshape(-1, 3)
    lab = convert_to_lab(candidates)
    bright = (lab[:, 0] >= LIGHTNESS[0]) & (lab[:, 0] <= LIGHTNESS[1])
    vivid = bright & (np.hypot(lab[:, 1], lab[:, 2]) >= MIN_CHROMA)
    candidates, lab = candidates[vivid], lab[vivid]
    nearest = np.full(len(lab), np.inf)
    for colour in convert_to_lab(np.array((*RESERVED, *given))):
        nearest = np.minimum(nearest, measure_difference(lab, colour))
    chosen = []
    for _ in range(min(count, len(lab))):
        # Rounded, because the last digits depend on the machine.
        best = int(nearest.round(6).argmax())
        chosen.append(_to_colour(candidates[best]))
        nearest = np.minimum(nearest, measure_difference(lab, lab[best]))
    return tuple(chosen[i % len(chosen)] for i in range(count))


def _to_colour(values: Sequence[int] | np.ndarray) -> Colour:
    red, green, blue = map(int, values)
    return red, green, blue


def convert_to_lab(colours: np.ndarray) -> np.ndarray:
    """Converts sRGB colours `[..., 3]`, 0 to 255, to CIELAB `f64[..., 3]` (D65)."""
    share = np.asarray(colours) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    ratio = linear @ np.array(SRGB_TO_XYZ).T / WHITE
    root = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio * 841 / 108 + 4 / 29)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def measure_difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Measures CIEDE2000 between CIELAB colours, `[..., 3]` each.

    The names are those of Sharma et al. 2005, equations 2 to 22.
    """
    (l1, a1, b1), (l2, a2, b2) = (np.moveaxis(x, -1, 0) for x in (first, second))
    mean_c = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    g = 1.5 - 0.5 * np.sqrt(mean_c**7 / (mean_c**7 + 25.0**7))
    c1, c2 = np.hypot(g * a1, b1), np.hypot(g * a2, b2)
    h1, h2 = (np.arctan2(b, g * a) % (2 * np.pi) for a, b in ((a1, b1), (a2, b2)))
    turn = (h2 - h1 + np.pi) % (2 * np.pi) - np.pi
    colourless = c1 * c2 == 0
    d_h = 2 * np.sqrt(c1 * c2) * np.sin(np.where(colourless, 0, turn) / 2)
    middle = h1 + turn / 2
    h = np.rad2deg(np.where(colourless, h1 + h2, middle)) % 360
    l, c = (l1 + l2) / 2, (c1 + c2) / 2  # noqa: E741

    def cosine(degrees: np.ndarray) -> np.ndarray:
        return np.cos(np.deg2rad(degrees))

    t = (
        1
        - 0.17 * cosine(h - 30)
        + 0.24 * cosine(2 * h)
        + 0.32 * cosine(3 * h + 6)
        - 0.2 * cosine(4 * h - 63)
    )
    s_l = 1 + 0.015 * (l - 50) ** 2 / np.sqrt(20 + (l - 50) ** 2)
    s_c, s_h = 1 + 0.045 * c, 1 + 0.015 * c * t
    rotation = np.deg2rad(60 * np.exp(-(((h - 275) / 25) ** 2)))
    r_t = -2 * np.sqrt(c**7 / (c**7 + 25.0**7)) * np.sin(rotation)
    d_l, d_c, d_h = (l2 - l1) / s_l, (c2 - c1) / s_c, d_h / s_h
    return np.sqrt(np.maximum(d_l**2 + d_c**2 + d_h**2 + r_t * d_c * d_h, 0))
