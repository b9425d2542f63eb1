"""A prediction from raw pixels to the result, as data and as one function of JAX.

The function does for a whole image what `Predictor` does tile by tile: it converts
channels, normalises, mirrors the image to a legal size, computes the members of an
ensemble in all views, averages their predictions and removes the border.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from unet_jax.data.files.image_file import LUMA
from unet_jax.errors import UserError
from unet_jax.export.scales import apply_scale, invert_scale, measure_scale
from unet_jax.geometry import Geometry
from unet_jax.specs import Spec
from unet_jax.tasks import Task
from unet_jax.views import View, apply_view, invert_view

Sizes = tuple[int, ...]


class Border(NamedTuple):
    """The mirrored border of an image along one axis: legal sizes are periodic.

    Attributes:
      margin: the pixels on each side that the network removes.
      least: the smallest legal size of the input of the network.
      multiple: the difference between two legal sizes.
    """

    margin: int
    least: int
    multiple: int

    def count_steps(self, size: Any) -> Any:
        """Returns k, where `least + k * multiple` is the size with its border."""
        missing = size + 2 * self.margin - self.least
        return (max_size(missing, 0) + self.multiple - 1) // self.multiple


class Pipeline(NamedTuple):
    """A prediction from raw pixels to the result.

    Attributes:
      model: the network, with float32 or bfloat16 as the type of its computation.
      members: the variables of each member of the ensemble.
      task: the meaning of the output.
      views: of test-time augmentation.
      borders: of each axis.
      channels: of a raw image; 1 or 3 if it is converted to the other number.
      network_channels: of an image for the network.
      dtype: of the pixels of a raw image.
      normalize: the spec of the normalisation, with all of its keywords.
      target_scale: the offsets and the widths of values with units of their own, for
        each channel; () for other tasks.
      member_scales: the same for each member, if `target_scale` is that of their mean.
    """

    model: nn.Module
    members: tuple[Any, ...]
    task: Task
    views: tuple[View, ...]
    borders: tuple[Border, ...]
    channels: int
    network_channels: int
    dtype: np.dtype
    normalize: Spec
    target_scale: Sequence[Sequence[float]]
    member_scales: Sequence[Sequence[Sequence[float]]] = ()

    @property
    def axes(self) -> int:
        """The number of spatial axes."""
        return len(self.borders)


def find_borders(geometry: Geometry, views: Sequence[View]) -> tuple[Border, ...]:
    """Returns the border along each axis.

    Raises:
      UserError: the legal sizes are not periodic, or an image that is turned by a
        quarter would have another border.
    """
    borders = []
    for axis, margin in enumerate(geometry.margin):
        least, multiple = geometry.valid_size(1, axis), geometry.multiple[axis]
        for steps in range(8):
            legal = least + steps * multiple
            found = {geometry.valid_size(legal - n, axis) for n in (0, multiple - 1)}
            if found != {legal}:
                raise UserError(
                    f"the legal sizes of the network along axis {axis} are no multiples"
                    " of one number, so its images cannot be mirrored to a legal size"
                )
        borders.append(Border(margin, least, multiple))
    if borders[-1] != borders[-2] and any(view.turns % 2 for view in views):
        raise UserError(
            "the legal sizes differ along the last two axes, so a whole image cannot be"
            " turned by a quarter; set --config.predict.tta=flips, or none"
        )
    return tuple(borders)


def make_function(pipeline: Pipeline) -> Callable[[jax.Array], jax.Array]:
    """Returns the function `[B, *S, C] -> f32[B, *S, K]`.

    The images have the type of `pipeline.dtype`. B and S may be numbers or the symbols
    of `jax.export`.
    """
    p = pipeline

    def predict(raw: jax.Array) -> jax.Array:
        image = convert_channels(raw, p.network_channels)
        scale = measure_scale(image, p.normalize)
        space = image.shape[1:-1]
        padded = _mirror(apply_scale(image, scale), p.borders)
        total: Any = 0
        for i, variables in enumerate(p.members):
            for view in p.views:
                seen = apply_view(padded, view)
                output: Any = p.model.apply(variables, seen, train=False)
                prediction = p.task.activate(output)
                prediction = invert_view(prediction, view, vectors=p.task.vectors)
                if p.member_scales:
                    prediction = _unscale(prediction, p.member_scales[i])
                total += prediction
        mean = p.task.complete(total / (len(p.members) * len(p.views)))
        inner = mean[(slice(None), *(slice(size) for size in space))]
        if p.task.units == "image":
            return invert_scale(inner, scale)
        if p.task.units == "own":
            return _unscale(inner, p.target_scale)
        return inner

    return predict


def _unscale(values: jax.Array, scale: Sequence[Sequence[float]]) -> jax.Array:
    """Returns values in their units; `scale` has the offset and width of channels."""
    offset, width = (
        jnp.asarray(row, jnp.float32).reshape((1,) * (values.ndim - 1) + (-1,))
        for row in scale
    )
    return values * width + offset


def convert_channels(image: jax.Array, channels: int) -> jax.Array:
    """Repeats grey, or computes the luma, as `data.files.channel_converter` does.

    Integers are rounded exactly, halves to the even number.
    """
    if image.shape[-1] == channels:
        return image
    if channels == 3:
        return jnp.repeat(image, 3, axis=-1)
    exact = not jnp.issubdtype(image.dtype, jnp.floating)
    colours = image.astype(jnp.int32) if exact else image
    parts = zip(LUMA, jnp.split(colours, 3, axis=-1), strict=True)
    total: Any = sum(factor * part for factor, part in parts)
    if not exact:
        return total / 1000
    quotient, rest = total // 1000, total % 1000
    up = (rest > 500) | ((rest == 500) & (quotient % 2 == 1))
    return (quotient + up).astype(image.dtype)


def _mirror(image: jax.Array, borders: Sequence[Border]) -> jax.Array:
    """Mirrors an image to a legal size, as `arrays.mirror_indices` does."""
    for axis, border in enumerate(borders, 1):
        size = image.shape[axis]
        length = border.least + border.count_steps(size) * border.multiple
        period = jnp.asarray(max_size(2 * (size - 1), 1))
        index = (jnp.arange(length) - border.margin) % period
        image = jnp.take(image, jnp.minimum(index, period - index), axis, mode="clip")
    return image


def max_size(a: Any, b: Any) -> Any:
    """Returns the larger of two sizes, which may be symbols."""
    return jax.core.max_dim(a, b)
