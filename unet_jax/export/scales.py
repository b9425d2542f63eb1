"""The normalisations of `data/normalize.py` as functions of JAX, for whole images.

They measure and scale each image of a batch by itself.
"""

import fractions
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unet_jax.specs import Spec


class ImageScale(NamedTuple):
    """The map `(value - offset) / width` of each channel; 0 if the width is 0.

    Attributes:
      offset: `f32[B, 1, ..., C]`, or of a shape that broadcasts to it.
      width: of the same shape.
      clip: True clips the result to 0 and 1.
      low, high: raw values outside of them become the nearer one first.
    """

    offset: jax.Array
    width: jax.Array
    clip: bool = False
    low: jax.Array | None = None
    high: jax.Array | None = None


def measure_scale(image: jax.Array, spec: Spec) -> ImageScale:
    """Measures the scale of raw images `[B, *S, C]`.

    Args:
      image: the images.
      spec: a key of `MEASURES`, with all keywords.
    """
    keywords = {name: value for name, value in spec.items() if name != "name"}
    measure = MEASURES[spec["name"]]
    return measure(image.astype(jnp.float32), **keywords)


def apply_scale(image: jax.Array, scale: ImageScale) -> jax.Array:
    """Maps raw images to what the network sees, `f32[B, *S, C]`."""
    flat = scale.width == 0
    image = jnp.clip(image.astype(jnp.float32), scale.low, scale.high)
    scaled = (image - scale.offset) / jnp.where(flat, 1, scale.width)
    scaled = jnp.where(flat, 0, scaled)
    return jnp.clip(scaled, 0, 1) if scale.clip else scaled


def invert_scale(scaled: jax.Array, scale: ImageScale) -> jax.Array:
    """Maps normalised values back to raw ones."""
    return scaled * scale.width + scale.offset


def standard(image: jax.Array) -> ImageScale:
    """Measures the mean and the deviation, as `normalize.standard`."""
    return _measure_inside(image, jnp.ones((1,) * image.ndim, bool))[0]


def _measure_inside(image: jax.Array, inside: jax.Array) -> tuple[ImageScale, Any, Any]:
    """Returns the mean with the deviation, the smallest and the largest value.

    The mean is corrected once, because a sum of many large numbers is rounded.

    Args:
      image: `f32[B, *S, C]`.
      inside: the pixels that count, `bool[B, *S, 1]` or of a shape that broadcasts.
    """
    space = tuple(range(1, image.ndim - 1))
    every = jnp.broadcast_to(inside, (*image.shape[:-1], 1))
    count = _add_pixels(every.astype(jnp.float32))

    def average(values: jax.Array) -> jax.Array:
        return _add_pixels(jnp.where(every, values, 0)) / count

    mean = average(image)
    mean = mean + average(image - mean)
    deviation = jnp.sqrt(average(jnp.square(image - mean)))
    least = jnp.where(every, image, jnp.inf).min(space, keepdims=True)
    most = jnp.where(every, image, -jnp.inf).max(space, keepdims=True)
    width = jnp.where(least == most, 0, deviation)
    return ImageScale(mean, width), least, most


def percentile(image: jax.Array, *, low: float, high: float) -> ImageScale:
    """Measures two percentiles, as `normalize.percentile`."""
    ordered = jnp.sort(image.reshape(image.shape[0], -1, image.shape[-1]), axis=1)
    bottom, top = (_interpolate(ordered, percent) for percent in (low, high))
    shape = (image.shape[0], *(1,) * (image.ndim - 2), image.shape[-1])
    bottom, top = bottom.reshape(shape), top.reshape(shape)
    return ImageScale(bottom, top - bottom, clip=True)


def fixed(
    image: jax.Array,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    low: Sequence[float] = (),
    high: Sequence[float] = (),
) -> ImageScale:
    """Returns the numbers of the run, as `normalize.fixed`."""

    def spread(numbers: Sequence[float]) -> jax.Array:
        each = jnp.asarray(numbers, jnp.float32)
        return each.reshape((1,) * (image.ndim - 1) + (-1,))

    return ImageScale(
        spread(mean),
        spread(std),
        low=spread(low) if len(low) else None,
        high=spread(high) if len(high) else None,
    )


def nnunet(
    image: jax.Array,
    *,
    schemes: Sequence[str],
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    low: Sequence[float] = (),
    high: Sequence[float] = (),
) -> ImageScale:
    """Measures each channel by its own scheme, as `normalize.nnunet`."""
    numbers = choose_numbers(schemes, mean, std, low, high)
    scale = fixed(image, **numbers)
    if not {"zscore", "rescale"} & set(schemes):
        return scale
    zscore, least, most = _measure_inside(image, _find_box(image))
    for scheme, offset, width in (
        ("zscore", zscore.offset, zscore.width),
        ("rescale", least, most - least),
    ):
        chosen = np.array([each == scheme for each in schemes])
        chosen = jnp.asarray(chosen).reshape((1,) * (image.ndim - 1) + (-1,))
        scale = scale._replace(
            offset=jnp.where(chosen, offset, scale.offset),
            width=jnp.where(chosen, width, scale.width),
        )
    return scale


def _find_box(image: jax.Array) -> jax.Array:
    """Returns `bool[B, *S, 1]`: the smallest box that holds all pixels but zeros.

    In an image of zeros it is the whole image.
    """
    space = range(1, image.ndim - 1)
    filled = (image != 0).any(-1, keepdims=True)
    box = ~filled.any(tuple(space), keepdims=True)
    inside = jnp.ones((1,) * image.ndim, bool)
    for axis in space:
        others = tuple(other for other in space if other != axis)
        profile = filled.any(others, keepdims=True).astype(jnp.int32)
        begun = jnp.cumsum(profile, axis) > 0
        left = jnp.flip(jnp.cumsum(jnp.flip(profile, axis), axis), axis) > 0
        inside = inside & begun & left
    return box | inside


MEASURES: Mapping[str, Callable[..., ImageScale]] = {
    "fixed": fixed,
    "nnunet": nnunet,
    "percentile": percentile,
    "standard": standard,
}


def choose_numbers(
    schemes: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
) -> dict[str, list[float]]:
    """Returns the keywords of `fixed` for the schemes that measure no image."""

    def choose(given: Sequence[float], others: Mapping[str, float]) -> list[float]:
        pairs = enumerate(schemes)
        return [given[i] if s == "ct" else others.get(s, others[""]) for i, s in pairs]

    return {
        "mean": choose(mean, {"": 0.0}),
        "std": choose(std, {"": 1.0, "rgb": 255.0}),
        "low": choose(low, {"": -np.inf}),
        "high": choose(high, {"": np.inf}),
    }


def split_percent(percent: float) -> tuple[int, int]:
    """Returns the numerator and the denominator of a percentage.

    Ranks are computed with integers: a rank of float32 would be inexact in an image of
    some million pixels.
    """
    fraction = fractions.Fraction(percent / 100).limit_denominator(30_000)
    return fraction.numerator, fraction.denominator


def _interpolate(ordered: jax.Array, percent: float) -> jax.Array:
    """Returns a percentile of sorted `f32[B, N, C]`, as `np.percentile` does."""
    numerator, denominator = split_percent(percent)
    last: Any = jnp.asarray(ordered.shape[1] - 1)
    whole, part = last // denominator, last % denominator
    rank = whole * numerator + part * numerator // denominator
    rest = part * numerator % denominator
    low, high = (
        jnp.take(ordered, jnp.minimum(rank + i, last), 1, mode="clip") for i in (0, 1)
    )
    return low + rest / denominator * (high - low)


def _add_pixels(image: jax.Array) -> jax.Array:
    """Returns the sum of each channel, with the sums of rows as a step between.

    XLA would otherwise add all pixels to one float32.
    """
    for axis in reversed(range(1, image.ndim - 1)):
        image = jax.lax.optimization_barrier(image.sum(axis, keepdims=True))
    return image
