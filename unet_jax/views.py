"""The mirrored and turned copies of an image that test-time augmentation averages over.

Each function takes the number of spatial axes and returns views, the image as it is
first. Turns are in the plane of the last two axes, which in a volume are the best
resolved as a rule; mirrors along those two, too, but for `flips`.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp

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


def see(image: jax.Array, view: View) -> jax.Array:
    """`[B, *S, C]` as the view has it."""
    last = image.ndim - 2
    image = jnp.rot90(image, view.turns, (last - 1, last))
    return jnp.flip(image, [axis + 1 for axis in view.mirrored])


def unsee(image: jax.Array, view: View) -> jax.Array:
    """The inverse of `see`."""
    last = image.ndim - 2
    image = jnp.flip(image, [axis + 1 for axis in view.mirrored])
    return jnp.rot90(image, -view.turns, (last - 1, last))
