"""The mirrored and turned copies of an image that test-time augmentation averages over.

Each function takes the number of spatial axes and returns views, the image as it is
first. Turns are in the plane of the last two axes, which in a volume are the best
resolved as a rule; mirrors along those two, too, but for `flips`.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["d4", "flips", "none", "paper", "rot4"]


class View(NamedTuple):
    """A way to see an image: quarter turns, then mirrors.

    Attributes:
      turns: quarter turns in the plane of the last two spatial axes.
      mirrored: spatial axes, from 0.
    """

    turns: int = 0
    mirrored: tuple[int, ...] = ()


def none(axes: int) -> tuple[View, ...]:
    """The image as it is."""
    del axes
    return (View(),)


def flips(axes: int) -> tuple[View, ...]:
    """Every combination of mirrored axes: 4 views of an image, 8 of a volume."""
    subsets = (itertools.combinations(range(axes), n) for n in range(axes + 1))
    return tuple(View(0, subset) for subset in itertools.chain(*subsets))


def rot4(axes: int) -> tuple[View, ...]:
    """The four quarter turns."""
    del axes
    return tuple(View(turns) for turns in range(4))


def d4(axes: int) -> tuple[View, ...]:
    """The eight symmetries of the square: the quarter turns, plain and mirrored."""
    return (*rot4(axes), *(View(turns, (axes - 1,)) for turns in range(4)))


def paper(axes: int) -> tuple[View, ...]:
    """Seven views, as in section 4: "averaged over 7 rotated versions of the input".

    The paper (Ronneberger et al. 2015) does not say which: these are all of `d4` but
    the last.
    """
    return d4(axes)[:7]


def apply_view(image: jax.Array, view: View) -> jax.Array:
    """Turns and mirrors `[B, *S, C]`."""
    last = image.ndim - 2
    image = jnp.rot90(image, view.turns, (last - 1, last))
    return jnp.flip(image, [axis + 1 for axis in view.mirrored])


def invert_view(prediction: jax.Array, view: View, *, vectors: int = 0) -> jax.Array:
    """Undoes `apply_view` for a prediction `[B, *S, C]` of the image that it gave.

    Args:
      prediction: of the turned and mirrored image.
      view: the view.
      vectors: the first so many channels are the components of a vector, one for each
        spatial axis. They turn with the image: a mirrored axis changes the sign of its
        component, a quarter turn exchanges two.
    """
    last = prediction.ndim - 2
    prediction = jnp.flip(prediction, [axis + 1 for axis in view.mirrored])
    prediction = jnp.rot90(prediction, -view.turns, (last - 1, last))
    if not vectors:
        return prediction
    matrix = jnp.asarray(_matrix(view, vectors), prediction.dtype)
    turned = jnp.einsum("...a,ab->...b", prediction[..., :vectors], matrix)
    return jnp.concatenate([turned, prediction[..., vectors:]], axis=-1)


def _matrix(view: View, axes: int) -> np.ndarray:
    """`[axes, axes]`: a component in the view (row) to components in the image."""
    quarter = np.eye(axes)  # from q(i, j) = p(j, n - 1 - i) of a quarter turn
    quarter[-2:, -2:] = [[0, -1], [1, 0]]
    mirror = np.diag([-1.0 if axis in view.mirrored else 1.0 for axis in range(axes)])
    return mirror @ np.linalg.matrix_power(quarter, view.turns)
