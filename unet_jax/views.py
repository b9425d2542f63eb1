"""Views: the mirrored and turned copies of an image for test-time augmentation.

Each function in `__all__` takes the number of spatial axes and returns views. The first
view is the unchanged image. Turns are in the plane of the last two axes, which usually
have the highest resolution in a volume. Only `flips` mirrors other axes.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["d4", "flips", "none", "paper", "rot4"]


class View(NamedTuple):
    """A copy of an image: quarter turns, then mirrored axes.

    Attributes:
      turns: the number of counter-clockwise quarter turns in the plane of the last two
        spatial axes.
      mirrored: the spatial axes that are mirrored after the turns, counted from 0.
    """

    turns: int = 0
    mirrored: tuple[int, ...] = ()


def none(axes: int) -> tuple[View, ...]:
    """Returns one view: the unchanged image."""
    del axes
    return (View(),)


def flips(axes: int) -> tuple[View, ...]:
    """Returns each combination of mirrored axes: 4 views in 2-D, 8 in 3-D."""
    subsets = (itertools.combinations(range(axes), n) for n in range(axes + 1))
    return tuple(View(0, subset) for subset in itertools.chain(*subsets))


def rot4(axes: int) -> tuple[View, ...]:
    """Returns four views: the quarter turns."""
    del axes
    return tuple(View(turns) for turns in range(4))


def d4(axes: int) -> tuple[View, ...]:
    """Returns eight views: the quarter turns, without and with a mirrored axis."""
    return (*rot4(axes), *(View(turns, (axes - 1,)) for turns in range(4)))


def paper(axes: int) -> tuple[View, ...]:
    """Returns seven views, as in section 4 of Ronneberger et al. 2015.

    The paper averages "over 7 rotated versions of the input" and does not say which.
    These are the views of `d4` without the last one.
    """
    return d4(axes)[:7]


def apply_view(image: jax.Array, view: View) -> jax.Array:
    """Turns and mirrors images `[B, *S, C]`."""
    last = image.ndim - 2
    image = jnp.rot90(image, view.turns, (last - 1, last))
    return jnp.flip(image, [axis + 1 for axis in view.mirrored])


def invert_view(prediction: jax.Array, view: View, *, vectors: int = 0) -> jax.Array:
    """Turns and mirrors the prediction of a view back to the image.

    Args:
      prediction: `[B, *S, C]` of the images that `apply_view` returned.
      view: the view.
      vectors: the number of first channels that are the components of a vector, one for
        each spatial axis; 0: there are none. A mirrored axis changes the sign of its
        component, and a quarter turn exchanges two components.
    """
    last = prediction.ndim - 2
    prediction = jnp.flip(prediction, [axis + 1 for axis in view.mirrored])
    prediction = jnp.rot90(prediction, -view.turns, (last - 1, last))
    if not vectors:
        return prediction
    matrix = jnp.asarray(make_matrix(view, vectors), prediction.dtype)
    turned = jnp.einsum("...a,ab->...b", prediction[..., :vectors], matrix)
    return jnp.concatenate([turned, prediction[..., vectors:]], axis=-1)


def make_matrix(view: View, axes: int) -> np.ndarray:
    """Returns `[axes, axes]`: components in the view (rows) to those in the image."""
    quarter = np.eye(axes)  # from q(i, j) = p(j, n - 1 - i) of a quarter turn
    quarter[-2:, -2:] = [[0, -1], [1, 0]]
    mirror = np.diag([-1.0 if axis in view.mirrored else 1.0 for axis in range(axes)])
    return mirror @ np.linalg.matrix_power(quarter, view.turns)
