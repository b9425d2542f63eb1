"""Synthetic images of fluorescent cells, in 2-D and 3-D.

Nothing is downloaded or stored: record i of a split is drawn when it is loaded, from a
random generator that depends only on (seed, split, i). The constants were chosen so
that a threshold is not enough: with the default arguments, Otsu's threshold has a Dice
of 0.84, and a U-Net of 16 to 128 channels 0.94 after 250 steps.
"""

import functools
import math
from typing import Annotated, Any, NamedTuple

import numpy as np
from scipy import ndimage

from unet_jax.colours import choose_colours
from unet_jax.data.record import Record
from unet_jax.data.source import Source, Splits
from unet_jax.errors import UserError
from unet_jax.geometry import Shape
from unet_jax.specs import Count, Domain, Positive, Whole

_Diameter = Annotated[float, Domain("of 4 or more", lambda d: d >= 4)]
_Images = Annotated[int, Domain("from 1 to 1000000", lambda n: 1 <= n <= 10**6)]
_Cover = Annotated[float, Domain("above 0, to 0.8", lambda c: 0 < c <= 0.8)]

MAX_PIXELS = 2**24  # of an image; to draw more takes hours
PARTS = ("train", "val", "test", "unlabelled")  # the order numbers their streams


class _Scene(NamedTuple):
    """Two exposures of the same cells.

    Attributes:
      image: `u8[*S]`, with the noise of few photons.
      clean: `u8[*S]`, the same without noise.
      instances: object ids `i32[*S]`.
    """

    image: np.ndarray
    clean: np.ndarray
    instances: np.ndarray


def cells(
    *,
    shape: tuple[Count, ...] = (128, 128),
    train: _Images = 64,
    val: _Images = 8,
    test: _Images = 16,
    unlabelled: Whole = 0,
    seed: Whole = 0,
    diameter: _Diameter = 22.0,
    cover: _Cover = 0.45,
    photons: Positive = 80.0,
    targets: bool = False,
) -> Splits:
    """Makes images `u8[*S, 1]` of touching cells, with labels and instances.

    The images are blurred, noisy and unevenly lit. One pixel of background separates
    cells that touch, so the connected components of the label, with diagonals, are the
    instances.

    Args:
      shape: `*S`, the size of an image in pixels; 2 or 3 axes.
      train: the number of images to train on.
      val: the number of images to validate with.
      test: the number of images to test on.
      unlabelled: the number of additional images without labels.
      seed: another seed gives another data set.
      diameter: the median diameter of a cell in pixels.
      cover: the approximate share of an image that cells cover, in (0, 0.8].
      photons: the count of the brightest pixels; fewer photons give more noise.
      targets: True adds a `target` to each record with a label: the clean image
        `u8[*S, 1]`, the limit of a long exposure at the same brightness.

    Raises:
      UserError: `shape` has not 2 or 3 axes, or too many pixels.
    """
    if len(shape) not in (2, 3):
        raise UserError(f"shape must have 2 or 3 sizes, not {shape}")
    if math.prod(shape) > MAX_PIXELS:
        raise UserError(f"shape={shape} has more than {MAX_PIXELS} pixels; lower it")

    def load(split: str, stream: int, index: int) -> Record:
        rng = np.random.default_rng([seed, stream, index])
        scene = _draw_scene(rng, shape, diameter, cover, photons)
        record = {"image": scene.image[..., None], "id": f"{split}-{index:04d}"}
        if split == "unlabelled":
            return record
        record["label"] = (scene.instances > 0).astype(np.int32)
        record["instances"] = scene.instances
        if targets:
            record["target"] = scene.clean[..., None]
        return record

    lengths = (train, val, test, unlabelled)
    sources: dict[str, Any] = {
        # each split has its own stream of random numbers
        split: Source(
            name=f"cells/{split}",
            classes=("background", "cell"),
            colours=choose_colours(2),
            channels=1,
            length=length,
            load=functools.partial(load, split, stream),
            target_channels=int(targets and split != "unlabelled"),
        )
        for stream, (split, length) in enumerate(zip(PARTS, lengths, strict=True))
        if length or split != "unlabelled"
    }
    return Splits(**sources)


def _draw_scene(
    rng: np.random.Generator,
    shape: Shape,
    diameter: float,
    cover: float,
    photons: float,
) -> _Scene:
    """Draws cells and their image through a microscope."""
    share = cover * rng.uniform(0.7, 1.2)
    centres, radii = _place_cells(rng, shape, diameter / 2, share)
    owner, level = _draw_cells(rng, shape, centres, radii, warp=0.08 * diameter)
    instances = _separate(owner, smallest=(diameter / 4) ** len(shape))
    light = _fluorescence(rng, instances, level, diameter)
    light += _debris(rng, shape, diameter)
    return _Scene(*_expose(rng, light, diameter, photons), instances)


def _place_cells(
    rng: np.random.Generator, shape: Shape, radius: float, cover: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns centres `[N, axes]` and radii `[N]`; about half of the cells touch."""
    size, axes = np.asarray(shape, float), len(shape)
    frame = size + 2 * radius  # the edge of the image cuts through cells
    ball = np.pi ** (axes / 2) / math.gamma(axes / 2 + 1) * radius**axes
    wanted = max(1, round(cover * np.prod(frame) / ball))
    centres, radii = np.empty((wanted, axes)), np.empty(wanted)
    count = 0
    for _ in range(20 * wanted):
        if count == wanted:
            break
        r = radius * np.clip(rng.lognormal(0, 0.25), 0.5, 1.6)
        if count and rng.random() < 0.6:
            mate = rng.integers(count)
            way = rng.standard_normal(axes)
            reach = 0.9 * (r + radii[mate]) / np.linalg.norm(way)
            centre = centres[mate] + reach * way
        else:
            centre = rng.uniform(-radius, size + radius)
        if np.any(centre < -radius) or np.any(centre > size + radius):
            continue
        gap = np.linalg.norm(centres[:count] - centre, axis=1)
        if np.all(gap > 0.85 * (r + radii[:count])):
            centres[count], radii[count] = centre, r
            count += 1
    return centres[:count], radii[:count]


def _draw_cells(
    rng: np.random.Generator,
    shape: Shape,
    centres: np.ndarray,
    radii: np.ndarray,
    warp: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the cell of each pixel, 0 = none, and its relative radius, 0 to 1.

    A cell is an ellipsoid in a space that is warped smoothly by about `warp` pixels. If
    two cells overlap, a pixel belongs to the one with the smaller relative radius; that
    gives flat walls.
    """
    axes = len(shape)
    drift = [warp * _smooth(rng, shape, 2.5 * warp) for _ in shape]
    owner, level = np.zeros(shape, np.int32), np.ones(shape, np.float32)
    for number, (centre, radius) in enumerate(zip(centres, radii, strict=True), 1):
        turn = np.linalg.qr(rng.standard_normal((axes, axes)))[0]
        stretch = rng.uniform(0.8, 1.25, axes)
        stretch *= radius / stretch.prod() ** (1 / axes)
        reach = 1.4 * radius + 4 * warp
        low = np.clip(np.floor(centre - reach), 0, shape).astype(int)
        high = np.clip(np.ceil(centre + reach), 0, shape).astype(int)
        box = tuple(map(slice, low, high))
        offset = [
            grid + move[box] - middle
            for grid, move, middle in zip(np.ogrid[box], drift, centre, strict=True)
        ]
        place = np.stack(offset, axis=-1).astype(np.float32)
        out = np.linalg.norm(place @ (turn / stretch).astype(np.float32), axis=-1)
        deeper = out < level[box]
        owner[box][deeper] = number
        level[box][deeper] = out[deeper]
    return owner, level


def _separate(owner: np.ndarray, smallest: float) -> np.ndarray:
    """Numbers the cells, with one pixel of background between any two of them.

    First, pixels that touch a cell of a higher number are removed, so that no two
    numbers touch; then parts of fewer than `smallest` pixels.
    """
    neighbours = np.ones((3,) * owner.ndim, bool)  # with diagonals
    separate = owner * (ndimage.maximum_filter(owner, footprint=neighbours) == owner)
    parts, _ = ndimage.label(separate, neighbours)
    large = np.bincount(parts.ravel()) >= smallest
    return ndimage.label(large[parts] & (parts > 0), neighbours)[0].astype(np.int32)


def _fluorescence(
    rng: np.random.Generator, instances: np.ndarray, level: np.ndarray, diameter: float
) -> np.ndarray:
    """Returns the light of cells, with nuclei and texture, before the microscope."""
    shape, count = instances.shape, instances.max()
    bright = np.append(0, rng.lognormal(-0.1, 0.3, count)).astype(np.float32)
    nucleus = np.append(0, rng.uniform(-0.35, 0.35, count)).astype(np.float32)
    thickness = np.sqrt(np.clip(1.15 - level**2, 0, 1))
    inside = 1 / (1 + np.exp(12 * (level - 0.45)))
    texture = 1 + 0.2 * _smooth(rng, shape, 0.05 * diameter)
    texture += 0.15 * _smooth(rng, shape, 0.15 * diameter)
    body = (0.35 + 0.65 * thickness) * (1 + nucleus[instances] * inside)
    return bright[instances] * body * np.clip(texture, 0.2, None)


def _debris(rng: np.random.Generator, shape: Shape, diameter: float) -> np.ndarray:
    """Returns the light of bright specks that are no cells."""
    specks = np.zeros(shape, np.float32)
    count = rng.poisson(1.5 * np.prod(np.asarray(shape) / (3 * diameter)))
    for place in rng.integers(0, shape, (count, len(shape))):
        specks[tuple(place)] += rng.lognormal(2.6, 0.5)
    return ndimage.gaussian_filter(specks, 0.9)


def _expose(
    rng: np.random.Generator, source: np.ndarray, diameter: float, photons: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns images of 8 bits, with and without noise: blurred, hazy, unevenly lit.

    The shot noise has a Poisson distribution, the read noise a normal one of 1.5.
    """
    shape = source.shape
    sharp = ndimage.gaussian_filter(source, rng.uniform(0.5, 1.0))
    haze = ndimage.gaussian_filter(source, 0.5 * diameter, truncate=2.5)
    ghosts = np.clip(_smooth(rng, shape, 0.45 * diameter) - 0.3, 0, None)
    light = sharp + 0.35 * haze + rng.uniform(0.1, 0.3) * ghosts + 0.08
    light *= _illumination(rng, shape)
    light *= photons / np.percentile(light, 99.5)
    count = rng.poisson(light) + rng.normal(0, 1.5, shape)
    gain = rng.uniform(0.7, 1.05) * 255 / photons
    return _eight_bits(8 + gain * count), _eight_bits(8 + gain * light)


def _eight_bits(light: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(light), 0, 255).astype(np.uint8)


def _illumination(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Returns light that decreases with the distance from a spot near the middle."""
    spot = rng.uniform(0.2, 0.8, len(shape))
    grid = np.ogrid[tuple(slice(0, 1, complex(0, n)) for n in shape)]
    far = sum((g - s) ** 2 for g, s in zip(grid, spot, strict=True))
    return np.exp(-rng.uniform(0.3, 1.4) * far).astype(np.float32)


def _smooth(rng: np.random.Generator, shape: Shape, sigma: float) -> np.ndarray:
    """Returns a random field `f32[*S]` of mean 0, variance 1, smooth over `sigma`."""
    noise = rng.standard_normal(shape, np.float32)
    field = ndimage.gaussian_filter(noise, sigma, mode="wrap", truncate=3)
    return (field - field.mean()) / (field.std() + 1e-9)
